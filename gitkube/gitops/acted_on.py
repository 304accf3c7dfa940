"""Which kinds something in the cluster acts on, and what is said at push of those that nothing does.

The API stores every kind of Kubernetes, so that its clients work; but an object in git is a wish, and a wish
that nobody hears must not look fulfilled. Kinds that are only kept are refused with what to use instead,
unless nothing depends on them being heard: those are taken with a warning. A kind that is listed nowhere here
is refused, so a new record in `objects/kinds.py` cannot slip through. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from gitkube.gitops.problem import Problem
from gitkube.gitops.render.model import Manifest
from gitkube.objects import kinds
from gitkube.objects.kinds import Kind

_BY_CLUSTER = "it is written by the cluster"
NOT_FROM_GIT: Mapping[Kind, str] = {
    kinds.NODE: "hosts come from the inventory",
    kinds.EVENT: "events are written by the cluster",
    kinds.EVENT_V1: "events are written by the cluster",
    kinds.LEASE: "leases are written by the cluster",
    kinds.SOURCE: "the source is set where gitkube serve is started",
    kinds.CONTROLLER_REVISION: _BY_CLUSTER,
    kinds.IP_ADDRESS: _BY_CLUSTER,
    kinds.VOLUME_ATTACHMENT: _BY_CLUSTER,
    kinds.CSI_NODE: _BY_CLUSTER,
    kinds.CSI_STORAGE_CAPACITY: _BY_CLUSTER,
    kinds.CERTIFICATE_SIGNING_REQUEST: "a request is made by whoever has the key",
    kinds.POD_CERTIFICATE_REQUEST: "a request is made by whoever has the key",
    **dict.fromkeys(kinds.QUESTIONS, "it is a question, not a thing"),
}
_ACTED_ON = frozenset(
    {
        kinds.NAMESPACE, kinds.POD, kinds.CONFIG_MAP, kinds.SECRET, kinds.SERVICE, kinds.SERVICE_ACCOUNT,
        kinds.ENDPOINT_SLICE, kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.JOB, kinds.PRIORITY_CLASS,
        kinds.POD_TEMPLATE, kinds.LIMIT_RANGE, kinds.ROLE, kinds.ROLE_BINDING, kinds.CLUSTER_ROLE,
        kinds.CLUSTER_ROLE_BINDING, kinds.CUSTOM_RESOURCE_DEFINITION, kinds.MUTATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_WEBHOOK_CONFIGURATION, kinds.MUTATING_ADMISSION_POLICY,
        kinds.MUTATING_ADMISSION_POLICY_BINDING, kinds.VALIDATING_ADMISSION_POLICY,
        kinds.VALIDATING_ADMISSION_POLICY_BINDING, kinds.REPLICATION_CONTROLLER, kinds.CRON_JOB,
        kinds.RESOURCE_QUOTA, kinds.POD_DISRUPTION_BUDGET, kinds.FLOW_SCHEMA,
        kinds.PRIORITY_LEVEL_CONFIGURATION, kinds.ENDPOINTS,
    }
)  # fmt: skip
"""A PodTemplate is only kept by Kubernetes, too."""
_KEPT: Mapping[Kind, str] = {
    kinds.RUNTIME_CLASS: "its overhead and scheduling count, but hosts run every pod with crun",
}
"""Kinds that are taken although nothing acts on them: nobody is worse off for it."""
_INSTEAD: Mapping[Kind, str] = {
    kinds.STATEFUL_SET: "use a Deployment with one replica and a hostPath volume",
    kinds.DAEMON_SET: "use a Deployment with a topology spread over hosts",
    kinds.HORIZONTAL_POD_AUTOSCALER: "set replicas in the Deployment",
    kinds.HORIZONTAL_POD_AUTOSCALER_V1: "set replicas in the Deployment",
    kinds.INGRESS: "use a Service of type NodePort",
    kinds.INGRESS_CLASS: "use a Service of type NodePort",
    kinds.PERSISTENT_VOLUME: "use a hostPath volume",
    kinds.PERSISTENT_VOLUME_CLAIM: "use a hostPath volume",
    kinds.STORAGE_CLASS: "use a hostPath volume",
}


def kind_problem(manifest: Manifest, kind: Kind) -> Problem | None:
    """What is to be said of a kind in git: a refusal, a warning, or nothing."""
    if kind in NOT_FROM_GIT:
        message = f"a {kind.kind} cannot come from git: {NOT_FROM_GIT[kind]}"
        return manifest.problem(message, ("kind",))
    if kind in _ACTED_ON or kind.custom is not None:
        return None  # on a custom kind acts whoever brought its definition
    message = f"no controller acts on a {kind.kind} yet"
    if kind in _KEPT:
        return manifest.problem(f"{message}: {_KEPT[kind]}", ("kind",), is_error=False)
    return manifest.problem(message, ("kind",), hint=_INSTEAD.get(kind, ""))
