"""What `kubectl get` shows of each kind: columns, and the cells of an object.

The server prints, not the client, so that every client shows the same. Rows are pure functions of an object
and the time. A kind without a table of its own shows its name and age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitkube.objects import meta
from gitkube.objects.kinds import (
    CONFIG_MAP,
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
    SERVICE_ACCOUNT,
    SOURCE,
    Kind,
)
from gitkube.objects.tables.cluster import (
    NAMESPACE_TABLE,
    NODE_TABLE,
    SOURCE_TABLE,
    node_address,
    node_roles,
    node_status,
)
from gitkube.objects.tables.columns import AGE, NAME, Cells, Column, Table
from gitkube.objects.tables.config import (
    CONFIG_MAP_TABLE,
    EVENT_TABLE,
    LEASE_TABLE,
    SECRET_TABLE,
    SERVICE_ACCOUNT_TABLE,
)
from gitkube.objects.tables.durations import age, human_duration
from gitkube.objects.tables.network import ENDPOINT_SLICE_TABLE, SERVICE_TABLE
from gitkube.objects.tables.pods import POD_TABLE, status_word
from gitkube.objects.tables.workloads import DEPLOYMENT_TABLE, JOB_TABLE, REPLICA_SET_TABLE
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
    "status_word",
]

_TABLES: Mapping[Kind, Table] = {
    NAMESPACE: NAMESPACE_TABLE,
    NODE: NODE_TABLE,
    POD: POD_TABLE,
    CONFIG_MAP: CONFIG_MAP_TABLE,
    SECRET: SECRET_TABLE,
    SERVICE: SERVICE_TABLE,
    SERVICE_ACCOUNT: SERVICE_ACCOUNT_TABLE,
    EVENT: EVENT_TABLE,
    ENDPOINT_SLICE: ENDPOINT_SLICE_TABLE,
    DEPLOYMENT: DEPLOYMENT_TABLE,
    REPLICA_SET: REPLICA_SET_TABLE,
    JOB: JOB_TABLE,
    LEASE: LEASE_TABLE,
    SOURCE: SOURCE_TABLE,
}


def _name_and_age(obj: Object, now_s: float) -> Cells:
    return [meta.name(obj), age(meta.metadata(obj).get("creationTimestamp"), now_s)]


_DEFAULT_TABLE = Table((NAME, AGE), _name_and_age)


def columns(kind: Kind) -> Sequence[Column]:
    """The columns of a kind, those of `-o wide` (priority 1) among them."""
    return _TABLES.get(kind, _DEFAULT_TABLE).columns


def row(kind: Kind, obj: Object, now_s: float) -> Cells:
    """The cells of an object, one for each column."""
    return _TABLES.get(kind, _DEFAULT_TABLE).cells(obj, now_s)
