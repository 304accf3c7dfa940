"""From a bundle's data file to CustomResourceDefinitions.

Definitions say the same thing many times: each version of a kind repeats the schema, each reference its
pattern. The data file says it once. A schema there may be a `part`, which is replaced by the schema of that
name, with what stands beside it laid over; `items` make a list, atomic unless `keys` or `list` say another
type; `properties` make an object; `rules` are pairs of a message and an expression. All else stands as it is
in a definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from gitkube.yaml import parse

Schema = dict[str, Any]

_COLUMN = ("name", "type", "jsonPath", "priority")
_LAID_OVER = ("properties", "rules", "required")
"""What a schema adds to that of its part; everything else replaces."""


def definitions_of(file: str) -> list[dict[str, Any]]:
    """The definitions of a bundle's file in this package, in the file's order."""
    text = files(__package__).joinpath(file).read_text(encoding="utf-8")
    bundle = parse(text)[0].data
    return [_definition(bundle, kind) for kind in bundle["kinds"]]


def _definition(bundle: Mapping[str, Any], kind: Mapping[str, Any]) -> dict[str, Any]:
    name, group = kind["kind"], bundle["group"]
    metadata: dict[str, Any] = {
        "name": f"{kind['plural']}.{group}",
        "annotations": {
            "api-approved.kubernetes.io": bundle["approved"],
            f"{group}/bundle-version": bundle["bundle_version"],
            f"{group}/channel": bundle["channel"],
        },
    }
    if "labels" in kind:
        metadata["labels"] = dict(kind["labels"])
    names: dict[str, Any] = {
        "categories": ["gateway-api"],
        "kind": name,
        "listKind": f"{name}List",
        "plural": kind["plural"],
        "singular": name.lower(),
    }
    if "short_names" in kind:
        names["shortNames"] = list(kind["short_names"])
    versions = kind["versions"]
    stored = kind.get("stored", versions[0])
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "names": names,
            "scope": kind.get("scope", "Namespaced"),
            "versions": [_version(bundle["parts"], kind, version, stored) for version in versions],
        },
    }


def _version(parts: Mapping[str, Any], kind: Mapping[str, Any], version: str, stored: str) -> dict[str, Any]:
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": whole(parts, kind["spec"]),
    }
    if "status" in kind:
        properties["status"] = whole(parts, kind["status"])
    schema: Schema = {"description": kind["description"], "type": "object", "properties": properties}
    if "required" in kind:
        schema["required"] = list(kind["required"])
    columns = [
        dict(zip(_COLUMN, column, strict=False))  # the priority may be left out
        for column in kind["columns"]
    ]
    made = {
        "name": version,
        "served": True,
        "storage": version == stored,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    if "status" in kind:
        made["subresources"] = {"status": {}}
    return made


def whole(parts: Mapping[str, Any], written: Mapping[str, Any]) -> Schema:
    """A schema of the data file as a definition has it.

    Raises:
        KeyError: it names a part that is not there.
    """
    schema = merged(parts, written)
    made: Schema = {}
    for word, value in schema.items():
        if word in ("properties", "patternProperties"):
            made[word] = {name: whole(parts, child) for name, child in value.items()}
        elif word in ("items", "additionalProperties"):
            made[word] = whole(parts, value)
        elif word == "keys":
            made["x-kubernetes-list-type"], made["x-kubernetes-list-map-keys"] = "map", list(value)
        elif word == "list":
            made["x-kubernetes-list-type"] = value
        elif word == "rules":
            made["x-kubernetes-validations"] = [{"message": message, "rule": rule} for message, rule in value]
        else:
            made[word] = value
    if "items" in made:
        made.setdefault("x-kubernetes-list-type", "atomic")
    made.setdefault("type", "array" if "items" in made else "object")
    return dict(sorted(made.items()))


def merged(parts: Mapping[str, Any], written: Mapping[str, Any]) -> Schema:
    """A schema with that of its part under it."""
    if "part" not in written:
        return dict(written)
    schema = merged(parts, parts[written["part"]])
    for word, value in written.items():
        if word == "part":
            continue
        if word in _LAID_OVER and word in schema:
            below = schema[word]
            schema[word] = {**below, **value} if isinstance(value, dict) else [*below, *value]
        else:
            schema[word] = value
    return schema
