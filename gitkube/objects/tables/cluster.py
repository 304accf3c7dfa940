"""Rows of Namespaces, Nodes and our own Sources."""

from __future__ import annotations

from gitkube.objects import conditions, meta
from gitkube.objects.tables.columns import AGE, NAME, NONE, Cells, Column, Table
from gitkube.objects.tables.durations import UNKNOWN, age
from gitkube.objects.types import Object

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"
_SHORT_COMMIT = 7


def _namespace(namespace: Object, now_s: float) -> Cells:
    status = namespace.get("status") or {}
    return [
        meta.name(namespace),
        status.get("phase") or "",
        age(meta.metadata(namespace).get("creationTimestamp"), now_s),
    ]


def node_status(node: Object) -> str:
    """What stands in the STATUS column of a node."""
    ready = conditions.status_of(node, "Ready")
    words = [{"": "Unknown", conditions.TRUE: "Ready"}.get(ready, "NotReady")]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def node_roles(node: Object) -> list[str]:
    labels = meta.labels(node)
    roles = {label.removeprefix(_ROLE_PREFIX) for label in labels if label.startswith(_ROLE_PREFIX)}
    if labels.get(_ROLE_LABEL):
        roles.add(labels[_ROLE_LABEL])
    return sorted(role for role in roles if role)


def node_address(node: Object, type: str) -> str:
    """The first address of a type such as InternalIP; "" when there is none."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((str(entry["address"]) for entry in addresses if entry.get("type") == type), "")


def _node(node: Object, now_s: float) -> Cells:
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return [
        meta.name(node),
        node_status(node),
        ",".join(node_roles(node)) or NONE,
        age(meta.metadata(node).get("creationTimestamp"), now_s),
        info.get("kubeletVersion") or "",
        node_address(node, "InternalIP") or NONE,
        node_address(node, "ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _source(source: Object, now_s: float) -> Cells:
    spec, status = source.get("spec") or {}, source.get("status") or {}
    commit, applied = status.get("commit") or {}, status.get("applied") or {}
    return [
        meta.name(source),
        status.get("phase") or "unknown",
        (applied.get("id") or "")[:_SHORT_COMMIT] or NONE,
        spec.get("branch") or "main",
        age(meta.metadata(source).get("creationTimestamp"), now_s),
        (commit.get("id") or "")[:_SHORT_COMMIT] or NONE,
        spec.get("repository") or "",
        status.get("message") or "",
    ]


NAMESPACE_TABLE = Table(
    (NAME, Column("Status", description="The status of the namespace"), AGE),
    _namespace,
)
NODE_TABLE = Table(
    (
        NAME,
        Column("Status", description="The status of the node"),
        Column("Roles", description="The roles of the node"),
        AGE,
        Column("Version", description="Kubelet Version reported by the node."),
        Column("Internal-IP", description="Address inside the cluster's network.", priority=1),
        Column("External-IP", description="Address outside of it.", priority=1),
        Column("OS-Image", description="Operating system reported by the node.", priority=1),
        Column("Kernel-Version", description="Kernel reported by the node.", priority=1),
        Column("Container-Runtime", description="Container runtime reported by the node.", priority=1),
    ),
    _node,
)
SOURCE_TABLE = Table(
    (
        NAME,
        Column("Phase", description="waiting, rolling, healthy, degraded, failed or unknown."),
        Column("Applied", description="Commit whose objects are in force."),
        Column("Branch", description="Branch that is followed."),
        AGE,
        Column("Tip", description="Commit at the tip of the branch, as last seen.", priority=1),
        Column("Repository", description="Repository that is followed.", priority=1),
        Column("Message", description="What is wrong, and what to do.", priority=1),
    ),
    _source,
)
