"""Rules of definitions: what they say of an object, of a change, and what they may cost."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects.custom.rules import check_rules
from gitkube.objects.custom.schema import root_schema
from gitkube.objects.custom.structural import check_structural
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.validate import validate

STRING = {"type": "string"}


def judged(spec: dict[str, Any], value: Any, old: Any = None) -> list[tuple[str, str, str]]:
    """What the rules of a schema of `spec` say of a value."""
    raw = {"type": "object", "properties": {"spec": spec}}
    wrong = Causes()
    check_structural(wrong, raw, "schema")
    assert wrong.list == []
    causes = Causes()
    check_rules(causes, root_schema(raw), {"spec": value}, None if old is None else {"spec": old})
    return [(cause["reason"], cause["field"], cause["message"]) for cause in causes.list]


def with_rules(*rules: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}


def test_a_rule_that_does_not_hold_is_said_with_its_message() -> None:
    spec = with_rules(
        {"rule": "self.min <= self.max", "message": "min above max"},
        min={"type": "integer"},
        max={"type": "integer"},
    )
    assert judged(spec, {"min": 1, "max": 2}) == []
    assert judged(spec, {"min": 3, "max": 2}) == [
        ("FieldValueInvalid", "spec", 'Invalid value: "object": min above max')
    ]


def test_a_rule_may_make_its_message_and_say_which_field_and_why() -> None:
    spec = with_rules(
        {
            "rule": "self.n < 3",
            "messageExpression": "'n is ' + string(self.n)",
            "fieldPath": ".n",
            "reason": "FieldValueForbidden",
        },
        n={"type": "integer"},
    )
    assert judged(spec, {"n": 5}) == [("FieldValueForbidden", "spec.n", "Forbidden: n is 5")]


def test_a_rule_about_a_change_is_not_asked_about_what_is_new() -> None:
    spec = with_rules({"rule": "self.name == oldSelf.name", "message": "fixed"}, name=STRING)
    assert judged(spec, {"name": "a"}) == []
    assert judged(spec, {"name": "a"}, {"name": "a"}) == []
    assert [field for _, field, _ in judged(spec, {"name": "b"}, {"name": "a"})] == ["spec"]


def test_with_an_optional_past_a_rule_also_judges_what_is_new() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": True}
    spec = {"type": "object", "properties": {"phase": {**STRING, "x-kubernetes-validations": [rule]}}}
    assert judged(spec, {"phase": "first"}) == []
    assert judged(spec, {"phase": "second"})[0][1] == "spec.phase"
    assert judged(spec, {"phase": "second"}, {"phase": "first"}) == []


def test_elements_of_a_list_of_type_map_know_their_past() -> None:
    item = {
        "type": "object",
        "required": ["k"],
        "properties": {"k": STRING, "v": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "never less"}],
    }
    parts = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": item,
    }
    spec = {"type": "object", "properties": {"parts": parts}}
    before = {"parts": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]}
    after = {"parts": [{"k": "new", "v": 0}, {"k": "b", "v": 4}, {"k": "a", "v": 1}]}
    assert [field for _, field, _ in judged(spec, after, before)] == ["spec.parts[1]"]


def test_an_old_breach_is_not_held_against_an_update_that_leaves_it_alone() -> None:
    inner = with_rules({"rule": "self.n < 3"}, n={"type": "integer"})
    spec = {"type": "object", "properties": {"a": inner, "b": STRING}}
    assert judged(spec, {"a": {"n": 9}, "b": "new"}, {"a": {"n": 9}, "b": "old"}) == []
    assert judged(spec, {"a": {"n": 8}}, {"a": {"n": 9}}) != []


def test_values_have_the_types_of_their_schema_and_names_that_can_be_written() -> None:
    spec = with_rules(
        {"rule": "self.ratio * 2.0 == 4.0"},
        {"rule": "self.at > timestamp('2020-01-01T00:00:00Z')"},
        {"rule": "self.wait == duration('90s')"},
        {"rule": "self.foo__dash__bar == self.__if__"},
        **{
            "ratio": {"type": "number"},
            "at": {**STRING, "format": "date-time"},
            "wait": {**STRING, "format": "duration"},
            "foo-bar": STRING,
            "if": STRING,
        },
    )
    right = {"ratio": 2, "at": "2026-01-01T00:00:00Z", "wait": "1m30s", "foo-bar": "x", "if": "x"}
    assert judged(spec, right) == []


def test_a_rule_that_cannot_be_evaluated_refuses_the_object_and_says_why() -> None:
    spec = with_rules({"rule": "self.missing == 1"}, n={"type": "integer"}, missing={"type": "integer"})
    ((reason, field, message),) = judged(spec, {"n": 1})
    assert (reason, field) == ("FieldValueInvalid", "spec")
    assert "no such key: missing evaluating rule: self.missing == 1" in message


def test_a_rule_that_costs_too_much_refuses_the_object() -> None:
    rule = {"rule": "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > -1)))"}
    spec = with_rules(rule, l={"type": "array", "items": {"type": "integer"}})
    assert judged(spec, {"l": [1, 2, 3]}) == []
    ((_, _, message),) = judged(spec, {"l": list(range(1000))})
    assert "running out of cost budget" in message


@pytest.mark.parametrize(
    ("rule", "field", "said"),
    [
        ({"rule": "self.x >"}, "rule", "compilation failed"),
        ({"rule": ""}, "rule", "rule is not specified"),
        ({"rule": "self.nothing"}, "rule", "ERROR: <input>:1:5: undefined field 'nothing'"),
        ({"rule": "self.metadata.labels.size() > 0"}, "rule", "undefined field 'labels'"),
        ({"rule": "self.n + 'x' == ''"}, "rule", "'_+_' applied to '(int, string)'"),
        ({"rule": "self.n"}, "rule", "must evaluate to a bool"),
        ({"rule": "self.kind == 'Thing' && has(self.metadata.generateName)"}, "", ""),
        ({"rule": "oldSelf.orValue(self).n == self.n", "optionalOldSelf": True}, "", ""),
        ({"rule": "'text'"}, "rule", "must evaluate to a bool"),
        ({"rule": "true", "message": "two\nlines"}, "message", "line breaks"),
        ({"rule": "true", "reason": "Because"}, "reason", "Unsupported value"),
        ({"rule": "true", "fieldPath": "spec"}, "fieldPath", "path of fields"),
        ({"rule": "true", "optionalOldSelf": True}, "optionalOldSelf", "oldSelf is not used"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression", "must evaluate to a string"),
        ({"rule": "true", "messageExpression": "self.x"}, "messageExpression", "undefined field 'x'"),
    ],
)
def test_a_definition_with_a_rule_that_is_none_is_refused(
    rule: dict[str, Any], field: str, said: str
) -> None:
    causes = Causes()
    raw = {"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]}
    check_structural(causes, raw, "schema")
    if not field:
        assert causes.list == []
        return
    (cause,) = causes.list
    assert cause["field"] == f"schema.x-kubernetes-validations[0].{field}"
    assert said in cause["message"]


def test_the_past_of_a_list_without_keys_cannot_be_asked() -> None:
    items = {**STRING, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    causes = Causes()
    raw = {"type": "object", "properties": {"l": {"type": "array", "items": items}}}
    check_structural(causes, raw, "schema")
    assert "uncorrelatable" in causes.list[0]["message"]


def test_a_definition_that_is_there_is_not_refused_for_what_its_rules_are_asked_today() -> None:
    raw = {"type": "object", "x-kubernetes-validations": [{"rule": "self.nothing"}]}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": raw}}
    names = {"plural": "beds", "singular": "bed", "kind": "Bed", "listKind": "BedList"}
    stored = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "beds.example.org", "uid": "1", "resourceVersion": "1"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": names, "versions": [version]},
        "status": {"storedVersions": ["v1"], "acceptedNames": names},
    }
    assert [cause["field"] for cause in validate(CUSTOM_RESOURCE_DEFINITION, stored)] == [
        "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule"
    ]
    established = {**stored, "status": {**stored["status"], "conditions": []}}
    assert validate(CUSTOM_RESOURCE_DEFINITION, established, stored) == []
