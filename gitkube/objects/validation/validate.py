"""Is an object right? All that is wrong with it, at once, each mistake with its field.

`validate` first walks the schema (`shape.py`); only when all types are right do the rules that a schema
cannot say follow: metadata, then the kind's own. It expects an object with its defaults, as the API has it
after `apply_defaults`. Whatever depends on other objects (is the address free, does the namespace exist) is
admission's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.validation import (
    access,
    admission,
    cluster,
    config,
    definitions,
    extension,
    network,
    pods,
    policy,
    routing,
    sets,
    storage,
    workloads,
)
from gitkube.objects.validation.causes import Cause, Causes
from gitkube.objects.validation.metadata import check_metadata, check_metadata_update
from gitkube.objects.validation.shape import (
    Mismatch,
    check_required,
    check_types,
    decode_error,
    mismatches,
)

__all__ = ["Cause", "Mismatch", "decode_error", "mismatches", "validate"]

_CHECKS: Mapping[Kind, Callable[[Causes, Object], None]] = {
    kinds.POD: pods.check_pod,
    kinds.DEPLOYMENT: workloads.check_deployment,
    kinds.REPLICA_SET: workloads.check_replica_set,
    kinds.JOB: workloads.check_job,
    kinds.STATEFUL_SET: sets.check_stateful_set,
    kinds.DAEMON_SET: sets.check_daemon_set,
    kinds.REPLICATION_CONTROLLER: sets.check_replication_controller,
    kinds.CRON_JOB: sets.check_cron_job,
    kinds.POD_TEMPLATE: sets.check_pod_template,
    kinds.CONTROLLER_REVISION: sets.check_controller_revision,
    kinds.SERVICE: network.check_service,
    kinds.ENDPOINT_SLICE: network.check_endpoint_slice,
    kinds.ENDPOINTS: routing.check_endpoints,
    kinds.INGRESS: routing.check_ingress,
    kinds.INGRESS_CLASS: routing.check_ingress_class,
    kinds.NETWORK_POLICY: routing.check_network_policy,
    kinds.IP_ADDRESS: routing.check_ip_address,
    kinds.SERVICE_CIDR: routing.check_service_cidr,
    kinds.CONFIG_MAP: config.check_config_map,
    kinds.SECRET: config.check_secret,
    kinds.EVENT: config.check_event,
    kinds.LEASE: config.check_lease,
    kinds.NODE: cluster.check_node,
    kinds.NAMESPACE: cluster.check_namespace,
    kinds.SOURCE: cluster.check_source,
    kinds.PERSISTENT_VOLUME: storage.check_volume,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.check_claim,
    kinds.STORAGE_CLASS: storage.check_storage_class,
    kinds.VOLUME_ATTRIBUTES_CLASS: storage.check_attributes_class,
    kinds.VOLUME_ATTACHMENT: storage.check_attachment,
    kinds.CSI_DRIVER: storage.check_csi_driver,
    kinds.CSI_NODE: storage.check_csi_node,
    kinds.CSI_STORAGE_CAPACITY: storage.check_capacity,
    kinds.LIMIT_RANGE: policy.check_limit_range,
    kinds.RESOURCE_QUOTA: policy.check_resource_quota,
    kinds.POD_DISRUPTION_BUDGET: policy.check_budget,
    kinds.PRIORITY_CLASS: policy.check_priority_class,
    kinds.RUNTIME_CLASS: policy.check_runtime_class,
    kinds.HORIZONTAL_POD_AUTOSCALER: policy.check_autoscaler,
    kinds.ROLE: access.check_role,
    kinds.CLUSTER_ROLE: access.check_cluster_role,
    kinds.ROLE_BINDING: access.check_role_binding,
    kinds.CLUSTER_ROLE_BINDING: access.check_cluster_role_binding,
    kinds.CERTIFICATE_SIGNING_REQUEST: access.check_signing_request,
    kinds.CLUSTER_TRUST_BUNDLE: access.check_trust_bundle,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: admission.check_webhooks,
    kinds.MUTATING_WEBHOOK_CONFIGURATION: admission.check_webhooks,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: admission.check_validating_policy_binding,
    kinds.MUTATING_ADMISSION_POLICY_BINDING: admission.check_mutating_policy_binding,
    kinds.API_SERVICE: extension.check_api_service,
    kinds.FLOW_SCHEMA: extension.check_flow_schema,
    kinds.PRIORITY_LEVEL_CONFIGURATION: extension.check_priority_level,
}
_CREATE_CHECKS: Mapping[Kind, Callable[[Causes, Object], None]] = {
    kinds.POD: pods.check_pod_create,
    kinds.INGRESS: routing.check_ingress_create,
    kinds.CUSTOM_RESOURCE_DEFINITION: definitions.check_definition_create,
    kinds.PRIORITY_CLASS: policy.check_priority_class_create,
    kinds.VALIDATING_ADMISSION_POLICY: admission.check_validating_policy,
    kinds.MUTATING_ADMISSION_POLICY: admission.check_mutating_policy,
}
_UPDATE_CHECKS: Mapping[Kind, Callable[[Causes, Object, Object], None]] = {
    kinds.POD: pods.check_pod_update,
    kinds.DEPLOYMENT: workloads.check_deployment_update,
    kinds.REPLICA_SET: workloads.check_replica_set_update,
    kinds.JOB: workloads.check_job_update,
    kinds.STATEFUL_SET: sets.check_stateful_set_update,
    kinds.DAEMON_SET: sets.check_daemon_set_update,
    kinds.CONTROLLER_REVISION: sets.check_controller_revision_update,
    kinds.SERVICE: network.check_service_update,
    kinds.ENDPOINT_SLICE: network.check_endpoint_slice_update,
    kinds.INGRESS_CLASS: routing.check_ingress_class_update,
    kinds.IP_ADDRESS: routing.check_ip_address_update,
    kinds.SERVICE_CIDR: routing.check_service_cidr_update,
    kinds.CONFIG_MAP: config.check_config_map_update,
    kinds.SECRET: config.check_secret_update,
    kinds.NODE: cluster.check_node_update,
    kinds.NAMESPACE: cluster.check_namespace_update,
    kinds.CSI_NODE: storage.check_csi_node_update,
    kinds.PERSISTENT_VOLUME: storage.check_volume_update,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.check_claim_update,
    kinds.STORAGE_CLASS: storage.check_storage_class_update,
    kinds.VOLUME_ATTRIBUTES_CLASS: storage.check_attributes_class_update,
    kinds.VOLUME_ATTACHMENT: storage.check_attachment_update,
    kinds.CSI_DRIVER: storage.check_csi_driver_update,
    kinds.CSI_STORAGE_CAPACITY: storage.check_capacity_update,
    kinds.RESOURCE_QUOTA: policy.check_resource_quota_update,
    kinds.PRIORITY_CLASS: policy.check_priority_class_update,
    kinds.RUNTIME_CLASS: policy.check_runtime_class_update,
    kinds.ROLE_BINDING: access.check_binding_update,
    kinds.CLUSTER_ROLE_BINDING: access.check_binding_update,
    kinds.CERTIFICATE_SIGNING_REQUEST: access.check_signing_request_update,
    kinds.CLUSTER_TRUST_BUNDLE: access.check_trust_bundle_update,
    kinds.CUSTOM_RESOURCE_DEFINITION: definitions.check_definition_update,
    kinds.VALIDATING_ADMISSION_POLICY: admission.check_validating_policy_update,
    kinds.MUTATING_ADMISSION_POLICY: admission.check_mutating_policy_update,
}
_REQUIRED_BY_SCHEMA = frozenset(
    {
        kinds.POD, kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.JOB, kinds.STATEFUL_SET, kinds.SERVICE,
        kinds.NODE, kinds.SOURCE, kinds.DEVICE_CLASS, kinds.DEVICE_TAINT_RULE, kinds.RESOURCE_CLAIM,
        kinds.RESOURCE_CLAIM_TEMPLATE, kinds.RESOURCE_SLICE, kinds.POD_CERTIFICATE_REQUEST,
        kinds.STORAGE_VERSION_MIGRATION, kinds.VALIDATING_ADMISSION_POLICY, kinds.MUTATING_ADMISSION_POLICY,
    }
)  # fmt: skip
"""Kinds of which the schema's word on what must be there is taken. Of the others the checks say it, for
Kubernetes words it in another way there, or looks at the zero that a missing number is."""


def validate(kind: Kind, obj: Object, old: Object | None = None) -> list[Cause]:
    """Everything that is wrong with an object, empty when nothing is.

    A spec that stays as it is stored is not blamed: it was taken by the rules of its time, and under stricter
    ones nobody could report its status or take off its finalizers any more.

    Args:
        obj: with its defaults.
        old: the object as it is stored, when this is an update: then what may not change is checked, too.
    """
    causes = Causes()
    if kind.custom is not None:
        kind.custom.check(causes, kind, obj, old)
        return causes.list
    check_types(causes, kind, obj)
    if causes.list:
        return _of_what_changed(causes.list, obj, old)
    check_metadata(causes, kind, obj)
    if kind in _REQUIRED_BY_SCHEMA:
        check_required(causes, kind, obj)
    check = _CHECKS.get(kind)
    if check is not None:
        check(causes, obj)
    check_create = _CREATE_CHECKS.get(kind) if old is None else None
    if check_create is not None:
        check_create(causes, obj)
    if old is not None:
        check_metadata_update(causes, obj, old)
        check_update = _UPDATE_CHECKS.get(kind)
        if check_update is not None:
            check_update(causes, obj, old)
    return _of_what_changed(causes.list, obj, old)


def _of_what_changed(causes: list[Cause], obj: Object, old: Object | None) -> list[Cause]:
    if not causes or old is None or obj.get("spec") != old.get("spec"):
        return causes
    return [one for one in causes if one["field"].split(".")[0] != "spec"]
