"""What is known of an expression before it is evaluated: its type, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from gitkube.objects.cel import Budget, CelSyntaxError, compile_expression
from gitkube.objects.cel.checker import check_types
from gitkube.objects.cel.cost import most_units
from gitkube.objects.cel.parser import parse
from gitkube.objects.cel.types import DYN, CelType
from gitkube.objects.cel.values import type_name
from gitkube.objects.custom.schema import root_schema
from gitkube.objects.declared_types import AUTHORIZER, REQUEST, composed, declared_type
from gitkube.objects.kinds import DEPLOYMENT
from gitkube.objects.schema import schema_of
from tests.unit.objects.cel.test_bounds import EXPRESSIONS
from tests.unit.objects.cel.test_expressions import MISTAKES, POD, VALUES

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                "share": {"type": "number"},
                "name": {"type": "string"},
                "on": {"type": "boolean"},
                "when": {"type": "string", "format": "date-time"},
                "wait": {"type": "string", "format": "duration"},
                "words": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": True},
                "anything": {"x-kubernetes-preserve-unknown-fields": True},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "if": {"type": "string"},
                "dash-ed": {"type": "string"},
                "parts": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"key": {"type": "string"}}},
                },
            },
        }
    },
}


def self_type() -> CelType:
    declared = declared_type(root_schema(SCHEMA), "selfType", is_root=True)
    assert declared is not None
    return declared


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("self.spec.count > 1", "bool"),
        ("self.spec.count + 1", "int"),
        ("self.spec.share * 2.0", "double"),
        ("self.spec.count > self.spec.share", "bool"),
        ("self.spec.words", "list(string)"),
        ("self.spec.words[0].size()", "int"),
        ("self.spec.words.map(w, w.size())", "list(int)"),
        ("self.spec.words.filter(w, w != '')", "list(string)"),
        ("self.spec.words + ['x']", "list(string)"),
        ("self.spec.words.exists_one(w, w == self.metadata.name)", "bool"),
        ("self.spec.words.all(i, w, i < 3 && w != '')", "bool"),
        ("self.spec.labels['a'] + self.spec.labels.b", "string"),
        ("self.spec.labels.all(key, key.startsWith('a'))", "bool"),
        ("self.spec.labels.transformMap(k, v, v.size())", "map(string, int)"),
        ("'a' in self.spec.labels && 'b' in self.spec.words", "bool"),
        ("self.spec.port", "dyn"),
        ("self.spec.port == 80 || self.spec.port == 'http'", "bool"),
        ("self.spec.when < timestamp('2030-01-01T00:00:00Z')", "bool"),
        ("self.spec.when + self.spec.wait", "timestamp"),
        ("duration('1h') > self.spec.wait", "bool"),
        ("self.spec.__if__ + self.spec.dash__dash__ed", "string"),
        ("self.spec.?name", "optional_type(string)"),
        ("self.spec.?name.orValue('none')", "string"),
        ("self.?spec.?parts[?0].?key.hasValue()", "bool"),
        ("self.spec.?name.optMap(n, n.size()).orValue(0)", "int"),
        ("optional.of(self.spec.count).value()", "int"),
        ("self.spec.parts.map(p, p.key).sort()", "list(string)"),
        ("self.spec.words.join(',').split(',')", "list(string)"),
        ("cel.bind(n, self.spec.count, n * n)", "int"),
        ("self.spec.on ? self.spec.name : 'x'", "string"),
        ("self.spec.on ? self.spec.port : 'x'", "dyn"),
        ("{'a': 1, 'b': 2}", "map(string, int)"),
        ("[1, 'a', null]", "list(dyn)"),
        ("type(self.spec.count) == int", "bool"),
        ("quantity('1Gi').isGreaterThan(quantity('1Mi'))", "bool"),
        ("self.spec == null || self.spec.parts[0] != null", "bool"),
        ("self.apiVersion + self.kind + self.metadata.generateName", "string"),
        ("size(self.spec.words) == 0 && size(self.spec.labels) == 0", "bool"),
        ("sets.contains(self.spec.words, ['a'])", "bool"),
        ("dyn(self.spec).whatever.there.is", "dyn"),
    ],
)
def test_what_is_right_has_a_type(text: str, type: str) -> None:
    checked = check_types(text, {"self": self_type()})
    assert checked.mistakes == ()
    assert str(checked.type) == type


@pytest.mark.parametrize(
    ("text", "column", "why"),
    [
        ("self.spec.cuont > 1", 10, "undefined field 'cuont'"),
        ("has(self.spec.cuont)", 14, "undefined field 'cuont'"),
        ("self.metadata.labels", 14, "undefined field 'labels'"),
        ("self.spec.anything == 1", 10, "undefined field 'anything'"),
        ("self.spec.open.field", 15, "undefined field 'field'"),
        ("self.spec.parts.all(p, p.kee != '')", 25, "undefined field 'kee'"),
        ("self.spec.name.first", 15, "type 'string' does not support field selection"),
        ("self.spec.words.first", 16, "type 'list(string)' does not support field selection"),
        ("other.field", 1, "undeclared reference to 'other' (in container '')"),
        ("unheard(1)", 8, "undeclared reference to 'unheard' (in container '')"),
        (
            "self.spec.count == '1'",
            17,
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "self.spec.name == null",
            16,
            "found no matching overload for '_==_' applied to '(string, null)'",
        ),
        (
            "self.spec.count.startsWith('1')",
            27,
            "found no matching overload for 'startsWith' applied to 'int.(string)'",
        ),
        (
            "self.spec.name.matches(1)",
            23,
            "found no matching overload for 'matches' applied to 'string.(int)'",
        ),
        ("1 in self.spec.words", 3, "found no matching overload for '@in' applied to '(int, list(string))'"),
        (
            "self.spec.words['0']",
            16,
            "found no matching overload for '_[_]' applied to '(list(string), string)'",
        ),
        (
            "self.spec['count']",
            10,
            "found no matching overload for '_[_]' applied to '(selfType.spec, string)'",
        ),
        (
            "self.spec.all(f, f != '')",
            5,
            "expression of type 'selfType.spec' cannot be range of a comprehension "
            "(must be list, map, or dynamic)",
        ),
        ("size(self.spec)", 5, "found no matching overload for 'size' applied to '(selfType.spec)'"),
        (
            "self.spec.on ? 1 : 'x'",
            14,
            "found no matching overload for '_?_:_' applied to '(bool, int, string)'",
        ),
        (
            "self.spec.on && self.spec.name",
            14,
            "found no matching overload for '_&&_' applied to '(bool, string)'",
        ),
    ],
)
def test_a_mistake_is_said_with_its_place(text: str, column: int, why: str) -> None:
    (mistake,) = check_types(text, {"self": self_type()}).mistakes
    assert mistake == f"ERROR: <input>:1:{column}: {why}\n | {text}\n | {'.' * (column - 1)}^"


def test_all_mistakes_are_said_in_the_order_of_the_text() -> None:
    checked = check_types("self.spec.a == 1 ||\n self.spec.b == 2", {"self": self_type()})
    assert [mistake.partition("\n")[0] for mistake in checked.mistakes] == [
        "ERROR: <input>:1:10: undefined field 'a'",
        "ERROR: <input>:2:11: undefined field 'b'",
    ]


def test_a_name_that_a_macro_binds_hides_the_one_outside() -> None:
    checked = check_types("[1, 2].all(self, self > 0) && self.spec.count > 0", {"self": self_type()})
    assert checked.mistakes == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("object.spec.replicas > 1", ""),
        ("object.metadata.labels['app'] == 'web'", ""),
        ("object.metadata.creationTimestamp > oldObject.metadata.creationTimestamp", ""),
        ("object.spec.template.spec.containers.all(c, c.image.startsWith('a/'))", ""),
        ("object.spec.template.spec.containers[0].resources.limits['cpu'] == '1'", ""),
        ("object.spec.strategy.rollingUpdate.maxSurge == 1", ""),
        ("object.replicas > 1", "undefined field 'replicas'"),
        ("object.spec.template.spec.containers.all(c, c.img == '')", "undefined field 'img'"),
        ("object.spec.replicas == 'many'", "'_==_' applied to '(int, string)'"),
    ],
)
def test_a_built_in_kind_has_the_fields_of_its_schema(text: str, why: str) -> None:
    declared = declared_type(schema_of(DEPLOYMENT), "Deployment")
    assert declared is not None
    mistakes = check_types(text, {"object": declared, "oldObject": declared}).mistakes
    assert mistakes == () if not why else why in mistakes[0]


def test_a_request_and_the_variables_of_a_policy_have_fields() -> None:
    names = {"request": REQUEST, "variables": composed({"size": CelType("int")}), "object": DYN}
    right = "request.userInfo.groups.exists(g, g == 'a') && variables.size > object.spec.anything"
    assert check_types(right, names).mistakes == ()
    for wrong in ("request.user", "variables.sise", "request.userInfo.extra['a'].size"):
        assert len(check_types(wrong, names).mistakes) == 1


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("authorizer.group('').resource('pods').namespace('a').check('get').allowed()", "bool"),
        ("authorizer.group(object.group).resource('pods').name(object.name).check('get').reason()", "string"),
        ("authorizer.path('/healthz').check('get').errored()", "bool"),
        ("authorizer.serviceAccount('a', 'b').path('/metrics').check('get').allowed()", "bool"),
        ("authorizer.requestResource.check('get')", "kubernetes.authorization.Decision"),
    ],
)
def test_what_an_authorizer_is_asked_has_a_type(text: str, type: str) -> None:
    checked = check_types(text, {"authorizer": AUTHORIZER, "object": DYN})
    assert (str(checked.type), checked.mistakes) == (type, ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("authorizer.group('').check('get')", "applied to 'kubernetes.authorization.GroupCheck.(string)'"),
        ("authorizer.path(1).check('get')", "'path' applied to 'kubernetes.authorization.Authorizer.(int)'"),
        ("authorizer.request", "undefined field 'request'"),
    ],
)  # fmt: skip
def test_what_an_authorizer_cannot_be_asked_is_a_mistake(text: str, why: str) -> None:
    mistakes = check_types(text, {"authorizer": AUTHORIZER}).mistakes
    assert len(mistakes) == 1 and why in mistakes[0]


CONSTRUCTORS = frozenset({"Object", "JSONPatch"})
NAMES = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}


@pytest.mark.parametrize(("source", "value"), VALUES)
def test_what_has_a_value_is_no_mistake_and_the_value_is_of_its_type(source: str, value: Any) -> None:
    checked = check_types(source, {"object": DYN}, CONSTRUCTORS)
    assert checked.mistakes == ()
    got = compile_expression(source, frozenset({"object"}), constructors=CONSTRUCTORS).evaluate(
        {"object": POD}, Budget()
    )
    name = type_name(got)
    assert checked.type.is_struct or checked.type.name in ("dyn", NAMES.get(name, name))


@pytest.mark.parametrize(("source", "message"), MISTAKES)
def test_it_finds_every_mistake_that_the_compiler_finds(source: str, message: str) -> None:
    try:
        found = "\n".join(check_types(source, {"object": DYN}, CONSTRUCTORS).mistakes)
    except CelSyntaxError as error:
        found = error.message
    assert message in found


@given(source=EXPRESSIONS)
@settings(max_examples=300, deadline=None)
def test_any_expression_is_judged(source: str) -> None:
    checked = check_types(source, {"object": DYN})
    assert all(mistake.startswith("ERROR: <input>:") for mistake in checked.mistakes)
    assert most_units(checked) >= 0


def test_a_text_that_is_judged_and_then_compiled_is_read_once() -> None:
    text = "object.spec.replicas > 271828"
    before = parse.cache_info().misses
    check_types(text, {"object": DYN})
    compile_expression(text, frozenset({"object"}))
    assert parse.cache_info().misses == before + 1


def test_a_monstrous_text_is_not_even_read() -> None:
    with pytest.raises(CelSyntaxError, match="exceeds limit"):
        check_types("1 + " * 1_000_000 + "1", {})
