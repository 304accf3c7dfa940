"""The whole cluster on one screen: which commit is in force, and how everything that came from git is.

Built from lists of live objects, so it works from anywhere the API can be reached, and says only what it
saw. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.gitops.check import Ref
from gitkube.gitops.health import HEALTHY, UNKNOWN, WORST_FIRST, Health, Related, health_of
from gitkube.gitops.state import inventory_of
from gitkube.objects import conditions, kinds, meta, pods
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

READ: tuple[Kind, ...] = (
    kinds.NODE,
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.REPLICATION_CONTROLLER,
    kinds.JOB,
    kinds.POD,
)
"""What is always read; beside it the kinds of definitions that git has objects of (`custom_kinds`)."""


@dataclass(frozen=True)
class Item:
    """One object that came from git."""

    ref: Ref
    health: Health
    origin: str

    @property
    def title(self) -> str:
        """A workload is known by its name; of other kinds, the kind is said as well."""
        return f"{self.ref.namespace}/{self.ref.name}" if self.ref.kind in READ else str(self.ref)


@dataclass(frozen=True)
class Host:
    name: str
    is_ready: bool
    words: str = ""
    """"" for a ready one, else "unreachable" or "not ready"."""
    detail: str = ""
    since: str = ""
    """RFC 3339, as the API has it."""

    @property
    def reason(self) -> str:
        return f"{self.words}: {self.detail}" if self.words else ""


@dataclass(frozen=True)
class Overview:
    commit: Mapping[str, Any]
    applied: str
    phase: str
    message: str
    items: tuple[Item, ...]
    hosts: tuple[Host, ...]
    pods: int
    cpu_used_milli: int
    cpu_milli: int
    waits_for: str
    """Why this is not yet "all healthy on the pushed commit"; "" when it is."""

    @property
    def is_healthy(self) -> bool:
        return not self.waits_for


def custom_names(source: Object | None) -> list[tuple[str, str]]:
    """apiVersion and kind of what came from git and is not built in."""
    inventory = ((source or {}).get("status") or {}).get("inventory") or ()
    names = {(str(item["apiVersion"]), str(item["kind"])) for item in inventory}
    return sorted(name for name in names if kinds.by_gvk(*name) is None)


def overview(
    source: Object | None,
    live: Mapping[Kind, Sequence[Object]],
    *,
    pushed: str = "",
    unread: Mapping[tuple[str, str], str] | None = None,
) -> Overview:
    """Put together what was read.

    Args:
        live: the objects of each kind of `READ`, and of custom kinds.
        pushed: the commit that the branch is at, when that is known.
        unread: why the objects of custom kinds are not known, by apiVersion and kind.
    """
    missing = {_unread_kind(*name): why for name, why in (unread or {}).items()}
    known = {(kind.api_version, kind.kind): kind for kind in (*live, *missing)}
    status: Mapping[str, Any] = (source or {}).get("status") or {}
    related = Related(live[kinds.REPLICA_SET], live[kinds.POD])
    objects = {
        Ref(kind, meta.namespace(obj), meta.name(obj)): obj
        for kind in live
        if kind != kinds.NODE
        for obj in live[kind]
    }
    items = []
    for entry in inventory_of(status, lambda api_version, kind: known.get((api_version, kind))):
        why = missing.get(entry.ref.kind)
        health = Health(UNKNOWN, why) if why else health_of(entry.ref.kind, objects.get(entry.ref), related)
        items.append(Item(entry.ref, health, entry.origin))
    items.sort(key=lambda item: (WORST_FIRST.index(item.health.state), str(item.ref)))
    hosts = tuple(_host(node) for node in live[kinds.NODE])
    running = [pod for pod in live[kinds.POD] if not pods.is_terminal(pod)]
    cpu = sum(pods.cpu_milli(pods.requests(pod)) for pod in running if pods.node_name(pod))
    commit = status.get("commit") or {}
    applied = str((status.get("applied") or {}).get("id") or "")
    phase, message = str(status.get("phase") or "unknown"), str(status.get("message") or "")
    waits_for = _waits_for(source, commit, applied, pushed, phase, message, items, hosts)
    return Overview(
        commit,
        applied,
        phase,
        message,
        tuple(items),
        hosts,
        len(running),
        cpu,
        _capacity(live[kinds.NODE]),
        waits_for,
    )


def _unread_kind(api_version: str, kind: str) -> Kind:
    """As much of a kind as the inventory says; enough to name its objects."""
    group, _, version = api_version.rpartition("/")
    return Kind(group, version, kind, kind.lower(), True)


def _waits_for(
    source: Object | None,
    commit: Mapping[str, Any],
    applied: str,
    pushed: str,
    phase: str,
    message: str,
    items: Sequence[Item],
    hosts: Sequence[Host],
) -> str:
    if source is None or not commit:
        return "nothing was pushed yet"
    tip = pushed or str(commit.get("id"))
    if applied != tip:
        return message if phase == "failed" and message else f"commit {tip[:7]} is not in force yet"
    unwell = next((item for item in items if item.health.state != HEALTHY), None)
    if unwell is not None:
        return f"{unwell.ref}: {unwell.health}"
    away = next((host for host in hosts if not host.is_ready), None)
    if away is not None:
        return f"host {away.name}: {away.reason}"
    return "" if phase == HEALTHY else message or phase


def _host(node: Object) -> Host:
    ready = conditions.get_condition(node, "Ready") or {}
    if ready.get("status") == "True":
        return Host(meta.name(node), True)
    words = "unreachable" if ready.get("status") == "Unknown" else "not ready"
    detail = ready.get("message") or ready.get("reason") or "its agent has not reported yet"
    return Host(meta.name(node), False, words, str(detail), str(ready.get("lastTransitionTime") or ""))


def _capacity(nodes: Sequence[Object]) -> int:
    from gitkube.objects.quantity import Quantity

    total = 0
    for node in nodes:
        cpu = ((node.get("status") or {}).get("allocatable") or {}).get("cpu")
        total += Quantity.parse(cpu).milli if cpu is not None else 0
    return total
