"""Hosts that have the pod's images already are better: nothing needs to travel.

An image counts by its size, scaled by the share of hosts that have it, so that one host that happened to pull
a large image first does not draw all its pods. Source: kube-scheduler's ImageLocality.
"""

from __future__ import annotations

import numpy as np

from gitkube.scheduler.framework import MAX_SCORE, CycleState, Mask, Scores
from gitkube.scheduler.pod_info import PodInfo
from gitkube.scheduler.snapshot import Snapshot

MIN_BYTES = 23 * 1024 * 1024
"""Less than this is not worth a preference."""
MAX_BYTES_PER_CONTAINER = 1000 * 1024 * 1024


class ImageLocality:
    name = "ImageLocality"

    def score(self, state: CycleState, pod: PodInfo, nodes: Snapshot, feasible: Mask) -> Scores | None:
        """See `framework.Score`."""
        present = [(image, slots) for image in pod.images if (slots := nodes.image_slots.get(image))]
        if not present:
            return None
        here: Scores = np.zeros(nodes.capacity, np.float64)
        for image, slots in present:
            share = len(slots) / len(nodes)
            for slot in slots:
                here[slot] += nodes.at(slot).image_sizes[image] * share
        most = MAX_BYTES_PER_CONTAINER * max(len(pod.images), 1)
        scores: Scores = (np.clip(here, MIN_BYTES, most) - MIN_BYTES) * (MAX_SCORE / (most - MIN_BYTES))
        return scores
