"""Writes the decision down: the pod's binding, with its uid, so that a namesake is never bound."""

from __future__ import annotations

from gitkube.api.client import Client
from gitkube.objects.kinds import POD
from gitkube.scheduler.framework import CycleState
from gitkube.scheduler.pod_info import PodInfo


class DefaultBinder:
    name = "DefaultBinder"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        """See `framework.Bind`."""
        namespace, name = pod.key
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
        }
        await self._client.create_subresource(POD, name, namespace, "binding", binding)
