"""What the writer of an object is warned of: it is stored, and does not do what was probably meant.

`warnings_of` looks at an object as it will be stored and gives Kubernetes' own sentences, which kubectl and
Helm show to people: fields and annotations that nothing reads any more, values that hide others, names that
surprise.
Pure, and silent about what an update has not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.warnings import others, workloads

__all__ = ["warnings_of"]

_RULES: Mapping[Kind, Callable[[Object, Object | None], list[str]]] = {
    kinds.POD: workloads.of_pod,
    kinds.POD_TEMPLATE: workloads.of_pod_template,
    kinds.DEPLOYMENT: workloads.of_named_workload,
    kinds.REPLICA_SET: workloads.of_named_workload,
    kinds.REPLICATION_CONTROLLER: workloads.of_named_workload,
    kinds.JOB: workloads.of_named_workload,
    kinds.STATEFUL_SET: workloads.of_stateful_set,
    kinds.DAEMON_SET: workloads.of_workload,
    kinds.CRON_JOB: workloads.of_cron_job,
    kinds.SERVICE: others.of_service,
    kinds.INGRESS: others.of_ingress,
    kinds.PERSISTENT_VOLUME: others.of_volume,
    kinds.PERSISTENT_VOLUME_CLAIM: others.of_claim,
    kinds.SERVICE_ACCOUNT: others.of_account,
}


def warnings_of(kind: Kind, obj: Object, old: Object | None) -> list[str]:
    """Sentences about an object that is right, in the order of its fields.

    Args:
        obj: as it will be stored.
        old: as it is stored, None for a new one.
    """
    if kind.custom is not None:
        return others.of_custom(obj, old)
    rule = _RULES.get(kind)
    return rule(obj, old) if rule is not None else []
