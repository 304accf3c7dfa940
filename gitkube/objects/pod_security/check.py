"""The shape of a check, and how its sentences name containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.objects import pods
from gitkube.objects.types import Object

Container = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in a few words, and with what."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    since: int
    """The minor version of Kubernetes whose standards have it first."""
    find: Callable[[Object, int], Finding | None]
    """What a pod violates, by the standards of a minor version."""
    replaces: str = ""

    def applies(self, minor: int) -> bool:
        return minor >= self.since


def containers_of(pod: Object) -> list[Container]:
    """Init containers, containers and ephemeral ones."""
    return pods.all_containers(pods.spec(pod))


def context_of(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The securityContext of a container or of a pod's spec."""
    return part.get("securityContext") or {}


def is_windows(pod: Object) -> bool:
    return bool((pods.spec(pod).get("os") or {}).get("name") == "windows")


def has_own_users(pod: Object) -> bool:
    """Root inside is nobody outside (KEP-127)."""
    return pods.spec(pod).get("hostUsers") is False


def names(containers: Iterable[Container]) -> list[str]:
    return [str(container.get("name")) for container in containers]


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def named(containers: Sequence[Container]) -> str:
    """`container "a"` or `containers "a", "b"`."""
    return f"{plural(len(containers), 'container')} {quoted(names(containers))}"


def plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def setters(is_pod: bool, containers: Sequence[Container]) -> str:
    """Who sets something: the pod, containers, or both; "" when nobody does."""
    parts = ["pod"] if is_pod else []
    if containers:
        parts.append(named(containers))
    return " and ".join(parts)
