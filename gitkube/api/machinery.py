"""The API server without HTTP: a store below, a watch cache in the middle, the verbs on top.

`Api.run` keeps the cache; once it has been read the first time, the objects that every cluster has are made,
and `wait_ready` returns. The HTTP server speaks to `Api.verbs`, everything in the process to an
`Api.client(user)`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import structlog

from gitkube.api.admission.extensions import ExtensionRules
from gitkube.api.admission.versions import Versions
from gitkube.api.authorization import User, system_user
from gitkube.api.cache import WatchCache
from gitkube.api.client import Client
from gitkube.api.custom.conversion import Conversion
from gitkube.api.custom.definitions import Definitions
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.flow_control import ensure_flow_control
from gitkube.api.jwt import SigningKey
from gitkube.api.local import LocalClient
from gitkube.api.policies.mutating import MutatingPolicies
from gitkube.api.policies.validating import ValidatingPolicies
from gitkube.api.rbac.authorizer import Rbac
from gitkube.api.rbac.escalation import Escalation
from gitkube.api.rbac.nodes import Nodes
from gitkube.api.rbac.reconcile import ensure_default_roles
from gitkube.api.sealing import Sealing
from gitkube.api.settings import ApiSettings
from gitkube.api.tokens import Tokens
from gitkube.api.verbs import Verbs
from gitkube.api.webhooks.caller import WebhookCaller
from gitkube.api.webhooks.dispatch import Webhooks
from gitkube.clock import Clock
from gitkube.objects import meta
from gitkube.objects.kinds import (
    BUILT_IN,
    NAMESPACE,
    PRIORITY_CLASS,
    SERVICE,
    SERVICE_CIDR,
    Kind,
)
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object
from gitkube.objects.validation.policy import SYSTEM_PRIORITIES
from gitkube.store.protocol import Store

log = structlog.get_logger()

FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITY_WORDS = {
    "system-cluster-critical": "Used for system critical pods that must run in the cluster, but can be moved "
    "to another node if necessary.",
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}
SERVICE_RANGE = "kubernetes"
"""The ServiceCIDR of the range that Services get their addresses from."""
_RETRY_S = 1.0


class ServiceRangeError(Exception):
    """The cluster's Services have other addresses than this server would give."""


class Api:
    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        rng: random.Random,
        settings: ApiSettings | None = None,
        kinds: tuple[Kind, ...] = BUILT_IN,
        signing_key: SigningKey | None = None,
        fixed_tokens: Mapping[str, User] | None = None,
        sealing: Sealing | None = None,
    ) -> None:
        """
        Args:
            signing_key: signs the tokens of ServiceAccounts, the same on every controller; None makes one
                that no other server knows.
            fixed_tokens: token -> user.
            sealing: how Secrets lie in the store; None leaves them open.
        """
        self.settings = settings or ApiSettings()
        self.kinds = kinds
        """What is stored."""
        self.store = store
        self._clock = clock
        self.registry = Registry(kinds)
        """All kinds that are served at the moment, those of definitions among them."""
        self.cache = WatchCache(
            store, kinds, clock=clock, settings=self.settings, registry=self.registry, sealing=sealing
        )
        self._rbac = Rbac(self.cache)
        self.authorizer = Nodes(self.cache, self._rbac)
        self._rng = rng
        key = signing_key or SigningKey.derived_from(rng.randbytes(32))
        self.webhooks = WebhookCaller(self.cache, rng)
        """Calls webhooks; whoever can reach the pods sets `webhooks.services.forward`."""
        self.cache.conversion = Conversion(self.webhooks, rng)
        self._extensions = self._make_extensions()
        self.tokens = Tokens(self.cache, key, clock=clock, rng=rng, fixed=fixed_tokens)
        self.verbs = self.verbs_over(store)
        self.definitions = Definitions(
            self.client(system_user("apiserver")), self.cache, clock=clock, rng=rng
        )
        self._ready = asyncio.Event()

    def verbs_over(self, store: Store) -> Verbs:
        """The verbs, writing through another view of the same store."""
        return Verbs(
            store,
            self.cache,
            clock=self._clock,
            rng=self._rng,
            settings=self.settings,
            authorizer=self.authorizer,
            escalation=Escalation(self._rbac),
            tokens=self.tokens,
            extensions=self._extensions,
        )

    def _make_extensions(self) -> ExtensionRules:
        versions, authorizer = Versions(self.registry), self.authorizer
        webhooks = Webhooks(
            self.cache, self.webhooks, rng=self._rng, authorizer=authorizer, versions=versions
        )
        mutating = MutatingPolicies(self.cache, authorizer=authorizer, versions=versions)
        validating = ValidatingPolicies(self.cache, authorizer=authorizer, versions=versions)
        return ExtensionRules(webhooks, mutating, validating)

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered: the cache has been read and the first objects are there."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ExceptionGroup: a part has failed, with `ServiceRangeError` if it may not serve this cluster.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.cache.run(), name="api-cache")
                tasks.create_task(self._make_first_objects(), name="api-first-objects")
                tasks.create_task(self.definitions.follow(), name="api-definitions-informer")
                tasks.create_task(self.definitions.run(), name="api-definitions")
        finally:
            await self.webhooks.close()

    def client(self, user: User) -> LocalClient:
        """A client that acts as `user`."""
        return LocalClient(self.verbs, user)

    async def _make_first_objects(self) -> None:
        await self.cache.wait_synced()
        self._check_service_range()
        client = self.client(system_user("apiserver"))
        while True:
            try:
                for name in FIRST_NAMESPACES:
                    await _ensure(client, NAMESPACE, _namespace(name))
                await _ensure(client, SERVICE, self._kubernetes_service())
                await _ensure(client, SERVICE_CIDR, self._service_range())
                for name, value in SYSTEM_PRIORITIES.items():
                    await _ensure(client, PRIORITY_CLASS, _priority_class(name, value))
                await ensure_default_roles(client)
                await ensure_flow_control(client)
                break
            except StatusError as error:
                log.warning("first_objects_failed", error=str(error), retry_s=_RETRY_S)
                await self._clock.sleep(_RETRY_S)
        self._ready.set()
        log.info("api_ready", revision=self.cache.revision)

    def _check_service_range(self) -> None:
        found = self.cache.of(SERVICE_CIDR).get(SERVICE_RANGE)
        stored = ((found or {}).get("spec") or {}).get("cidrs") or [self.settings.service_cidr]
        if self.settings.service_cidr not in stored:
            raise ServiceRangeError(
                f"this cluster's Services have addresses of {', '.join(stored)}, and this controller was "
                f"told {self.settings.service_cidr}: start it with --service-cidr {stored[0]}. The network "
                "of a cluster that exists cannot be changed"
            )

    def _service_range(self) -> Object:
        """Kubernetes' way to say from which range Services get their addresses."""
        return {
            "apiVersion": SERVICE_CIDR.api_version,
            "kind": SERVICE_CIDR.kind,
            "metadata": {"name": SERVICE_RANGE},
            "spec": {"cidrs": [self.settings.service_cidr]},
        }

    def _kubernetes_service(self) -> Object:
        port: dict[str, Any] = {
            "name": "https",
            "port": 443,
            "protocol": "TCP",
            "targetPort": self.settings.api_port,
        }
        address = self.settings.kubernetes_service_ip
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": [port]},
        }


async def _ensure(client: Client, kind: Kind, obj: Object) -> None:
    # Asked for first: creating a Service that is there fails for its address, not for its name.
    try:
        await client.get(kind, meta.name(obj), meta.namespace(obj))
    except StatusError as error:
        if not is_not_found(error):
            raise
        await client.create(kind, obj)


def _priority_class(name: str, value: int) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": _PRIORITY_WORDS[name],
    }


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
