"""What an expression could cost at most: the figures that Kubernetes reckons with.

The cases and their figures are those of k8s.io/apiserver, pkg/cel/library/cost_test.go, as far as they need
no schema; there is one for each price of the list.
"""

from __future__ import annotations

import pytest

from gitkube.objects.cel.checker import check_types
from gitkube.objects.cel.cost import most_units
from gitkube.objects.cel.prices import MOST_UNITS, Given, Size, price_of
from gitkube.objects.cel.types import CelType, list_of, map_of, struct
from gitkube.objects.declared_types import AUTHORIZER

NUMBERS = "[1, 2, 3, 4, 5]"
TEXT = "'01234567890123456789012345678901234567890123456789'"
SELECTOR = "'spec.nodeName=example-node-name.fully.qualified.domain.name.example.com'"
POD_CHECK = "authorizer.group('').resource('pods')"
V6 = "'2001:db8:3333:4444:5555:6666:7777:8888'"


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (f"{NUMBERS}.sum()", 15),
        (f"{NUMBERS}.isSorted()", 15),
        ("[uint(1), uint(2), uint(3), uint(4), uint(5)].max()", 20),
        ("[duration('1s'), duration('2s'), duration('3s')].min()", 16),
        (f"{NUMBERS}.indexOf(3)", 15),
        (f"{TEXT}.indexOf('123')", 5),
        (f"{TEXT}.lastIndexOf('123')", 5),
        ("url('https:://kubernetes.io/').getHost()", 4),
        ("url('https:://kubernetes.io/') == url('https:://kubernetes.io/')", 9),
        ("url('https:://kubernetes.io/') == url('http://x.b')", 5),
        ("ip('192.168.0.1')", 2),
        (f"ip({V6})", 4),
        ("ip('192.168.0.1').family()", 3),
        ("ip('192.168.0.1').isGlobalUnicast()", 3),
        (f"ip({V6}) == ip('192.168.0.1')", 7),
        ("ip.isCanonical('192.168.0.1')", 3),
        (f"ip.isCanonical({V6})", 8),
        ("cidr('192.168.0.0/16')", 2),
        ("cidr('192.168.0.0/16').ip()", 3),
        ("cidr('192.168.0.0/16').masked()", 3),
        ("cidr('192.168.0.0/16') == cidr('2001:db8::/32')", 5),
        ("cidr('192.168.0.0/16').containsCIDR(cidr('192.0.0.0/30'))", 11),
        ("cidr('192.168.0.0/16').containsCIDR('192.0.0.0/30')", 11),
        ("cidr('192.168.0.0/16').containsIP(ip('192.0.0.1'))", 7),
        ("cidr('192.168.0.0/16').containsIP('192.169.0.1')", 8),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii()", 3),
        ("'ABCDEFGHIJ abcdefghij'.upperAscii() == 'abcdefghij ABCDEFGHIJ'.upperAscii()", 9),
        ("strings.quote('ABCDEFGHIJ abcdefghij')", 3),
        ("strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')", 11),
        ("'abc 123 def 123'.replace('', 'x')", 3),
        ("'abc 123 def 123'.replace('123', '456', 1)", 3),
        ("'abc 123 def 123'.split(' ')", 3),
        ("'abc 123 def 123'.split(' ', 1)", 3),
        ("'abc 123 def 123'.substring(5, 8)", 2),
        ("'  abc 123 def 123  '.trim()", 2),
        ("'abc 123 def 123'.find('123')", 2),
        ("'abc 123 def 123'.findAll('123', 1)", 2),
        ("jsonpatch.escapeKey('abc/def~ abc/def~')", 2),
        ("authorizer.path('/healthz')", 2),
        (f"{POD_CHECK}.subresource('status').namespace('test').name('backend')", 6),
        (f"{POD_CHECK}.fieldSelector({SELECTOR})", 1821),
        ("authorizer.path('/healthz').check('get').allowed()", 350_003),
        ("quantity('12Mi')", 1),
        ("isQuantity('20M')", 1),
        ("quantity('200M') == quantity('0.2G') && quantity('0.2G') == quantity('200M')", 6),
        ("quantity('50M').isLessThan(quantity('50Mi'))", 3),
        ("quantity('200M').compareTo(quantity('0.2G')) > 0", 4),
        ("quantity('50k').add(20).sub(quantity('100k')).sub(-50000).asInteger() > 0", 7),
        ("format.named('dns1123Label').value().validate('my-name')", 34),
        ("format.named('dns1123Label').value() == format.named('dns1123Label').value()", 11),
        ("sets.contains([], [])", 21),
        ("sets.contains([1, 2, 3, 4], [2, 3])", 29),
        ("sets.equivalent([1, 2, 3], [3u, 2.0, 1])", 39),
        ("sets.intersects([[1], [2, 3]], [[1, 2], [2, 3.0]])", 65),
        ("semver('1234.56789012345.67890123456789')", 4),
        ("semver('1.0.0').isLessThan(semver('1.1.0'))", 3),
        ("{'a': 1, 'b': 2}.all(k, v, v > 0)", 41),
        ("{'a': 1, 'b': 2}.exists(k, v, v > 0)", 43),
        ("{'a': 1, 'b': 2}.existsOne(k, v, v > 0)", 40),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v + 1)", 71),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v < 5, v + 1)", 75),
        ("{'a': 1, 'b': 2}.transformMapEntry(k, v, {k: v + 1})", 131),
        ("[1, 2].all(i, v, v > 0)", 21),
        ("[1, 2].transformList(i, v, v + 1)", 49),
        ("[1, 2].transformList(i, v, v < 5, v + 1)", 53),
    ],
)
def test_an_expression_costs_what_kubernetes_reckons(text: str, units: int) -> None:
    checked = check_types(text, {"authorizer": AUTHORIZER})
    assert checked.mistakes == ()
    assert most_units(checked) == units


SELF = struct(
    "selfType",
    {
        "name": CelType("string", most=100),
        "count": CelType("int"),
        "words": list_of(CelType("string", most=10), 20),
        "labels": map_of(CelType("string", most=0), CelType("string", most=50), 5),
    }.get,
)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("self.name", 2),
        ("self.name.lowerAscii().upperAscii()", 2 + 10 + 10),
        ("self.name.startsWith('abc')", 2 + 1),
        ("self.name.contains('abcdefghijklmn')", 2 + 10 * 2),
        ("self.name.matches('^[a-z]+$')", 2 + 11 * 2),
        ("self.name.replace('a', 'bc').lowerAscii()", 2 + 20 + 20),
        ("self.name.replace('', 'bc').lowerAscii()", 2 + 20 + 31),
        ("self.name.split(',').size()", 2 + 20 + 1),
        ("self.words.join(', ')", 2 + 24),
        ("self.words.join(', ').size() < 9", 2 + 24 + 1 + 1),
        ("self.words.max()", 2 + 20 * 2),
        ("self.words.isSorted()", 2 + 20 * 2),
        ("self.words[0].lowerAscii()", 2 + 1 + 1),
        ("self.words.map(w, w)[0].lowerAscii()", 2 + 11 + 20 * 13 + 1 + 1),
        ("self.labels['a'].lowerAscii()", 2 + 1 + 5),
        ("self.labels.all(k, self.labels[k].lowerAscii() != 'x')", 2 + 1 + 5 * (2 + 1 + 1 + 5 + 1 + 3)),
        ("'%d words'.format([self.count])", 10 + 2 + 1),
        ("cel.bind(n, self.name, n.lowerAscii())", 10 + 2 + 1 + 10),
        ("self.count + 1 > 2", 2 + 1 + 1),
        ("self.count == 2", 2),
    ],
)  # fmt: skip
def test_what_stands_in_an_object_is_as_large_as_its_schema_lets_it_be(text: str, units: int) -> None:
    checked = check_types(text, {"self": SELF})
    assert checked.mistakes == ()
    assert most_units(checked, SELF) == units


@pytest.mark.parametrize(
    "text",
    [
        "'it has ' + string(self.count)",  # kubernetes/kubernetes#124234
        "['a', 'b'].join(',')",
        "self.words.map(w, w + '!').join(',')",
        "self.?name.orValue('a').matches('^a+$')",
    ],
)
def test_a_text_of_a_size_that_nothing_tells_is_too_dear_to_be_read(text: str) -> None:
    checked = check_types(text, {"self": SELF})
    assert checked.mistakes == ()
    assert most_units(checked, SELF) > MOST_UNITS // 1000


@pytest.mark.parametrize(
    ("text", "old", "new", "made"),
    [
        (Size(3, 3), Size(0, 0), Size(1, 1), Size(7, 7)),
        (Size(3, 3), Size(1, 1), Size(0, 0), Size(0, 3)),
        (Size(4, 4), Size(2, 2), Size(4, 4), Size(4, 8)),
        (Size(4, 4), Size(0, 1), Size(0, 2), Size(0, 14)),
        (Size(4, 4), Size(1, 1), Size(1, 2), Size(4, 8)),
    ],
)
def test_what_replacing_makes_of_a_text_is_foretold(text: Size, old: Size, new: Size, made: Size) -> None:
    given = Given([text, old, new], ["string"] * 3, None, None)
    assert price_of("replace", given).size == made
