"""From a CustomResourceDefinition to the kinds that it makes.

A definition is served under the names that it was accepted with (`status.acceptedNames`), once it is
established; each served version is a kind of its own over the same stored objects. `kinds_of` reads a
definition that has passed validation and decides nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.objects import conditions, meta
from gitkube.objects.custom.columns import table_of
from gitkube.objects.custom.schema import CustomSchema, restrictions_on_metadata, root_schema
from gitkube.objects.custom.validation import check_custom
from gitkube.objects.kinds import ALL_VERBS, Kind
from gitkube.objects.tables.columns import Table
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
ESTABLISHED, TERMINATING, NAMES_ACCEPTED = "Established", "Terminating", "NamesAccepted"
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
assert set(_VERBS) == set(ALL_VERBS)
_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the numbers of a Scale are in an object."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CustomKind:
    """What a definition says of one version, beyond names."""

    definition: str
    """The definition's name."""
    schema: CustomSchema
    raw_schema: Mapping[str, Any]
    """As it was written."""
    metadata_schema: Mapping[str, Any]
    """What is demanded of the objects' names; empty: nothing."""
    table: Table
    stored_version: str
    """The apiVersion that objects are stored with."""
    versions: Mapping[str, CustomSchema]
    """apiVersion -> schema, of all versions of the definition."""
    selectable: tuple[str, ...] = ()
    """Paths that objects can be selected by, without the dot at the front."""
    scale: ScalePaths | None = None
    deprecation: str = ""
    """What users of this version are told; "" when it is not deprecated."""
    webhook: Mapping[str, Any] | None = None
    """Who converts between versions; None: only the apiVersion differs."""
    description: str = ""
    definition_name: str = ""
    """Of the schema in OpenAPI, such as `org.example.v1.Thing`."""

    def check(self, causes: Causes, kind: Kind, obj: Object, old: Object | None) -> None:
        """Add a cause for everything that is wrong with an object that has its defaults."""
        check_custom(causes, kind, self, obj, old)


def definition_as_new(definition: Object) -> Object:
    """A definition with the status that the API gives it at first; checks of new ones look at it."""
    versions = (definition.get("spec") or {}).get("versions") or ()
    stored = [str(version.get("name")) for version in versions if version.get("storage")]
    status = {"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored[:1]}
    return {**definition, "status": status}


def is_established(definition: Object) -> bool:
    return conditions.is_true(definition, ESTABLISHED)


def kinds_of(definition: Object) -> tuple[Kind, ...]:
    """The kinds that a definition makes now, the best version first; none while it is not established."""
    return kinds_when_established(definition) if is_established(definition) else ()


def kinds_when_established(definition: Object) -> tuple[Kind, ...]:
    """The kinds that a definition makes as soon as its names are accepted, the best version first."""
    spec = definition["spec"]
    versions = [version for version in spec.get("versions") or () if version.get("served")]
    schemas = _schemas(definition)
    return tuple(_kind(definition, version, schemas) for version in sorted(versions, key=_priority_of))


def kind_of_storage(definition: Object) -> Kind:
    """The kind of the version that objects are stored with, be it served or not."""
    version = next(one for one in definition["spec"]["versions"] if one.get("storage"))
    return _kind(definition, version, _schemas(definition))


def with_storage(kinds: tuple[Kind, ...], definition: Object) -> tuple[Kind, ...]:
    """The kinds of a definition and, when it is not served, that of the version it stores."""
    storage = kind_of_storage(definition)
    return kinds if any(kind.version == storage.version for kind in kinds) else (*kinds, storage)


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1, then all others by name."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (3, 0, 0, version)
    major, stage, minor = found.groups()
    return ({None: 0, "beta": 1, "alpha": 2}[stage], -int(major), -int(minor or 0), "")


def _priority_of(version: Mapping[str, Any]) -> tuple[int, int, int, str]:
    return version_priority(str(version["name"]))


def _schemas(definition: Object) -> dict[str, CustomSchema]:
    spec = definition["spec"]
    return {
        f"{spec['group']}/{version['name']}": root_schema(_written(version)) for version in spec["versions"]
    }


def _written(version: Mapping[str, Any]) -> Mapping[str, Any]:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}


def _kind(definition: Object, version: Mapping[str, Any], schemas: Mapping[str, CustomSchema]) -> Kind:
    spec = definition["spec"]
    names = {**spec["names"], **_accepted(definition)}
    group, name, kind = str(spec["group"]), str(version["name"]), str(names["kind"])
    subresources = version.get("subresources") or {}
    return Kind(
        group,
        name,
        kind,
        str(spec["names"]["plural"]),
        spec.get("scope") == "Namespaced",
        tuple(names.get("shortNames") or ()),
        tuple(names.get("categories") or ()),
        tuple(word for word in ("status", "scale") if subresources.get(word) is not None),
        _VERBS,
        singular_name=str(names.get("singular") or kind.lower()),
        list_kind_name=str(names.get("listKind") or f"{kind}List"),
        custom=_custom(definition, version, schemas, group, kind),
    )


def _accepted(definition: Object) -> Mapping[str, Any]:
    accepted = (definition.get("status") or {}).get("acceptedNames") or {}
    if not accepted.get("kind"):
        return {}
    return {"shortNames": (), "categories": (), **accepted}


def _custom(
    definition: Object,
    version: Mapping[str, Any],
    schemas: Mapping[str, CustomSchema],
    group: str,
    kind: str,
) -> CustomKind:
    spec = definition["spec"]
    raw = _written(version)
    stored = next(str(one["name"]) for one in spec["versions"] if one.get("storage"))
    conversion = spec.get("conversion") or {}
    scale = (version.get("subresources") or {}).get("scale")
    name = str(version["name"])
    deprecation = ""
    if version.get("deprecated"):
        deprecation = str(version.get("deprecationWarning") or _deprecation(spec, version, kind))
    return CustomKind(
        definition=meta.name(definition),
        schema=schemas[f"{group}/{version['name']}"],
        versions=schemas,
        raw_schema=raw,
        metadata_schema=restrictions_on_metadata(raw),
        table=table_of(version.get("additionalPrinterColumns")),
        stored_version=f"{group}/{stored}",
        selectable=tuple(
            str(one["jsonPath"]).removeprefix(".") for one in version.get("selectableFields") or ()
        ),
        scale=ScalePaths(
            str(scale["specReplicasPath"]),
            str(scale["statusReplicasPath"]),
            str(scale.get("labelSelectorPath") or ""),
        )
        if scale is not None
        else None,
        deprecation=deprecation,
        webhook=conversion.get("webhook") if conversion.get("strategy") == "Webhook" else None,
        description=str(raw.get("description") or ""),
        definition_name=".".join([*reversed(group.split(".")), name, kind]),
    )


def _deprecation(spec: Mapping[str, Any], version: Mapping[str, Any], kind: str) -> str:
    """As Kubernetes words it: names the best version that is served and not deprecated, if it is a better
    one."""
    group, name = spec["group"], str(version["name"])
    better = [
        str(one["name"])
        for one in sorted(spec["versions"], key=_priority_of)
        if one.get("served") and not one.get("deprecated") and _priority_of(one) < _priority_of(version)
    ]
    text = f"{group}/{name} {kind} is deprecated"
    return f"{text}; use {group}/{better[0]} {kind}" if better else text
