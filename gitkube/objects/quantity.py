"""Amounts of resources (`100m`, `1.5Gi`, `2e3`), exact, read and printed as Kubernetes does.

A quantity is a whole number of nano-units and the notation it was written in. Whatever is finer than a nano
is rounded away from zero and whatever is larger than 2^63-1 is capped at it, both as the API server does;
between these, no precision is ever lost, for there are no floats here. Canonical text has no fraction and the
largest suffix that keeps it so: `1000m` is `1`, `0.5Gi` is `512Mi`, `1.5` is `1500m`. Source:
k8s.io/apimachinery/pkg/api/resource.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, total_ordering
from typing import Any

NANO = 10**9
MAX_VALUE = 2**63 - 1
"""Larger amounts are capped at it: the API server keeps them in 64 bits."""
MAX_TEXT = 256
"""Characters of a quantity; longer ones are no amounts but attacks on the parser."""
_MAX_EXPONENT = 400
"""Beyond it every amount is capped or rounded all the same."""
_CACHED_TEXTS = 4096

_PATTERN = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*)([+-]?[0-9]*)", re.ASCII)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}

FORMAT_MESSAGE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_MESSAGE = "unable to parse quantity's suffix"
NUMBER_MESSAGE = "unable to parse numeric part of quantity"


class QuantityError(ValueError):
    """The text is no quantity; the message is Kubernetes' own."""


class Notation(enum.Enum):
    BINARY = "BinarySI"
    DECIMAL = "DecimalSI"
    EXPONENT = "DecimalExponent"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An amount. Compares by value, so `Quantity.parse("1") == Quantity.parse("1000m")`."""

    nanos: int
    notation: Notation = Notation.DECIMAL

    @staticmethod
    def parse(text: Any) -> Quantity:
        """The quantity that a manifest's text or number means.

        Raises:
            QuantityError: it is neither.
        """
        if isinstance(text, str):
            return _parse(text)
        if isinstance(text, bool) or not isinstance(text, int | float):
            raise QuantityError(FORMAT_MESSAGE)
        return _parse(str(text))

    @staticmethod
    def of(units: int, notation: Notation = Notation.DECIMAL) -> Quantity:
        """A whole number of units, such as bytes or cores."""
        return Quantity(units * NANO, notation)

    @property
    def value(self) -> int:
        """Whole units, rounded up, as Go's `Value()`."""
        return _divide_up(self.nanos, NANO)

    @property
    def milli(self) -> int:
        """Thousandths, rounded up, as Go's `MilliValue()`."""
        return _divide_up(self.nanos, NANO // 1000)

    @property
    def is_integer(self) -> bool:
        return self.nanos % NANO == 0

    def __add__(self, other: Quantity) -> Quantity:
        notation = other.notation if self.nanos == 0 else self.notation
        return Quantity(self.nanos + other.nanos, notation)

    def __sub__(self, other: Quantity) -> Quantity:
        notation = other.notation if self.nanos == 0 else self.notation
        return Quantity(self.nanos - other.nanos, notation)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.notation)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self.nanos * factor, self.notation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __str__(self) -> str:
        """Canonical text, as the API server prints it."""
        if self.nanos == 0:
            return "0"
        is_binary = self.notation is Notation.BINARY and self.is_integer and abs(self.nanos) >= 1024 * NANO
        if is_binary:
            number, power = self.nanos // NANO, 0
            while number % 1024 == 0 and power < 6:
                number //= 1024
                power += 1
            if power:
                return f"{number}{_BINARY_SUFFIX[power]}"
            # Without a suffix the text reads as decimal again, and must be canonical as that: "625k".
        number, exponent = self.nanos, -9
        while number % 1000 == 0 and (exponent < 18 or self.notation is Notation.EXPONENT):
            number //= 1000
            exponent += 3
        if self.notation is Notation.EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_SUFFIX[exponent]}"


ZERO = Quantity(0)


def canonical(text: Any) -> str:
    """Canonical text of a quantity.

    Raises:
        QuantityError: it is none.
    """
    return str(Quantity.parse(text))


@lru_cache(maxsize=_CACHED_TEXTS)
def _parse(text: str) -> Quantity:
    match = _PATTERN.fullmatch(text)
    if match is None or not text or len(text) > MAX_TEXT:
        raise QuantityError(FORMAT_MESSAGE)
    sign, whole, fraction, suffix, exponent_text = match.groups()
    digits = whole + (fraction or "")
    if not digits:
        raise QuantityError(NUMBER_MESSAGE if whole or fraction is not None or suffix else FORMAT_MESSAGE)
    scale, notation = _scale(suffix, exponent_text)
    amount = Fraction(int(digits), 10 ** len(fraction or "")) * scale * NANO
    nanos = min(-(-amount.numerator // amount.denominator), MAX_VALUE * NANO)
    return Quantity(-nanos if sign == "-" else nanos, notation)


def _scale(suffix: str, exponent_text: str) -> tuple[Fraction, Notation]:
    if suffix in ("e", "E") and exponent_text:
        if exponent_text in "+-":
            raise QuantityError(SUFFIX_MESSAGE)
        exponent = max(-_MAX_EXPONENT, min(int(exponent_text), _MAX_EXPONENT))
        return Fraction(10) ** exponent, Notation.EXPONENT
    if exponent_text:
        raise QuantityError(SUFFIX_MESSAGE)
    if suffix in _BINARY:
        return Fraction(1024) ** _BINARY[suffix], Notation.BINARY
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix], Notation.DECIMAL
    raise QuantityError(SUFFIX_MESSAGE)


def _divide_up(amount: int, divisor: int) -> int:
    # Away from zero, as the API server rounds.
    return -(-amount // divisor) if amount >= 0 else amount // divisor
