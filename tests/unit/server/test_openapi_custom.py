"""What clients of OpenAPI are told of custom kinds."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects.custom.definition import kinds_when_established
from gitkube.server.openapi_custom import custom_definitions

NAME = "org.example.v1.Thing"


def told(schema: dict[str, Any], *, is_v2: bool) -> dict[str, Any]:
    definition = {
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"plural": "things", "kind": "Thing"},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
    (kind,) = kinds_when_established(definition)
    found = custom_definitions(kind, is_v2=is_v2)[NAME]
    return {key: value for key, value in found.items() if key != "x-kubernetes-group-version-kind"}


ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SPEC = {"spec": {"type": "object"}}


@pytest.mark.parametrize("schema", [ANYTHING, {**ANYTHING, "properties": SPEC}])
def test_version_2_names_no_field_of_a_kind_that_takes_any(schema: dict[str, Any]) -> None:
    """An older kubectl refuses what is not named as soon as anything is."""
    assert told(schema, is_v2=True) == {"type": "object"}


def test_fields_that_are_declared_are_told_beside_what_every_object_has() -> None:
    for is_v2 in (True, False):
        properties = told({"type": "object", "properties": SPEC}, is_v2=is_v2)["properties"]
        assert set(properties) == {"apiVersion", "kind", "metadata", "spec"}


def test_version_3_says_that_unknown_fields_are_kept() -> None:
    assert told(ANYTHING, is_v2=False)["x-kubernetes-preserve-unknown-fields"] is True


def test_version_2_says_nothing_of_the_type_of_a_field_that_keeps_what_it_is_given() -> None:
    """kubectl 1.20 would refuse `spec: {a: null}`."""
    spec = {"type": "object", "description": "Waldo", "x-kubernetes-preserve-unknown-fields": True}
    properties = told({"type": "object", "properties": {"spec": spec}}, is_v2=True)["properties"]
    assert properties["spec"] == {"description": "Waldo", "x-kubernetes-preserve-unknown-fields": True}
