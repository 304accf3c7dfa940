"""The records of kinds: complete, without doubles, and each with what is looked up by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects import kinds, tables
from gitkube.objects.conversion import from_stored, to_stored
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.validation.validate import validate

IDS = [f"{kind.api_version}/{kind.kind}" for kind in kinds.SERVED]


def test_no_two_kinds_share_a_name_in_the_api() -> None:
    assert len({(kind.group, kind.version, kind.plural) for kind in kinds.SERVED}) == len(kinds.SERVED)
    assert len({(kind.api_version, kind.kind) for kind in kinds.SERVED}) == len(kinds.SERVED)


@pytest.mark.parametrize("kind", kinds.SERVED, ids=IDS)
def test_an_object_that_says_nothing_is_defaulted_judged_and_shown(kind: Kind) -> None:
    obj: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a"}}
    stored = kinds.stored_kind(kind)
    filled = apply_defaults(stored, to_stored(kind, obj))
    assert apply_defaults(stored, filled) == filled
    validate(stored, filled)
    validate(stored, filled, filled)
    if kind not in kinds.QUESTIONS:
        shown = from_stored(kind, filled)
        assert (shown["apiVersion"], shown["kind"]) == (kind.api_version, kind.kind)
        assert len(tables.row(kind, shown, 0.0)) == len(tables.columns(kind))


def test_an_event_has_two_spellings() -> None:
    newer = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "it began",
        "reportingController": "example.org/c",
    }
    core = to_stored(kinds.EVENT_V1, newer)
    assert core["apiVersion"] == "v1"
    assert core["involvedObject"] == {"kind": "Pod", "name": "p"}
    assert core["message"] == "it began"
    assert from_stored(kinds.EVENT_V1, core) == newer


@given(st.one_of(st.none(), st.integers(1, 100)))
def test_what_the_older_autoscaler_cannot_say_stays_when_it_is_written(percent: int | None) -> None:
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue"}}}
    old: Object = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "metrics": [memory], "behavior": {"scaleUp": {}}},
    }
    view = from_stored(kinds.HORIZONTAL_POD_AUTOSCALER_V1, old)
    assert "metrics" not in view["spec"] and "behavior" not in view["spec"]
    view["spec"] = {**view["spec"], "maxReplicas": 5}
    if percent is not None:
        view["spec"]["targetCPUUtilizationPercentage"] = percent
    new = to_stored(kinds.HORIZONTAL_POD_AUTOSCALER_V1, view, old)
    assert new["spec"]["maxReplicas"] == 5
    assert memory in new["spec"]["metrics"]
    assert new["spec"]["behavior"] == {"scaleUp": {}}
    again = from_stored(kinds.HORIZONTAL_POD_AUTOSCALER_V1, new)
    assert again["spec"].get("targetCPUUtilizationPercentage") == percent
