"""Each namespace has a ServiceAccount `default`, and the cluster's CA where pods look for it."""

from __future__ import annotations

from gitkube.api.errors import StatusError, is_already_exists, is_not_found
from gitkube.control.context import Context, Controller
from gitkube.control.pod_control import is_namespace_ending
from gitkube.objects import meta
from gitkube.objects.kinds import CONFIG_MAP, NAMESPACE, SERVICE_ACCOUNT, Kind
from gitkube.objects.types import Object

ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
_WHY = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such "
    "as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions "
    "of Kubernetes clusters."
)


class ServiceAccountController(Controller):
    name = "serviceaccount-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = context.informer(NAMESPACE)
        self._accounts = context.informer(SERVICE_ACCOUNT)
        self._config_maps = context.informer(CONFIG_MAP)
        self._namespaces.add_handler(self.enqueue_changed)
        self._accounts.add_handler(self._on_dependent)
        self._config_maps.add_handler(self._on_dependent)

    async def reconcile(self, key: str) -> float | None:
        """One look at one namespace."""
        namespace = self._namespaces.get(key)
        if namespace is None or meta.is_deleting(namespace):
            return None
        if self._accounts.get(ACCOUNT, key) is None:
            await self._create(SERVICE_ACCOUNT, {"metadata": {"name": ACCOUNT, "namespace": key}})
        root_ca = self.context.settings.root_ca
        if not root_ca:
            return None
        data = {"ca.crt": root_ca}
        config_map = self._config_maps.get(ROOT_CA, key)
        if config_map is None:
            metadata = {
                "name": ROOT_CA,
                "namespace": key,
                "annotations": {"kubernetes.io/description": _WHY},
            }
            await self._create(CONFIG_MAP, {"metadata": metadata, "data": data})
        elif config_map.get("data") != data:
            await self.client.update(CONFIG_MAP, {**config_map, "data": data})
        return None

    async def _create(self, kind: Kind, obj: Object) -> None:
        try:
            await self.client.create(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **obj})
        except StatusError as error:
            if not is_already_exists(error) and not is_not_found(error) and not is_namespace_ending(error):
                raise

    def _on_dependent(self, before: Object | None, after: Object | None) -> None:
        obj = after if after is not None else before
        assert obj is not None
        if meta.name(obj) in (ACCOUNT, ROOT_CA):
            self.queue.add(meta.namespace(obj))
