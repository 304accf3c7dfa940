"""What an object gets that its author left out, as Kubernetes 1.37 defaults it.

One function, run by the API on everything that comes in and by the sync on everything that it compares, so
that both see the same object. Defaults depend on nothing but the object: what the cluster gives (addresses,
service accounts, tolerations) is admission's, what only the server may say (uid, status) is the strategy's.

Invariant: `apply_defaults` is idempotent, changes nothing that is set, and never fails: a value of a wrong
type is left for validation to name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects import kinds
from gitkube.objects.custom.defaulting import with_defaults
from gitkube.objects.defaults import cluster, config, extension, network, pods, policy, storage, workloads
from gitkube.objects.defaults.workloads import with_generated_selector
from gitkube.objects.kinds import Kind
from gitkube.objects.normalise import normalise
from gitkube.objects.types import Object

__all__ = ["apply_defaults", "with_generated_selector"]

_DEFAULTS: Mapping[Kind, Callable[[Object], None]] = {
    kinds.NAMESPACE: cluster.default_namespace,
    kinds.NODE: cluster.default_node,
    kinds.SOURCE: cluster.default_source,
    kinds.SECRET: config.default_secret,
    kinds.EVENT: config.default_event,
    kinds.LEASE: config.default_lease,
    kinds.SERVICE: network.default_service,
    kinds.ENDPOINTS: network.default_endpoints,
    kinds.ENDPOINT_SLICE: network.default_endpoint_slice,
    kinds.NETWORK_POLICY: network.default_network_policy,
    kinds.INGRESS_CLASS: network.default_ingress_class,
    kinds.POD: pods.default_pod,
    kinds.POD_TEMPLATE: workloads.default_pod_template,
    kinds.DEPLOYMENT: workloads.default_deployment,
    kinds.REPLICA_SET: workloads.default_replica_set,
    kinds.REPLICATION_CONTROLLER: workloads.default_replication_controller,
    kinds.STATEFUL_SET: workloads.default_stateful_set,
    kinds.DAEMON_SET: workloads.default_daemon_set,
    kinds.JOB: workloads.default_job,
    kinds.CRON_JOB: workloads.default_cron_job,
    kinds.PERSISTENT_VOLUME: storage.default_volume,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.default_claim,
    kinds.STORAGE_CLASS: storage.default_storage_class,
    kinds.CSI_DRIVER: storage.default_csi_driver,
    kinds.LIMIT_RANGE: policy.default_limit_range,
    kinds.PRIORITY_CLASS: policy.default_priority_class,
    kinds.HORIZONTAL_POD_AUTOSCALER: policy.default_autoscaler,
    kinds.ROLE_BINDING: policy.default_role_binding,
    kinds.CLUSTER_ROLE_BINDING: policy.default_role_binding,
    kinds.FLOW_SCHEMA: policy.default_flow_schema,
    kinds.PRIORITY_LEVEL_CONFIGURATION: policy.default_priority_level,
    kinds.RESOURCE_CLAIM: policy.default_resource_claim,
    kinds.RESOURCE_CLAIM_TEMPLATE: policy.default_resource_claim_template,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: extension.default_validating_webhooks,
    kinds.MUTATING_WEBHOOK_CONFIGURATION: extension.default_mutating_webhooks,
    kinds.VALIDATING_ADMISSION_POLICY: extension.default_admission_policy,
    kinds.MUTATING_ADMISSION_POLICY: extension.default_admission_policy,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: extension.default_admission_policy_binding,
    kinds.MUTATING_ADMISSION_POLICY_BINDING: extension.default_admission_policy_binding,
    kinds.CUSTOM_RESOURCE_DEFINITION: extension.default_definition,
    kinds.API_SERVICE: extension.default_api_service,
}
"""Each changes the fresh copy that it is given. Kinds that are missing here have no defaults."""


def apply_defaults(kind: Kind, obj: Object) -> Object:
    """A copy of an object in canonical spelling (`normalise`) with everything filled in."""
    if kind.custom is not None:
        return with_defaults(kind.custom.schema, obj)
    result = normalise(kind, obj)
    default = _DEFAULTS.get(kind)
    if default is not None:
        default(result)
    return result
