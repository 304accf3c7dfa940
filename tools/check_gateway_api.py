"""Compares `gitkube/definitions/gateway_api.yaml` with validators that others made of its types.

`npm pack @kubernetes-models/gateway-api@2.0.0`, unpack it anywhere, then `python tools/check_gateway_api.py
DIRECTORY` (from the root; DIRECTORY holds `package/_schemas`). The package (MIT; its source is the Gateway
API's types, Apache-2.0) has a compiled validator for each type, which knows fields, the required ones, limits
and patterns, of the experimental channel too. It knows no defaults and no rules. What differs is printed, a
line each.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from gitkube.definitions.compact import merged

ROOT = Path(__file__).parents[1]
DATA = ROOT / "gitkube" / "definitions" / "gateway_api.yaml"
_PREFIX = "IoK8sSigsGatewayApiApisV1"
_FIELD = re.compile(r"void 0!==data\.(\w+)&&")
_REQUIRED = re.compile(r'missingProperty:"(\w+)"')
_LIMIT = re.compile(r'keyword:"(max\w+|min\w+)",params:\{(?:comparison:"[<>]=",)?limit:([\d.e+]+)\}')
_PATTERN = re.compile(r'keyword:"pattern",params:\{pattern:("(?:[^"\\]|\\.)*")\}')
_WORDS = ("maxItems", "minItems", "maxLength", "minLength", "maximum", "minimum", "maxProperties")
_EXPERIMENTAL = {"defaultScope", "externalAuth", "retry", "sessionPersistence", "useDefaultGateways"}
"""Fields that the standard channel does not have."""
_ELSEWHERE = {"parentRefs", "description"}
"""Fields that are said in another form there: of an embedded type, and of a validator with a limit alone."""
_NAMES = {
    "Condition": "",  # of Kubernetes, not of the Gateway API
    "LabelSelector": "",
    "Header": "HTTPHeader",
    "HeaderFilter": "HTTPHeaderFilter",
    "HeaderMatch": "HTTPHeaderMatch",
    "RequestMirrorFilter": "HTTPRequestMirrorFilter",
    "ParentRefs": "",  # lists that are no types of their own there
    "Listeners": "",
    "HTTPRouteFilters": "",
    "GRPCRouteFilters": "",
}
"""Parts that go by another name there, or by none."""


def main() -> None:
    directory = Path(sys.argv[1]) / "package" / "_schemas"
    parts = yaml.safe_load(DATA.read_text())["parts"]
    compared = 0
    for name, part in parts.items():
        type = _NAMES.get(name, name)
        path = directory / f"{_PREFIX}{type}.js"
        if not type:
            continue
        if not path.exists():
            print(name, "is no type there")
            continue
        compared += 1
        text = path.read_text()
        # What a type embeds is repeated there in some types, and not in others.
        candidates = [part, merged(parts, part)]
        fields = set(_FIELD.findall(text))
        whole = next((one for one in candidates if _fields(one) - _ELSEWHERE == fields - _EXPERIMENTAL), part)
        _compare(name, text, whole, parts)
    print(f"{compared} of {len(parts)} parts compared")


def _fields(part: Mapping[str, Any]) -> set[str]:
    return set(part.get("properties", ()))


def _compare(name: str, text: str, part: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    theirs = set(_FIELD.findall(text)) - _EXPERIMENTAL
    if theirs != _fields(part) - _ELSEWHERE:
        print(name, "has the fields", *sorted(theirs), "| ours:", *sorted(_fields(part)))
    required = set(_REQUIRED.findall(text))
    if required != set(part.get("required", ())):
        print(name, "requires", *sorted(required), "| ours:", *sorted(part.get("required", ())))
    inline = list(_inline(part, parts))
    patterns = {json.loads(pattern) for pattern in _PATTERN.findall(text)}
    if not patterns <= (mine := {schema["pattern"] for schema in inline if "pattern" in schema}):
        print(name, "has the patterns", *sorted(patterns), "| ours:", *sorted(mine))
    limits = {(word, float(limit)) for word, limit in _LIMIT.findall(text)}
    of_ours = {(word, float(schema[word])) for schema in inline for word in _WORDS if word in schema}
    of_ours |= {("maximum", 65535.0), ("minimum", 1.0)}  # a port says its limits again there
    if not limits <= of_ours:
        print(name, "has the limits", *sorted(limits - of_ours))


def _inline(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema and what is written inside it, lists of ours that have no type there included."""
    if schema.get("part") and not _NAMES.get(schema["part"], "a type"):
        schema = merged(parts, schema)
    yield schema
    for child in schema.get("properties", {}).values():
        yield from _inline(child, parts)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from _inline(schema[word], parts)


if __name__ == "__main__":
    main()
