"""Bytes by chance to every decoder, changes by chance to one object: never a 500, and what must hold does.

What must hold after any sequence of writes: the object fits its schema; who applies the same again changes
nothing; every field that somebody set has an owner, and no owner has a field that is not there.
"""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.test_bad_input import (
    APPLY,
    JSON,
    JSON_PATCH,
    MERGE,
    METADATA,
    PROTOBUF,
    STRATEGIC,
    YAML,
    Caller,
    field,
    protobuf,
)
from tests.support.live_cluster import LiveCluster

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEQUENCES = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def call(cluster: LiveCluster) -> Caller:
    return Caller(cluster)


DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "c", "image": "app:1", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}
                ]
            },
        },
    },
}
SEEDS = {
    JSON: json.dumps(DEPLOYMENT).encode(),
    YAML: b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n",
    PROTOBUF: protobuf(
        METADATA + field(2, b"\x08\x01" + field(2, field(1, field(1, b"app") + field(2, b"web")))),
        b"Deployment",
        b"apps/v1",
    ),
}


@st.composite
def spoilt(draw: st.DrawFn, seed: bytes) -> bytes:
    """The bytes with a few places changed, cut, doubled or filled with something else."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        to = min(len(data), at + draw(st.integers(0, 8)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:to] = draw(st.binary(max_size=8))
            case 1:
                del data[at:to]
            case 2:
                data[at:at] = data[at:to] * draw(st.integers(1, 50))
            case _:
                data[at:to] = draw(
                    st.sampled_from([b"{", b"]", b"null", b'"', b"\n- ", b"&a *a", b"\xff" * 9])
                )
    return bytes(data)


@pytest.mark.parametrize("type", [JSON, YAML, PROTOBUF])
@FUZZ
@given(data=st.data())
def test_no_body_makes_the_server_fail(call: Caller, type: str, data: st.DataObject) -> None:
    body = data.draw(spoilt(SEEDS[type]))
    path = "/apis/apps/v1/namespaces/default/deployments?dryRun=All"
    code, answer = call("POST", path, body, type)
    assert code < 500, (code, answer)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["spec", "template", "containers", "name", "image", "metadata", "labels", "$patch", "replicas",
             "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers", "$retainKeys", "ports",
             "managedFields", "status", "kind", "apiVersion", "finalizers", "env", "value", "ownerReferences"]
        ) | st.text(max_size=3),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
PLACES = st.lists(
    st.sampled_from(
        ["spec", "template", "containers", "0", "-", "metadata", "labels", "x", "replicas", "1", "~1", ""]
    ),
    max_size=5,
).map(lambda steps: "".join(f"/{step}" for step in steps))
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": PLACES},
        optional={"from": PLACES, "value": VALUES},
    ),
    max_size=5,
)
MAPS = st.dictionaries(
    st.sampled_from(["spec", "metadata", "data", "status", "$patch", "kind", "x"]), VALUES, max_size=4
)


@pytest.fixture
def deployment(call: Caller, namespace: str) -> str:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert call("POST", path, SEEDS[JSON], JSON)[0] == 201
    return f"{path}/web"


@pytest.mark.parametrize("type", [JSON_PATCH, MERGE, STRATEGIC, APPLY])
@FUZZ
@given(data=st.data())
def test_no_patch_makes_the_server_fail_and_the_object_keeps_its_schema(
    call: Caller, deployment: str, type: str, data: st.DataObject
) -> None:
    patch = data.draw(OPERATIONS if type == JSON_PATCH else MAPS)
    if type == APPLY:
        patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}} | patch
    query = "?fieldManager=fuzz&force=true" if type == APPLY else ""
    code, answer = call("PATCH", f"{deployment}{query}", json.dumps(patch).encode(), type)
    assert code < 500, (code, answer)
    code, obj = call("GET", deployment)
    assert code == 200
    code, answer = call(
        "PUT", f"{deployment}?dryRun=All&fieldValidation=Strict", json.dumps(obj).encode(), JSON
    )
    assert code == 200, answer


TEXTS = st.text(max_size=6)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(st.sampled_from("abc"), TEXTS, max_size=3),
        "labels": st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", "2"])),
        "finalizers": st.lists(st.sampled_from(["a.org/f", "b.org/f"]), unique=True),
    },
)
WRITES = st.lists(
    st.tuples(st.sampled_from(["apply", "merge", "put", "json"]), st.sampled_from("mno"), FIELDS),
    min_size=1,
    max_size=6,
)


def config_map(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name} | {key: fields[key] for key in ("labels", "finalizers") if key in fields}
    rest = {"data": fields["data"]} if "data" in fields else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **rest}


def write(call: Caller, path: str, name: str, how: str, manager: str, fields: dict[str, Any]) -> int:
    query = f"?fieldManager={quote(manager)}"
    obj = config_map(name, fields)
    match how:
        case "apply":
            code, _ = call("PATCH", f"{path}/{name}{query}&force=true", json.dumps(obj).encode(), APPLY)
        case "merge":
            code, _ = call("PATCH", f"{path}/{name}{query}", json.dumps(obj).encode(), MERGE)
        case "put":
            code, _ = call("PUT", f"{path}/{name}{query}", json.dumps(obj).encode(), JSON)
        case _:
            operations = [{"op": "add", "path": "/data", "value": fields.get("data", {})}]
            code, _ = call("PATCH", f"{path}/{name}{query}", json.dumps(operations).encode(), JSON_PATCH)
    return code


def leaves(obj: dict[str, Any]) -> set[tuple[str, str]]:
    """What somebody must have set: the members of data, labels and finalizers."""
    metadata = obj["metadata"]
    found = {("data", key) for key in obj.get("data") or {}}
    found |= {("labels", key) for key in metadata.get("labels") or {}}
    return found | {("finalizers", each) for each in metadata.get("finalizers") or []}


def owned(obj: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
    """Manager and operation -> the same, as managedFields has it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for entry in obj["metadata"].get("managedFields") or []:
        fields = entry["fieldsV1"]
        of_metadata = fields.get("f:metadata", {})
        members = found.setdefault(f"{entry['manager']} {entry['operation']}", set())
        for name, below in (
            ("data", fields.get("f:data", {})),
            ("labels", of_metadata.get("f:labels", {})),
            ("finalizers", of_metadata.get("f:finalizers", {})),
        ):
            for step in below:
                if step.startswith("f:"):
                    members.add((name, step[2:]))
                elif step.startswith("v:"):
                    members.add((name, json.loads(step[2:])))
    return found


@SEQUENCES
@given(writes=WRITES)
def test_every_field_that_is_set_has_an_owner_and_no_other_has(
    call: Caller, writes: list[tuple[str, str, dict[str, Any]]]
) -> None:
    path, name = "/api/v1/namespaces/default/configmaps", f"owned-{next(_numbers)}"
    assert write(call, path, name, "apply", "m", {"data": {"a": "0"}}) == 201
    for how, manager, fields in writes:
        assert write(call, path, name, how, manager, fields) == 200
        code, obj = call("GET", f"{path}/{name}")
        assert code == 200
        owners = owned(obj)
        assert set().union(*owners.values()) == leaves(obj)
        if how == "apply":
            assert owners.get(f"{manager} Apply", set()) == leaves(config_map(name, fields))
        if not any(owners.values()):
            return  # an object that nobody owns is not tracked until it is applied again, as in Kubernetes


@SEQUENCES
@given(writes=WRITES, last=FIELDS)
def test_who_applies_the_same_again_changes_nothing(
    call: Caller, writes: list[tuple[str, str, dict[str, Any]]], last: dict[str, Any]
) -> None:
    path, name = "/api/v1/namespaces/default/configmaps", f"same-{next(_numbers)}"
    assert write(call, path, name, "apply", "m", {}) == 201
    for how, manager, fields in [*writes, ("apply", "m", last)]:
        assert write(call, path, name, how, manager, fields) == 200
    before = call("GET", f"{path}/{name}")[1]
    assert write(call, path, name, "apply", "m", last) == 200
    assert call("GET", f"{path}/{name}")[1] == before
