"""sig-instrumentation: events, in both groups."""

from __future__ import annotations

from tests.conformance.api import Object, at
from tests.conformance.checks.common import lifecycle
from tests.conformance.harness import Trial, check, require

NEW = "events.k8s.io/v1/events"
OLD = "v1/events"


def _new(t: Trial, name: str) -> Object:
    return {
        "metadata": {"name": name},
        "eventTime": "2026-01-02T03:04:05.123456Z",
        "note": "This is a test",
        "reason": "Test",
        "action": "Do",
        "type": "Normal",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
        "regarding": {"namespace": t.namespace, "kind": "Pod", "name": "x"},
    }


def _old(t: Trial, name: str) -> Object:
    return {
        "metadata": {"name": name},
        "message": "This is a test event",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": t.namespace, "kind": "Pod", "name": "x"},
    }


@check("Events API should ensure that an event can be fetched, patched, deleted, and listed", quick=True)
async def new_events_are_kept(t: Trial) -> None:
    await lifecycle(t, NEW, _new(t, "kept"))
    await t.api.create(at(NEW, t.namespace), _new(t, "both"))
    old = await t.api.get(at(OLD, t.namespace, "both"))
    require(old["message"] == "This is a test", f"as an event of the old group it says {old.get('message')}")
    path = at(NEW, t.namespace, "both")
    read = await t.api.get(path)
    read["series"] = {"count": 100, "lastObservedTime": "2026-01-02T03:04:06.000000Z"}
    updated = await t.api.put(path, read)
    require(updated["series"]["count"] == 100, "a series was lost")


@check("Events should manage the lifecycle of an event", quick=True)
async def old_events_are_kept(t: Trial) -> None:
    await lifecycle(t, OLD, _old(t, "kept"), spec_patch={"message": "other"})


@check("Events API should delete a collection of events", quick=True, resource=NEW)
@check("Events should delete a collection of events", quick=True, resource=OLD)
async def events_are_deleted_together(t: Trial, resource: str) -> None:
    for number in range(3):
        obj = _new(t, f"test-{number}") if resource == NEW else _old(t, f"test-{number}")
        obj["metadata"]["labels"] = {"testevent-set": "true"}
        await t.api.create(at(resource, t.namespace), obj)
    selector = {"labelSelector": "testevent-set=true"}
    require(len(await t.api.items(at(resource, t.namespace), **selector)) == 3, "not three are listed")
    await t.api.delete(at(resource, t.namespace), **selector)

    async def is_empty() -> bool:
        return not await t.api.items(at(resource, t.namespace), **selector)

    await t.until("all are gone", is_empty)
