"""What `kubectl get` shows of each kind: columns, and the cells of an object.

The server prints, not the client, so that every client shows the same. Rows are pure functions of an object
and the time. A kind without a table of its own shows its name and age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitkube.objects import kinds, meta
from gitkube.objects.conversion import to_stored
from gitkube.objects.kinds import Kind, stored_kind
from gitkube.objects.tables import cluster, config, network, policy, storage, workloads
from gitkube.objects.tables.cluster import node_address, node_roles, node_status
from gitkube.objects.tables.columns import AGE, NAME, Cells, Column, Table
from gitkube.objects.tables.durations import age, human_duration
from gitkube.objects.tables.pods import POD_TABLE, status_word
from gitkube.objects.types import Object

__all__ = [
    "Column",
    "age",
    "columns",
    "human_duration",
    "node_address",
    "node_roles",
    "node_status",
    "row",
    "row_conditions",
    "status_word",
]

_TABLES: Mapping[Kind, Table] = {
    kinds.NAMESPACE: cluster.NAMESPACE_TABLE,
    kinds.NODE: cluster.NODE_TABLE,
    kinds.SOURCE: cluster.SOURCE_TABLE,
    kinds.POD: POD_TABLE,
    kinds.CONFIG_MAP: config.CONFIG_MAP_TABLE,
    kinds.SECRET: config.SECRET_TABLE,
    kinds.SERVICE_ACCOUNT: config.SERVICE_ACCOUNT_TABLE,
    kinds.EVENT: config.EVENT_TABLE,
    kinds.LEASE: config.LEASE_TABLE,
    kinds.SERVICE: network.SERVICE_TABLE,
    kinds.ENDPOINTS: network.ENDPOINTS_TABLE,
    kinds.ENDPOINT_SLICE: network.ENDPOINT_SLICE_TABLE,
    kinds.INGRESS: network.INGRESS_TABLE,
    kinds.INGRESS_CLASS: network.INGRESS_CLASS_TABLE,
    kinds.NETWORK_POLICY: network.NETWORK_POLICY_TABLE,
    kinds.IP_ADDRESS: network.IP_ADDRESS_TABLE,
    kinds.SERVICE_CIDR: network.SERVICE_CIDR_TABLE,
    kinds.DEPLOYMENT: workloads.DEPLOYMENT_TABLE,
    kinds.REPLICA_SET: workloads.REPLICA_SET_TABLE,
    kinds.STATEFUL_SET: workloads.STATEFUL_SET_TABLE,
    kinds.DAEMON_SET: workloads.DAEMON_SET_TABLE,
    kinds.REPLICATION_CONTROLLER: workloads.REPLICATION_CONTROLLER_TABLE,
    kinds.JOB: workloads.JOB_TABLE,
    kinds.CRON_JOB: workloads.CRON_JOB_TABLE,
    kinds.POD_TEMPLATE: workloads.POD_TEMPLATE_TABLE,
    kinds.CONTROLLER_REVISION: workloads.CONTROLLER_REVISION_TABLE,
    kinds.PERSISTENT_VOLUME: storage.VOLUME_TABLE,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.CLAIM_TABLE,
    kinds.STORAGE_CLASS: storage.STORAGE_CLASS_TABLE,
    kinds.VOLUME_ATTRIBUTES_CLASS: storage.ATTRIBUTES_CLASS_TABLE,
    kinds.VOLUME_ATTACHMENT: storage.ATTACHMENT_TABLE,
    kinds.CSI_DRIVER: storage.CSI_DRIVER_TABLE,
    kinds.CSI_NODE: storage.CSI_NODE_TABLE,
    kinds.CSI_STORAGE_CAPACITY: storage.CAPACITY_TABLE,
    kinds.HORIZONTAL_POD_AUTOSCALER: policy.AUTOSCALER_TABLE,
    kinds.POD_DISRUPTION_BUDGET: policy.BUDGET_TABLE,
    kinds.PRIORITY_CLASS: policy.PRIORITY_CLASS_TABLE,
    kinds.RUNTIME_CLASS: policy.RUNTIME_CLASS_TABLE,
    kinds.RESOURCE_QUOTA: policy.QUOTA_TABLE,
    kinds.LIMIT_RANGE: policy.NAME_AND_TIME_TABLE,
    kinds.ROLE: policy.NAME_AND_TIME_TABLE,
    kinds.CLUSTER_ROLE: policy.NAME_AND_TIME_TABLE,
    kinds.CUSTOM_RESOURCE_DEFINITION: policy.NAME_AND_TIME_TABLE,
    kinds.ROLE_BINDING: policy.BINDING_TABLE,
    kinds.CLUSTER_ROLE_BINDING: policy.BINDING_TABLE,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: policy.WEBHOOKS_TABLE,
    kinds.MUTATING_WEBHOOK_CONFIGURATION: policy.WEBHOOKS_TABLE,
    kinds.VALIDATING_ADMISSION_POLICY: policy.VALIDATING_POLICY_TABLE,
    kinds.MUTATING_ADMISSION_POLICY: policy.MUTATING_POLICY_TABLE,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: policy.POLICY_BINDING_TABLE,
    kinds.MUTATING_ADMISSION_POLICY_BINDING: policy.POLICY_BINDING_TABLE,
    kinds.API_SERVICE: policy.API_SERVICE_TABLE,
    kinds.CERTIFICATE_SIGNING_REQUEST: policy.SIGNING_REQUEST_TABLE,
    kinds.FLOW_SCHEMA: policy.FLOW_SCHEMA_TABLE,
    kinds.PRIORITY_LEVEL_CONFIGURATION: policy.PRIORITY_LEVEL_TABLE,
}


_COMPLETED = {
    phase: {"type": "Completed", "status": "True", "reason": phase, "message": message}
    for phase, message in (
        ("Succeeded", "The pod has completed successfully."),
        ("Failed", "The pod failed."),
    )
}


def _name_and_age(obj: Object, now_s: float) -> Cells:
    return [meta.name(obj), age(meta.metadata(obj).get("creationTimestamp"), now_s)]


_DEFAULT_TABLE = Table((NAME, AGE), _name_and_age)


def columns(kind: Kind) -> Sequence[Column]:
    """The columns of a kind, those of `-o wide` (priority 1) among them."""
    if kind.custom is not None:
        return kind.custom.table.columns
    return _TABLES.get(stored_kind(kind), _DEFAULT_TABLE).columns


def row(kind: Kind, obj: Object, now_s: float) -> Cells:
    """The cells of an object, one for each column."""
    if kind.custom is not None:
        return kind.custom.table.cells(obj, now_s)
    return _TABLES.get(stored_kind(kind), _DEFAULT_TABLE).cells(to_stored(kind, obj), now_s)


def row_conditions(kind: Kind, obj: Object) -> list[dict[str, str]]:
    """What is so special about a row that clients may show it in another way: a pod that is through."""
    phase = (obj.get("status") or {}).get("phase")
    return [dict(_COMPLETED[phase])] if kind is kinds.POD and phase in _COMPLETED else []
