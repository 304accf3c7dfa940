"""Everything of the control side in one process, joined here and nowhere else.

The store's member runs as a child process; the API reads it through one watch. Above the API stand two kinds
of parts: those that every controller runs (the HTTPS server, the mirror of the repository, the eye on the
other controllers), and the loops that act (controllers, scheduler, fleet links, git), which run only where
the store's leader is. All of them meet in the API's state; none knows another. What the acting loops write
is fenced by the term of their leadership.

A part that fails ends the whole process with its reason: restarting from the disk is the one recovery path,
and it is the one that is tested most.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import structlog

from gitkube.api.authorization import system_user
from gitkube.api.client import Client
from gitkube.api.jwt import SigningKey
from gitkube.api.keys import object_key
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.sealing import Sealing
from gitkube.api.settings import ApiSettings
from gitkube.api.verbs import Verbs
from gitkube.clock import Clock, SystemClock
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
from gitkube.server.app import RENEWAL_CHECK_S, HttpServer, create_app
from gitkube.server.audit.log import AuditLog
from gitkube.server.audit.policy import default_policy, read_policy
from gitkube.server.audit.trail import Auditor
from gitkube.server.cluster import ClusterClient, ClusterEndpoints
from gitkube.server.collector import keep_collections_short
from gitkube.server.controllers import Addresses, Controllers
from gitkube.server.identity import user_of_certificate
from gitkube.server.joining import JoinFile, check_directory, forget_joining, has_joined, note_joined, prepare
from gitkube.server.key_file import KeyFile, sealed_kinds
from gitkube.server.kubeconfig import CLUSTER_NAME, Context
from gitkube.server.leaders_streams import LeadersStreams
from gitkube.server.oidc.provider import Provider
from gitkube.server.pki import Pki
from gitkube.server.pod_forwards import LeadersForwards
from gitkube.server.relay import Relay
from gitkube.server.settings import ControlPlaneSettings, check_settings, identity_of, member_config
from gitkube.server.switch import Switch
from gitkube.server.token_file import read_token_file
from gitkube.store.directory import lock_directory
from gitkube.store.disk import SystemDisk
from gitkube.store.fenced import FencedStore
from gitkube.store.membership import lone_parts
from gitkube.store.protocol import StoreError
from gitkube.store.remote import RemoteStore, StoreProcess

__all__ = ["ControlPlane", "ControlPlaneSettings"]

HAND_OVER_S = 2.0
"""How long a leader that stops tries to hand over."""

LOCK_WAIT_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the parts share."""

    api: Api
    store: RemoteStore
    pki: Pki
    controllers: Controllers
    replica: Replica
    server: HttpServer

    def api_urls(self) -> list[str]:
        """Of all controllers, as they have told them."""
        return [url for one in self.controllers.members for url in one.client_urls]

    def api_address(self) -> tuple[str, int]:
        """Where our own API is reached from this machine."""
        return self.server.local_host, self.server.port


class ControlPlane:
    """See the module's text."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        dialer: Dialer | None = None,
    ) -> None:
        """
        Args:
            dialer: another way to the hosts than SSH.
        """
        self._settings = settings
        self._dialer = dialer
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        self._streams = LeadersStreams()
        self._sync: Sync | None = None
        """While we lead."""
        self._forwards = Switch()
        """Whether the hooks are served by passing pushes on."""

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Run until cancelled.

        Args:
            on_ready: called with the API's URL once it answers.

        Raises:
            ExceptionGroup: a part has failed; each exception in it says what and why.
            AuditLogError, JoinError, OidcError, PkiError, PolicyError, SealError, SettingsError, SourceError,
            StoreError, TokenFileError: it cannot even begin.
        """
        settings = self._settings
        check_settings(settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_repository(settings.repository, settings.branch)
        joining = await self._join()
        name, identity = identity_of(settings.data_dir, settings.name or (joining.name if joining else ""))
        pki = Pki.open(settings.data_dir / "pki", clock=self._clock)
        config = member_config(settings, pki, name, joining)
        tokens = read_token_file(settings.token_file) if settings.token_file is not None else None
        if settings.force_new_cluster:
            await self._go_on_alone()
        async with asyncio.TaskGroup() as tasks:
            process = StoreProcess(config, clock=self._clock, rng=self._rng)
            tasks.create_task(keep_collections_short(self._clock), name="collector")
            tasks.create_task(process.run(), name="store")
            store = RemoteStore(config.socket, clock=self._clock)
            try:
                toleration_s = settings.eviction_after_s
                api = Api(
                    store,
                    clock=self._clock,
                    rng=self._rng,
                    settings=ApiSettings(toleration_s=toleration_s),
                    signing_key=SigningKey.derived_from(pki.shared_secret()),
                    fixed_tokens=tokens,
                    sealing=Sealing(
                        KeyFile(settings.data_dir / "pki"),
                        secret=pki.shared_secret(),
                        random_bytes=os.urandom,
                        kinds=sealed_kinds(settings.encrypt),
                    ),
                )
                api.webhooks.services.forward = self._streams.port_forward
                tasks.create_task(api.run(), name="api")
                if settings.oidc is not None:
                    provider = Provider(settings.oidc, clock=self._clock, ca_file=settings.oidc_ca_file)
                    api.tokens.foreign.append(provider.user)
                    tasks.create_task(provider.run(), name="oidc")
                await api.wait_ready()
                note_joined(settings.data_dir)
                tasks.create_task(self._renew(pki, name), name="renewal")
                parts = await self._serve(api, store, pki, name, tasks, on_ready)
                tasks.create_task(parts.replica.run(), name="git-replica")
                tasks.create_task(self._forward_pushes(parts), name="git-forwarding")
                election = LeaderElection(
                    api.client(system_user("leader-election")),
                    identity,
                    parts.controllers,
                    clock=self._clock,
                    rng=self._rng,
                )
                try:
                    await election.run(lambda term: self._lead(parts, term))
                finally:
                    await _hand_over(parts)
            finally:
                await store.close()

    async def _join(self) -> JoinFile | None:
        """Make the data directory fit to join with; None for a controller that is a member, or the first."""
        settings = self._settings
        check_directory(settings.data_dir)
        if settings.join is None or has_joined(settings.data_dir):
            return None

        async def redeem(join: JoinFile, by: str) -> None:
            pki = Pki.open(settings.data_dir / "pki", clock=self._clock)
            await ClusterClient(pki.controller_context).redeem(join, by)

        return await prepare(settings.join, settings.data_dir, clock=self._clock, redeem=redeem)

    async def _go_on_alone(self) -> None:
        """Make a cluster of one out of what is here, when the other members are lost for good."""
        # A member's whole engine; in this process nothing else needs it.
        from gitkube.store.backup import force_new_cluster

        settings = self._settings
        if not settings.store_dir.is_dir():
            raise StoreError(f"there is no store in {settings.data_dir} that could go on alone")
        lock = await lock_directory(settings.store_dir, self._clock, LOCK_WAIT_S)
        try:
            made = force_new_cluster(
                SystemDisk(),
                settings.store_dir,
                rng=self._rng,
                peer_address=settings.peer_address,
                member_parts=lone_parts,
            )
        finally:
            os.close(lock)
        forget_joining(settings.data_dir)
        log.warning("new_cluster_forced", cluster=f"{made.cluster_id:016x}", member=f"{made.member_id:016x}")

    async def _renew(self, pki: Pki, name: str) -> None:
        """Keep the member's certificates fresh; it reads them again when they change."""
        while True:
            await self._clock.sleep(RENEWAL_CHECK_S)
            member_config(self._settings, pki, name, None)

    # ------------------------------------------------------------------ what every controller does

    async def _serve(
        self,
        api: Api,
        store: RemoteStore,
        pki: Pki,
        name: str,
        tasks: asyncio.TaskGroup,
        on_ready: Callable[[str], None],
    ) -> _Parts:
        settings = self._settings
        controllers: Controllers

        def leader_url() -> str | None:
            if controllers.is_leader:
                return None
            leader = controllers.leader
            return leader.client_urls[0] if leader is not None and leader.client_urls else ""

        self._streams.forwards = LeadersForwards(leader_url, pki.controller_context)
        app = create_app(
            api,
            self._streams,
            clock=self._clock,
            relay=Relay(leader_url, pki.controller_context),
            store_metrics=store.metrics,
            auditor=self._audit(tasks),
            cluster=ClusterEndpoints(
                store,
                authenticate=user_of_certificate,
                clock=self._clock,
                pushes=lambda: self._sync.answer_other if self._sync is not None else None,
                streams=lambda: self._streams.leader,
            ),
        )
        server = HttpServer(
            app,
            host=settings.listen_host,
            port=settings.listen_port,
            pki=pki,
            names=[*settings.advertise, settings.client_host],
            clock=self._clock,
        )
        await server.start()
        tasks.create_task(server.run(), name="https")
        url = settings.client_url(server.port)

        def write_kubeconfig() -> None:
            others = [Context(one.name, one.client_urls[0]) for one in controllers.members if one.client_urls]
            is_alone = controllers.is_alone
            pki.write_kubeconfig(
                settings.kubeconfig_path,
                url,
                others=[] if is_alone else others,
                context=CLUSTER_NAME if is_alone else name,
            )

        controllers = Controllers(
            store,
            Addresses(settings.peer_address, (url,)),
            clock=self._clock,
            is_alive=ClusterClient(pki.controller_context).is_alive,
            on_change=write_kubeconfig,
        )
        write_kubeconfig()
        tasks.create_task(controllers.run(), name="controllers-seen")
        log.info("api_serving", url=url, kubeconfig=str(settings.kubeconfig_path))
        on_ready(url)
        replica = Replica(
            store,
            repository=settings.repository.resolve(),
            branch=settings.branch,
            clock=self._clock,
            membership=lambda: _membership(controllers),
        )
        return _Parts(api, store, pki, controllers, replica, server)

    def _audit(self, tasks: asyncio.TaskGroup) -> Auditor | None:
        settings = self._settings
        if settings.audit_log is None:
            return None
        file = AuditLog(
            settings.audit_log,
            clock=self._clock,
            file_bytes=settings.audit_log_bytes,
            kept_files=settings.audit_log_kept,
        )
        file.open()
        tasks.create_task(file.run(), name="audit-log")
        policy = default_policy() if settings.audit_policy is None else read_policy(settings.audit_policy)
        return Auditor(policy, file, clock=self._clock)

    async def _forward_pushes(self, parts: _Parts) -> None:
        """Serve the hooks of our repository whenever somebody else leads."""
        client = ClusterClient(parts.pki.controller_context)

        def leader() -> Leader | None:
            found = parts.controllers.leader
            is_other = found is not None and found.id != parts.controllers.member_id
            return _Leader(client, found.client_urls[0]) if found and is_other and found.client_urls else None

        forwarding = Forwarding(
            leader,
            parts.replica,
            repo=self._settings.repository.resolve(),
            branch=self._settings.branch,
            clock=self._clock,
        )
        await self._forwards.run(forwarding.run)

    # ------------------------------------------------------------------ what only the leader does

    async def _lead(self, parts: _Parts, term: int) -> None:
        """Cancelled when it is the leader no more."""
        settings = self._settings
        verbs = self._fenced(parts, term)

        def client(component: str) -> Client:
            return LocalClient(verbs, system_user(component))

        fleet = Fleet(
            client("fleet"),
            inventory=settings.inventory,
            data_dir=settings.data_dir / "fleet",
            term=term,
            clock=self._clock,
            rng=self._rng,
            settings=FleetSettings(cluster_cidr=settings.cluster_cidr),
            dialer=self._dialer,
            api=parts.api_address,
        )
        manager = Manager(
            client("controller-manager"),
            clock=self._clock,
            rng=self._rng,
            settings=ControlSettings(
                cluster_cidr=settings.cluster_cidr, root_ca=parts.pki.ca_pem.decode(), sign=parts.pki.sign
            ),
            registry=parts.api.registry,
        )
        scheduler = Scheduler(client("scheduler"), clock=self._clock, rng=self._rng)
        sync = Sync(
            client("gitops"),
            repo=settings.repository,
            branch=settings.branch,
            socket=hook_socket(settings.repository.resolve()),
            clock=self._clock,
            rng=self._rng,
            truth=parts.replica,
            registry=parts.api.registry,
        )
        endpoints = ApiEndpoints(
            client("apiserver"),
            parts.api_urls,
            service_address=parts.api.settings.kubernetes_service_ip,
            clock=self._clock,
        )
        log.info("leading", term=term)
        await self._forwards.off()
        self._streams.leader, self._sync = fleet, sync
        parts.replica.lead(self._fenced_store(parts, term))
        parts.replica.notify = sync.notify
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(manager.run(), name="controllers")
                loops.create_task(scheduler.run(), name="scheduler")
                loops.create_task(fleet.run(), name="fleet")
                loops.create_task(sync.run(), name="gitops")
                loops.create_task(endpoints.run(), name="api-endpoints")
        finally:
            self._streams.leader = self._sync = None
            parts.replica.follow()
            parts.replica.notify = lambda: None
            self._forwards.on()

    def _fenced_store(self, parts: _Parts, term: int) -> FencedStore:
        """The store for this leadership: what is written through it is refused once another one has begun."""
        return FencedStore(parts.store, object_key(LEASE, LEASE_NAMESPACE, LEASE_NAME), term)

    def _fenced(self, parts: _Parts, term: int) -> Verbs:
        """The API's verbs for this leadership."""
        return parts.api.verbs_over(self._fenced_store(parts, term))


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


async def _hand_over(parts: _Parts) -> None:
    """A leader that is told to stop gives the others no election to wait for."""
    voters = [one for one in parts.controllers.members if not one.is_learner]
    if not parts.controllers.is_leader or len(voters) < 2:
        return
    with contextlib.suppress(StoreError, TimeoutError):
        async with asyncio.timeout(HAND_OVER_S):
            await parts.store.transfer_leadership()
