"""Schemas: Kubernetes' own, and what is found with them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.objects import kinds
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import POD, Kind
from gitkube.objects.nearest import nearest
from gitkube.objects.normalise import normalise
from gitkube.objects.schema import Schema, named_schema, schema_of
from gitkube.objects.unknown import did_you_mean, prune, unknown_fields
from gitkube.objects.validation.fitting import fits
from gitkube.objects.validation.validate import mismatches, validate
from gitkube.objects.walk import Steps, steps_of, walk


def test_every_kind_has_a_schema() -> None:
    for kind in kinds.BUILT_IN:
        assert {"apiVersion", "kind", "metadata"} <= schema_of(kind).properties.keys()


def test_a_schema_knows_how_its_lists_are_merged() -> None:
    ports = schema_of(kinds.POD).at("spec", "containers", "*", "ports")
    assert ports is not None and ports.items is not None
    assert ports.list_type == "map"
    assert ports.list_map_keys == ("containerPort", "protocol")
    assert ports.patch_strategy == ("merge",)
    assert ports.items.properties["protocol"].default == "TCP"
    strategy = schema_of(kinds.DEPLOYMENT).at("spec", "strategy")
    assert strategy is not None and strategy.patch_strategy == ("retainKeys",)


def test_children_of_a_definition_are_made_once() -> None:
    in_pod = schema_of(kinds.POD).at("spec", "containers")
    in_deployment = schema_of(kinds.DEPLOYMENT).at("spec", "template", "spec", "containers")
    assert in_pod is in_deployment


def test_quantities_and_free_form_are_told_apart() -> None:
    resources = named_schema("io.k8s.api.core.v1.ResourceRequirements").properties["limits"]
    assert resources.additional_properties is not None and resources.additional_properties.is_quantity
    managed = schema_of(kinds.POD).at("metadata", "managedFields", "*", "fieldsV1")
    assert managed is not None and managed.preserve_unknown


def test_schemas_load_without_importing_the_package_that_carries_them() -> None:
    code = (
        "import sys; from gitkube.objects import kinds, schema; schema.schema_of(kinds.POD);"
        "assert 'kubernetes_validate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_fields_are_named_as_the_strict_decoder_does() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "extra": 1, "metadata": {"labels": {"any": "thing"}, "nmae": "a"},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "imagePullPolcy": "Always"}]},
    }  # fmt: skip
    assert unknown_fields(kinds.POD, pod) == ["extra", "metadata.nmae", "spec.containers[1].imagePullPolcy"]
    pruned = prune(kinds.POD, pod)
    assert unknown_fields(kinds.POD, pruned) == []
    assert pruned["spec"]["containers"] == [{"name": "a"}, {"name": "b"}]
    assert "imagePullPolcy" in pod["spec"]["containers"][1], "what was given is not changed"


def meant(kind: Kind, path: str) -> Steps:
    """What was meant by an object's only field, which is unknown."""
    value: Any = 1
    for step in reversed(steps_of(path)):
        value = [value] if isinstance(step, int) else {step: value}
    (unknown,) = (node for node in walk(schema_of(kind), value) if node.schema is None)
    assert unknown.path == path
    return did_you_mean(unknown)


def test_the_field_that_was_meant_is_found() -> None:
    assert meant(kinds.DEPLOYMENT, "spec.replica") == steps_of("spec.replicas")
    assert meant(kinds.DEPLOYMENT, "spec.Replicas") == steps_of("spec.replicas")
    containers = "spec.template.spec.containers[0]"
    path = steps_of(f"{containers}.imagePullPolicy")
    assert meant(kinds.DEPLOYMENT, f"{containers}.imagePullPolcy") == path
    assert meant(kinds.DEPLOYMENT, "spec.containers") == (), "two levels down is not guessed at"
    assert meant(kinds.POD, "spec.image") == steps_of("spec.containers[0].image")
    path = steps_of("spec.containers[0].volumeMounts")
    assert meant(kinds.POD, "spec.containers[0].volumes") == path
    path = steps_of("spec.containers[0].restartPolicy")
    assert meant(kinds.POD, "spec.containers[0].restartPolicies") == path
    assert meant(kinds.DEPLOYMENT, "spec.template.replicas") == steps_of("spec.replicas")
    assert meant(kinds.POD, "spec.zzzzz") == ()
    assert nearest("deploymnet", ["Deployment", "Job"]) == "Deployment"


def test_paths_go_to_text_and_back() -> None:
    pod = {"metadata": {"labels": {"a.b/c": 1}}, "spec": {"containers": [{"image": 1}]}}
    paths = {node.steps: node.path for node in walk(schema_of(kinds.POD), pod)}
    assert paths["spec", "containers", 0, "image"] == "spec.containers[0].image"
    assert paths["metadata", "labels", "a.b/c"] == "metadata.labels[a.b/c]"
    assert all(steps_of(path) == steps for steps, path in paths.items())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "1", "100m", "8080", "2026-01-31T09:30:00Z", "eA==", "Always", "a"])
)
NAMES = st.sampled_from(["a", "name", "key"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def shaped(draw: st.DrawFn, schema: Schema, depth: int = 5) -> Any:
    """A value that mostly follows a schema, and sometimes does not."""
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    if schema.is_list and schema.items is not None:
        return [draw(shaped(schema.items, depth - 1)) for _ in range(draw(st.integers(0, 2)))]
    if schema.properties:
        names = draw(st.lists(st.sampled_from(sorted(schema.properties)), max_size=4, unique=True))
        return {name: draw(shaped(schema.properties[name], depth - 1)) for name in names}
    if schema.additional_properties is not None:
        return {"a": draw(shaped(schema.additional_properties, depth - 1))}
    if schema.is_quantity:
        return draw(st.sampled_from(["1", "100m", 5, "x", 0.5]))
    if schema.int_or_string:
        return draw(st.sampled_from([80, "http"]))
    by_type = {"string": "eA==", "integer": 3, "boolean": True, "number": 1.5}
    return by_type.get(schema.types[0]) if schema.types else draw(JSON)


KINDS = st.sampled_from([kinds.POD, kinds.DEPLOYMENT, kinds.JOB, kinds.SERVICE, kinds.NODE, kinds.SECRET])


@settings(max_examples=150, deadline=None)
@given(st.data(), KINDS)
def test_whatever_is_sent_nothing_breaks_and_all_that_is_wrong_has_a_field(
    data: st.DataObject, kind: kinds.Kind
) -> None:
    obj = data.draw(shaped(schema_of(kind)).filter(lambda value: isinstance(value, dict)))

    wrong = list(mismatches(kind, obj))
    assert fits(schema_of(kind), obj) is not bool(wrong), "the fast answer and the careful one agree"

    normal = normalise(kind, obj)
    assert normalise(kind, normal) == normal
    complete = apply_defaults(kind, obj)
    assert apply_defaults(kind, complete) == complete
    assert unknown_fields(kind, prune(kind, complete)) == []

    for cause in validate(kind, complete):
        assert cause["reason"].startswith("FieldValue")
        assert cause["message"]


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        ("0.1m", "1m"), ("0.0001", "1m"), ("1500u", "2m"), ("100000n", "1m"), ("1e-6", "1e-3"),
        ("-1u", "-1m"), ("1500m", "1500m"), ("1.5Gi", "1536Mi"), ("junk", "junk"), ("xu", "xu"),
    ],
)  # fmt: skip
def test_resources_are_counted_in_thousandths(amount: str, stored: str) -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": amount}}}
    volume = {"name": "v", "emptyDir": {"sizeLimit": "100u"}}
    normal = normalise(POD, {"spec": {"containers": [container], "volumes": [volume]}})
    assert normal["spec"]["containers"][0]["resources"]["limits"] == {"cpu": stored}
    assert normal["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "100u"}  # no list: as it is
