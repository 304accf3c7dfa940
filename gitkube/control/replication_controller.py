"""Keeps as many pods as a ReplicationController asks for: a ReplicaSet of Kubernetes' first years.

It does what a ReplicaSet does, so it is one here; only its selector is a plain map of labels, which the API
fills in from the template when it is missing.
"""

from __future__ import annotations

from gitkube.control.replicaset import ReplicaSetController
from gitkube.objects.kinds import REPLICATION_CONTROLLER, Kind
from gitkube.objects.labels import Selector, selector_of_map
from gitkube.objects.types import Object


class ReplicationControllerController(ReplicaSetController):
    name = "replication-controller"
    kind: Kind = REPLICATION_CONTROLLER

    def selector(self, replica_set: Object) -> Selector:
        """Which pods it counts as its own."""
        return selector_of_map(replica_set["spec"].get("selector"))
