"""The scale of a custom resource: its numbers are where the definition says.

Pure functions, as those of built-in kinds in `subresources.py`.
"""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.objects.custom.definition import ScalePaths
from gitkube.objects.custom.jsonpath import simple_fields
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone
from gitkube.objects.types import Object

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(kind: Kind, obj: Object, *, must_be_there: bool = True) -> Object:
    """The `autoscaling/v1` Scale of an object.

    Args:
        must_be_there: whether an object without the number is a mistake; for a patch it is 0.

    Raises:
        StatusError: 500, the object has no such number.
    """
    paths = _paths(kind)
    replicas = _at(obj, paths.spec_replicas)
    if replicas is None and must_be_there:
        text = f'the spec replicas field "{paths.spec_replicas}" does not exist'
        details = {"causes": [{"message": text}]}
        raise errors.StatusError(500, "InternalError", f"Internal error occurred: {text}", details=details)
    status: dict[str, Any] = {"replicas": _at(obj, paths.status_replicas) or 0}
    if paths.label_selector and (selector := _at(obj, paths.label_selector)):
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: obj["metadata"][field] for field in _METADATA if field in obj["metadata"]},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def with_replicas(kind: Kind, obj: Object, replicas: int, scale_metadata: Object) -> Object:
    """The object with the number that a Scale wants."""
    fields = _fields(_paths(kind).spec_replicas)
    result: Object = clone(obj)
    result["metadata"]["resourceVersion"] = ""
    for field in ("uid", "resourceVersion"):
        if scale_metadata.get(field):
            result["metadata"][field] = scale_metadata[field]
    holder: Any = result
    for field in fields[:-1]:
        if not isinstance(holder.get(field), dict):
            holder[field] = {}
        holder = holder[field]
    holder[fields[-1]] = replicas
    return result


def applied_with_replicas(kind: Kind, name: str, replicas: int) -> Object:
    """The object that an apply of a Scale is: its number and nothing else."""
    base: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
    applied = with_replicas(kind, base, replicas, {})
    del applied["metadata"]["resourceVersion"]
    return applied


def wrong_number(kind: Kind, name: str, replicas: Any) -> errors.StatusError:
    path = _paths(kind).spec_replicas
    message = f"Invalid value: {replicas}: should be a non-negative integer"
    cause = {"reason": "FieldValueInvalid", "message": message, "field": path}
    return errors.invalid(kind.group, kind.kind, name, [cause])


def _paths(kind: Kind) -> ScalePaths:
    assert kind.custom is not None and kind.custom.scale is not None  # the path was served
    return kind.custom.scale


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for field in _fields(path):
        value = value.get(field) if isinstance(value, dict) else None
    return value


def _fields(path: str) -> tuple[str, ...]:
    fields = simple_fields(path)
    if fields is None:
        raise errors.StatusError(
            500, "InternalError", f"the definition's scale path {path} is no path of fields"
        )
    return fields
