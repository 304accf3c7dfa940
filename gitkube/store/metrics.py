"""What a member tells Prometheus about itself, under names close to etcd's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class _Durations(Collector):
    """A histogram of seconds for one thread: prometheus_client's takes two locks for each observation, which
    is every write here.
    """

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._counts = [0] * (len(_SECONDS) + 1)
        """Of each bucket alone; the last has what is longer than all."""
        self._sum_s = 0.0
        registry.register(self)

    def observe(self, duration_s: float) -> None:
        self._counts[bisect_left(_SECONDS, duration_s)] += 1
        self._sum_s += duration_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        bounds = [*map(floatToGoString, _SECONDS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum_s)


class MemberMetrics:
    """Counters and gauges of one member, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._leader_changes = Counter(
            "gitkube_store_leader_changes_seen", "Leaders that this member has seen come.", registry=registry
        )
        self._has_leader = Gauge("gitkube_store_has_leader", "Whether a leader is known.", registry=registry)
        self._is_leader = Gauge("gitkube_store_is_leader", "Whether this member leads.", registry=registry)
        self._fsync = _Durations(
            "gitkube_store_wal_fsync_duration_seconds",
            "From handing entries to the disk until they were durable.",
            registry,
        )
        self._entries = Counter(
            "gitkube_store_wal_entries", "Entries that were made durable.", registry=registry
        )
        self._commit = _Durations(
            "gitkube_store_commit_duration_seconds",
            "From a proposal of this member until it was applied here.",
            registry,
        )
        self._applied = Counter(
            "gitkube_store_proposals_applied", "Commands that were applied.", registry=registry
        )
        self._failed = Counter(
            "gitkube_store_proposals_failed",
            "Proposals that were given up at their deadline.",
            registry=registry,
        )
        self._pending = Gauge(
            "gitkube_store_proposals_pending", "Proposals that wait for their result.", registry=registry
        )
        self._slow_watchers_dropped = Counter(
            "gitkube_store_slow_watchers_dropped", "Watches that compaction overtook.", registry=registry
        )
        self._gauges = {
            name: Gauge(f"gitkube_store_{name}", text, registry=registry)
            for name, text in (
                ("revision", "The key space's revision."),
                ("compact_revision", "Up to which revision history was forgotten."),
                ("keys", "Keys that exist."),
                ("live_bytes", "What the quota counts."),
                ("quota_bytes", "What live_bytes may reach."),
                ("disk_bytes", "Of log and snapshots."),
                ("applied_index", "Of the last entry that was applied."),
                ("term", "Of the consensus."),
                ("watchers", "Watches in force."),
            )
        }

    def leader_changed(self, *, has_leader: bool, is_leader: bool) -> None:
        if has_leader:
            self._leader_changes.inc()
        self._has_leader.set(has_leader)
        self._is_leader.set(is_leader)

    def synced(self, duration_s: float, entries: int) -> None:
        self._fsync.observe(duration_s)
        self._entries.inc(entries)

    def committed(self, duration_s: float) -> None:
        self._commit.observe(duration_s)

    def applied(self, count: int) -> None:
        self._applied.inc(count)

    def failed(self) -> None:
        self._failed.inc()

    def watcher_dropped(self) -> None:
        self._slow_watchers_dropped.inc()

    def text(self, *, pending: int, **values: float) -> str:
        """Everything, in Prometheus' text format.

        Args:
            pending: proposals that wait.
            values: of the gauges above, by name.
        """
        self._pending.set(pending)
        for name, value in values.items():
            self._gauges[name].set(value)
        return generate_latest(self._registry).decode()
