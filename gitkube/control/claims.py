"""Who belongs to whom: adopting orphans that match, letting go of those that don't any more.

An object belongs to a controller by its owner reference, not by its labels; the selector only says what may
be adopted. Every change carries uid and resourceVersion as preconditions, and before the first adoption the
owner is read live: a copy that lags must not hand pods to an owner that is gone.
Source: Kubernetes' ControllerRefManager.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.objects import meta
from gitkube.objects.kinds import Kind
from gitkube.objects.labels import Selector
from gitkube.objects.types import Object


@dataclass(slots=True)
class Claims:
    """The decision: what is ours, what to adopt, what to release."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def decide_claims(owner: Object, selector: Selector, candidates: Sequence[Object]) -> Claims:
    """Sort objects of the owner's namespace (its own and orphans) into a decision."""
    claims = Claims()
    for obj in candidates:
        controller = meta.controller_of(obj)
        matches = selector.matches(meta.labels(obj))
        if controller is not None:
            if controller.get("uid") != meta.uid(owner):
                continue
            if matches:
                claims.owned.append(obj)
            elif not meta.is_deleting(owner):
                claims.release.append(obj)
        elif matches and not meta.is_deleting(owner) and not meta.is_deleting(obj):
            claims.adopt.append(obj)
    return claims


async def claim(
    client: Client,
    owner_kind: Kind,
    owner: Object,
    kind: Kind,
    selector: Selector,
    candidates: Sequence[Object],
) -> list[Object]:
    """All objects that are the owner's after adopting and releasing.

    Raises:
        StatusError: a change failed for another reason than that the object is gone or changed.
    """
    claims = decide_claims(owner, selector, candidates)
    owned = list(claims.owned)
    for obj in claims.release:
        references = [one for one in meta.owner_references(obj) if one.get("uid") != meta.uid(owner)]
        await _set_owners(client, kind, obj, references)
    if claims.adopt and await _is_still_there(client, owner_kind, owner):
        for obj in claims.adopt:
            references = [*meta.owner_references(obj), meta.owner_reference(owner)]
            adopted = await _set_owners(client, kind, obj, references)
            if adopted is not None:
                owned.append(adopted)
    return owned


async def _set_owners(client: Client, kind: Kind, obj: Object, references: list[Any]) -> Object | None:
    patch = {
        "metadata": {
            "uid": meta.uid(obj),
            "resourceVersion": meta.resource_version(obj),
            "ownerReferences": references or None,
        }
    }
    try:
        return await client.patch(kind, meta.name(obj), meta.namespace(obj), patch)
    except StatusError as error:
        if is_not_found(error) or is_conflict(error):
            return None  # it changed under us; its change brings us back here
        raise


async def _is_still_there(client: Client, kind: Kind, owner: Object) -> bool:
    try:
        current = await client.get(kind, meta.name(owner), meta.namespace(owner))
    except StatusError as error:
        if is_not_found(error):
            return False
        raise
    return meta.uid(current) == meta.uid(owner) and not meta.is_deleting(current)
