"""One object in two versions: how it is stored, and how each version sees what is stored.

With the conversion strategy None a version is another apiVersion and another schema, nothing more. An object
is read with the schema and the defaults of the version it was stored with; what the wanted version does not
know is left out on the way, in both directions. That is Kubernetes' way, and may lose fields: who has
versions with different fields has a webhook. Source: k8s.io/apiextensions-apiserver,
pkg/apiserver/customresource_handler.go (schemaCoercingConverter, unstructuredDefaulter).
"""

from __future__ import annotations

from gitkube.objects.custom.defaulting import fill_in
from gitkube.objects.custom.definition import CustomKind
from gitkube.objects.custom.pruning import pruned
from gitkube.objects.types import Object


def to_stored(custom: CustomKind, api_version: str, obj: Object) -> Object:
    """An object of one version as it is stored."""
    if api_version == custom.stored_version:
        return obj
    stored: Object = pruned(custom.versions[custom.stored_version], obj)
    stored["apiVersion"], stored["metadata"] = custom.stored_version, obj["metadata"]
    return stored


def from_stored(custom: CustomKind, api_version: str, stored: Object, *, is_own: bool = False) -> Object:
    """A stored object as a version sees it.

    Args:
        is_own: the version is the one that it is stored with, whichever `custom` is of.
    """
    # One of a version that is gone from the definition is read as what it is wanted as.
    schema = custom.versions.get(str(stored.get("apiVersion")), custom.schema)
    seen: Object = pruned(schema, stored)
    # The metadata was read by the server when it was written; nobody else has touched it.
    seen["metadata"] = stored["metadata"]
    fill_in(schema, seen)
    if schema is not custom.schema and not is_own:
        seen = pruned(custom.schema, seen)
        seen["metadata"] = stored["metadata"]
    seen["apiVersion"] = api_version
    return seen
