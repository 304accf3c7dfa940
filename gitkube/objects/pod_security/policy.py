"""What a namespace's labels ask for: a level and a version for each of enforce, audit and warn.

Without labels everything is privileged. A label that cannot be read is refused when the namespace is written;
should one be there all the same, pods are held to the strictest.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "pod-security.kubernetes.io/"
LATEST = 1_000
"""The version "latest" as a number: newer than all."""
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")


class Level(enum.IntEnum):
    """The stricter, the greater."""

    PRIVILEGED = 0
    BASELINE = 1
    RESTRICTED = 2


@dataclass(frozen=True, slots=True)
class Standard:
    """A profile as of a release of Kubernetes."""

    level: Level
    minor: int = LATEST

    def __str__(self) -> str:
        version = "latest" if self.minor == LATEST else f"v1.{self.minor}"
        return f"{self.level.name.lower()}:{version}"


@dataclass(frozen=True, slots=True)
class Policy:
    enforce: Standard
    audit: Standard
    warn: Standard


@dataclass(frozen=True, slots=True)
class WrongLabel:
    """A label that is neither a level nor a version."""

    label: str
    value: str
    why: str


_LEVELS = {level.name.lower(): level for level in Level}
_EVERYTHING = Standard(Level.PRIVILEGED)


def policy_of(labels: Mapping[str, str]) -> tuple[Policy, list[WrongLabel]]:
    """The policy of a namespace, and what is wrong with its labels."""
    wrong: list[WrongLabel] = []
    enforce = _standard(labels, "enforce", _EVERYTHING, wrong)
    audit = _standard(labels, "audit", _EVERYTHING, wrong)
    # Workloads are warned of what their pods would be refused for, unless the namespace says otherwise.
    warn = _standard(labels, "warn", enforce, wrong)
    return Policy(enforce, audit, warn), wrong


def _standard(labels: Mapping[str, str], mode: str, default: Standard, wrong: list[WrongLabel]) -> Standard:
    level, minor = default.level, default.minor
    label = f"{PREFIX}{mode}"
    if (given := labels.get(label)) is not None:
        # What cannot be read holds pods back, and warns nobody.
        level = _LEVELS.get(given, Level.RESTRICTED if mode == "enforce" else Level.PRIVILEGED)
        if given not in _LEVELS:
            wrong.append(WrongLabel(label, given, f"must be one of {', '.join(_LEVELS)}"))
    label = f"{PREFIX}{mode}-version"
    if (given := labels.get(label)) is not None:
        matched = _VERSION.fullmatch(given)
        minor = int(matched[1]) if matched else LATEST
        if not matched and given != "latest":
            wrong.append(WrongLabel(label, given, 'must be "latest" or "v1.x"'))
    return Standard(level, minor)
