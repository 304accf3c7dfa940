"""Rows of ConfigMaps, Secrets, ServiceAccounts, Events and Leases. A Secret shows how many keys it has."""

from __future__ import annotations

from gitkube.objects import meta
from gitkube.objects.tables.columns import AGE, NAME, Cells, Column, Table
from gitkube.objects.tables.durations import UNKNOWN, age
from gitkube.objects.types import Object


def _config_map(config_map: Object, now_s: float) -> Cells:
    keys = len(config_map.get("data") or ()) + len(config_map.get("binaryData") or ())
    return [meta.name(config_map), keys, age(meta.metadata(config_map).get("creationTimestamp"), now_s)]


def _secret(secret: Object, now_s: float) -> Cells:
    return [
        meta.name(secret),
        secret.get("type") or "",
        len(secret.get("data") or ()),
        age(meta.metadata(secret).get("creationTimestamp"), now_s),
    ]


def _service_account(account: Object, now_s: float) -> Cells:
    return [
        meta.name(account),
        len(account.get("secrets") or ()),
        age(meta.metadata(account).get("creationTimestamp"), now_s),
    ]


def _lease(lease: Object, now_s: float) -> Cells:
    holder = (lease.get("spec") or {}).get("holderIdentity") or ""
    return [meta.name(lease), holder, age(meta.metadata(lease).get("creationTimestamp"), now_s)]


def _event(event: Object, now_s: float) -> Cells:
    involved = event.get("involvedObject") or {}
    first_seen = age(event.get("firstTimestamp") or event.get("eventTime"), now_s)
    last_seen = age(event.get("lastTimestamp"), now_s)
    if last_seen == UNKNOWN:
        last_seen = first_seen
    count = event.get("count") or 1
    if series := event.get("series"):
        # A series counts what came after the first event.
        last_seen, count = age(series.get("lastObservedTime"), now_s), (series.get("count") or 0) + 1
    kind, name = str(involved.get("kind") or "").lower(), involved.get("name")
    return [
        last_seen,
        event.get("type") or "",
        event.get("reason") or "",
        f"{kind}/{name}" if name else kind,
        involved.get("fieldPath") or "",
        _event_source(event),
        str(event.get("message") or "").strip(),
        first_seen,
        count,
        meta.name(event),
    ]


def _event_source(event: Object) -> str:
    source = event.get("source") or {}
    component, instance = source.get("component") or "", source.get("host") or ""
    if not component:
        component = event.get("reportingComponent") or ""
        instance = event.get("reportingInstance") or ""
    return f"{component}, {instance}" if instance else component


CONFIG_MAP_TABLE = Table((NAME, Column("Data", description="Number of keys."), AGE), _config_map)
SECRET_TABLE = Table(
    (
        NAME,
        Column("Type", description="What the secret is for."),
        Column("Data", description="Number of keys."),
        AGE,
    ),
    _secret,
)
SERVICE_ACCOUNT_TABLE = Table(
    (NAME, Column("Secrets", description="Number of secrets it may use."), AGE), _service_account
)
LEASE_TABLE = Table((NAME, Column("Holder", description="Who holds the lease."), AGE), _lease)
EVENT_TABLE = Table(
    (
        Column("Last Seen", description="When it last happened."),
        Column("Type", description="Normal or Warning."),
        Column("Reason", description="One word for programs."),
        Column("Object", description="The object that this event is about."),
        Column("Subobject", description="The part of the object.", priority=1),
        Column("Source", description="Who reports it.", priority=1),
        Column("Message", description="A sentence for people."),
        Column("First Seen", description="When it first happened.", priority=1),
        Column("Count", description="How often it happened.", priority=1),
        Column("Name", description="Unique within a namespace.", priority=1, format="name"),
    ),
    _event,
)
