"""Packs endpoints into EndpointSlices of at most 100 each, with as little change as can be.

Whoever keeps slices (for a Service, or as a mirror of Endpoints that a user wrote) says to whom they belong
and what they should say, in groups that can share slices; the plan fills present slices in place, so that an
endpoint that comes or goes changes one slice and not all.

Invariant: every slice carries its owner's reference and exactly its labels.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.workqueue import WorkQueue
from gitkube.objects import meta
from gitkube.objects.kinds import ENDPOINT_SLICE
from gitkube.objects.types import Object

MAX_ENDPOINTS = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
BY_SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a Service as its endpoints have it."""

    name: str
    protocol: str
    port: int
    app_protocol: str = ""

    def to_object(self) -> Object:
        obj: Object = {"name": self.name, "protocol": self.protocol, "port": self.port}
        if self.app_protocol:
            obj["appProtocol"] = self.app_protocol
        return obj


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that can share slices: same address family, same ports (a named port may differ by pod)."""

    address_type: str
    ports: tuple[Port, ...]


@dataclass(slots=True)
class SlicePlan:
    """What to do to the slices of one owner."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    """Existing slices with new content."""
    delete: list[Object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Belonging:
    """What slices carry for whom they are kept.

    Args:
        owner: the object that is their controlling owner, and whose name begins theirs.
    """

    owner: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)


async def carry_out(client: Client, plan: SlicePlan) -> None:
    """Make the slices what the plan says; one that is gone already is no error."""
    for slice_ in plan.create:
        await client.create(ENDPOINT_SLICE, slice_)
    for slice_ in plan.update:
        await client.update(ENDPOINT_SLICE, slice_)
    for slice_ in plan.delete:
        try:
            await client.delete(
                ENDPOINT_SLICE, meta.name(slice_), meta.namespace(slice_), uid=meta.uid(slice_)
            )
        except StatusError as error:
            if not is_not_found(error):
                raise


def plan_slices(
    belonging: Belonging, present: Sequence[Object], wanted: Mapping[Group, Sequence[Object]]
) -> SlicePlan:
    """The least change of slices that makes them say what is wanted."""
    plan = SlicePlan()
    by_group: dict[Group, list[Object]] = defaultdict(list)
    for slice_ in present:
        by_group[_group_of(slice_)].append(slice_)
    for group, slices in by_group.items():
        if group not in wanted:
            plan.delete.extend(slices)
    for group, endpoints in wanted.items():
        _plan_group(belonging, group, by_group.get(group, []), endpoints, plan)
    return plan


def _plan_group(
    belonging: Belonging,
    group: Group,
    slices: Sequence[Object],
    endpoints: Sequence[Object],
    plan: SlicePlan,
) -> None:
    missing = {_identity(endpoint): endpoint for endpoint in endpoints}
    contents: list[tuple[Object, list[Object]]] = []
    for slice_ in sorted(slices, key=meta.name):
        kept = [
            missing.pop(_identity(one)) for one in slice_.get("endpoints") or () if _identity(one) in missing
        ]
        contents.append((slice_, kept))
    rest = list(missing.values())
    for _, kept in contents:
        room = MAX_ENDPOINTS - len(kept)
        kept.extend(rest[:room])
        rest = rest[room:]
    filled = [content for content in contents if content[1]]
    if not filled and contents and not rest:
        filled = contents[:1]  # keep one empty slice rather than delete and create it
    for slice_, kept in contents:
        if not any(slice_ is one for one, _ in filled):
            plan.delete.append(slice_)
        elif (after := _with_content(belonging, slice_, kept)) != slice_:
            plan.update.append(after)
    if not filled and not rest:
        plan.create.append(_new_slice(belonging, group, []))
    for start in range(0, len(rest), MAX_ENDPOINTS):
        plan.create.append(_new_slice(belonging, group, rest[start : start + MAX_ENDPOINTS]))


def _new_slice(belonging: Belonging, group: Group, endpoints: Sequence[Object]) -> Object:
    # Named after its content: trying again after a lost answer meets the first one, not a second.
    owner, ports = belonging.owner, [port.to_object() for port in group.ports]
    said = json.dumps([meta.uid(owner), group.address_type, ports, list(endpoints)])
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    metadata: Object = {
        "name": f"{meta.name(owner)[:200]}-{digest}",
        "namespace": meta.namespace(owner),
        "labels": dict(belonging.labels),
        "ownerReferences": [meta.owner_reference(owner)],
    }
    if belonging.annotations:
        metadata["annotations"] = dict(belonging.annotations)
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": metadata,
        "addressType": group.address_type,
        "endpoints": list(endpoints),
        "ports": ports,
    }


def _with_content(belonging: Belonging, slice_: Object, endpoints: Sequence[Object]) -> Object:
    if (
        list(slice_.get("endpoints") or ()) == list(endpoints)
        and meta.labels(slice_) == belonging.labels
        and belonging.annotations.items() <= meta.annotations(slice_).items()
    ):
        return slice_
    metadata = {**slice_["metadata"], "labels": dict(belonging.labels)}
    if belonging.annotations:
        metadata["annotations"] = {**meta.annotations(slice_), **belonging.annotations}
    return {**slice_, "metadata": metadata, "endpoints": list(endpoints)}


def _identity(endpoint: Mapping[str, Any]) -> tuple[str, str]:
    addresses = endpoint.get("addresses") or [""]
    return (str((endpoint.get("targetRef") or {}).get("uid", "")), str(addresses[0]))


def _group_of(slice_: Object) -> Group:
    ports = tuple(
        Port(
            port.get("name") or "",
            port.get("protocol") or "TCP",
            int(port.get("port") or 0),
            port.get("appProtocol") or "",
        )
        for port in slice_.get("ports") or ()
    )
    return Group(slice_.get("addressType", "IPv4"), ports)


def service_key(slice_: Object) -> list[str]:
    """For an index: the key of the Service that a slice belongs to."""
    name = meta.labels(slice_).get(SERVICE_NAME)
    return [meta.key_of(meta.namespace(slice_), name)] if name else []


def on_slices(
    queue: WorkQueue[str], is_managed: Callable[[Object], bool]
) -> Callable[[Object | None, Object | None], None]:
    """A handler that asks for a look at the Service of each slice that changed and is the asker's."""

    def changed(before: Object | None, after: Object | None) -> None:
        for slice_ in (before, after):
            if slice_ is not None and is_managed(slice_):
                for key in service_key(slice_):
                    queue.add(key)

    return changed
