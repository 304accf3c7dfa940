"""What expressions come to: one line each, as Kubernetes' engine answers."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects.cel import Budget, CelError, CelEvaluationError, CelSyntaxError, compile_expression
from gitkube.objects.cel.values import HostObject, Optional, Uint

POD = {
    "metadata": {"name": "web", "labels": {"app": "web", "a-b": "dashed", "x__dash__y": "raw"}},
    "spec": {
        "replicas": 3,
        "namespace": "plain",
        "containers": [{"name": "a", "image": "r/a:1"}, {"name": "b", "image": "r/b:2"}],
    },
}
VALUES: list[tuple[str, Any]] = [
    ("1 + 2 * 3", 7),
    ("-7 / 2", -3),
    ("-7 % 3", -1),
    ("7u % 4u", 3),
    ("1.5 * 2.0", 3.0),
    ("-9223372036854775808", -(2**63)),
    ("0x1F", 31),
    ("1e3", 1000.0),
    ("1 == 1.0 && 1u == 1", True),
    ("dyn(1) == dyn(true)", False),
    ("[1, 'a'] == [1.0, 'a']", True),
    ("{'a': [1]} == {'a': [1]}", True),
    ("'b' > 'a' && b'b' > b'a' && 2 > 1.5", True),
    ("2 in [1, 2] && 'a' in {'a': 1} && !(3 in [1, 2])", True),
    ("false && dyn(1) / 0 == 1", False),
    ("dyn(1) / 0 == 1 || true", True),
    ("true ? 'yes' : 'no'", "yes"),
    ("'a' + \"b\" + '''c''' + r'\\n'", "abc\\n"),
    ("'\\u00e9\\x41\\101\\n'", "éAA\n"),
    ("b'\\xff' == b'\\377'", True),
    ("object.spec.replicas", 3),
    ("object.metadata.labels.a__dash__b", "dashed"),
    ("object.metadata.labels.x__dash__y", "raw"),
    ("object.metadata.labels.`a-b`", "dashed"),
    ("object.spec.__namespace__", "plain"),
    ("object.metadata.labels['a-b']", "dashed"),
    ("has(object.spec.replicas) && !has(object.spec.nope)", True),
    ("object.spec.containers.all(c, c.image.startsWith('r/'))", True),
    ("object.spec.containers.exists(c, c.name == 'b')", True),
    ("object.spec.containers.exists_one(c, c.image.contains(':'))", False),
    ("object.spec.containers.map(c, c.name)", ["a", "b"]),
    ("object.spec.containers.map(c, c.name != 'a', c.image)", ["r/b:2"]),
    ("object.spec.containers.filter(c, c.name == 'a').size()", 1),
    ("object.metadata.labels.all(k, k.size() > 2)", True),
    ("object.metadata.labels.exists(k, v, k == 'app' && v == 'web')", True),
    ("[3, 4].transformList(i, v, i * v)", [0, 4]),
    ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", {"b": 20}),
    ("{'a': 1}.transformMapEntry(k, v, {v: k})", {1: "a"}),
    ("[dyn(0), 1].exists(x, 1 / x == 1)", True),
    ("[[1], [2]].all(x, x.all(x, x > 0))", True),
    ("cel.bind(x, [1, 2], x + x)", [1, 2, 1, 2]),
    ("object.?spec.?nope.orValue(5)", 5),
    ("object.?spec.replicas.value()", 3),
    ("object.spec.?nope.hasValue()", False),
    ("object.metadata.labels[?'app'].orValue('')", "web"),
    ("[1][?3].or(optional.of(4)).value()", 4),
    ("optional.of(2).optMap(x, x + 1).value()", 3),
    ("optional.none().optMap(x, x + 1).hasValue()", False),
    ("optional.of(2).optFlatMap(x, optional.none()).hasValue()", False),
    ("[1, ?optional.none(), ?optional.of(3)]", [1, 3]),
    ("{?'a': optional.none(), 'b': 1}", {"b": 1}),
    ("optional.ofNonZeroValue('').hasValue()", False),
    ("type(1) == int && type('') == string && type([]) == list && type(null) == null_type", True),
    ("type(timestamp('2020-01-01T00:00:00Z')) == google.protobuf.Timestamp", True),
    ("type(quantity('1')) == kubernetes.Quantity", True),
    ("int('12') + int(3.9) + int(2u)", 17),
    ("string(1) + string(1.5) + string(true) + string(2.0)", "11.5true2"),
    ("double('1.5') + double(1)", 2.5),
    ("bool('true')", True),
    ("uint(5)", 5),
    ("size('añb') + size([1]) + {'a': 1}.size() + b'ab'.size()", 7),
    ("'a,b,c'.split(',')", ["a", "b", "c"]),
    ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
    ("'abc'.split('')", ["a", "b", "c"]),
    ("['a', 'b'].join('-') + ['c'].join()", "a-bc"),
    ("'aXbX'.replace('X', 'y') + 'aXbX'.replace('X', 'y', 1)", "aybyaybX"),
    ("'ÀBc'.lowerAscii() + 'àbC'.upperAscii()", "ÀbcàBC"),
    ("'tacocat'.substring(4) + 'tacocat'.substring(0, 2)", "catta"),
    ("' \\ta '.trim() + 'ab'.reverse() + 'ab'.charAt(1)", "abab"),
    ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l') + 'hello'.indexOf('l', 3)", 8),
    ("'%s is %d, %.2f, %x, %b, %%'.format(['a', 3, 1.234, 255, 5])", "a is 3, 1.23, ff, 101, %"),
    ("'%s'.format([[1, 'a', {'k': null}]])", "[1, a, {k: null}]"),
    ("strings.quote('a\"b\\n')", '"a\\"b\\n"'),
    ("[1, 2, 2].isSorted() && !['b', 'a'].isSorted()", True),
    ("[1, 2, 3].sum() + [3, 1].min() + [3, 1].max()", 10),
    ("['a', 'b', 'a'].indexOf('b') + ['a', 'b', 'a'].lastIndexOf('a')", 3),
    ("[1, 2, 3].slice(1, 3)", [2, 3]),
    ("[[1], [[2]]].flatten()", [1, [2]]),
    ("[3, 1, 2, 1].distinct().sort()", [1, 2, 3]),
    ("lists.range(3)", [0, 1, 2]),
    ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])", True),
    ("'abc'.matches('^a.c$') && matches('xabcx', 'abc')", True),
    ("'a1 b22'.find('[0-9]+')", "1"),
    ("'a1 b22'.findAll('[0-9]+')", ["1", "22"]),
    ("'a1 b22'.findAll('[0-9]+', 1)", ["1"]),
    ("isURL('https://h:80/p?q=1') && isURL('/only/path') && !isURL('no url') && !isURL('../a')", True),
    ("url('https://u@h.de:80/a%20b?q=1&q=2').getHost()", "h.de:80"),
    ("url('https://[::1]:80/').getHostname() + url('HTTPS://h:8/').getScheme()", "::1https"),
    ("url('https://h/a b'.replace(' ', '%20')).getEscapedPath()", "/a%20b"),
    ("url('https://h/?q=1&q=2&r=').getQuery()", {"q": ["1", "2"], "r": [""]}),
    ("quantity('1Gi').isGreaterThan(quantity('500Mi')) && isQuantity('20m') && !isQuantity('x')", True),
    ("quantity('1k').add(quantity('500')).sub(1000).asInteger()", 500),
    ("quantity('50m').compareTo(quantity('0.05')) == 0 && quantity('-1').sign() == -1", True),
    ("isIP('10.0.0.1') && !isIP('10.0.0.01') && ip('::1').isLoopback() && ip('fe80::1').family() == 6", True),
    ("ip.isCanonical('::1') && !ip.isCanonical('0:0::1') && string(ip('0::1')) == '::1'", True),
    ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", True),
    ("string(cidr('10.1.2.3/8').masked()) + string(cidr('10.0.0.0/8').prefixLength())", "10.0.0.0/88"),
    ("timestamp('2020-02-01T10:00:00+01:00') + duration('1h') == timestamp('2020-02-01T10:00:00Z')", True),
    ("timestamp('2020-02-29T23:59:59.5Z').getMonth() + timestamp('2020-01-01T00:00:00Z').getDayOfWeek()", 4),
    ("timestamp('2020-01-01T00:00:00Z').getHours('+02:30')", 2),
    (
        "string(duration('1h30m')) + string(timestamp('2020-01-01T00:00:00.25Z'))",
        "5400s2020-01-01T00:00:00.25Z",
    ),
    ("duration('90m').getHours() + duration('90s').getMinutes()", 2),
    ("format.dns1123Label().validate('ok').hasValue()", False),
    ("format.named('dns1123Label').value().validate('No').value().size()", 1),
    ("semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1') && !isSemver('1.0')", True),
    ("semver('v1.2', true).minor()", 2),
    ("math.greatest(1, 2.5, 2) == 2.5 && math.least([3, 1]) == 1 && math.abs(-2) == 2", True),
    ("math.ceil(1.2) + math.round(-1.5)", 0.0),
    ("base64.decode(base64.encode(b'hi')) == b'hi'", True),
    ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
    ("Object{spec: Object.spec{replicas: 2, ?other: optional.none()}}", {"spec": {"replicas": 2}}),
    ("[1, 2,] // a comment", [1, 2]),
]
EVALUATION_ERRORS = [
    ("object.spec.nope", "no such key: nope"),
    ("object.spec.containers[5]", "index out of bounds: 5"),
    ("dyn(1) + 'a'", "no such overload"),
    ("dyn(1) && true", "no such overload"),
    ("dyn(true) + dyn(true)", "no such overload"),
    ("1 / 0", "division by zero"),
    ("1 % 0", "modulus by zero"),
    ("9223372036854775807 + 1", "integer overflow"),
    ("1u - 2u", "unsigned integer overflow"),
    ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("optional.none().value()", "optional.none() dereference"),
    ("'a'.matches('(')", "error parsing regexp: missing ): ("),
    ("[].min()", "min called on empty list"),
    ("'%d'.format(['a'])", "could not parse formatting clause: unsupported value for %d"),
    ("object.check('a')", "no such overload"),
]
MISTAKES = [
    ("1 +", "1:4: Syntax error: mismatched input '<EOF>' expecting {'['"),
    ("nope.a", "1:1: undeclared reference to 'nope' (in container '')"),
    ("'a'.nope()", "1:9: undeclared reference to 'nope' (in container '')"),
    ("1 + 'a'", "1:3: found no matching overload for '_+_' applied to '(int, string)'"),
    ("size(1)", "1:5: found no matching overload for 'size' applied to '(int)'"),
    ("'a'.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
    ("1 && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
    ("1.all(x, true)", "expression of type 'int' cannot be range of a comprehension"),
    ("[1].all(1 + 1, true)", "argument must be a simple name"),
    ("has(object)", "invalid argument to has() macro"),
    ("a.b.Other{}", "undeclared reference to 'a.b.Other'"),
    ("'open", "Syntax error: token recognition error"),
    ("99999999999999999999", "invalid int literal"),
    ("for", "reserved identifier: for"),
    ("true\n && nope", "2:5: undeclared reference to 'nope'"),
]


def evaluate(source: str) -> Any:
    program = compile_expression(
        source, frozenset({"object"}), constructors=frozenset({"Object", "JSONPatch"})
    )
    return program.evaluate({"object": POD}, Budget())


@pytest.mark.parametrize(("source", "value"), VALUES)
def test_an_expression_has_its_value(source: str, value: Any) -> None:
    got = evaluate(source)
    assert got == value
    assert isinstance(got, bool) == isinstance(value, bool)


@pytest.mark.parametrize(("source", "message"), EVALUATION_ERRORS)
def test_an_expression_that_has_no_value_says_why(source: str, message: str) -> None:
    with pytest.raises(CelEvaluationError) as caught:
        evaluate(source)
    assert caught.value.message == message


@pytest.mark.parametrize(("source", "message"), MISTAKES)
def test_a_mistake_is_found_before_anything_is_evaluated(source: str, message: str) -> None:
    with pytest.raises(CelSyntaxError) as caught:
        evaluate(source)
    assert message in caught.value.message
    assert caught.value.message.startswith("ERROR: <input>:")


def test_a_mistake_is_shown_at_its_place() -> None:
    with pytest.raises(CelSyntaxError) as caught:
        evaluate("true && nope")
    why = (
        "ERROR: <input>:1:9: undeclared reference to 'nope' (in container '')\n | true && nope\n | ........^"
    )
    assert caught.value.message == why


def test_types_are_known_as_far_as_the_text_tells() -> None:
    types = {
        source: compile_expression(source, frozenset({"object"})).result_type
        for source in ("1 < 2", "'a' + 'b'", "object.a", "[1].map(x, x)", "true ? 1 : 2")
    }
    assert list(types.values()) == ["bool", "string", "dyn", "list", "int"]


def test_a_program_names_the_variables_that_it_reads() -> None:
    program = compile_expression("a.b.all(c, c > d)", frozenset({"a", "c", "d", "e"}))
    assert program.variables == {"a", "d"}
    assert program.loop_depth == 1


def test_things_of_the_server_answer_by_their_methods() -> None:
    class Door(HostObject):
        def call(self, name: str, arguments: list[Any]) -> Any:
            if name != "check":
                raise CelEvaluationError(f"no such method: {name}")
            return arguments == ["open"]

    program = compile_expression("door.check('open')", frozenset({"door"}))
    assert program.evaluate({"door": Door()}, Budget()) is True
    with pytest.raises(CelEvaluationError, match="no such method: path"):
        compile_expression("door.path('/')", frozenset({"door"})).evaluate({"door": Door()}, Budget())


def test_unsigned_numbers_keep_their_kind() -> None:
    assert type(evaluate("1u + 2u")) is Uint
    assert isinstance(evaluate("optional.of(1)"), Optional)
    with pytest.raises(CelError):
        evaluate("1u + 1")
