"""Every kind that the API serves, one record each.

A kind is data: where it lives in the API, its names, its scope, its subresources. Adding a kind is adding a
record here; its schema comes from Kubernetes' own (`schema.py`), its defaults, checks and columns from the
tables beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API."""

    group: str
    """"" is the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    """Such as "status", "scale", "log"."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", False, ("ns",), (), ("status", "finalize"))
NODE = Kind("", "v1", "Node", "nodes", False, ("no",), (), ("status",))
POD = Kind(
    "", "v1", "Pod", "pods", True, ("po",), ("all",),
    ("status", "binding", "eviction", "log", "exec", "attach", "portforward"),
)  # fmt: skip
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", True, ("cm",))
SECRET = Kind("", "v1", "Secret", "secrets", True)
SERVICE = Kind("", "v1", "Service", "services", True, ("svc",), ("all",), ("status",))
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",))
EVENT = Kind("", "v1", "Event", "events", True, ("ev",))
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", True, ("deploy",), ("all",), ("status", "scale"))
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",), ("all",), ("status", "scale"))
JOB = Kind("batch", "v1", "Job", "jobs", True, (), ("all",), ("status",))
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", True)
SOURCE = Kind("gitkube.dev", "v1alpha1", "Source", "sources", False, ("src",), (), ("status",))
"""A git repository and branch that the cluster follows; its status says which commit is in force."""

BUILT_IN: tuple[Kind, ...] = (
    NAMESPACE, NODE, POD, CONFIG_MAP, SECRET, SERVICE, SERVICE_ACCOUNT, EVENT, ENDPOINT_SLICE,
    DEPLOYMENT, REPLICA_SET, JOB, LEASE, SOURCE,
)  # fmt: skip

_BY_GVK = {(kind.api_version, kind.kind): kind for kind in BUILT_IN}
_BY_RESOURCE = {(kind.group, kind.version, kind.plural): kind for kind in BUILT_IN}


def by_gvk(api_version: str, kind: str) -> Kind | None:
    """The kind that a manifest's `apiVersion` and `kind` name, or None when it is not served."""
    return _BY_GVK.get((api_version, kind))


def by_resource(group: str, version: str, plural: str) -> Kind | None:
    """The kind behind a path such as `/apis/apps/v1/deployments`."""
    return _BY_RESOURCE.get((group, version, plural))


def by_name(word: str) -> Kind | None:
    """The kind that a person means: plural, singular, short name or kind, alone or with its group.

    Such as `po`, `pods`, `Pod`, `deploy`, `deployments.apps`. Case does not matter.
    """
    return _BY_NAME.get(word.lower())


_BY_NAME: dict[str, Kind] = {}
for _kind in BUILT_IN:
    for _word in (_kind.plural, _kind.singular, *_kind.short_names):
        _BY_NAME.setdefault(_word, _kind)
        if _kind.group:
            _BY_NAME.setdefault(f"{_word}.{_kind.group}", _kind)
