"""What works on the cluster: the mirror of the repository, pushes, and the loops that only the leader runs.

The repository is the same on every controller; a push is judged where the leader is, and passed on from
elsewhere. The leader of the store runs controllers, scheduler, fleet links and git; what they write is fenced
by the term of their leadership, so a leader that has not yet noticed its end can do no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import structlog

from gitkube.api.authorization import system_user
from gitkube.api.client import Client
from gitkube.api.informers import Informers
from gitkube.api.keys import object_key
from gitkube.api.local import LocalClient
from gitkube.api.verbs import Verbs
from gitkube.clock import Clock
from gitkube.control.leader import LEASE_NAME, LEASE_NAMESPACE, LeaderElection
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.fleet.fleet import Fleet
from gitkube.fleet.link import Dialer
from gitkube.fleet.settings import FleetSettings
from gitkube.gitops.agreement import Membership
from gitkube.gitops.forwarding import Forwarding, Leader
from gitkube.gitops.hook_socket import Answer, PushRequest, hook_socket
from gitkube.gitops.replication import Replica
from gitkube.gitops.source import make_repository
from gitkube.gitops.sync import Sync
from gitkube.objects.kinds import LEASE
from gitkube.scheduler.scheduler import Scheduler
from gitkube.server.api_endpoints import ApiEndpoints
from gitkube.server.cluster import ClusterClient
from gitkube.server.controllers import Controllers
from gitkube.server.serving import Serving
from gitkube.server.settings import ControlPlaneSettings
from gitkube.server.switch import Switch
from gitkube.store.fenced import FencedStore
from gitkube.store.protocol import StoreError

HAND_OVER_S = 2.0
"""How long a leader that stops tries to hand over."""

log = structlog.get_logger()


class Acting:
    """See the module's text.

    Args:
        tasks: what every controller runs of it runs in this group.
        dialer: another way to the hosts than SSH.
    """

    def __init__(
        self,
        settings: ControlPlaneSettings,
        serving: Serving,
        tasks: asyncio.TaskGroup,
        *,
        dialer: Dialer | None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._serving = serving
        self._tasks = tasks
        self._dialer = dialer
        self._clock = clock
        self._rng = rng
        self._replica = Replica(
            serving.store,
            repository=settings.repository.resolve(),
            branch=settings.branch,
            clock=clock,
            membership=lambda: _membership(serving.controllers),
        )
        self._forwards = Switch()
        """Whether the hooks are served by passing pushes on."""

    async def run(self, identity: str) -> None:
        """Run until cancelled.

        Args:
            identity: what stands for this controller in the Lease.

        Raises:
            SourceError: the repository cannot be made.
        """
        make_repository(self._settings.repository, self._settings.branch)
        self._tasks.create_task(self._replica.run(), name="git-replica")
        self._tasks.create_task(self._forward_pushes(), name="git-forwarding")
        election = LeaderElection(
            self._serving.api.client(system_user("leader-election")),
            identity,
            self._serving.controllers,
            clock=self._clock,
            rng=self._rng,
        )
        try:
            await election.run(self._lead)
        finally:
            await _hand_over(self._serving)

    async def _forward_pushes(self) -> None:
        """Serve the hooks of our repository whenever somebody else leads."""
        controllers = self._serving.controllers
        client = ClusterClient(self._serving.pki.controller_context)

        def leader() -> Leader | None:
            found = controllers.leader
            is_other = found is not None and found.id != controllers.member_id
            return _Leader(client, found.client_urls[0]) if found and is_other and found.client_urls else None

        forwarding = Forwarding(
            leader,
            self._replica,
            repo=self._settings.repository.resolve(),
            branch=self._settings.branch,
            clock=self._clock,
        )
        await self._forwards.run(forwarding.run)

    async def _lead(self, term: int) -> None:
        """Cancelled when it is the leader no more."""
        settings, serving, replica = self._settings, self._serving, self._replica
        verbs = self._fenced(term)

        def client(component: str) -> Client:
            return LocalClient(verbs, system_user(component))

        informers = Informers(client("controller-manager"), clock=self._clock, rng=self._rng)
        fleet = Fleet(
            client("fleet"),
            inventory=settings.inventory,
            data_dir=settings.data_dir / "fleet",
            term=term,
            clock=self._clock,
            rng=self._rng,
            settings=FleetSettings(cluster_cidr=settings.cluster_cidr, service_cidr=settings.service_cidr),
            dialer=self._dialer,
            api=serving.api_address,
            informers=informers,
        )
        manager = Manager(
            client("controller-manager"),
            clock=self._clock,
            rng=self._rng,
            settings=ControlSettings(
                cluster_cidr=settings.cluster_cidr, root_ca=serving.pki.ca_pem.decode(), sign=serving.pki.sign
            ),
            registry=serving.api.registry,
            informers=informers,
        )
        scheduler = Scheduler(client("scheduler"), clock=self._clock, rng=self._rng, informers=informers)
        sync = Sync(
            client("gitops"),
            repo=settings.repository,
            branch=settings.branch,
            socket=hook_socket(settings.repository.resolve()),
            clock=self._clock,
            rng=self._rng,
            truth=replica,
            registry=serving.api.registry,
            informers=informers,
        )
        endpoints = ApiEndpoints(
            client("apiserver"),
            serving.api_urls,
            service_address=serving.api.settings.kubernetes_service_ip,
            clock=self._clock,
        )
        log.info("leading", term=term)
        await self._forwards.off()
        serving.streams.leader, serving.answer_push = fleet, sync.answer_other
        replica.lead(self._fenced_store(term))
        replica.notify = sync.notify
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(informers.run(), name="informers")
                loops.create_task(manager.run(), name="controllers")
                loops.create_task(scheduler.run(), name="scheduler")
                loops.create_task(fleet.run(), name="fleet")
                loops.create_task(sync.run(), name="gitops")
                loops.create_task(endpoints.run(), name="api-endpoints")
        finally:
            serving.streams.leader = serving.answer_push = None
            replica.follow()
            replica.notify = lambda: None
            self._forwards.on()

    def _fenced_store(self, term: int) -> FencedStore:
        """The store for this leadership: what is written through it is refused once another one has begun."""
        return FencedStore(self._serving.store, object_key(LEASE, LEASE_NAMESPACE, LEASE_NAME), term)

    def _fenced(self, term: int) -> Verbs:
        """The API's verbs for this leadership."""
        return self._serving.api.verbs_over(self._fenced_store(term))


def _membership(controllers: Controllers) -> Membership | None:
    if controllers.own is None:
        return None
    return Membership(controllers.member_id, [one.id for one in controllers.members], controllers.cluster_id)


@dataclass(frozen=True, slots=True)
class _Leader:
    """Another controller, as the one that pushes are passed on to."""

    client: ClusterClient
    url: str

    def push(self, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        return self.client.push(self.url, request, pack)


async def _hand_over(serving: Serving) -> None:
    """A leader that is told to stop gives the others no election to wait for."""
    voters = [one for one in serving.controllers.members if not one.is_learner]
    if not serving.controllers.is_leader or len(voters) < 2:
        return
    with contextlib.suppress(StoreError, TimeoutError):
        async with asyncio.timeout(HAND_OVER_S):
            await serving.store.transfer_leadership()
