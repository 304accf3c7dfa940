"""What calls cost at most, and the sizes of what they give: the price list of `cost`.

Most functions cost one unit. Those that read texts or lists cost a share of what they read; who makes a text
or a list of a size that can be foretold says so. Where nothing can be foretold the size is `UNKNOWN`, and
whatever reads such a text is too dear, as it is in Kubernetes.
Source: k8s.io/apiserver, pkg/cel/library/cost.go; github.com/google/cel-go, checker/cost.go and ext/sets.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

MOST_UNITS = 2**64 - 1
"""Sums and products stop here, as Kubernetes' do."""
TEXT_FACTOR = 0.1
"""Units for each character that is read."""
_PATTERN_FACTOR = 0.25
"""Parts of a regular expression for each of its characters."""
_LIST_UNITS, _STRUCT_UNITS = 10, 40
_NAMED_FORMAT_PATTERN = 128
"""Characters of the longest regular expression of a named format."""
_ADDRESS_BYTES = 16
_CHECK_UNITS = 350_000
"""Of one question to an authorizer: an expression may put two."""


class Size(NamedTuple):
    """Elements of a list or map, characters of a text; 1 of a number."""

    least: int
    most: int

    def joined(self, other: Size) -> Size:
        """Of what may be either."""
        return Size(min(self.least, other.least), max(self.most, other.most))


ONE = Size(1, 1)
UNKNOWN = Size(0, MOST_UNITS)


class Given(NamedTuple):
    """What a call is given, the receiver first."""

    sizes: Sequence[Size]
    types: Sequence[str]
    """Names of the types."""
    element: Size | None
    """Of the receiver's elements when it is a list of texts; None when it is no list, or of other things."""
    number: int | None
    """The last argument, when it is a number that is written there."""


class Price(NamedTuple):
    units: int
    size: Size | None = None
    """Of what the call gives; None when its type has to tell."""


Rule = Callable[[Given], Price]


def total(*parts: int) -> int:
    return min(sum(parts), MOST_UNITS)


def product(a: int, b: int) -> int:
    return min(a * b, MOST_UNITS)


def times(size: int, factor: float) -> int:
    return min(math.ceil(size * factor), MOST_UNITS)


def price_of(function: str, given: Given) -> Price:
    """The price of a call, without that of what it is given.

    Args:
        function: its whole name, such as `sets.contains`.
    """
    rule = RULES.get((function, len(given.sizes)))
    return rule(given) if rule is not None else Price(1)


def _reads(factor: float = TEXT_FACTOR, *, keeps_size: bool = False) -> Rule:
    """The first text is read; what is made of it is as long at most."""
    return lambda given: Price(times(given.sizes[0].most, factor), given.sizes[0] if keeps_size else None)


def _reads_second(given: Given) -> Price:
    return Price(times(given.sizes[1].most, TEXT_FACTOR))


def _pattern(text: Size, pattern: Size) -> int:
    return product(times(text.most + 1, TEXT_FACTOR), times(pattern.most, _PATTERN_FACTOR))


def _matches(given: Given) -> Price:
    return Price(_pattern(*given.sizes))


def _find(given: Given) -> Price:
    text, pattern = given.sizes[:2]
    return Price(_pattern(text, pattern), Size(0, text.most))


def _contains(given: Given) -> Price:
    text, part = (times(size.most, TEXT_FACTOR) for size in given.sizes)
    return Price(product(text, part))


def _through(given: Given) -> Price:
    """A list is gone through, its texts are compared; of a text each character is."""
    size = given.sizes[0].most
    if given.types[0] != "list":
        return Price(times(size, TEXT_FACTOR))
    element = 0 if given.element is None else times(given.element.most, TEXT_FACTOR)
    return Price(product(size, total(1, element)))


def _replace(given: Given) -> Price:
    text, old, new = given.sizes[:3]
    most = text.most
    if old.least == 0:
        most = total(product(total(text.most, 1), new.most), text.most)
    elif new.most > old.least:
        most = product(math.ceil(text.most / old.least), new.most)
    least = text.least
    if old.most == 0:
        least = total(product(total(text.least, 1), new.least), text.least)
    elif old.most > new.least:
        least = product(math.ceil(text.least / old.most), new.least)
    return Price(times(text.most, 2 * TEXT_FACTOR), Size(least, most))


def _split(given: Given) -> Price:
    most = given.sizes[0].most
    pieces = most if len(given.sizes) < 3 or given.number is None else given.number % (MOST_UNITS + 1)
    return Price(times(most, 2 * TEXT_FACTOR), Size(0, pieces))


def _join(given: Given) -> Price:
    pieces = given.sizes[0]
    element = (given.element or Size(0, 0)) if given.types[0] == "list" else Size(0, 0)
    separator = given.sizes[1] if len(given.sizes) > 1 else Size(0, 0)
    least = total(product(pieces.least, element.least), product(separator.least, max(pieces.least - 1, 0)))
    most = total(product(pieces.most, element.most), product(separator.most, max(pieces.most - 1, 0)))
    return Price(times(most, TEXT_FACTOR), Size(least, most))


def _address_in(given: Given, extra: int = 0) -> Price:
    units = times(2 * _ADDRESS_BYTES, TEXT_FACTOR) + extra
    if given.types[1] == "string":
        units = total(units, times(given.sizes[1].most, TEXT_FACTOR))
    return Price(units)


def _network_in(given: Given) -> Price:
    return _address_in(given, times(_ADDRESS_BYTES, TEXT_FACTOR) + 1)


def _validate(given: Given) -> Price:
    parts = int(_NAMED_FORMAT_PATTERN * _PATTERN_FACTOR)
    return Price(product(times(given.sizes[1].most, TEXT_FACTOR), parts))


def _selector(given: Given) -> Price:
    length = given.sizes[1].most
    requirements = product(times(length, 0.5), _LIST_UNITS + _STRUCT_UNITS)
    return Price(total(_LIST_UNITS, times(length, TEXT_FACTOR), requirements))


def _sets(factor: int) -> Rule:
    return lambda given: Price(total(product(product(given.sizes[0].most, given.sizes[1].most), factor), 1))


def _quote(given: Given) -> Price:
    text = given.sizes[0]
    made = Size(total(text.least, 2), total(product(text.most, 2), 2))
    return Price(times(text.most, TEXT_FACTOR), made)


def _bytes(given: Given) -> Price:
    """Of a text its bytes, up to four for each character."""
    if given.types[0] != "string":
        return Price(1)
    text = given.sizes[0]
    return Price(times(text.most, TEXT_FACTOR), Size(text.least, product(text.most, 4)))


def _string(given: Given) -> Price:
    if given.types[0] != "bytes":
        return Price(1)
    data = given.sizes[0]
    return Price(times(data.most, TEXT_FACTOR), Size(data.least // 4, data.most))


def _same_size(given: Given) -> Price:
    """No price is known for these; a list of the same size is less than Kubernetes may reckon with."""
    return Price(1, given.sizes[0])


def _is_in(given: Given) -> Price:
    return Price(1 if given.types[1] == "map" else given.sizes[1].most)


def _ordered(given: Given) -> Price:
    """Texts are compared to the end of the shorter one; numbers and times at once."""
    if not {"string", "bytes", "dyn"} & set(given.types):
        return Price(1)
    return Price(_shorter(given))


def _shorter(given: Given) -> int:
    return times(min(size.most for size in given.sizes), TEXT_FACTOR)


def _equal(given: Given) -> Price:
    if given.types[0] == given.types[1] and (known := _EQUALITY.get(given.types[0])) is not None:
        return Price(known)
    if given.types[1] == "kubernetes.URL":  # Kubernetes looks at the second one only
        return Price(times(given.sizes[1].most, TEXT_FACTOR))
    return Price(_shorter(given))


def _different(given: Given) -> Price:
    return Price(_shorter(given))


def _add(given: Given) -> Price:
    a, b = given.sizes
    size = Size(total(a.least, b.least), total(a.most, b.most))
    match given.types:
        case ["list", "list"]:
            return Price(1, size)
        case ["string", "string"] | ["bytes", "bytes"]:
            return Price(times(size.most, TEXT_FACTOR), size)
    return Price(1)


_EQUALITY: Mapping[str, int] = {
    **dict.fromkeys(("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver"), 1),
    "kubernetes.NamedFormat": 7,
}
"""Types of the libraries whose values are compared for a set price."""

RULES: Mapping[tuple[str, int], Rule] = {
    **{(sign, 2): _ordered for sign in ("_<_", "_<=_", "_>_", "_>=_")},
    ("_==_", 2): _equal,
    ("_!=_", 2): _different,
    ("_+_", 2): _add,
    ("@in", 2): _is_in,
    ("startsWith", 2): _reads_second,
    ("endsWith", 2): _reads_second,
    ("contains", 2): _contains,
    ("matches", 2): _matches,
    ("find", 2): _find,
    ("findAll", 2): _find,
    ("findAll", 3): _find,
    **{(name, 1): _through for name in ("isSorted", "sum", "min", "max")},
    **{(name, count): _through for name in ("indexOf", "lastIndexOf") for count in (2, 3)},
    **{(name, 1): _reads(keeps_size=True) for name in ("lowerAscii", "upperAscii", "trim", "url")},
    ("jsonpatch.escapeKey", 1): _reads(keeps_size=True),
    ("substring", 2): _reads(keeps_size=True),
    ("substring", 3): _reads(keeps_size=True),
    ("format", 2): _reads(),
    ("strings.quote", 1): _quote,
    ("bytes", 1): _bytes,
    ("string", 1): _string,
    ("replace", 3): _replace,
    ("replace", 4): _replace,
    ("split", 2): _split,
    ("split", 3): _split,
    ("join", 1): _join,
    ("join", 2): _join,
    **{(name, 1): _reads() for name in ("isIP", "cidr", "isCIDR", "quantity", "isQuantity")},
    **{(name, count): _reads() for name in ("semver", "isSemver") for count in (1, 2)},
    ("ip", 1): lambda given: Price(1) if given.types[0] == "net.CIDR" else _reads()(given),
    ("ip.isCanonical", 1): _reads(2 * TEXT_FACTOR),
    ("containsIP", 2): _address_in,
    ("containsCIDR", 2): _network_in,
    ("validate", 2): _validate,
    ("check", 2): lambda given: Price(_CHECK_UNITS),
    ("fieldSelector", 2): _selector,
    ("labelSelector", 2): _selector,
    ("sets.contains", 2): _sets(1),
    ("sets.intersects", 2): _sets(1),
    ("sets.equivalent", 2): _sets(2),
    **{(name, 1): _same_size for name in ("sort", "distinct", "reverse", "flatten")},
    ("slice", 3): _same_size,
}
"""(function, how much it is given) -> its price; one unit where none is named."""
