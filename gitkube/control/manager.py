"""Runs all controllers over one set of informers.

Controllers start when every informer they asked for has its first list, so none acts on half a picture. One
that crashes (a mistake of ours, since failures of one object are retried by its queue) is started again after
a pause that doubles, and says so in the log; the others go on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

import structlog

from gitkube.api.client import Client
from gitkube.api.informers import Informers
from gitkube.clock import Clock
from gitkube.control.certificate_signer import CertificateSigner
from gitkube.control.cluster_role_aggregation import ClusterRoleAggregationController
from gitkube.control.context import Context
from gitkube.control.cronjob import CronJobController
from gitkube.control.deployment import DeploymentController
from gitkube.control.disruption import DisruptionController
from gitkube.control.endpoints import EndpointsController
from gitkube.control.endpoints_mirroring import EndpointSliceMirroringController
from gitkube.control.endpointslice import EndpointSliceController
from gitkube.control.garbage_collector import GarbageCollector
from gitkube.control.job import JobController
from gitkube.control.namespace import NamespaceController
from gitkube.control.node_ipam import NodeIpamController
from gitkube.control.node_lifecycle import NodeLifecycleController
from gitkube.control.pod_gc import PodGarbageCollector
from gitkube.control.policy_status import PolicyStatusController
from gitkube.control.replicaset import ReplicaSetController
from gitkube.control.replication_controller import ReplicationControllerController
from gitkube.control.resource_quota import ResourceQuotaController
from gitkube.control.service_account import ServiceAccountController
from gitkube.control.settings import ControlSettings
from gitkube.control.storage_protection import ClaimProtectionController, VolumeProtectionController
from gitkube.control.taint_eviction import TaintEvictionController
from gitkube.objects.registry import Registry

HEALTHY_S = 60.0
"""Whoever ran for so long starts again with the first pause."""

log = structlog.get_logger(__name__)


class Runnable(Protocol):
    name: str

    async def run(self) -> None: ...


class Manager:
    """See the module's text."""

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        rng: random.Random,
        settings: ControlSettings,
        controllers: Sequence[type] | None = None,
        registry: Registry | None = None,
        informers: Informers | None = None,
    ) -> None:
        self._clock = clock
        self._settings = settings
        copies = informers or Informers(client, clock=clock, rng=rng)
        self.context = Context(client, clock, rng, settings, copies, registry or Registry())
        chosen = CONTROLLERS if controllers is None else controllers
        self._controllers: list[Runnable] = [controller(self.context) for controller in chosen]

    async def run(self) -> None:
        """Run for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.context.informers.run(), name="informers")
            await self.context.informers.wait_synced()
            log.info("controllers_started", controllers=len(self._controllers))
            for controller in self._controllers:
                group.create_task(self._keep_running(controller), name=controller.name)

    async def _keep_running(self, controller: Runnable) -> None:
        pause_s = self._settings.restart_backoff_s
        while True:
            started = self._clock.monotonic()
            try:
                await controller.run()
                return
            except Exception as error:
                if self._clock.monotonic() - started >= HEALTHY_S:
                    pause_s = self._settings.restart_backoff_s
                log.exception(
                    "controller_crashed", controller=controller.name, error=str(error), next_try_in_s=pause_s
                )
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, self._settings.restart_backoff_max_s)


CONTROLLERS: tuple[type, ...] = (
    DeploymentController,
    ReplicaSetController,
    ReplicationControllerController,
    EndpointSliceController,
    EndpointsController,
    EndpointSliceMirroringController,
    JobController,
    CronJobController,
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
    NamespaceController,
    ServiceAccountController,
    ResourceQuotaController,
    DisruptionController,
    ClaimProtectionController,
    VolumeProtectionController,
    ClusterRoleAggregationController,
    PolicyStatusController,
    CertificateSigner,
    GarbageCollector,
    PodGarbageCollector,
)
