"""The semver library: versions as semver.org writes them, and their order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import ClassVar

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method

_MAX_TEXT = 256
_NUMBER = r"(0|[1-9][0-9]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
_LOOSE = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(.*)")


@total_ordering
@dataclass(frozen=True, eq=False)
class Semver:
    type_name: ClassVar[str] = "kubernetes.Semver"
    numbers: tuple[int, int, int]
    pre_release: tuple[str, ...]

    def _key(self) -> tuple[object, ...]:
        # A version before its release is older; its numeric parts are older than its words.
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre_release)
        return (self.numbers, not self.pre_release, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._key() == other._key()

    def __lt__(self, other: Semver) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _parsed(text: str, normalize: bool) -> Semver | None:
    if len(text) > _MAX_TEXT:
        return None
    if normalize and (loose := _LOOSE.fullmatch(text)):
        numbers = [str(int(each or 0)) for each in loose.groups()[:3]]
        text = ".".join(numbers) + loose[4]
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    pre_release = tuple(match[4].split(".")) if match[4] else ()
    return Semver((int(match[1]), int(match[2]), int(match[3])), pre_release)


@function("semver", str, bool, result="kubernetes.Semver")
def _semver_loose(budget: Budget, text: str, normalize: bool) -> Semver:
    found = _parsed(text, normalize)
    if found is None:
        raise CelEvaluationError(f'"{text[:_MAX_TEXT]}" is no semantic version')
    return found


@function("semver", str, result="kubernetes.Semver")
def _semver(budget: Budget, text: str) -> Semver:
    return _semver_loose(budget, text, False)


@function("isSemver", str, bool, result="bool")
def _is_semver_loose(budget: Budget, text: str, normalize: bool) -> bool:
    return _parsed(text, normalize) is not None


@function("isSemver", str, result="bool")
def _is_semver(budget: Budget, text: str) -> bool:
    return _parsed(text, False) is not None


@method("major", Semver, result="int")
def _major(budget: Budget, version: Semver) -> int:
    return version.numbers[0]


@method("minor", Semver, result="int")
def _minor(budget: Budget, version: Semver) -> int:
    return version.numbers[1]


@method("patch", Semver, result="int")
def _patch(budget: Budget, version: Semver) -> int:
    return version.numbers[2]


@method("isLessThan", Semver, Semver, result="bool")
def _is_less(budget: Budget, a: Semver, b: Semver) -> bool:
    return a < b


@method("isGreaterThan", Semver, Semver, result="bool")
def _is_greater(budget: Budget, a: Semver, b: Semver) -> bool:
    return a > b


@method("compareTo", Semver, Semver, result="int")
def _compare_to(budget: Budget, a: Semver, b: Semver) -> int:
    return (a > b) - (a < b)
