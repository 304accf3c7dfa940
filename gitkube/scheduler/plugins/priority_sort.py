"""Who goes first: the higher priority, then whoever has waited longer."""

from __future__ import annotations

from gitkube.scheduler.pod_info import PodInfo


class PrioritySort:
    name = "PrioritySort"

    def sort_key(self, pod: PodInfo, queued_at: float) -> tuple[float, ...]:
        """See `framework.QueueSort`."""
        return (-pod.priority, queued_at)
