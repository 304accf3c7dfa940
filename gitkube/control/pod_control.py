"""Creating and deleting pods for a controller: in growing batches, with events, and struck off when it fails.

A template that the API refuses would be refused for each of five hundred pods, so creation starts with one,
doubles while all goes well, and stops at the first batch with a failure ("slow start").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.events import EventRecorder
from gitkube.control.expectations import Expectations
from gitkube.objects import meta
from gitkube.objects.kinds import POD
from gitkube.objects.types import Object

T = TypeVar("T")


def pod_from_template(owner: Object, template: Object) -> Object:
    """A pod that the owner's template asks for, still without a name."""
    metadata = template.get("metadata") or {}
    pod_metadata: Object = {
        "generateName": f"{meta.name(owner)}-",
        "namespace": meta.namespace(owner),
        "ownerReferences": [meta.owner_reference(owner)],
    }
    for field in ("labels", "annotations", "finalizers"):
        if metadata.get(field):
            pod_metadata[field] = metadata[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": template["spec"]}


async def create_pods(
    client: Client,
    events: EventRecorder,
    expectations: Expectations,
    owner: Object,
    new_pods: Sequence[Object],
) -> None:
    """Create pods in batches of 1, 2, 4, …

    Raises:
        StatusError: the first failure; pods that were not tried are not expected any more.
    """
    key = meta.key(owner)
    expectations.expect(key, creations=len(new_pods))

    async def create(pod: Object) -> None:
        try:
            created = await client.create(POD, pod)
        except BaseException as error:
            expectations.created(key)
            if isinstance(error, StatusError) and not is_namespace_ending(error):
                await events.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        await events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(created)}")

    tried = await slow_start(new_pods, create)
    for _ in new_pods[tried.count :]:
        expectations.created(key)
    if tried.error is not None and not is_namespace_ending(tried.error):
        raise tried.error


async def delete_pods(
    client: Client,
    events: EventRecorder,
    expectations: Expectations,
    owner: Object,
    doomed: Sequence[Object],
) -> None:
    """Delete pods, each only if it is still the one that was looked at.

    Raises:
        StatusError: the first failure.
    """
    key = meta.key(owner)
    expectations.expect(key, deletions={meta.uid(pod) for pod in doomed})

    async def delete(pod: Object) -> None:
        try:
            await client.delete(POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except BaseException as error:
            expectations.deleted(key, meta.uid(pod))
            if isinstance(error, StatusError) and is_not_found(error):
                return
            raise
        await events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

    results = await asyncio.gather(*(delete(pod) for pod in doomed), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


class Tried:
    """How far a slow start came."""

    def __init__(self, count: int, error: StatusError | None) -> None:
        self.count = count
        self.error = error


async def slow_start(items: Sequence[T], act: Callable[[T], Awaitable[None]]) -> Tried:
    """Act on batches of 1, 2, 4, … and stop after the first batch in which something failed."""
    done, size = 0, 1
    while done < len(items):
        batch = items[done : done + size]
        results = await asyncio.gather(*(act(item) for item in batch), return_exceptions=True)
        done += len(batch)
        for result in results:
            if isinstance(result, StatusError):
                return Tried(done, result)
            if isinstance(result, BaseException):
                raise result
        size *= 2
    return Tried(done, None)


def is_namespace_ending(error: StatusError) -> bool:
    """Nothing can be created in a namespace that is being deleted, and nothing needs to be."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and (
        any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
        or "is being terminated" in error.message
    )
