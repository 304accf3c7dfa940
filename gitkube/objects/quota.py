"""What an object costs a ResourceQuota: the arithmetic that the API charges by and the controller counts by.

Both must count alike, or a namespace would fill up by itself or never be full; so both ask here. A pod costs
what its containers ask for while it runs, and `count/pods` as long as it is there; Services and claims have
names of their own beside `count/…`; every other kind is counted. Which quotas an object counts in is said by
the names in `hard` and by the scopes. Pure.
Source: Kubernetes' pkg/quota/v1/evaluator/core, of which the sentences are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gitkube.objects import meta, pods
from gitkube.objects.kinds import EVENT, PERSISTENT_VOLUME_CLAIM, POD, SERVICE, Kind
from gitkube.objects.pods import Resources
from gitkube.objects.quantity import ZERO, Quantity
from gitkube.objects.quota_scopes import fits_scope, scopes_of
from gitkube.objects.types import Object

ONE = Quantity.of(1)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset(
    {"pods", *_COMPUTE, *(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE)}
)
_MUST_BE_SAID = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
"""What each container must say when a quota limits it: Kubernetes calls this a mistake of its first years."""
_SHORT_COUNTS = frozenset({"configmaps", "secrets", "replicationcontrollers", "resourcequotas"})
"""Kinds of the core group that are counted under their bare name, too."""
_SERVICE_NAMES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_CLASS_INFIX = ".storageclass.storage.k8s.io/"
_STORAGE = "requests.storage"


def count_name(kind: Kind) -> str:
    """The name under which objects of a kind are counted, such as `count/deployments.apps`."""
    return f"count/{kind.plural}.{kind.group}" if kind.group else f"count/{kind.plural}"


def tracked(kind: Kind, names: Iterable[str]) -> set[str]:
    """Those of a quota's names that objects of a kind count in."""
    if kind is EVENT or not kind.namespaced:
        return set()
    return {name for name in names if name == count_name(kind) or _is_of_kind(kind, name)}


def _is_of_kind(kind: Kind, name: str) -> bool:
    if kind is POD:
        return name in _POD_NAMES or _is_huge_page(name) or _is_extended(name)
    if kind is SERVICE:
        return name in _SERVICE_NAMES
    if kind is PERSISTENT_VOLUME_CLAIM:
        by_class = name.partition(_CLASS_INFIX)[2]
        return name in ("persistentvolumeclaims", _STORAGE) or by_class in (
            "persistentvolumeclaims",
            _STORAGE,
        )
    return not kind.group and kind.plural in _SHORT_COUNTS and name == kind.plural


def _is_huge_page(name: str) -> bool:
    return name.startswith(("hugepages-", "requests.hugepages-"))


def _is_extended(name: str) -> bool:
    """`requests.example.org/gpu`: a resource that somebody else than Kubernetes named."""
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


def counts(quota: Object, kind: Kind, obj: Object, hard: Mapping[str, Any]) -> bool:
    """Whether an object counts in a quota with these limits."""
    if not tracked(kind, hard):
        return False
    return all(kind is POD and fits_scope(scope, obj) for scope in scopes_of(quota))


def usage(kind: Kind, obj: Object, now_s: float) -> Resources:
    """What an object costs, by the names that quotas use."""
    found: Resources = {count_name(kind): ONE}
    if kind is POD:
        if not _is_over(obj, now_s):
            found.update(_pod_usage(pods.spec(obj)))
    elif kind is SERVICE:
        found.update(_service_usage(obj.get("spec") or {}))
    elif kind is PERSISTENT_VOLUME_CLAIM:
        found.update(_claim_usage(obj))
    elif not kind.group and kind.plural in _SHORT_COUNTS:
        found[kind.plural] = ONE
    return found


def _is_over(pod: Object, now_s: float) -> bool:
    """Its containers use nothing any more: it ended, or should have a grace period ago."""
    if pods.is_terminal(pod):
        return True
    metadata = meta.metadata(pod)
    grace_s = metadata.get("deletionGracePeriodSeconds")
    if not metadata.get("deletionTimestamp") or grace_s is None:
        return False
    return now_s > meta.time_s(metadata["deletionTimestamp"]) + float(grace_s)


def _pod_usage(spec: Mapping[str, Any]) -> Resources:
    return _named(pods.pod_requests(spec), pod_limits(spec)) | {"pods": ONE}


def pod_limits(spec: Mapping[str, Any]) -> Resources:
    """The limits of a pod as a whole: its own where it says some, and overhead on top of what is limited."""
    limits = pods.pod_limits(spec)
    for name, amount in ((spec.get("resources") or {}).get("limits") or {}).items():
        limits[name] = Quantity.parse(amount)
    for name, amount in (spec.get("overhead") or {}).items():
        if name in limits:
            limits[name] = limits[name] + Quantity.parse(amount)
    return limits


def _named(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Resources:
    found: Resources = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            found[name] = amount
            found[f"requests.{name}"] = amount
        elif _is_extended(f"requests.{name}"):
            found[f"requests.{name}"] = amount
    found.update({f"limits.{name}": limits[name] for name in _COMPUTE if name in limits})
    return found


def _service_usage(spec: Mapping[str, Any]) -> Resources:
    type_, ports = spec.get("type"), spec.get("ports") or ()
    node_ports = loadbalancers = 0
    if type_ == "NodePort":
        node_ports = len(ports)
    elif type_ == "LoadBalancer":
        loadbalancers = 1
        allocates = spec.get("allocateLoadBalancerNodePorts") is not False
        node_ports = len(ports) if allocates else sum(bool(port.get("nodePort")) for port in ports)
    return {
        "services": ONE,
        "services.nodeports": Quantity.of(node_ports),
        "services.loadbalancers": Quantity.of(loadbalancers),
    }


def _claim_usage(claim: Object) -> Resources:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    found = {"persistentvolumeclaims": ONE}
    wanted = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if wanted is not None:
        # While a claim grows, what was allocated already counts although less is asked for again.
        allocated = (status.get("allocatedResources") or {}).get("storage", "0")
        found[_STORAGE] = max(Quantity.parse(wanted), Quantity.parse(allocated))
    annotation = meta.annotations(claim).get("volume.beta.kubernetes.io/storage-class")
    name = annotation if annotation is not None else spec.get("storageClassName")
    if name:
        found |= {f"{name}{_CLASS_INFIX}{key}": amount for key, amount in found.items()}
    return found


def unsaid(pod: Object, names: Iterable[str]) -> str:
    """Why a pod cannot be counted: what its containers must say and don't; "" when all is said."""
    spec = pods.spec(pod)
    required = _MUST_BE_SAID & set(names)
    if not required or spec.get("resources"):
        return ""
    missing: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        said = _named(*(_amounts(resources.get(part)) for part in ("requests", "limits")))
        for name in required - set(said):
            missing.setdefault(name, set()).add(str(container.get("name")))
    parts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(parts)}" if parts else ""


def add(first: Mapping[str, Quantity], second: Mapping[str, Quantity]) -> Resources:
    return {name: first.get(name, ZERO) + second.get(name, ZERO) for name in {**first, **second}}


def amounts(resources: Mapping[str, Any] | None) -> Resources:
    """The quantities of a list of resources."""
    return _amounts(resources)


def texts(resources: Mapping[str, Quantity]) -> dict[str, str]:
    """As they are stored, sorted by name."""
    return {name: str(resources[name]) for name in sorted(resources)}


def _amounts(resources: Mapping[str, Any] | None) -> Resources:
    return {name: Quantity.parse(amount) for name, amount in (resources or {}).items()}
