"""What the server counts of itself, for Prometheus, under the names that dashboards for Kubernetes know.

Labels hold only what we serve (verbs, resources, codes), never anything a client can choose freely, so the
number of series has a bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gitkube.server.lifetime import Lifetime
from gitkube.store.protocol import UnavailableError

log = structlog.get_logger(__name__)

StoreMetrics = Callable[[], Awaitable[str]]
"""What the store's process counts of itself, in Prometheus' text format."""
METRICS_PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """One registry an application, so that two in one process (tests) don't share figures."""

    def __init__(self, lifetime: Lifetime, store_metrics: StoreMetrics | None = None) -> None:
        self._store_metrics = store_metrics
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "apiserver_request",
            "Requests answered.",
            ("verb", "group", "resource", "subresource", "code"),
            registry=self.registry,
        )
        self._duration = Histogram(
            "apiserver_request_duration_seconds",
            "Time from the request's head to the end of the answer; watches and streams are left out.",
            ("verb", "resource"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._audit_events = Counter(
            "apiserver_audit_event",
            "Events of the audit log, by what became of them: written or dropped.",
            ("outcome",),
            registry=self.registry,
        )
        # Finding a series by its labels costs more than counting in it; there is a bound to them.
        self._requests_of = cache(self._requests.labels)
        self._duration_of = cache(self._duration.labels)
        long_requests = Gauge(
            "apiserver_longrunning_requests", "Watches and streams that are open.", registry=self.registry
        )
        long_requests.set_function(lambda: lifetime.open_requests)

    def count_audit_events(self, outcome: str, number: int) -> None:
        """
        Args:
            outcome: "written" or "dropped".
        """
        self._audit_events.labels(outcome).inc(number)

    def observe(
        self,
        verb: str,
        group: str,
        resource: str,
        subresource: str,
        code: int,
        duration_s: float,
        *,
        is_long: bool,
    ) -> None:
        self._requests_of(verb, group, resource, subresource, str(code)).inc()
        if not is_long:
            self._duration_of(verb, resource).observe(duration_s)

    async def text(self) -> bytes:
        """All figures, those of the store behind ours, in Prometheus' text format."""
        own = generate_latest(self.registry)
        if self._store_metrics is None:
            return own
        try:
            return own + (await self._store_metrics()).encode()
        except UnavailableError as error:
            log.warning("store_metrics_missing", error=str(error))
            return own
