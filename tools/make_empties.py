"""Makes `gitkube/objects/empties.json`: `python tools/make_empties.py [PATH_OF_KUBECTL]` (from the root).

What a Go program does with a field that holds nothing depends on how its type is declared: a struct that is
no pointer is always written, as `{}`; a field with `omitempty` vanishes when it is 0, "" or false, unless it
is a pointer; one without is always written. Kubernetes' API types are declared thus, and clients get used to
it (`status: {}`, `replicas: 0`). A list or map without `omitempty` is written as null: who owns its elements
does not own the list for having made it. A time is written as null, and owned. An installed kubectl carries
the declarations; they are read from it as `gitkube/server/protobuf/generate.py` does. Run this when
Kubernetes' release changes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from gitkube.objects.kinds import BUILT_IN
from gitkube.objects.schema import definition_name, definitions
from gitkube.server.protobuf.generate import GoTypes

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "gitkube" / "objects" / "empties.json"
_POINTER, _SLICE, _MAP, _STRING, _STRUCT, _BOOL, _UINT8, _INTERFACE = 22, 23, 21, 24, 25, 1, 8, 20
_NUMBERS = frozenset((*range(2, 8), *range(9, 12), 13, 14))
_SCALARS = {_STRING, _BOOL, *_NUMBERS}
_CUSTOM = ("Time", "MicroTime", "Quantity", "IntOrString", "RawExtension", "FieldsV1", "JSON")
"""Types that write themselves, by rules of their own."""
_TIMES = ("Time", "MicroTime")
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_AGGREGATOR = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."
_BY_HAND: dict[str, dict[str, Any]] = {
    _EXTENSIONS + "CustomResourceDefinition": {"writes": {"spec": {}, "status": {}}},
    _EXTENSIONS + "CustomResourceDefinitionSpec": {
        "drops": ["preserveUnknownFields"],
        "writes": {"names": {}},
        "nulls": {"versions": []},
    },
    _EXTENSIONS + "CustomResourceDefinitionNames": {"drops": ["singular", "listKind"]},
    _EXTENSIONS + "CustomResourceDefinitionVersion": {"drops": ["deprecated"]},
    _EXTENSIONS + "CustomResourceDefinitionStatus": {
        "writes": {"acceptedNames": {}},
        "nulls": {"conditions": [], "storedVersions": []},
    },
    _EXTENSIONS + "CustomResourceDefinitionCondition": {"times": ["lastTransitionTime"]},
    _AGGREGATOR + "APIService": {"writes": {"spec": {}, "status": {}}},
    _AGGREGATOR + "APIServiceSpec": {"drops": ["group", "version", "insecureSkipTLSVerify"]},
    _AGGREGATOR + "APIServiceCondition": {"times": ["lastTransitionTime"]},
}
"""Types that are not linked into kubectl, as their source declares them."""
_STATUS_ONLY = (
    "NodeSystemInfo",
    "NodeDaemonEndpoints",
    "DaemonEndpoint",
    "ContainerStatus",
    "AttachedVolume",
)
"""Parts of statuses whose zeros are written although the schema requires the fields."""

_WRITTEN_EMPTY = {"io.k8s.api.discovery.v1.EndpointSlice": ("endpoints",)}
"""Lists that clients made of Kubernetes' older schemas insist on. Kubernetes writes them as null where nobody
has set them; empty, they mean the same and break nobody who counts them."""


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv" / "bin" / "kubectl"
    types = GoTypes(path.resolve().read_bytes())
    structs = _named_structs(types)
    wanted = _reachable()
    table: dict[str, Any] = dict(_BY_HAND)
    for name in sorted(wanted):
        if name in structs:
            entry = _entry(types, structs[name], name)
            if entry:
                table[name] = entry
    lines = [f'"{name}":{orjson.dumps(entry).decode()}' for name, entry in sorted(table.items())]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    missing = sorted(name for name in wanted - structs.keys() if "properties" in definitions()[name])
    print(f"{len(table)} definitions; kubectl has no type for: {', '.join(missing) or 'none'}")


def _reachable() -> set[str]:
    """All definitions that the kinds are made of."""
    waiting = [definition_name(kind) for kind in BUILT_IN]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += re.findall(r'"#/\$defs/([^"]+)"', orjson.dumps(definitions()[name]).decode())
    return found


def _named_structs(types: GoTypes) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting, seen = types.all(), set[int]()
    while waiting:
        type = waiting.pop()
        if type in seen or not type:
            continue
        seen.add(type)
        kind = types.kind(type)
        if kind in (_POINTER, _SLICE, 17, _MAP):
            waiting.append(types.element(type))
        elif kind == _STRUCT:
            waiting += [field for _, field in types.fields(type)]
            package = types.package(type)
            if package.startswith("k8s.io/"):
                path = package.removeprefix("k8s.io/").replace("/", ".")
                found[f"io.k8s.{path}.{types.name(type)}"] = type
    return found


def _entry(types: GoTypes, type: int, name: str) -> dict[str, Any]:
    dropped: list[str] = []
    written: dict[str, Any] = {}
    nulls: dict[str, Any] = {}
    times: list[str] = []
    required = definitions()[name].get("required", ())
    is_status = name.endswith("Status") or name.rpartition(".")[2] in _STATUS_ONLY
    for tag, field in types.fields(type):
        match = re.search(r'json:"([^"]*)"', tag)
        if match is None:
            continue
        word, *options = match.group(1).split(",")
        kind = types.kind(field)
        if "inline" in options or not word:
            if kind == _STRUCT:
                inner = _entry(types, field, name)
                dropped += inner.get("drops", ())
                written |= inner.get("writes", {})
                nulls |= inner.get("nulls", {})
                times += inner.get("times", ())
            continue
        if word in ("apiVersion", "kind", "-"):
            continue
        is_left_out = "omitempty" in options or "omitzero" in options
        if kind in _SCALARS and is_left_out:
            dropped.append(word)
        elif kind in _SCALARS and (word not in required or is_status):
            written[word] = "" if kind == _STRING else False if kind == _BOOL else 0
        elif kind in (_SLICE, _MAP) and not is_left_out and types.element(field):
            if kind == _MAP or types.kind(types.element(field)) != _UINT8:
                nulls[word] = {} if kind == _MAP else []
                if word in _WRITTEN_EMPTY.get(name, ()):
                    written[word] = []
        elif kind == _STRUCT and types.name(field) in _TIMES:
            if "omitzero" not in options:
                times.append(word)
        elif kind == _STRUCT and "omitzero" not in options and types.name(field) not in _CUSTOM:
            written[word] = {}
    entry: dict[str, Any] = {}
    if dropped:
        entry["drops"] = dropped
    if written:
        entry["writes"] = written
    if nulls:
        entry["nulls"] = nulls
    if times:
        entry["times"] = times
    return entry


if __name__ == "__main__":
    main()
