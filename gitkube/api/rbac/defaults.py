"""The roles and bindings that every cluster begins with, as Kubernetes documents them ("Default roles and
role bindings").

Left out are those of components that here are parts of one process and need no role (the controller manager,
the garbage collector …), and what is said of API groups that are no longer served. `admin`, `edit` and `view`
have no rules of their own: they gather those of all ClusterRoles with a label, which also lets a chart add
its kinds to them.
"""

from __future__ import annotations

from typing import Any

from gitkube.api.authorization import AUTHENTICATED_GROUP, MASTERS_GROUP, UNAUTHENTICATED_GROUP
from gitkube.objects.types import Object

GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {AUTOUPDATE: "true"}
_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_EVENTS = ("create patch update", ("", "events.k8s.io"), "events")

_Rule = tuple[str, str | tuple[str, ...], str] | tuple[str, str | tuple[str, ...], str, str]
"""Verbs, API groups, resources, and perhaps names; words are separated by spaces."""


def _rule(verbs: str, groups: str | tuple[str, ...], resources: str, names: str = "") -> dict[str, Any]:
    rule: dict[str, Any] = {
        "verbs": verbs.split(),
        "apiGroups": [groups] if isinstance(groups, str) else list(groups),
        "resources": resources.split(),
    }
    return {**rule, "resourceNames": names.split()} if names else rule


def _paths(verbs: str, paths: str) -> dict[str, Any]:
    return {"verbs": verbs.split(), "nonResourceURLs": paths.split()}


def _metadata(name: str, *, gathered_into: str = "", namespace: str = "") -> dict[str, Any]:
    labels = dict(_LABELS)
    if gathered_into:
        labels[_label(gathered_into)] = "true"
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": dict(_ANNOTATIONS)}
    return {**metadata, "namespace": namespace} if namespace else metadata


def _label(role: str) -> str:
    return f"rbac.authorization.k8s.io/aggregate-to-{role}"


def _role(name: str, *rules: _Rule, paths: str = "", gathered_into: str = "") -> Object:
    written = [_rule(*rule) for rule in rules]
    if paths:
        written.append(_paths("get", paths))
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": _metadata(name, gathered_into=gathered_into),
        "rules": written,
    }


def _gathering(name: str, gathered_into: str = "") -> Object:
    selector = {"matchLabels": {_label(name): "true"}}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": _metadata(name, gathered_into=gathered_into),
        "aggregationRule": {"clusterRoleSelectors": [selector]},
    }


_OPEN = "/healthz /livez /readyz /version /version/"
_WORKLOADS = (
    "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"
)
_WORKLOADS_STATUS = "daemonsets/status deployments/status replicasets/status statefulsets/status"
_INTO_PODS = "pods/attach pods/exec pods/portforward pods/proxy"
_CLAIMS = "resourceclaims resourceclaimtemplates"

_FOR_PEOPLE = (
    {
        **_role("cluster-admin", ("*", "*", "*")),
        "rules": [_rule("*", "*", "*"), _paths("*", "*")],
    },
    _gathering("admin"),
    _gathering("edit", gathered_into="admin"),
    _gathering("view", gathered_into="edit"),
    _role(
        "system:aggregate-to-admin",
        ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        (f"{_WRITE} {_READ}", GROUP, "roles rolebindings"),
        gathered_into="admin",
    ),
    _role(
        "system:aggregate-to-edit",
        (_READ, "", f"{_INTO_PODS} secrets services/proxy"),
        ("impersonate", "", "serviceaccounts"),
        (_WRITE, "", f"pods {_INTO_PODS}"),
        ("create", "", "pods/eviction"),
        (
            _WRITE,
            "",
            "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale "
            "secrets serviceaccounts services services/proxy",
        ),
        ("create", "", "serviceaccounts/token"),
        (_WRITE, "apps", f"{_WORKLOADS} deployments/rollback"),
        (_WRITE, "autoscaling", "horizontalpodautoscalers"),
        (_WRITE, "batch", "cronjobs jobs"),
        (_WRITE, "policy", "poddisruptionbudgets"),
        (_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        (f"{_WRITE} {_READ}", "coordination.k8s.io", "leases"),
        (_WRITE, "resource.k8s.io", _CLAIMS),
        gathered_into="edit",
    ),
    _role(
        "system:aggregate-to-view",
        (
            _READ,
            "",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "
            "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
        ),
        (
            _READ,
            "",
            "bindings events limitranges namespaces/status pods/log pods/status "
            "replicationcontrollers/status resourcequotas resourcequotas/status",
        ),
        (_READ, "", "namespaces"),
        (_READ, "discovery.k8s.io", "endpointslices"),
        (_READ, "apps", f"controllerrevisions {_WORKLOADS} {_WORKLOADS_STATUS}"),
        (_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        (_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        (_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        (_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
        (_READ, "resource.k8s.io", f"{_CLAIMS} resourceclaims/status"),
        gathered_into="view",
    ),
    _role(
        "system:basic-user",
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    _role("system:discovery", paths=f"/api /api/* /apis /apis/* /openapi /openapi/* {_OPEN}"),
    _role("system:public-info-viewer", paths=_OPEN),
    _role(
        "system:monitoring",
        paths="/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
    ),
    _role(
        "system:service-account-issuer-discovery",
        paths="/.well-known/openid-configuration /openid/v1/jwks",
    ),
)

_DELEGATION = (
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews"),
)
_LEASES = "coordination.k8s.io"
_CSR = "certificates.k8s.io"

_FOR_PROGRAMS = (
    _role("system:auth-delegator", *_DELEGATION),
    _role(
        "system:kube-scheduler",
        _EVENTS,
        ("create", _LEASES, "leases"),
        ("get list update watch", _LEASES, "leases", "kube-scheduler"),
        (_READ, "", "nodes namespaces replicationcontrollers services"),
        (f"delete {_READ}", "", "pods"),
        ("create", "", "bindings pods/binding"),
        ("patch update", "", "pods/status"),
        (_READ, "apps", "replicasets statefulsets"),
        (_READ, "policy", "poddisruptionbudgets"),
        (_READ, "", "persistentvolumeclaims persistentvolumes"),
        *_DELEGATION,
        (_READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities volumeattachments"),
    ),
    _role(
        "system:volume-scheduler",
        (f"{_READ} patch update", "", "persistentvolumes persistentvolumeclaims"),
        (_READ, "storage.k8s.io", "storageclasses"),
    ),
    _role("system:kube-dns", ("list watch", "", "endpoints services")),
    _role(
        "system:persistent-volume-provisioner",
        (f"create delete {_READ}", "", "persistentvolumes"),
        (f"{_READ} update", "", "persistentvolumeclaims"),
        (_READ, "storage.k8s.io", "storageclasses"),
        ("watch", "", "events"),
        _EVENTS,
    ),
    _role("system:node-problem-detector", ("get", "", "nodes"), ("patch", "", "nodes/status"), _EVENTS),
    _role(
        "system:node-proxier",
        ("list watch", "", "endpoints services"),
        (_READ, "", "nodes"),
        _EVENTS,
        ("list watch", "discovery.k8s.io", "endpointslices"),
        ("list watch", "networking.k8s.io", "servicecidrs"),
    ),
    _role(
        "system:kubelet-api-admin",
        (_READ, "", "nodes"),
        ("proxy", "", "nodes"),
        ("*", "", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
    ),
    _role("system:node-bootstrapper", (f"create {_READ}", _CSR, "certificatesigningrequests")),
    _role(
        f"system:{_CSR}:certificatesigningrequests:nodeclient",
        ("create", _CSR, "certificatesigningrequests/nodeclient"),
    ),
    _role(
        f"system:{_CSR}:certificatesigningrequests:selfnodeclient",
        ("create", _CSR, "certificatesigningrequests/selfnodeclient"),
    ),
    *(
        _role(f"system:{_CSR}:{signer}-approver", ("approve", _CSR, "signers", f"kubernetes.io/{signer}"))
        for signer in (
            "kube-apiserver-client",
            "kube-apiserver-client-kubelet",
            "kubelet-serving",
            "legacy-unknown",
        )
    ),
    _role(
        "system:node",
        *_DELEGATION,
        ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        (_READ, "", "services pods configmaps secrets"),
        (f"create {_READ} patch update", "", "nodes"),
        ("patch update", "", "nodes/status pods/status"),
        ("create patch update", "", "events"),
        ("create delete", "", "pods"),
        ("create", "", "pods/eviction serviceaccounts/token"),
        ("get", "", "persistentvolumeclaims persistentvolumes endpoints"),
        ("get patch update", "", "persistentvolumeclaims/status"),
        (f"create {_READ}", _CSR, "certificatesigningrequests"),
        ("create delete get patch update", _LEASES, "leases"),
        ("get", "storage.k8s.io", "volumeattachments"),
        (_READ, "storage.k8s.io", "csidrivers"),
        ("create delete get patch update", "storage.k8s.io", "csinodes"),
        (_READ, "node.k8s.io", "runtimeclasses"),
    ),
)

CLUSTER_ROLES: tuple[Object, ...] = (*_FOR_PEOPLE, *_FOR_PROGRAMS)

ROLES: tuple[Object, ...] = (
    {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Role",
        "metadata": _metadata("extension-apiserver-authentication-reader", namespace="kube-system"),
        "rules": [_rule(_READ, "", "configmaps", "extension-apiserver-authentication")],
    },
)


def _binding(name: str, *groups: str) -> Object:
    binding: Object = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": _metadata(name),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
    }
    subjects = [{"kind": "Group", "apiGroup": GROUP, "name": group} for group in groups]
    return {**binding, "subjects": subjects} if subjects else binding


CLUSTER_ROLE_BINDINGS: tuple[Object, ...] = (
    _binding("cluster-admin", MASTERS_GROUP),
    _binding("system:basic-user", AUTHENTICATED_GROUP),
    _binding("system:discovery", AUTHENTICATED_GROUP),
    _binding("system:public-info-viewer", AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP),
    _binding("system:monitoring", "system:monitoring"),
    _binding("system:service-account-issuer-discovery", "system:serviceaccounts"),
    _binding("system:node"),
)
"""`system:node` is bound to nobody: it would open every Secret to every host."""
