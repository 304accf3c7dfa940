"""Is an object right? All that is wrong with it, at once, each mistake with its field.

`validate` first walks the schema (`shape.py`); only when all types are right do the rules that a schema
cannot say follow: metadata, then the kind's own. It expects an object with its defaults, as the API has it
after `apply_defaults`. Whatever depends on other objects (is the address free, does the namespace exist) is
admission's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    JOB,
    LEASE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    SOURCE,
    Kind,
)
from gitkube.objects.types import Object
from gitkube.objects.validation import cluster, config, network, pods, workloads
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
    POD: pods.check_pod,
    DEPLOYMENT: workloads.check_deployment,
    REPLICA_SET: workloads.check_replica_set,
    JOB: workloads.check_job,
    SERVICE: network.check_service,
    ENDPOINT_SLICE: network.check_endpoint_slice,
    CONFIG_MAP: config.check_config_map,
    SECRET: config.check_secret,
    EVENT: config.check_event,
    LEASE: config.check_lease,
    NODE: cluster.check_node,
    SOURCE: cluster.check_source,
}
_UPDATE_CHECKS: Mapping[Kind, Callable[[Causes, Object, Object], None]] = {
    POD: pods.check_pod_update,
    DEPLOYMENT: workloads.check_deployment_update,
    REPLICA_SET: workloads.check_replica_set_update,
    JOB: workloads.check_job_update,
    SERVICE: network.check_service_update,
    ENDPOINT_SLICE: network.check_endpoint_slice_update,
    CONFIG_MAP: config.check_config_map_update,
    SECRET: config.check_secret_update,
    NODE: cluster.check_node_update,
}


def validate(kind: Kind, obj: Object, old: Object | None = None) -> list[Cause]:
    """Everything that is wrong with an object, empty when nothing is.

    Args:
        obj: with its defaults.
        old: the object as it is stored, when this is an update: then what may not change is checked, too.
    """
    causes = Causes()
    check_types(causes, kind, obj)
    if causes.list:
        return causes.list
    check_metadata(causes, kind, obj)
    check_required(causes, kind, obj)
    check = _CHECKS.get(kind)
    if check is not None:
        check(causes, obj)
    if old is not None:
        check_metadata_update(causes, obj, old)
        check_update = _UPDATE_CHECKS.get(kind)
        if check_update is not None:
            check_update(causes, obj, old)
    return causes.list
