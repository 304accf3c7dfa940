"""What a real API server (kube-apiserver 1.20.2) answered, against what ours says.

`oracle/*.jsonl.gz` hold one fact a line: an object as it was sent and as it was stored, the causes it was
refused with, the cells of its table row. Where ours differs, `oracle/known-differences.txt` says so and why,
one line a case; a listed case that agrees after all fails the test, so that the list stays true.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.objects import kinds, tables
from gitkube.objects.defaults import apply_defaults, with_generated_selector
from gitkube.objects.kinds import Kind
from gitkube.objects.unknown import prune
from gitkube.objects.validation import decode_error, validate

ORACLE = Path(__file__).parent / "oracle"
UID = "00000000-0000-0000-0000-000000000001"
NOW_S = 1767226000.0  # 2026-01-01T00:06:40Z, 400 s after every object was created

# What is not for defaults to say: the server's own metadata, status, and what admission adds.
NOT_DEFAULTED = {
    "metadata": ("uid", "resourceVersion", "creationTimestamp", "generation", "namespace", "name"),
    "spec": (
        "tolerations", "priority", "preemptionPolicy", "serviceAccountName", "serviceAccount",
        "clusterIP", "clusterIPs", "healthCheckNodePort", "taints", "finalizers",
    ),
}  # fmt: skip

# Defaults that 1.37 has and 1.20 had not.
NEWER_DEFAULTS = {
    "Service": {"internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True},
    "Job": {
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
        "manualSelector": False,
    },
}


def facts(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(ORACLE / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def known_differences(name: str) -> set[str]:
    lines = (ORACLE / "known-differences.txt").read_text().splitlines()
    listed = [line for line in lines if line.startswith(f"{name}: ")]
    assert all("  # " in line for line in listed), "each known difference needs its reason"
    return {line.removeprefix(f"{name}: ").partition("  # ")[0] for line in listed}


def kind_of(obj: dict[str, Any]) -> Kind:
    kind = kinds.by_gvk(obj["apiVersion"], obj["kind"])
    assert kind is not None
    return kind


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def defaulted_part(obj: dict[str, Any]) -> dict[str, Any]:
    part = {key: value for key, value in without_nulls(obj).items() if key not in ("status", "data")}
    for field, removed in NOT_DEFAULTED.items():
        if field in part:
            part[field] = {key: value for key, value in part[field].items() if key not in removed}
            part[field] = {key: value for key, value in part[field].items() if value != {}}
    for port in part.get("spec", {}).get("ports", ()) if obj["kind"] == "Service" else ():
        port.pop("nodePort", None)
    return part


def why_defaults_differ(fact: dict[str, Any]) -> str:
    given, stored = fact["given"], defaulted_part(fact["stored"])
    kind = kind_of(given)
    obj = prune(kind, given)
    obj.setdefault("metadata", {})["uid"] = fact["stored"]["metadata"]["uid"]
    ours = apply_defaults(kind, obj)
    if kind is kinds.JOB:
        ours = with_generated_selector(ours)
    ours = defaulted_part(ours)
    for field, value in NEWER_DEFAULTS.get(given["kind"], {}).items():
        if field not in stored["spec"] and ours["spec"].get(field) == value:
            del ours["spec"][field]
    return "" if ours == stored else f"stored {stored}, ours {ours}"


def why_validation_differs(fact: dict[str, Any]) -> str:
    given, old = fact["given"], fact.get("old")
    kind = kind_of(given)
    if refusal := decode_error(kind, given):
        return (
            "" if fact["status"] == 400 else f"answered {fact['status']}, ours refuses to decode: {refusal}"
        )
    obj = apply_defaults(kind, prune(kind, given))
    metadata = obj.setdefault("metadata", {})
    if kind.namespaced:
        metadata.setdefault("namespace", fact["namespace"])
    if metadata.get("generateName") and not metadata.get("name"):
        metadata["name"] = f"{metadata['generateName']}abcde"
    if old is None:
        metadata["uid"] = UID
    else:
        old = apply_defaults(kind, old)
        for field in ("uid", "creationTimestamp"):
            metadata.setdefault(field, old["metadata"][field])
    if kind is kinds.JOB and old is None:
        obj = with_generated_selector(obj)
    causes = sorted((cause["reason"], cause["field"]) for cause in validate(kind, obj, old))
    expected = sorted((cause["reason"], cause["field"]) for cause in fact.get("causes", ()))
    if fact["status"] == 400:
        return f"refused to decode, ours: {causes or 'accepted'}"
    return "" if causes == expected else f"expected {expected or 'accepted'}, ours {causes or 'accepted'}"


def why_rows_differ(fact: dict[str, Any]) -> str:
    obj = fact["object"]
    kind = kind_of(obj)
    columns = [[one.name, one.type, one.format, one.priority] for one in tables.columns(kind)]
    cells = tables.row(kind, apply_defaults(kind, obj), NOW_S)
    expected_columns, expected = fact["columns"], fact["cells"]
    if kind is kinds.POD:  # RESTARTS became a text when it learnt to say how long ago
        expected_columns[3][1] = "string"
        expected[3] = str(expected[3])
    if kind is kinds.JOB:  # STATUS is new
        del columns[1], cells[1]
    if columns != expected_columns:
        return f"columns {columns}, expected {expected_columns}"
    wrong = [
        (ours, theirs)
        for ours, theirs in zip(cells, expected, strict=True)
        if ours != theirs and theirs != "<age>"
    ]
    return f"(ours, expected): {wrong}" if wrong else ""


@pytest.mark.parametrize(
    ("name", "why_different"),
    [
        ("defaults", why_defaults_differ),
        ("validation", why_validation_differs),
        ("tables", why_rows_differ),
    ],
)
def test_a_real_server_agrees_but_for_the_known_differences(
    name: str, why_different: Callable[[dict[str, Any]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    differing: dict[str, str] = {}
    agreeing = 0
    for fact in facts(name):
        if why := why_different(fact):
            differing[fact["name"]] = why
        else:
            agreeing += 1
    known = known_differences(name)
    with capsys.disabled():
        print(f" {name}: {agreeing} of {agreeing + len(differing)} agree", end="")

    unexpected = {case: why for case, why in differing.items() if case not in known}
    assert not unexpected, "\n".join(f"{case}: {why}" for case, why in unexpected.items())
    assert not known - differing.keys(), "listed as different, but they agree: take them off the list"
