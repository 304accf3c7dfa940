"""Schemas of custom resources: what is pruned, filled in and refused, and that each of these is done once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.objects.custom.checking import check_schema
from gitkube.objects.custom.defaulting import fill_in
from gitkube.objects.custom.patterns import PatternError, compile_pattern
from gitkube.objects.custom.pruning import pruned, unknown_paths
from gitkube.objects.custom.schema import root_schema
from gitkube.objects.custom.structural import check_structural
from gitkube.objects.patch.copying import clone
from gitkube.objects.validation.causes import Causes

Raw = dict[str, Any]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "bc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcxyz"), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 0) -> Raw:
    """A structural schema; its defaults are right values without unknown fields."""
    word = draw(
        st.sampled_from(["string", "integer", "boolean", *(("object", "array") if depth < 3 else ())])
    )
    raw: Raw = {"type": word}
    if word == "object":
        form = draw(st.sampled_from(["properties", "map", "open", "any"]))
        if form == "any":
            return {"x-kubernetes-preserve-unknown-fields": True}
        if form == "map":
            raw["additionalProperties"] = draw(schemas(depth + 1))
        else:
            names = draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3))
            raw["properties"] = {name: draw(schemas(depth + 1)) for name in names}
        if form == "open":
            raw["x-kubernetes-preserve-unknown-fields"] = True
    elif word == "array":
        raw["items"] = draw(schemas(depth + 1))
    if draw(st.booleans()):
        raw["nullable"] = True
    if draw(st.booleans()):
        raw["default"] = draw(fitting(raw))
    return raw


def fitting(raw: Raw) -> st.SearchStrategy[Any]:
    """Values that a schema allows."""
    if "type" not in raw:
        return JSON.filter(lambda value: value is not None)
    by_type: dict[str, st.SearchStrategy[Any]] = {
        "string": st.sampled_from(["", "a", "b"]),
        "integer": st.integers(0, 3),
        "boolean": st.booleans(),
    }
    if raw["type"] in by_type:
        return by_type[raw["type"]]
    if raw["type"] == "array":
        return st.lists(fitting(raw["items"]), max_size=2)
    if "additionalProperties" in raw:
        return st.dictionaries(st.sampled_from("xyz"), fitting(raw["additionalProperties"]), max_size=2)
    fields = {name: fitting(child) for name, child in raw["properties"].items()}
    return st.fixed_dictionaries({}, optional=fields)


ROOTS = schemas().map(lambda raw: {"type": "object", "properties": {"spec": raw}})


@settings(max_examples=200, deadline=None)
@given(st.data(), ROOTS)
def test_pruning_and_defaulting_twice_is_once_and_what_fits_still_fits_after_them(
    data: st.DataObject, raw: Raw
) -> None:
    causes = Causes()
    check_structural(causes, raw, "spec.validation.openAPIV3Schema")
    assert causes.list == []
    schema = root_schema(raw)
    whatever = {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": data.draw(JSON)}

    once = pruned(schema, whatever)
    assert pruned(schema, once) == once
    assert list(unknown_paths(schema, once)) == []
    filled = clone(once)
    fill_in(schema, filled)
    again = clone(filled)
    fill_in(schema, again)
    assert again == filled
    assert pruned(schema, filled) == filled, "defaults have no unknown fields"

    right = {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}}
    right["spec"] = data.draw(fitting(raw["properties"]["spec"]))
    right = pruned(schema, right)
    fill_in(schema, right)
    found = Causes()
    check_schema(found, raw, right)
    assert found.list == []


OBJECT: Raw = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "maximum": 5},
                "port": {"x-kubernetes-int-or-string": True},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "mode": {"type": "string", "enum": ["a"]}},
                    },
                },
            },
        }
    },
}
CASES: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("a missing field", {}, [("FieldValueRequired", "spec.size")]),
    ("a text for a number", {"size": "3"}, [("FieldValueTypeInvalid", "spec.size")]),
    ("a whole float is an integer", {"size": 3.0}, []),
    ("a fraction is none", {"size": 3.5}, [("FieldValueTypeInvalid", "spec.size")]),
    ("too large", {"size": 6}, [("FieldValueInvalid", "spec.size")]),
    ("int or string: either", {"size": 1, "port": "http"}, []),
    ("int or string: no map", {"size": 1, "port": {}}, [("FieldValueTypeInvalid", "spec.port")]),
    (
        "the element is named by its index",
        {"size": 1, "parts": [{"name": "x"}, {"name": "y", "mode": "b"}]},
        [("FieldValueNotSupported", "spec.parts[1].mode")],
    ),
]


@pytest.mark.parametrize(("spec", "causes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_wrong_is_named_with_its_field(spec: Any, causes: list[tuple[str, str]]) -> None:
    found = Causes()
    check_schema(found, OBJECT, {"spec": spec})
    assert [(cause["reason"], cause["field"]) for cause in found.list] == causes


def test_an_old_mistake_is_not_held_against_an_update_that_leaves_it_alone() -> None:
    old = {"spec": {"size": 9, "parts": [{"name": "x", "mode": "old"}]}}
    found = Causes()
    check_schema(found, OBJECT, {"spec": {**old["spec"], "port": 1}}, "", old)
    assert found.list == []
    check_schema(found, OBJECT, {"spec": {**old["spec"], "size": 8}}, "", old)
    assert [cause["field"] for cause in found.list] == ["spec.size"]


def test_a_part_of_an_alternative_is_judged_as_a_whole() -> None:
    raw = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    for value, is_right in (({"a": 1}, True), ({"a": 1, "b": 1}, False), ({}, False)):
        found = Causes()
        check_schema(found, raw, value, "spec")
        assert (not found.list) is is_right


def test_a_pattern_that_holds_up_other_engines_takes_no_time() -> None:
    assert not compile_pattern("(a+)+$").is_in("a" * 200_000 + "!")


@pytest.mark.parametrize("text", ["[", "(?=a)", "(a{1000}){1000}", r"(a)\1"])
def test_what_is_no_pattern_of_re2_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(text)


def test_fields_inside_kept_ones_are_pruned_when_they_are_declared() -> None:
    raw: Raw = {
        "type": "object",
        "properties": {
            "free": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"known": {"type": "object", "properties": {"x": {"type": "string"}}}},
            }
        },
    }
    value = {"free": {"other": {"y": [1]}, "known": {"x": "1", "lost": 2}}, "lost": 1}
    kept = {"free": {"other": {"y": [1]}, "known": {"x": "1"}}}
    assert pruned(root_schema(raw), value) == kept
    assert list(unknown_paths(root_schema(raw), value)) == ["free.known.lost", "lost"]


def test_an_embedded_object_keeps_what_every_object_has() -> None:
    embedded = {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {"spec": {"type": "object"}},
    }
    raw: Raw = {"type": "object", "properties": {"template": embedded}}
    inner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "lost": 1}, "spec": {}, "lost": 1}
    kept = pruned(root_schema(raw), {"template": inner})
    assert kept == {"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}}
