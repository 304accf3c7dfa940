"""Rows of limits, priorities, scaling, access rules, webhooks and other objects that govern the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects import conditions, meta
from gitkube.objects.tables.columns import (
    AGE,
    CREATED_AT,
    NAME,
    NONE,
    UNSET,
    Cells,
    Column,
    Table,
)
from gitkube.objects.tables.durations import UNKNOWN, age, human_duration
from gitkube.objects.types import Object

_NOT_SAID = "N/A"
_SHOWN_METRICS = 2
_METRIC_FIELDS = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def _age(obj: Object, now_s: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now_s)


def _name_and_time(obj: Object, now_s: float) -> Cells:
    return [meta.name(obj), meta.metadata(obj).get("creationTimestamp") or ""]


def _budget(budget: Object, now_s: float) -> Cells:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        meta.name(budget),
        _NOT_SAID if least is None else str(least),
        _NOT_SAID if most is None else str(most),
        status.get("disruptionsAllowed") or 0,
        _age(budget, now_s),
    ]


def _priority_class(priority_class: Object, now_s: float) -> Cells:
    return [
        meta.name(priority_class),
        priority_class.get("value") or 0,
        bool(priority_class.get("globalDefault")),
        _age(priority_class, now_s),
        priority_class.get("preemptionPolicy") or UNSET,
    ]


def _runtime_class(runtime_class: Object, now_s: float) -> Cells:
    return [meta.name(runtime_class), runtime_class.get("handler") or "", _age(runtime_class, now_s)]


def _quota(quota: Object, now_s: float) -> Cells:
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    texts = {name: f"{name}: {used.get(name, '0')}/{hard[name]}" for name in sorted(hard)}
    return [
        meta.name(quota),
        _age(quota, now_s),
        ", ".join(text for name, text in texts.items() if not name.startswith("limits")),
        ", ".join(text for name, text in texts.items() if name.startswith("limits")),
    ]


def _binding(binding: Object, now_s: float) -> Cells:
    role = binding.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in binding.get("subjects") or ():
        name, namespace = str(subject.get("name") or ""), subject.get("namespace")
        is_account = subject.get("kind") == "ServiceAccount"
        if subject.get("kind") in subjects:
            subjects[subject["kind"]].append(f"{namespace}/{name}" if is_account else name)
    return [
        meta.name(binding),
        f"{role.get('kind')}/{role.get('name')}",
        _age(binding, now_s),
        *(", ".join(names) for names in subjects.values()),
    ]


def _webhooks(configuration: Object, now_s: float) -> Cells:
    return [meta.name(configuration), len(configuration.get("webhooks") or ()), _age(configuration, now_s)]


def _policy(policy: Object, now_s: float) -> Cells:
    spec = policy.get("spec") or {}
    parameters = spec.get("paramKind") or {}
    shown = f"{parameters.get('apiVersion')}/{parameters.get('kind')}" if parameters else UNSET
    count = len(spec.get("validations") or spec.get("mutations") or ())
    return [meta.name(policy), count, shown, _age(policy, now_s)]


def _policy_binding(binding: Object, now_s: float) -> Cells:
    spec = binding.get("spec") or {}
    parameters = spec.get("paramRef") or {}
    namespace, shown = parameters.get("namespace"), UNSET
    if parameters.get("name"):
        shown = f"{namespace}/{parameters['name']}" if namespace else f"*/{parameters['name']}"
    return [meta.name(binding), spec.get("policyName") or "", shown, _age(binding, now_s)]


def _api_service(api_service: Object, now_s: float) -> Cells:
    service = (api_service.get("spec") or {}).get("service")
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    condition = conditions.get_condition(api_service, "Available") or {}
    available = str(condition.get("status") or "Unknown")
    if condition and available != conditions.TRUE:
        available = f"{available} ({condition.get('reason')})"
    return [meta.name(api_service), where, available, _age(api_service, now_s)]


def _signing_request(request: Object, now_s: float) -> Cells:
    spec, status = request.get("spec") or {}, request.get("status") or {}
    types = {str(one.get("type")) for one in status.get("conditions") or ()}
    words = ["Denied"] if "Denied" in types else ["Approved"] if "Approved" in types else ["Pending"]
    words += ["Failed"] if "Failed" in types else []
    words += ["Issued"] if status.get("certificate") else []
    lifetime_s = spec.get("expirationSeconds")
    return [
        meta.name(request),
        _age(request, now_s),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if lifetime_s is None else human_duration(lifetime_s),
        ",".join(words),
    ]


def _flow_schema(flow_schema: Object, now_s: float) -> Cells:
    spec = flow_schema.get("spec") or {}
    condition = conditions.get_condition(flow_schema, "Dangling") or {}
    return [
        meta.name(flow_schema),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        _age(flow_schema, now_s),
        condition.get("status") or "?",
    ]


def _priority_level(level: Object, now_s: float) -> Cells:
    spec = level.get("spec") or {}
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shares: Any = (spec.get("exempt") or limited).get("nominalConcurrencyShares")
    return [
        meta.name(level),
        spec.get("type") or "",
        NONE if shares is None else shares,
        *(queuing.get(field, NONE) for field in ("queues", "handSize", "queueLengthLimit")),
        _age(level, now_s),
    ]


# ---------------------------------------------------------------------------------------------- autoscalers


def _autoscaler(autoscaler: Object, now_s: float) -> Cells:
    spec, status = autoscaler.get("spec") or {}, autoscaler.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        meta.name(autoscaler),
        f"{target.get('kind')}/{target.get('name')}",
        _metrics(spec.get("metrics") or (), status.get("currentMetrics") or ()),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        _age(autoscaler, now_s),
    ]


def _metrics(wanted: Sequence[Mapping[str, Any]], current: Sequence[Mapping[str, Any]]) -> str:
    if not wanted:
        return NONE
    texts = []
    for index, metric in enumerate(wanted):
        seen = current[index] if index < len(current) else {}
        texts.append(_metric(metric, seen))
    if len(texts) > _SHOWN_METRICS:
        return f"{', '.join(texts[:_SHOWN_METRICS])} + {len(texts) - _SHOWN_METRICS} more..."
    return ", ".join(texts)


def _metric(metric: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    """`cpu: 30%/60%`, or what the value is and should be."""
    kind = str(metric.get("type") or "")
    field = _METRIC_FIELDS.get(kind)
    if field is None:
        return "<unknown type>"
    source = metric.get(field) or {}
    target, now = source.get("target") or {}, (seen.get(field) or {}).get("current") or {}
    is_average = target.get("averageValue") is not None
    if kind in ("Resource", "ContainerResource"):
        name = str(source.get("name") or "")
        if is_average:
            return f"{name}: {now.get('averageValue', UNKNOWN)}/{target['averageValue']}"
        wanted, given = target.get("averageUtilization"), now.get("averageUtilization")
        of = "<auto>" if wanted is None else f"{wanted}%"
        return f"{name}: {UNKNOWN if given is None else f'{given}%'}/{of}"
    if kind == "Pods":
        return f"{now.get('averageValue', UNKNOWN)}/{target.get('averageValue')}"
    if is_average:
        return f"{now.get('averageValue', UNKNOWN)}/{target['averageValue']} (avg)"
    return f"{now.get('value', UNKNOWN)}/{target.get('value')}"


NAME_AND_TIME_TABLE = Table((NAME, CREATED_AT), _name_and_time)
BUDGET_TABLE = Table(
    (
        NAME,
        Column("Min Available", description="Pods that must stay."),
        Column("Max Unavailable", description="Pods that may go."),
        Column("Allowed Disruptions", "integer", "Pods that may go now."),
        AGE,
    ),
    _budget,
)
PRIORITY_CLASS_TABLE = Table(
    (
        NAME,
        Column("Value", "integer", "The higher, the more important."),
        Column("Global-Default", "boolean", "Whether pods that name no class are of this one."),
        AGE,
        Column("PreemptionPolicy", description="Whether others are evicted for its pods."),
    ),
    _priority_class,
)
RUNTIME_CLASS_TABLE = Table(
    (NAME, Column("Handler", description="Configuration of the runtime."), AGE), _runtime_class
)
QUOTA_TABLE = Table(
    (
        NAME,
        AGE,
        Column("Request", description="What is used of what may be requested."),
        Column("Limit", description="What is used of the limits."),
    ),
    _quota,
)
BINDING_TABLE = Table(
    (
        NAME,
        Column("Role", description="What the subjects may do."),
        AGE,
        Column("Users", description="Who may do it.", priority=1),
        Column("Groups", description="Who may do it.", priority=1),
        Column("ServiceAccounts", description="Who may do it.", priority=1),
    ),
    _binding,
)
WEBHOOKS_TABLE = Table((NAME, Column("Webhooks", "integer", "How many webhooks there are."), AGE), _webhooks)
VALIDATING_POLICY_TABLE = Table(
    (
        NAME,
        Column("Validations", "integer", "How many rules there are."),
        Column("ParamKind", description="Kind of the parameters."),
        AGE,
    ),
    _policy,
)
MUTATING_POLICY_TABLE = Table(
    (
        NAME,
        Column("Mutations", "integer", "How many changes there are."),
        Column("ParamKind", description="Kind of the parameters."),
        AGE,
    ),
    _policy,
)
POLICY_BINDING_TABLE = Table(
    (
        NAME,
        Column("PolicyName", description="Policy that is put in force."),
        Column("ParamRef", description="Object with its parameters."),
        AGE,
    ),
    _policy_binding,
)
API_SERVICE_TABLE = Table(
    (
        NAME,
        Column("Service", description="Who serves the group and version."),
        Column("Available", description="Whether it answers."),
        AGE,
    ),
    _api_service,
)
SIGNING_REQUEST_TABLE = Table(
    (
        NAME,
        AGE,
        Column("SignerName", description="Who is to sign."),
        Column("Requestor", description="Who asks."),
        Column("RequestedDuration", description="How long the certificate is to be good."),
        Column("Condition", description="How far it is."),
    ),
    _signing_request,
)
FLOW_SCHEMA_TABLE = Table(
    (
        NAME,
        Column("PriorityLevel", description="Level of the requests."),
        Column("MatchingPrecedence", "integer", "Smaller ones are looked at first."),
        Column("DistinguisherMethod", description="How requests are told apart."),
        AGE,
        Column("MissingPL", description="Whether the level is missing."),
    ),
    _flow_schema,
)
PRIORITY_LEVEL_TABLE = Table(
    (
        NAME,
        Column("Type", description="Limited or Exempt."),
        Column("NominalConcurrencyShares", description="Its share of the requests served at a time."),
        Column("Queues", description="How many queues there are."),
        Column("HandSize", description="Queues that one flow may use."),
        Column("QueueLengthLimit", description="Requests that may wait in a queue."),
        AGE,
    ),
    _priority_level,
)
AUTOSCALER_TABLE = Table(
    (
        NAME,
        Column("Reference", description="What is scaled."),
        Column("Targets", description="Measured and wanted values."),
        Column("MinPods", description="Fewest replicas."),
        Column("MaxPods", description="Most replicas."),
        Column("Replicas", description="Replicas there are."),
        AGE,
    ),
    _autoscaler,
)
