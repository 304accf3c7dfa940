"""The FlowSchemas and PriorityLevelConfigurations that every cluster has.

Names, precedences and shares are Kubernetes' own (k8s.io/apiserver, flowcontrol bootstrap), for people tune
them by name. What a schema may match is read by `server/flow_schemas.py`. They are made when they are missing
and left alone when somebody has changed them; `exempt` and `catch-all` are what requests fall back to.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_not_found
from gitkube.objects import meta
from gitkube.objects.kinds import FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION, Kind
from gitkube.objects.types import Object

_AUTO_UPDATE = {"apf.kubernetes.io/autoupdate-spec": "true"}
_EVERYTHING: list[Object] = [
    {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "namespaces": ["*"],
        "clusterScope": True,
    }
]
_ALL_PATHS: list[Object] = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]


def _exempt_level() -> Object:
    limits = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    return _object(PRIORITY_LEVEL_CONFIGURATION, "exempt", {"type": "Exempt", "exempt": limits})


def _level(name: str, shares: int, lendable: int, *, queues: int = 0, hand: int = 0) -> Object:
    response: Object = {"type": "Reject"}
    if queues:
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
        response = {"type": "Queue", "queuing": queuing}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return _object(PRIORITY_LEVEL_CONFIGURATION, name, {"type": "Limited", "limited": limited})


def _schema(
    name: str,
    level: str,
    precedence: int,
    subjects: list[Object],
    *,
    resources: list[Object] | None = None,
    paths: list[Object] | None = None,
    by: str = "ByUser",
) -> Object:
    rule: Object = {"subjects": subjects}
    if resources:
        rule["resourceRules"] = resources
    if paths:
        rule["nonResourceRules"] = paths
    spec: Object = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    }
    if by:
        spec["distinguisherMethod"] = {"type": by}
    return _object(FLOW_SCHEMA, name, spec)


def _all(name: str, level: str, precedence: int, subjects: list[Object], *, by: str = "ByUser") -> Object:
    """A schema for whatever its subjects ask."""
    return _schema(name, level, precedence, subjects, resources=_EVERYTHING, paths=_ALL_PATHS, by=by)


def _object(kind: Kind, name: str, spec: Any) -> Object:
    metadata = {"name": name, "annotations": dict(_AUTO_UPDATE)}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _account(name: str) -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}


def _rule(verbs: list[str], group: str, resources: list[str], namespaces: list[str]) -> Object:
    rule: Object = {"verbs": verbs, "apiGroups": [group], "resources": resources}
    if namespaces:
        rule["namespaces"] = namespaces
    return rule


_LEASES = _rule(["get", "create", "update"], "coordination.k8s.io", ["leases"], ["*"])
_SYSTEM_LEASES = _rule(["get", "create", "update"], "coordination.k8s.io", ["leases"], ["kube-system"])
_HEARTBEATS: list[Object] = [
    {**_rule(["update", "patch"], "", ["nodes", "nodes/status"], ["*"]), "clusterScope": True},
    _rule(["*"], "coordination.k8s.io", ["leases"], ["*"]),
]
_ANYBODY = [_group("system:unauthenticated"), _group("system:authenticated")]
_PROBES: list[Object] = [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]
_ACCOUNTS = [_group("system:serviceaccounts")]
_CONTROLLER = [_user("system:kube-controller-manager")]
_SCHEDULER = [_user("system:kube-scheduler")]

DEFAULTS: tuple[tuple[Kind, Object], ...] = tuple(
    [
        (PRIORITY_LEVEL_CONFIGURATION, level)
        for level in (
            _exempt_level(),
            _level("catch-all", 5, 0),
            _level("system", 30, 33, queues=64, hand=6),
            _level("node-high", 40, 25, queues=64, hand=6),
            _level("leader-election", 10, 0, queues=16, hand=4),
            _level("workload-high", 40, 50, queues=128, hand=6),
            _level("workload-low", 100, 90, queues=128, hand=6),
            _level("global-default", 20, 50, queues=128, hand=6),
        )
    ]
    + [
        (FLOW_SCHEMA, schema)
        for schema in (
            _all("exempt", "exempt", 1, [_group("system:masters")], by=""),
            _all("catch-all", "catch-all", 10000, _ANYBODY),
            _schema("probes", "exempt", 2, _ANYBODY, paths=_PROBES, by=""),
            _schema(
                "system-leader-election",
                "leader-election",
                100,
                [*_CONTROLLER, *_SCHEDULER],
                resources=[_SYSTEM_LEASES],
            ),
            _schema(
                "endpoint-controller",
                "workload-high",
                150,
                [
                    *_CONTROLLER,
                    _account("endpoint-controller"),
                    _account("endpointslicemirroring-controller"),
                ],
                resources=[_rule(["get", "create", "update"], "", ["endpoints"], ["*"])],
            ),
            _schema(
                "workload-leader-election",
                "leader-election",
                200,
                [_account("*")],
                resources=[_LEASES],
            ),
            _schema("system-node-high", "node-high", 400, [_group("system:nodes")], resources=_HEARTBEATS),
            _all("system-nodes", "system", 500, [_group("system:nodes")]),
            _all("kube-controller-manager", "workload-high", 800, _CONTROLLER, by="ByNamespace"),
            _all("kube-scheduler", "workload-high", 800, _SCHEDULER, by="ByNamespace"),
            _all(
                "kube-system-service-accounts",
                "workload-high",
                900,
                [_account("*")],
                by="ByNamespace",
            ),
            _all("service-accounts", "workload-low", 9000, _ACCOUNTS),
            _all("global-default", "global-default", 9900, _ANYBODY),
        )
    ]
)


async def ensure_flow_control(client: Client) -> None:
    """Make what is missing.

    Raises:
        StatusError: the store does not answer.
    """
    await asyncio.gather(*(_ensure(client, kind, wanted) for kind, wanted in DEFAULTS))


async def _ensure(client: Client, kind: Kind, wanted: Object) -> None:
    try:
        await client.get(kind, meta.name(wanted))
    except StatusError as error:
        if not is_not_found(error):
            raise
        try:
            await client.create(kind, wanted)
        except StatusError as other:
            if not is_already_exists(other):  # another controller starts at the same time
                raise
