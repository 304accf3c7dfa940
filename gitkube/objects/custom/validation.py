"""All that is wrong with a custom resource: metadata, its schema, embedded objects, lists, the scale, the
rules.

The order is Kubernetes'. The rules of `x-kubernetes-validations` are only asked about an object that has the
right types, for they may rely on that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitkube.objects import names
from gitkube.objects.custom.checking import MISSING, check_schema
from gitkube.objects.custom.jsonpath import parse
from gitkube.objects.custom.lists import check_lists
from gitkube.objects.custom.rules import check_rules
from gitkube.objects.custom.schema import OBJECT_META, CustomSchema
from gitkube.objects.kinds import Kind
from gitkube.objects.schema import Schema, named_schema
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.fitting import fits
from gitkube.objects.validation.metadata import (
    check_annotations,
    check_labels,
    check_metadata,
    check_metadata_update,
)

if TYPE_CHECKING:
    from gitkube.objects.custom.definition import CustomKind

_MAX_REPLICAS = 2**31 - 1
_MAX_DEPTH = 256
"""Of nesting in fields that the schema leaves open."""


def check_custom(causes: Causes, kind: Kind, custom: CustomKind, obj: Object, old: Object | None) -> None:
    """Add a cause for everything that is wrong with an object that has its defaults."""
    check_metadata(causes, kind, obj)
    if old is not None:
        check_metadata_update(causes, obj, old)
    check_schema(causes, custom.raw_schema, obj, "", MISSING if old is None else old)
    _check_embedded(causes, custom.schema, obj, "")
    check_lists(causes, custom.schema, obj)
    if custom.scale is not None:
        for path in (custom.scale.spec_replicas, custom.scale.status_replicas):
            _check_replicas(causes, path, obj)
    check_rules(causes, custom.schema, obj, old)


def decode_error(kind: Kind, obj: Object) -> str:
    """What Kubernetes answers (400) when it cannot read the metadata; "" when it can."""
    metadata = obj.get("metadata")
    if metadata is not None and not (
        isinstance(metadata, dict) and fits(named_schema(OBJECT_META), metadata)
    ):
        what = "metadata has a value of a wrong type"
    elif _is_too_deep(obj):
        what = "exceeded max depth"
    elif kind.custom is not None and (place := _unreadable_embedded(kind.custom.schema, obj, "")):
        what = f"{place}: has a value of a wrong type"
    else:
        return ""
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {what}'


def _unreadable_embedded(schema: Schema | None, value: Any, path: str) -> str:
    """The first metadata inside the object that is none; "" when all are readable."""
    if not isinstance(schema, CustomSchema) or not schema.has_embedded:
        return ""
    if isinstance(value, list):
        below = [(schema.items, item, f"{path}[{index}]") for index, item in enumerate(value)]
    elif isinstance(value, dict):
        if path and schema.is_embedded and (wrong := _unreadable_field(value)):
            return f"{path}.{wrong}"
        below = [
            (schema.declared(field), item, f"{path}.{field}" if path else field)
            for field, item in value.items()
        ]
    else:
        return ""
    return next(filter(None, (_unreadable_embedded(*one) for one in below)), "")


def _unreadable_field(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    if metadata is not None and not (
        isinstance(metadata, dict) and fits(named_schema(OBJECT_META), metadata)
    ):
        return "metadata"
    return next((field for field in ("apiVersion", "kind") if not isinstance(value.get(field, ""), str)), "")


def _is_too_deep(obj: Any) -> bool:
    level = [obj]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(item for item in value.values() if isinstance(item, dict | list))
            else:
                below.extend(item for item in value if isinstance(item, dict | list))
        if not below:
            return False
        level = below
    return True


def _check_embedded(causes: Causes, schema: Schema | None, value: Any, path: str) -> None:
    """Objects inside the object: each must say what it is."""
    if not isinstance(schema, CustomSchema) or not schema.has_embedded:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_embedded(causes, schema.items, item, f"{path}[{index}]")
    elif isinstance(value, dict):
        if path and schema.is_embedded:
            _check_one_embedded(causes, value, path)
        for field, item in value.items():
            if isinstance(item, dict | list):
                _check_embedded(causes, schema.declared(field), item, f"{path}.{field}" if path else field)


def _check_one_embedded(causes: Causes, value: dict[str, Any], path: str) -> None:
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if not api_version:
        causes.required(f"{path}.apiVersion", "must not be empty")
    elif not isinstance(api_version, str) or api_version.count("/") > 1:
        causes.invalid(f"{path}.apiVersion", api_version, f"unexpected GroupVersion string: {api_version}")
    if not kind:
        causes.required(f"{path}.kind", "must not be empty")
    elif not isinstance(kind, str) or names.dns_label(kind.lower()):
        causes.invalid(
            f"{path}.kind",
            kind,
            "may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case "
            "alphanumeric characters or '-'",
        )
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        check_labels(causes, metadata.get("labels"), f"{path}.metadata.labels")
        check_annotations(causes, metadata.get("annotations"), f"{path}.metadata.annotations")


def _check_replicas(causes: Causes, path: str, obj: Object) -> None:
    found = parse(path).first(obj)
    if found is None:
        return
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        causes.invalid(path, found, "should be a non-negative integer")
    elif found > _MAX_REPLICAS:
        causes.invalid(path, found, f"should be less than or equal to {_MAX_REPLICAS}")
