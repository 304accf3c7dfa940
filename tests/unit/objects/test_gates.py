"""What may still be said of pods that wait: behind scheduling gates, or of a Job that is suspended."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects import kinds
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.validation.validate import validate

GATE = {"name": "queue.example/admitted"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def pod(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "image": "app:1"}], **spec},
    }


def zones(*terms: list[str]) -> Object:
    """An affinity to nodes that have all labels of one of the terms."""
    listed = [{"matchExpressions": [{"key": key, "operator": "Exists"} for key in keys]} for keys in terms]
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": listed}}}


def wrong(kind: Kind, obj: Object, old: Object | None = None) -> list[str]:
    before = apply_defaults(kind, old) if old is not None else None
    return [f"{one['field']}: {one['message']}" for one in validate(kind, apply_defaults(kind, obj), before)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"nodeSelector": {"zone": "a"}}),
        ({"nodeSelector": {"zone": "a"}}, {"nodeSelector": {"zone": "a", "disk": "ssd"}}),
        ({}, {"affinity": zones(["zone"])}),
        ({"affinity": zones(["zone"], ["rack"])}, {"affinity": zones(["zone", "disk"], ["rack"])}),
        ({"affinity": {"podAffinity": {}}}, {"affinity": {"podAffinity": {}, **zones(["zone"])}}),
        ({}, {"schedulingGates": None}),
    ],
)
def test_where_a_gated_pod_may_run_is_narrowed_down(before: Any, after: Any) -> None:
    gated = {"schedulingGates": [GATE]}
    assert wrong(kinds.POD, pod(**{**gated, **after}), pod(**gated, **before)) == []


ONLY_MORE = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
TERMS = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            {"nodeSelector": {"zone": "a"}},
            {"nodeSelector": {"zone": "b"}},
            f'spec.nodeSelector: Invalid value: {{"zone":"b"}}: {ONLY_MORE}',
        ),
        ({"nodeSelector": {"zone": "a"}}, {}, f"spec.nodeSelector: Invalid value: {{}}: {ONLY_MORE}"),
        (
            {"affinity": zones(["zone"])},
            {"affinity": zones(["zone"], ["rack"])},
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        ),
        (
            {"affinity": zones(["zone"])},
            {"affinity": zones(["rack"])},
            "only additions are allowed (no mutations or deletions)",
        ),
        (
            {},
            {"schedulingGates": [GATE, {"name": "new"}]},
            "spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'new'",
        ),
    ],
)
def test_a_gated_pod_is_never_widened(before: Any, after: Any, sentence: str) -> None:
    gated = {"schedulingGates": [GATE]}
    lines = wrong(kinds.POD, pod(**{**gated, **after}), pod(**gated, **before))
    assert len(lines) == 1
    assert lines[0].endswith(sentence)


def test_behind_no_gate_nothing_moves() -> None:
    (line,) = wrong(kinds.POD, pod(nodeSelector={"zone": "a"}), pod())
    assert line.startswith("spec: Forbidden: pod updates may not change fields")


def test_a_new_pod_is_gated_or_on_a_host_and_not_both() -> None:
    assert wrong(kinds.POD, pod(schedulingGates=[GATE], nodeName="ant")) == [
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
    ]
    duplicate = pod(schedulingGates=[{"name": "a"}, {"name": "a"}])
    assert wrong(kinds.POD, duplicate) == ['spec.schedulingGates[1]: Duplicate value: "a"']


def test_a_pull_secret_without_a_name_is_let_through() -> None:
    assert wrong(kinds.POD, pod(imagePullSecrets=[{"name": ""}])) == []


def job(*, started: bool = False, suspended: bool = True, annotation: str = "", **spec: Any) -> Object:
    template: Object = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"restartPolicy": "Never", **pod()["spec"]},
    }
    template["spec"].update(spec)
    if annotation:
        template["metadata"]["annotations"] = {"a": annotation}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "shop"},
        "spec": {
            "suspend": suspended, "manualSelector": True, "selector": {"matchLabels": {"app": "a"}},
            "template": template,
        },
        "status": {"startTime": "2026-01-01T00:00:00Z"} if started else {},
    }  # fmt: skip


def test_a_suspended_job_learns_where_its_pods_run_and_nothing_else() -> None:
    bigger = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "1"}}}
    assert wrong(kinds.JOB, job(nodeSelector={"zone": "a"}, annotation="b"), job()) == []
    assert wrong(kinds.JOB, job(containers=[bigger]), job()) == []
    (line,) = wrong(kinds.JOB, job(containers=[{"name": "c", "image": "app:2"}]), job())
    assert line.startswith("spec.template: Invalid value:") and line.endswith("field is immutable")


@pytest.mark.parametrize("state", [{"started": True}, {"suspended": False}])
def test_a_job_that_runs_stays_where_it_is(state: Any) -> None:
    (line,) = wrong(kinds.JOB, job(nodeSelector={"zone": "a"}, **state), job(**state))
    assert line.startswith("spec.template: Invalid value:")
