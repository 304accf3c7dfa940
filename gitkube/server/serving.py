"""The API of one controller, from the store's socket to HTTPS: what every controller runs.

Flow: the API reads the store once and makes the objects that every cluster has; then the server listens, the
kubeconfig is written, and who the other controllers are is watched. What only the leader can do (streams to
pods, pushes that arrived elsewhere) is offered here and filled in by `acting.py`. Invariant: nothing here
acts on objects, so it may answer while another controller leads.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from gitkube.api.authorization import User
from gitkube.api.jwt import SigningKey
from gitkube.api.machinery import Api
from gitkube.api.sealing import Sealing
from gitkube.api.settings import ApiSettings
from gitkube.clock import Clock
from gitkube.collector import no_collections
from gitkube.server.app import HttpServer, create_app
from gitkube.server.audit.log import AuditLog
from gitkube.server.audit.policy import default_policy, read_policy
from gitkube.server.audit.trail import Auditor
from gitkube.server.cluster import ClusterClient, ClusterEndpoints, ManagedStore
from gitkube.server.controllers import Addresses, Controllers
from gitkube.server.identity import user_of_certificate
from gitkube.server.key_file import KeyFile, sealed_kinds
from gitkube.server.kubeconfig import CLUSTER_NAME, Context
from gitkube.server.leaders_streams import LeadersStreams
from gitkube.server.pki import Pki
from gitkube.server.pod_forwards import LeadersForwards
from gitkube.server.relay import Relay
from gitkube.server.settings import ControlPlaneSettings

if TYPE_CHECKING:
    from gitkube.server.pushes import PushAnswerer

log = structlog.get_logger()


class Serving:
    """See the module's text.

    Args:
        tasks: its parts run in this group.
        tokens: fixed ones, with their users.
    """

    def __init__(
        self,
        settings: ControlPlaneSettings,
        store: ManagedStore,
        pki: Pki,
        name: str,
        tasks: asyncio.TaskGroup,
        *,
        tokens: Mapping[str, User] | None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.store = store
        self.pki = pki
        self.streams = LeadersStreams()
        self.answer_push: PushAnswerer | None = None
        """Judges pushes that arrived elsewhere, while we lead."""
        self.controllers: Controllers
        self.api = Api(
            store,
            clock=clock,
            rng=rng,
            settings=ApiSettings(service_cidr=settings.service_cidr, toleration_s=settings.eviction_after_s),
            signing_key=SigningKey.derived_from(pki.shared_secret()),
            fixed_tokens=tokens,
            sealing=Sealing(
                KeyFile(settings.data_dir / "pki"),
                secret=pki.shared_secret(),
                random_bytes=os.urandom,
                kinds=sealed_kinds(settings.encrypt),
            ),
        )
        self._server: HttpServer
        self._name = name
        self._tasks = tasks
        self._clock = clock

    @property
    def url(self) -> str:
        """Of the API, once it serves."""
        return self.settings.client_url(self._server.port)

    def api_urls(self) -> list[str]:
        """Of all controllers, as they have told them."""
        return [url for one in self.controllers.members for url in one.client_urls]

    def api_address(self) -> tuple[str, int]:
        """Where our own API is reached from this machine."""
        return self._server.local_host, self._server.port

    async def load(self) -> None:
        """Returns when the API has read what is stored.

        Raises:
            OidcError, SealError, ServiceRangeError, StoreError: it cannot serve like this.
        """
        self.api.webhooks.services.forward = self.streams.port_forward
        await self._know_provider()
        with no_collections():
            self._tasks.create_task(self.api.run(), name="api")
            await self.api.wait_ready()

    async def _know_provider(self) -> None:
        settings = self.settings
        if settings.oidc is None:
            return
        from gitkube.server.oidc.provider import Provider

        provider = Provider(settings.oidc, clock=self._clock, ca_file=settings.oidc_ca_file)
        self.api.tokens.foreign.append(provider.user)
        self._tasks.create_task(provider.run(), name="oidc")

    async def listen(self) -> None:
        """Returns when the API answers.

        Raises:
            AuditLogError, PkiError, PolicyError: it cannot serve like this.
            OSError: the address cannot be listened on.
        """
        settings, pki = self.settings, self.pki

        def leader_url() -> str | None:
            if self.controllers.is_leader:
                return None
            leader = self.controllers.leader
            return leader.client_urls[0] if leader is not None and leader.client_urls else ""

        self.streams.forwards = LeadersForwards(leader_url, pki.controller_context)
        app = create_app(
            self.api,
            self.streams,
            clock=self._clock,
            relay=Relay(leader_url, pki.controller_context),
            store_metrics=self.store.metrics,
            auditor=self._audit(),
            cluster=ClusterEndpoints(
                self.store,
                authenticate=user_of_certificate,
                clock=self._clock,
                pushes=lambda: self.answer_push,
                streams=lambda: self.streams.leader,
            ),
        )
        self._server = HttpServer(
            app,
            host=settings.listen_host,
            port=settings.listen_port,
            pki=pki,
            names=[*settings.advertise, settings.client_host, self.api.settings.kubernetes_service_ip],
            clock=self._clock,
        )
        await self._server.start()
        self._tasks.create_task(self._server.run(), name="https")
        self.controllers = Controllers(
            self.store,
            Addresses(settings.peer_address, (self.url,)),
            clock=self._clock,
            is_alive=ClusterClient(pki.controller_context).is_alive,
            on_change=self._write_kubeconfig,
        )
        self._write_kubeconfig()
        self._tasks.create_task(self.controllers.run(), name="controllers-seen")
        log.info("api_serving", url=self.url, kubeconfig=str(settings.kubeconfig_path))

    def _write_kubeconfig(self) -> None:
        members = self.controllers.members
        others = [Context(one.name, one.client_urls[0]) for one in members if one.client_urls]
        is_alone = self.controllers.is_alone
        self.pki.write_kubeconfig(
            self.settings.kubeconfig_path,
            self.url,
            others=[] if is_alone else others,
            context=CLUSTER_NAME if is_alone else self._name,
        )

    def _audit(self) -> Auditor | None:
        settings = self.settings
        if settings.audit_log is None:
            return None
        file = AuditLog(
            settings.audit_log,
            clock=self._clock,
            file_bytes=settings.audit_log_bytes,
            kept_files=settings.audit_log_kept,
        )
        file.open()
        self._tasks.create_task(file.run(), name="audit-log")
        policy = default_policy() if settings.audit_policy is None else read_policy(settings.audit_policy)
        return Auditor(policy, file, clock=self._clock)
