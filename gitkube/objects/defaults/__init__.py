"""What an object gets that its author left out, as Kubernetes 1.37 defaults it.

One function, run by the API on everything that comes in and by the sync on everything that it compares, so
that both see the same object. Defaults depend on nothing but the object: what the cluster gives (addresses,
service accounts, tolerations) is admission's, what only the server may say (uid, status) is the strategy's.

Invariant: `apply_defaults` is idempotent, changes nothing that is set, and never fails: a value of a wrong
type is left for validation to name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects.defaults.cluster import default_namespace, default_node, default_source
from gitkube.objects.defaults.config import default_event, default_lease, default_secret
from gitkube.objects.defaults.network import default_endpoint_slice, default_service
from gitkube.objects.defaults.pods import default_pod
from gitkube.objects.defaults.workloads import (
    default_deployment,
    default_job,
    default_replica_set,
    with_generated_selector,
)
from gitkube.objects.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    JOB,
    LEASE,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    SOURCE,
    Kind,
)
from gitkube.objects.normalise import normalise
from gitkube.objects.types import Object

__all__ = ["apply_defaults", "with_generated_selector"]

_DEFAULTS: Mapping[Kind, Callable[[Object], None]] = {
    NAMESPACE: default_namespace,
    NODE: default_node,
    POD: default_pod,
    SECRET: default_secret,
    SERVICE: default_service,
    EVENT: default_event,
    ENDPOINT_SLICE: default_endpoint_slice,
    DEPLOYMENT: default_deployment,
    REPLICA_SET: default_replica_set,
    JOB: default_job,
    LEASE: default_lease,
    SOURCE: default_source,
}
"""Each changes the fresh copy that it is given. Kinds that are missing here have no defaults."""


def apply_defaults(kind: Kind, obj: Object) -> Object:
    """A copy of an object in canonical spelling (`normalise`) with everything filled in."""
    result = normalise(kind, obj)
    default = _DEFAULTS.get(kind)
    if default is not None:
        default(result)
    return result
