"""Which schemas a definition may have: structural ones, in which every field is declared in one tree.

First the words that are not supported at all; only when there are none, the shape of the tree: a type
everywhere, no types inside anyOf and the like, nothing but names demanded of metadata; then that each default
is itself a right value. The sentences and the places are Kubernetes'. Source: k8s.io/apiextensions-apiserver,
pkg/apis/apiextensions/validation and pkg/apiserver/schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.custom.checking import INT_OR_STRING, check_schema
from gitkube.objects.custom.list_types import check_list_type, check_map_type
from gitkube.objects.custom.patterns import PatternError, compile_pattern
from gitkube.objects.custom.pruning import pruned
from gitkube.objects.custom.rule_costs import RuleCosts, count_below
from gitkube.objects.custom.rule_texts import Place, check_written_rules
from gitkube.objects.custom.schema import EMBEDDED, PRESERVE, CustomSchema
from gitkube.objects.validation.causes import Causes

Raw = Mapping[str, Any]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
MAX_DEPTH = 100
"""Levels of a schema; the deepest that people have, a pod in a template in a list, is below 30."""
_ROOT = "must not be empty at the root"
_FIELD = "must not be empty for specified object fields"
_ITEM = "must not be empty for specified array items"
_NESTED_EMPTY = ("type", "title", "description")
_NESTED_FALSE = ("nullable", PRESERVE, EMBEDDED, INT_OR_STRING)
_NESTED_UNDEFINED = (
    "default", "additionalProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)  # fmt: skip
_INTS = ({"type": "integer"}, {"type": "string"})
Path = str


def check_structural(causes: Causes, schema: Raw, path: Path) -> None:
    """Add a cause for everything for which Kubernetes refuses a schema.

    Args:
        path: of the schema in the definition.
    """
    before = len(causes.list)
    costs = RuleCosts()
    _check_words(causes, schema, Place(path, has_past=True, is_root=True, count=1), costs, 0)
    costs.check_total(causes, path)
    if len(causes.list) > before:
        return
    _check_node(causes, schema, path, _ROOT, 0)
    if len(causes.list) == before:
        _check_defaults(causes, schema, path, is_root=True, is_metadata=False)


# ------------------------------------------------------------------------------------------------ the words


def _check_words(causes: Causes, schema: Raw, at: Place, costs: RuleCosts, depth: int) -> None:
    path = at.path
    if depth > MAX_DEPTH:
        causes.forbidden(path, f"must not be nested deeper than {MAX_DEPTH} levels")
        return
    _check_type_word(causes, schema, path)
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.forbidden(f"{path}.uniqueItems", text)
    if schema.get("additionalProperties") is not None and schema.get("properties"):
        text = "additionalProperties and properties are mutual exclusive"
        causes.forbidden(f"{path}.additionalProperties", text)
    for word in ("definitions", "dependencies", "patternProperties", "additionalItems"):
        if schema.get(word) is not None:
            causes.forbidden(f"{path}.{word}", f"{word} is not supported")
    for word in ("id", "$ref"):
        if schema.get(word):
            causes.forbidden(f"{path}.{word}", f"{word} is not supported")
    if schema.get("$schema"):
        root = path.partition(".openAPIV3Schema")[0] + ".openAPIV3Schema"
        causes.invalid(root, "", "OpenAPIV3Schema 'schema' is not supported")
    if isinstance(schema.get("items"), list):
        causes.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if pattern := schema.get("pattern"):
        try:
            compile_pattern(pattern)
        except PatternError as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            causes.invalid(f"{path}.pattern", pattern, text)
    if schema.get(PRESERVE) is False:
        causes.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if schema.get(PRESERVE) and schema.get(INT_OR_STRING):
        causes.invalid(f"{path}.{PRESERVE}", True, f"must be false if {INT_OR_STRING} is true")
    if schema.get(EMBEDDED) and not schema.get(PRESERVE) and not schema.get("properties"):
        text = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        causes.required(f"{path}.properties", text)
    if schema.get(EMBEDDED) and (kind := schema.get("type")) not in (None, "object"):
        causes.invalid(f"{path}.type", kind, f"must be object if {EMBEDDED} is true")
    check_list_type(causes, schema, path)
    check_map_type(causes, schema, path)
    check_written_rules(causes, schema, at, costs)
    for place, child in _children(schema, path):
        word = place.rpartition(".")[2]
        # Only in a list of type map it is known which element was which.
        is_lost = word == "items" and schema.get("x-kubernetes-list-type") != "map"
        count = count_below(at.count, schema, word)
        below = Place(place, has_past=at.has_past and not is_lost, is_root=False, count=count)
        _check_words(causes, child, below, costs, depth + 1)


def _check_type_word(causes: Causes, schema: Raw, path: Path) -> None:
    word = schema.get("type")
    if word and word not in TYPES:
        causes.not_supported(f"{path}.type", word, TYPES)
    if word == "null":
        causes.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")


def _children(schema: Raw, path: Path) -> list[tuple[Path, Raw]]:
    """All schemas inside a schema, those of anyOf and the like among them."""
    found: list[tuple[Path, Any]] = []
    for field, child in (schema.get("properties") or {}).items():
        found.append((f"{path}.properties[{field}]", child))
    for word in ("items", "additionalProperties", "not"):
        found.append((f"{path}.{word}", schema.get(word)))
    for word in ("allOf", "anyOf", "oneOf"):
        found.extend((f"{path}.{word}[{index}]", child) for index, child in enumerate(schema.get(word) or ()))
    return [(place, child) for place, child in found if isinstance(child, Mapping)]


# ------------------------------------------------------------------------------------------------- the tree


def _check_node(causes: Causes, schema: Raw, path: Path, if_empty: str, depth: int) -> None:
    kind = schema.get("type") or ""
    is_root = if_empty == _ROOT
    if not kind and (is_root or not (schema.get(INT_OR_STRING) or schema.get(PRESERVE))):
        causes.required(f"{path}.type", if_empty)
    elif is_root and kind != "object":
        causes.invalid(f"{path}.type", kind, "must be object at the root")
    elif schema.get(EMBEDDED) and not kind:
        causes.required(f"{path}.type", f"must be object if {EMBEDDED} is true")
    if kind == "array" and schema.get("items") is None:
        causes.required(f"{path}.items", "must be specified")
    if is_root or schema.get(EMBEDDED):
        _check_object_fields(causes, schema.get("properties") or {}, path)
    for field, child in (schema.get("properties") or {}).items():
        if not (is_root and field == "metadata"):
            _check_node(causes, child, f"{path}.properties[{field}]", _FIELD, depth + 1)
    if isinstance(schema.get("items"), Mapping):
        _check_node(causes, schema["items"], f"{path}.items", _ITEM, depth + 1)
    if isinstance(schema.get("additionalProperties"), Mapping):
        _check_node(causes, schema["additionalProperties"], f"{path}.additionalProperties", _FIELD, depth + 1)
    _check_alternatives(causes, schema, path, allows_ints=bool(schema.get(INT_OR_STRING)))


def _check_object_fields(causes: Causes, properties: Mapping[str, Any], path: Path) -> None:
    """Of what every object has, a schema may only say what the names must look like."""
    for field, wanted in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
        found = (properties.get(field) or {}).get("type")
        if found and found != wanted:
            causes.invalid(f"{path}.properties[{field}].type", found, f"must be {wanted}")
    metadata = properties.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get("type") not in (None, "object"):
        return
    allowed = {"type", "properties", "description", "title"}
    others = [word for word, value in metadata.items() if word not in allowed and value]
    if others or set(metadata.get("properties") or ()) - {"name", "generateName"}:
        text = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        causes.forbidden(f"{path}.properties[metadata]", text)


def _check_alternatives(causes: Causes, schema: Raw, path: Path, *, allows_ints: bool) -> None:
    for word in ("allOf", "anyOf", "oneOf"):
        parts = schema.get(word) or ()
        # int-or-string may be said once more, as the first anyOf or in the first allOf.
        is_ints = allows_ints and word == "anyOf" and tuple(parts) == _INTS
        for index, child in enumerate(parts):
            ints_below = allows_ints and word == "allOf" and index == 0
            if not is_ints:
                _check_nested(causes, child, f"{path}.{word}[{index}]", allows_ints=ints_below)
    if isinstance(schema.get("not"), Mapping):
        _check_nested(causes, schema["not"], f"{path}.not", allows_ints=False)


def _check_nested(causes: Causes, schema: Raw, path: Path, *, allows_ints: bool) -> None:
    """What stands in anyOf and the like may restrict values, and declare nothing."""
    for word in _NESTED_UNDEFINED:
        if schema.get(word) is not None:
            causes.forbidden(f"{path}.{word}", "must be undefined to be structural")
    for word in _NESTED_EMPTY:
        if schema.get(word):
            causes.forbidden(f"{path}.{word}", "must be empty to be structural")
    for word in _NESTED_FALSE:
        if schema.get(word):
            causes.forbidden(f"{path}.{word}", "must be false to be structural")
    for field, child in (schema.get("properties") or {}).items():
        _check_nested(causes, child, f"{path}.properties[{field}]", allows_ints=False)
    if isinstance(schema.get("items"), Mapping):
        _check_nested(causes, schema["items"], f"{path}.items", allows_ints=False)
    _check_alternatives(causes, schema, path, allows_ints=allows_ints)


# --------------------------------------------------------------------------------------------- the defaults


def _check_defaults(causes: Causes, schema: Raw, path: Path, *, is_root: bool, is_metadata: bool) -> None:
    default = schema.get("default")
    if default is not None:
        place = f"{path}.default"
        if is_metadata:
            causes.forbidden(place, "must not be set in top-level metadata")
        elif is_root:
            causes.forbidden(place, "must not be set at the root")
        elif pruned(CustomSchema(schema), default) != default:
            causes.invalid(place, default, "must not have unknown fields")
        else:
            found = Causes()
            check_schema(found, schema, default, "")
            for cause in found.list:
                causes.add(cause["reason"], place, cause["message"])
    for field, child in (schema.get("properties") or {}).items():
        below = is_metadata or (is_root and field == "metadata")
        _check_defaults(causes, child, f"{path}.properties[{field}]", is_root=False, is_metadata=below)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), Mapping):
            _check_defaults(causes, schema[word], f"{path}.{word}", is_root=False, is_metadata=is_metadata)
