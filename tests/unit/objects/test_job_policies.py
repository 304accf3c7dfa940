"""What the API says of a Job's policies."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.jobs import check_job_policies

NEVER = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}}
INDEXED = {"completionMode": "Indexed", "completions": 4}


def failure(*rules: Any, **spec: Any) -> dict[str, Any]:
    return {"template": NEVER, "podFailurePolicy": {"rules": list(rules)}, **spec}


def codes(*values: int, **more: Any) -> dict[str, Any]:
    return {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(values), **more}}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (failure(codes(1, 2)), []),
        (failure(codes(1, containerName="main"), podReplacementPolicy="Failed"), []),
        (failure({"action": "Ignore", "onPodConditions": [{"type": "A", "status": "True"}]}), []),
        ({**failure(codes(1)), "template": {"spec": {"restartPolicy": "OnFailure"}}}, ["template.spec"]),
        (failure(codes(1), podReplacementPolicy="TerminatingOrFailed"), ["podReplacementPolicy"]),
        (failure({"action": "Explode", "onExitCodes": codes(1)["onExitCodes"]}), ["rules[0].action"]),
        (failure({**codes(1), "action": "FailIndex"}), ["rules[0].action"]),
        (failure({"action": "Count"}), ["rules[0]"]),
        (failure({**codes(1), "onPodConditions": [{"type": "A", "status": "True"}]}), ["rules[0]"]),
        (failure(codes(0)), ["values[0]"]),
        (failure(codes(2, 1)), ["values"]),
        (failure(codes(1, 1)), ["values[1]"]),
        (failure(codes()), ["values"]),
        (failure(codes(1, containerName="side")), ["containerName"]),
        (failure(*[codes(1)] * 21), ["rules"]),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}]}}, []),
        ({"successPolicy": {"rules": [{"succeededCount": 1}]}}, ["successPolicy"]),
        ({**INDEXED, "successPolicy": {"rules": []}}, ["rules"]),
        ({**INDEXED, "successPolicy": {"rules": [{}]}}, ["rules[0]"]),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "3-1"}]}}, ["succeededIndexes"]),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "4"}]}}, ["succeededIndexes"]),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededCount": 5}]}}, ["succeededCount"]),
        ({"managedBy": "acme.io/foo"}, []),
        ({"managedBy": "foo"}, ["managedBy"]),
        ({"managedBy": "acme.io/" + "x" * 60}, ["managedBy"]),
        ({"maxFailedIndexes": 1}, ["backoffLimitPerIndex"]),
    ],
)
def test_what_is_wrong_with_a_policy(spec: dict[str, Any], fields: list[str]) -> None:
    causes = Causes()
    check_job_policies(causes, spec, "spec")
    found = [cause["field"] for cause in causes.list]
    assert len(found) == len(fields), causes.list
    for field, expected in zip(found, fields, strict=True):
        assert expected in field
