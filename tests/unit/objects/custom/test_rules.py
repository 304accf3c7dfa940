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
            "messageExpression": "'n is %d'.format([self.n])",
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
    rule = {"rule": "self.l.all(a, self.l.all(b, a + b > -1))"}
    spec = with_rules(rule, l={"type": "array", "maxItems": 1000, "items": {"type": "integer"}})
    assert judged(spec, {"l": [1, 2, 3]}) == []
    ((_, _, message),) = judged(spec, {"l": list(range(1000))})
    assert "running out of cost budget" in message


TEXT = {"type": "string"}
REMEDY = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and "
    "strings are declared)"
)


def cases(most: int | None, longest: int | None) -> dict[str, Any]:
    """A list of cases, of each of which a rule asks whether one text is in the other."""
    text = {**TEXT, "maxLength": longest} if longest is not None else TEXT
    item = with_rules({"rule": "!self.message.contains(self.wanted)"}, message=text, wanted=text)
    bound = {"maxItems": most} if most is not None else {}
    return {"type": "object", "properties": {"cases": {"type": "array", "items": item, **bound}}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (cases(20, 1024), []),
        (cases(20, 4096), [f"estimated rule cost exceeds budget by factor of 5.4x {REMEDY}"]),
        (cases(20, None), ["factor of more than 100x", "contributed to", "cost total for entire OpenAPIv3"]),
        (cases(None, 1024), ["factor of more than 100x", "contributed to", "cost total for entire"]),
        (
            with_rules(
                {"rule": "self.l.all(a, self.l.all(b, a == b || a != b))"},
                l={"type": "array", "items": {"type": "string"}},
            ),
            ["factor of more than 100x", "contributed to", "cost total for entire"],
        ),
        (
            with_rules(
                {"rule": "self.l.all(a, self.l.exists_one(b, a == b))"},
                l={"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}},
            ),
            [],
        ),
        (with_rules({"rule": "self.l.all(a, a > 0)"}, l={"type": "array", "items": {"type": "integer"}}), []),
        (with_rules({"rule": "self.s.matches('^[a-z]+$') && self.s.size() < 9"}, s=TEXT), []),
        (with_rules({"rule": "self.m.all(k, k.startsWith('a') && self.m[k] != '')"}, m={
            "type": "object", "maxProperties": 100, "additionalProperties": TEXT,
        }), []),
    ],
)  # fmt: skip
def test_a_rule_that_could_cost_too_much_by_its_schema_is_refused_when_it_is_written(
    schema: dict[str, Any], said: list[str]
) -> None:
    causes = Causes()
    check_structural(causes, schema, "schema")
    assert len(causes.list) == len(said)
    for cause, words in zip(causes.list, said, strict=True):
        assert cause["reason"] == "FieldValueForbidden" and words in cause["message"]


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


NAME = {"type": "string", "maxLength": 63}
REQUIREMENT = {
    "type": "object",
    "required": ["key", "operator"],
    "properties": {
        "key": {"type": "string", "maxLength": 316},
        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "Gt"]},
        "values": {"type": "array", "maxItems": 50, "items": NAME},
    },
}
COMMON: dict[str, Any] = {
    "password": {"type": "object", "properties": {"ref": NAME}},
    "token": {"type": "object", "properties": {"ref": NAME}},
    "requirements": {"type": "array", "maxItems": 100, "items": REQUIREMENT},
    "policies": {"type": "array", "maxItems": 3, "items": {"type": "string", "enum": ["*", "Create"]}},
    "labels": {"type": "object", "maxProperties": 64, "additionalProperties": NAME},
    "subnets": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {"cidr": NAME}}},
    "size": {"x-kubernetes-int-or-string": True, "maxLength": 20},
    "storage": {"type": "string", "maxLength": 20},
    "since": {"type": "string", "format": "date-time"},
    "timeout": {"type": "string", "maxLength": 20},
    "replicas": {"type": "integer"},
    "share": {"type": "number"},
    "template": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "conditions": {
        "type": "array",
        "maxItems": 8,
        "items": {"type": "object", "properties": {"type": NAME, "status": NAME}},
    },
    "namespace": NAME,
}


@pytest.mark.parametrize(
    "rule",
    [
        "[has(self.password), has(self.token)].filter(x, x).size() == 1",
        "(has(self.password) ? 1 : 0) + (has(self.token) ? 1 : 0) <= 1",
        "self.requirements.all(x, x.operator == 'In' ? x.values.size() != 0 : true)",
        "self.requirements.all(x, x.operator != 'Gt' || (x.values.size() == 1 && int(x.values[0]) >= 0))",
        "size(self.requirements.filter(i, size(self.requirements.filter(j, j.key == i.key)) > 1)) == 0",
        "self.requirements.map(r, r.key) == oldSelf.requirements.map(r, r.key)",
        "self.requirements.map(r, has(r.values) ? r.values[0] : r.key).distinct().size() == 1",
        "self.requirements.map(r, r.values.map(v, v.size()).sum()).sum() < 8192",
        "oldSelf.requirements.all(x, x in self.requirements)",
        "oldSelf.policies.all(p, p in self.policies) && !('*' in self.policies && self.policies.size() > 1)",
        "self.labels.all(key, !key.matches('^(kubernetes\\\\.io|k8s\\\\.io)/'))",
        "self.labels.map(key, size(key) + size(self.labels[key])).sum() <= 65535",
        "self.labels.exists(k, self.labels[k] == 'x') || 'app' in self.labels",
        "size(self.subnets) != 2 || !isCIDR(self.subnets[0].cidr) || "
        "cidr(self.subnets[0].cidr).ip().family() != cidr(self.subnets[1].cidr).ip().family()",
        "quantity(self.storage).compareTo(quantity(oldSelf.storage)) >= 0",
        "type(self.size) == string ? self.size.endsWith('%') : self.size > 0",
        "self.size == 1 || self.size == '10%' || string(self.size) == '3'",
        "self.since == oldSelf.since || self.since > timestamp('2020-01-01T00:00:00Z')",
        "duration(self.timeout) >= duration('1s') && self.timeout.matches('^[0-9]+(s|m|h)$')",
        "self.replicas >= 0 && self.replicas * 2 < 100 && self.share <= 1.0 && self.share < self.replicas",
        "has(self.template)",
        "!has(self.conditions) || self.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
        "self.?__namespace__.orValue('') == '' || self.__namespace__ != 'default'",
        "!has(self.__namespace__) || self.__namespace__.size() > 0",
        "has(self.password) == has(oldSelf.password) && self == oldSelf",
        "self.requirements.all(x, x.key.startsWith('a') || x.key in ['b', 'c'] || x.operator in ['In'])",
        "self.requirements.all(r, r.values.join(',').size() < 1000)",
        "self.storage.lowerAscii().matches('^[0-9]+(gi|mi)$') && self.storage.find('[a-z]+') != ''",
        "self.size.matches('^[0-9]+%$') || isQuantity(self.storage)",
        "cel.bind(n, size(self.requirements), n > 0 && n < 10)",
        "self.subnets[?0].optMap(s, s.cidr).orValue('') != 'x'",
    ],
)  # fmt: skip
def test_rules_as_people_write_them_are_taken(rule: str) -> None:
    causes = Causes()
    check_structural(
        causes, {"type": "object", "properties": {"spec": with_rules({"rule": rule}, **COMMON)}}, "schema"
    )
    assert causes.list == []
