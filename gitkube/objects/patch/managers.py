"""`metadata.managedFields` as values: one entry for each manager, operation and subresource.

An entry of operation Apply holds what its manager last applied, one of operation Update what its manager
last changed. Reading is lenient (what cannot be understood is as if it were not there), writing is
canonical: Apply before Update, then by time, then by manager.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gitkube.objects.patch.fieldset import FieldSet, parse_fields, sorted_fields, union
from gitkube.objects.types import Object

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATE_ENTRIES = 10
"""More updaters than this are folded into one entry: an object must not grow with everyone who touched it."""
ANCIENT_MANAGER = "ancient-changes"


@dataclass(frozen=True, slots=True)
class ManagerId:
    manager: str
    operation: str
    api_version: str
    """Of an Update; "" for an Apply, whose entry is one whatever the version."""
    subresource: str

    def __str__(self) -> str:
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True, slots=True)
class Entry:
    fields: FieldSet
    api_version: str
    time: str = ""


Managers = dict[ManagerId, Entry]


def manager_id(manager: str, operation: str, api_version: str, subresource: str) -> ManagerId:
    return ManagerId(manager, operation, api_version if operation == UPDATE else "", subresource)


def read_managers(obj: Mapping[str, Any]) -> Managers | None:
    """The managers of an object; None when it has no list or one that cannot be understood."""
    raw = (obj.get("metadata") or {}).get("managedFields")
    if raw is None:
        return None
    managers: Managers = {}
    try:
        for item in raw:
            operation = item["operation"]
            if operation not in (APPLY, UPDATE) or item.get("fieldsType", "FieldsV1") != "FieldsV1":
                return None
            identity = manager_id(
                str(item.get("manager") or ""), operation, item["apiVersion"], item.get("subresource") or ""
            )
            fields = parse_fields(item.get("fieldsV1") or {})
            present = managers.get(identity)
            if present is not None:
                fields = union(present.fields, fields)
            managers[identity] = Entry(fields, item["apiVersion"], item.get("time") or "")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return managers


def is_reset(obj: Mapping[str, Any]) -> bool:
    """Whether a client says by an empty list, or a list of one empty entry, that it wants no owners."""
    raw = (obj.get("metadata") or {}).get("managedFields")
    return raw == [] or raw == [{}]


def write_managers(managers: Managers) -> list[Object]:
    """The list for `metadata.managedFields`, without those who own nothing."""
    ordered = sorted(
        managers.items(),
        key=lambda pair: (
            pair[0].operation,
            pair[1].time,
            pair[0].manager,
            pair[1].api_version,
            pair[0].subresource,
        ),
    )
    entries: list[Object] = []
    for identity, entry in ordered:
        if not entry.fields:
            continue
        item: Object = {
            "manager": identity.manager,
            "operation": identity.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": sorted_fields(entry.fields),
        }
        if not entry.time:
            del item["time"]
        if identity.subresource:
            item["subresource"] = identity.subresource
        entries.append(item)
    return entries


def fold_old_updates(managers: Managers) -> Managers:
    """At most `MAX_UPDATE_ENTRIES` of operation Update: the oldest are put together, by version."""
    if len(managers) <= MAX_UPDATE_ENTRIES:
        return managers
    updates = sorted(
        (identity for identity in managers if identity.operation == UPDATE),
        key=lambda identity: (managers[identity].time, identity.manager),
    )
    if len(updates) <= MAX_UPDATE_ENTRIES:
        return managers
    result = dict(managers)
    surplus = len(updates) - MAX_UPDATE_ENTRIES
    # The place of the fold itself is taken by one more of the oldest, unless there is one already.
    folds: dict[str, Entry] = {}
    for identity in updates:
        if surplus < 0:
            break
        entry = result.pop(identity)
        present = folds.get(entry.api_version)
        if present is None:
            folds[entry.api_version] = entry
        else:
            folds[entry.api_version] = replace(
                entry, fields=union(present.fields, entry.fields), time=max(present.time, entry.time)
            )
        surplus -= 1
    for api_version, entry in folds.items():
        result[ManagerId(ANCIENT_MANAGER, UPDATE, api_version, "")] = entry
    return result
