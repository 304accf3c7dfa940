"""Label selectors: read from a query's text or from an object, matched against labels.

Both forms become the same thing, a `Selector`: requirements that must all hold. Two selectors must not be
confused: the empty one holds for everything, and `NOTHING` (what a missing `selector` field means) for
nothing. The text form is that of `kubectl get -l`: `a=b, c in (d,e), !f, g`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gitkube.objects import names

MAX_TEXT = 64 * 1024
"""Characters of a selector's text; a URL is not longer."""
_CACHED_SELECTORS = 1024


class SelectorError(ValueError):
    """The selector cannot be read; the message says what was found and what was expected."""


class Operator(enum.Enum):
    """The values are the words of the text form."""

    EQUALS = "="
    DOUBLE_EQUALS = "=="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER = "gt"
    LESS = "lt"


_ONE_VALUE = (Operator.EQUALS, Operator.DOUBLE_EQUALS, Operator.NOT_EQUALS)


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.EQUALS | Operator.DOUBLE_EQUALS | Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case Operator.GREATER | Operator.LESS:
                if value is None or not _is_integer(value):
                    return False
                bound = int(next(iter(self.values)))
                return int(value) > bound if self.operator is Operator.GREATER else int(value) < bound

    def __str__(self) -> str:
        joined = ",".join(sorted(self.values))
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.value} ({joined})"
            case Operator.GREATER:
                return f"{self.key}>{joined}"
            case Operator.LESS:
                return f"{self.key}<{joined}"
            case _:
                return f"{self.key}{self.operator.value}{joined}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold. Without any it holds for everything, unless it is `NOTHING`."""

    requirements: tuple[Requirement, ...] = ()
    is_nothing: bool = False

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.is_nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.is_nothing:
            return False
        present = labels or {}
        return all(requirement.matches(present) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(is_nothing=True)


def selector_of(label_selector: Mapping[str, Any] | None) -> Selector:
    """The selector of a `metav1.LabelSelector` (matchLabels and matchExpressions).

    None selects nothing, an empty one everything: that is how Kubernetes reads the field.

    Raises:
        SelectorError: an expression has an unknown operator or values that do not fit it.
    """
    if label_selector is None:
        return NOTHING
    requirements = [
        Requirement(key, Operator.EQUALS, frozenset((value,)))
        for key, value in sorted((label_selector.get("matchLabels") or {}).items())
    ]
    for expression in label_selector.get("matchExpressions") or ():
        requirements.append(_requirement_of(expression))
    return Selector(tuple(requirements)) if requirements else EVERYTHING


def selector_of_map(equalities: Mapping[str, str] | None) -> Selector:
    """The selector of a plain map, as Services and ReplicationControllers have. Empty selects nothing."""
    if not equalities:
        return NOTHING
    return Selector(
        tuple(
            Requirement(key, Operator.EQUALS, frozenset((value,)))
            for key, value in sorted(equalities.items())
        )
    )


def selector_of_node_term(expressions: Sequence[Mapping[str, Any]]) -> Selector:
    """The selector of a node selector term's matchExpressions, which know Gt and Lt too.

    Raises:
        SelectorError: an expression has an unknown operator or values that do not fit it.
    """
    return Selector(tuple(_requirement_of(expression) for expression in expressions))


def select(objects: Iterable[Mapping[str, Any]], selector: Selector) -> list[Mapping[str, Any]]:
    """Those of the objects whose labels the selector matches."""
    return [obj for obj in objects if selector.matches((obj.get("metadata") or {}).get("labels"))]


@lru_cache(maxsize=_CACHED_SELECTORS)
def parse_selector(text: str) -> Selector:
    """The selector that a query such as `app=web,tier in (a,b),!canary` means; "" is everything.

    Raises:
        SelectorError: the text is no selector.
    """
    if len(text) > MAX_TEXT:
        raise SelectorError(f"a label selector may have {MAX_TEXT} characters, this has {len(text)}")
    requirements = _Parser(text).requirements()
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


_EXPRESSION_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.DOES_NOT_EXIST,
    "Gt": Operator.GREATER,
    "Lt": Operator.LESS,
}


def _requirement_of(expression: Mapping[str, Any]) -> Requirement:
    word = expression.get("operator", "")
    operator = _EXPRESSION_OPERATORS.get(word)
    if operator is None:
        raise SelectorError(f'"{word}" is not a valid label selector operator')
    return _checked(expression.get("key", ""), operator, frozenset(expression.get("values") or ()))


def _checked(key: str, operator: Operator, values: frozenset[str]) -> Requirement:
    if wrong := names.qualified_name(key):
        raise SelectorError(f'key: Invalid value: "{key}": {"; ".join(wrong)}')
    match operator:
        case Operator.IN | Operator.NOT_IN:
            if not values:
                raise SelectorError(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                )
        case Operator.EXISTS | Operator.DOES_NOT_EXIST:
            if values:
                raise _wrong_values(values, "values set must be empty for exists and does not exist")
        case Operator.GREATER | Operator.LESS:
            if len(values) != 1 or not _is_integer(next(iter(values))):
                raise _wrong_values(values, "for 'Gt', 'Lt' operators, exactly one integer is required")
        case _:
            if len(values) != 1:
                raise _wrong_values(values, "exact-match compatibility requires one single value")
    for value in values:
        if wrong := names.label_value(value):
            raise SelectorError(f'values[0][{key}]: Invalid value: "{value}": {"; ".join(wrong)}')
    return Requirement(key, operator, values)


def _wrong_values(values: Iterable[str], why: str) -> SelectorError:
    shown = ",".join(f'"{value}"' for value in sorted(values))
    return SelectorError(f"values: Invalid value: [{shown}]: {why}")


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,19}", text) is not None


_SYMBOL = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)?", re.ASCII)


class _Parser:
    """Recursive descent over the tokens; its grammar is in k8s.io/apimachinery/pkg/labels."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _SYMBOL.match(text, position)
            if match is None or match.end() == position:
                raise SelectorError(f"unable to parse requirement: found '{text[position]}'")
            position = match.end()
            if match.group(1):
                self._tokens.append(match.group(1))
        self._next = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while self._peek():
            found.append(self._requirement())
            if not self._peek():
                return found
            if self._take() != ",":
                raise SelectorError(
                    f"found '{self._tokens[self._next - 1]}', expected: ',' or 'end of string'"
                )
            if not self._peek():
                raise SelectorError("found '', expected: identifier after ','")
        return found

    def _requirement(self) -> Requirement:
        is_negated = self._peek() == "!"
        if is_negated:
            self._take()
        key = self._word("identifier")
        if is_negated:
            return _checked(key, Operator.DOES_NOT_EXIST, frozenset())
        word = self._peek()
        if word in ("", ","):
            return _checked(key, Operator.EXISTS, frozenset())
        self._take()
        if word in ("in", "notin"):
            return _checked(key, Operator(word), self._set())
        if word in ("=", "==", "!="):
            return _checked(key, Operator(word), frozenset((self._value(),)))
        if word in ("<", ">"):
            operator = Operator.LESS if word == "<" else Operator.GREATER
            return _checked(key, operator, frozenset((self._value(),)))
        raise SelectorError(
            f"unable to parse requirement: found '{word}', expected: in, notin, =, ==, !=, gt, lt"
        )

    def _set(self) -> frozenset[str]:
        if self._take() != "(":
            raise SelectorError("unable to parse requirement: found no '(' after in or notin")
        values = {self._value()}
        while (symbol := self._take()) == ",":
            values.add(self._value())
        if symbol != ")":
            raise SelectorError(f"unable to parse requirement: found '{symbol}', expected: ',' or ')'")
        return frozenset(values)

    def _value(self) -> str:
        # An empty value is allowed: `a=` and `a in (,b)`.
        return "" if self._peek() in ("", ",", ")") else self._word("identifier")

    def _word(self, what: str) -> str:
        word = self._take()
        if not word or word[0] in "=!(),<>":
            raise SelectorError(f"unable to parse requirement: found '{word}', expected: {what}")
        return word

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        word = self._peek()
        self._next += 1
        return word
