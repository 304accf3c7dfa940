"""Kubernetes' scheduling framework: where a rule may have its say, and in which words.

A pod goes through two cycles. The *scheduling cycle* decides and never waits: QueueSort, PreFilter, Filter,
PostFilter (when nothing fits), PreScore, Score, NormalizeScore, Reserve. The *binding cycle* acts and may
wait, beside other pods' cycles: Permit, PreBind, Bind, PostBind; Unreserve undoes Reserve when it fails.

One thing differs from kube-scheduler. Filter and Score get all nodes at once and answer with one array, since
thousands of hosts are compared by numpy in the time in which Python calls one function for a dozen of them.
A Filter that refuses must then be able to `explain` each refusal; whether mask and explanation agree is
tested for every plugin.

A plugin is any class that has the methods of one or more of the protocols below.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gitkube.objects.types import Object
from gitkube.scheduler.pod_info import PodInfo

if TYPE_CHECKING:
    from gitkube.scheduler.snapshot import NodeInfo, Snapshot

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]

MAX_SCORE = 100.0
"""Every plugin's scores end between 0 and this, before its weight."""


class Code(enum.Enum):
    SUCCESS = "Success"
    ERROR = "Error"
    UNSCHEDULABLE = "Unschedulable"
    UNRESOLVABLE = "UnschedulableAndUnresolvable"
    """As UNSCHEDULABLE, and no pod that went away would change it."""


@dataclass(frozen=True, slots=True)
class Status:
    """A plugin's verdict, on a pod as a whole or on a pod on one node."""

    code: Code = Code.SUCCESS
    reasons: tuple[str, ...] = ()
    """Kubernetes' words, the same for all nodes refused for the same reason: they are counted by it."""
    detail: str = ""
    """For a person, about this node, with numbers."""
    plugin: str = ""

    @property
    def is_success(self) -> bool:
        return self.code is Code.SUCCESS


SUCCESS = Status()


class CycleState:
    """What a plugin computes at one point of a pod's cycle and reads at a later one."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def write(self, key: str, value: Any) -> None:
        self._values[key] = value

    def read(self, key: str) -> Any:
        return self._values.get(key)


class Event(enum.Enum):
    """What can happen in the cluster that may make a refused pod fit."""

    NODE_ADDED = "NodeAdd"
    NODE_CHANGED = "NodeUpdate"
    POD_ADDED = "AssignedPodAdd"
    POD_CHANGED = "AssignedPodUpdate"
    POD_DELETED = "AssignedPodDelete"


Hint = Callable[[PodInfo, Object | None, Object | None], bool]
"""(refused pod, before, after) -> whether this change may help it."""


class Plugin(Protocol):
    """What every plugin has."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class QueueSort(Protocol):
    def sort_key(self, pod: PodInfo, queued_at: float) -> tuple[float, ...]:
        """Pods with the smallest key are scheduled first."""
        ...


@runtime_checkable
class PreFilter(Protocol):
    def pre_filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Status:
        """Compute what Filter needs, or refuse the pod whatever the node."""
        ...


@runtime_checkable
class Filter(Protocol):
    def filter(self, state: CycleState, pod: PodInfo, nodes: Snapshot) -> Mask | None:
        """Per slot of the snapshot, whether the pod may go there; None is everywhere."""
        ...

    def explain(self, state: CycleState, pod: PodInfo, nodes: Snapshot, node: NodeInfo) -> Status:
        """Why `filter` refused the node (success where it did not)."""
        ...


@runtime_checkable
class PostFilter(Protocol):
    def post_filter(
        self, state: CycleState, pod: PodInfo, nodes: Snapshot, refused: Mapping[str, Status]
    ) -> Status:
        """Nothing fits: make room, or say what else there is to say."""
        ...


@runtime_checkable
class PreScore(Protocol):
    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> None: ...


@runtime_checkable
class Score(Protocol):
    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """Per slot, how good the node is; only slots in `feasible` count. None is no opinion."""
        ...


@runtime_checkable
class NormalizeScore(Protocol):
    def normalize(self, state: CycleState, pod: PodInfo, scores: Scores, feasible: Mask) -> Scores:
        """Bring the scores between 0 and MAX_SCORE."""
        ...


@runtime_checkable
class Reserve(Protocol):
    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status: ...

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        """Undo `reserve`; also called when it was never called, so it must not mind."""
        ...


@runtime_checkable
class Permit(Protocol):
    async def permit(self, state: CycleState, pod: PodInfo, node_name: str) -> Status:
        """Let the pod be bound, refuse it, or wait before doing either."""
        ...


@runtime_checkable
class PreBind(Protocol):
    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status: ...


@runtime_checkable
class Bind(Protocol):
    async def bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        """Write the decision down. Raises what the API raises."""
        ...


@runtime_checkable
class PostBind(Protocol):
    async def post_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None: ...


@runtime_checkable
class EventHints(Protocol):
    def hints(self) -> Mapping[Event, Hint]:
        """Which changes may make a pod fit that this plugin refused. Without: every change may."""
        ...


def normalize_to_max(scores: Scores, feasible: Mask, *, reverse: bool = False) -> Scores:
    """Stretch so that the best feasible node has MAX_SCORE; `reverse` when less is better.

    Source: kube-scheduler's DefaultNormalizeScore.
    """
    highest = float(scores[feasible].max(initial=0.0))
    if highest <= 0:
        return np.full_like(scores, MAX_SCORE if reverse else 0.0)
    stretched: Scores = scores * (MAX_SCORE / highest)
    return MAX_SCORE - stretched if reverse else stretched


@dataclass(frozen=True, slots=True)
class Weighted:
    """A plugin in a profile, and how much its scores count."""

    plugin: Plugin
    weight: float = 1.0


@dataclass(slots=True)
class Profile:
    """Plugins sorted into the extension points that they have, each list in the order given."""

    plugins: Sequence[Weighted]
    queue_sort: QueueSort | None = None
    pre_filters: list[tuple[str, PreFilter]] = field(default_factory=list)
    filters: list[tuple[str, Filter]] = field(default_factory=list)
    post_filters: list[tuple[str, PostFilter]] = field(default_factory=list)
    pre_scores: list[tuple[str, PreScore]] = field(default_factory=list)
    scores: list[tuple[Score, NormalizeScore | None, float]] = field(default_factory=list)
    """Each with itself once more if it normalizes, and its weight."""
    reserves: list[tuple[str, Reserve]] = field(default_factory=list)
    permits: list[tuple[str, Permit]] = field(default_factory=list)
    pre_binds: list[tuple[str, PreBind]] = field(default_factory=list)
    binds: list[tuple[str, Bind]] = field(default_factory=list)
    post_binds: list[tuple[str, PostBind]] = field(default_factory=list)
    hints: dict[str, Mapping[Event, Hint]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for weighted in self.plugins:
            plugin, name = weighted.plugin, weighted.plugin.name
            if isinstance(plugin, QueueSort):
                self.queue_sort = plugin
            if isinstance(plugin, PreFilter):
                self.pre_filters.append((name, plugin))
            if isinstance(plugin, Filter):
                self.filters.append((name, plugin))
            if isinstance(plugin, PostFilter):
                self.post_filters.append((name, plugin))
            if isinstance(plugin, PreScore):
                self.pre_scores.append((name, plugin))
            if isinstance(plugin, Score):
                normalizer = plugin if isinstance(plugin, NormalizeScore) else None
                self.scores.append((plugin, normalizer, weighted.weight))
            if isinstance(plugin, Reserve):
                self.reserves.append((name, plugin))
            if isinstance(plugin, Permit):
                self.permits.append((name, plugin))
            if isinstance(plugin, PreBind):
                self.pre_binds.append((name, plugin))
            if isinstance(plugin, Bind):
                self.binds.append((name, plugin))
            if isinstance(plugin, PostBind):
                self.post_binds.append((name, plugin))
            if isinstance(plugin, EventHints):
                self.hints[name] = plugin.hints()
