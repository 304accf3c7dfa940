"""The schema of a custom resource, as a tree of the same `Schema` nodes that built-in kinds have.

A definition's `openAPIV3Schema` is structural: every field is declared in one tree of properties, items and
additionalProperties, and all that stands in anyOf and the like only narrows it. So the tree alone decides on
pruning, defaults and the merging of lists, and server-side apply works on it as on any other. What Kubernetes
adds by itself is added here: apiVersion, kind and metadata at the root and in every embedded resource.

Invariant: as `Schema`, a node never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.schema import Schema

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
RULES = "x-kubernetes-validations"
EMBEDDED = "x-kubernetes-embedded-resource"
_TYPE_META: Mapping[str, Any] = {
    "apiVersion": {
        "type": "string",
        "description": "APIVersion defines the versioned schema of this representation of an object.",
    },
    "kind": {
        "type": "string",
        "description": "Kind is a string value representing the REST resource this object represents.",
    },
}


class CustomSchema(Schema):
    """One node of a structural schema that somebody wrote."""

    __slots__ = (
        "has_defaults",
        "has_embedded",
        "has_rules",
        "is_embedded",
        "is_root",
        "keeps_unknown",
        "nullable",
        "rules",
    )

    def __init__(self, raw: Mapping[str, Any], *, name: str = "", base: Schema | None = None) -> None:
        if raw.get(EMBEDDED):
            raw = _with_type_meta(raw)
        super().__init__(raw, name=name, base=base)
        # Of built-in kinds this word means a value that is owned as one; here fields are owned one by one,
        # those that are kept without being declared, too; only lists among them are owned as one.
        self.preserve_unknown = False
        self.keeps_unknown: bool = raw.get(PRESERVE) is True
        """Whether fields that are not declared are kept."""
        self.is_root = False
        """Of whole objects. What is kept here without being declared is owned field by field."""
        self.is_embedded: bool = bool(raw.get(EMBEDDED))
        self.nullable: bool = bool(raw.get("nullable"))
        self.has_defaults: bool = _has(raw, "default")
        """Whether this node or one below has a default."""
        self.has_rules: bool = _has(raw, RULES)
        """Whether this node or one below has rules."""
        self.has_embedded: bool = _has(raw, EMBEDDED)
        """Whether this node or one below is an object of its own."""
        self.rules: tuple[Mapping[str, Any], ...] = tuple(raw.get(RULES) or ())
        if not self.list_type and "array" in self.types:
            self.list_type = "atomic"

    @property
    def keeps_all(self) -> bool:
        """Whether no field is unknown here: what is not declared is kept."""
        return self.keeps_unknown or "additionalProperties" in self._raw

    def declared(self, field: str) -> Schema | None:
        """The schema of a field that is declared, by its name or as any value of a map."""
        found = self.properties.get(field)
        return found if found is not None else self.additional_properties

    def child(self, field: str) -> Schema | None:
        found = self.declared(field)
        return _ANY if found is None and self.keeps_all and not self.is_root else found


def root_schema(raw: Mapping[str, Any]) -> CustomSchema:
    """The schema of whole objects, of a version's `openAPIV3Schema`."""
    schema = CustomSchema(_with_type_meta(raw))
    schema.is_root = True
    return schema


def restrictions_on_metadata(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a definition demands of its objects' names: the schema that it wrote for `metadata`."""
    found = (raw.get("properties") or {}).get("metadata")
    return found if isinstance(found, Mapping) else {}


def _with_type_meta(raw: Mapping[str, Any]) -> dict[str, Any]:
    properties = dict(raw.get("properties") or {})
    for field, described in _TYPE_META.items():
        properties[field] = {**described, **(properties.get(field) or {})}
    properties["metadata"] = {"$ref": f"#/$defs/{OBJECT_META}"}
    return {**raw, "properties": properties}


def _has(raw: Any, word: str) -> bool:
    if not isinstance(raw, Mapping):
        return False
    if raw.get(word) is not None:
        return True
    below = [raw.get("items"), raw.get("additionalProperties"), *(raw.get("properties") or {}).values()]
    return any(_has(child, word) for child in below)


_ANY = CustomSchema({PRESERVE: True, "nullable": True})
"""Of what is kept without being declared."""
