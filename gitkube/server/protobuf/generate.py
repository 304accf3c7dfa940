"""Makes `fields.json`: `python -m gitkube.server.protobuf.generate PATH_OF_KUBECTL`.

A Go program carries the layout of its types for reflection, struct tags included, and kubectl is linked
with all of Kubernetes' API types. So an installed kubectl tells, for each field, its name in JSON, its
protobuf number and whether it is a pointer. This reads them out of the ELF file (Go's internal/abi/type.go
describes the layout) and keeps what can be reached from the kinds that we serve. Run it when Kubernetes'
release changes, or a kind is added; nothing at run time needs it.
"""

from __future__ import annotations

import bisect
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gitkube.objects.kinds import SERVED
from gitkube.server.protobuf.decode import message_name

_ARRAY, _MAP, _POINTER, _SLICE, _STRING, _STRUCT = 17, 21, 22, 23, 24, 25
_BOOL, _INTS, _UINT8, _FLOATS = 1, frozenset(range(2, 13)), 8, frozenset((13, 14))
_HAS_UNCOMMON, _EXTRA_STAR = 1, 2
_SIZE_OF_STRUCT_TYPE = 80
_ALSO = (
    ("v1", "Binding"),
    ("v1", "DeleteOptions"),
    ("autoscaling/v1", "Scale"),
    ("policy/v1", "Eviction"),
    ("authentication.k8s.io/v1", "TokenRequest"),
)
_SPECIAL = {
    "meta/v1.Time": "time",
    "meta/v1.MicroTime": "microtime",
    "meta/v1.FieldsV1": "json",
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    "runtime.RawExtension": "json",
}
_PACKAGES = (
    (re.compile(r"k8s\.io/api/(\w+)/(\w+)$"), r"\1/\2"),
    (re.compile(r"k8s\.io/apimachinery/pkg/apis/meta/(\w+)$"), r"meta/\1"),
    (re.compile(r"k8s\.io/apimachinery/pkg/(?:api/|util/)?(\w+)$"), r"\1"),
)


@dataclass(frozen=True)
class Section:
    start: int
    end: int
    offset: int


class GoTypes:
    """Types of a 64-bit little-endian Go program, by their addresses."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        sections = _sections(data)
        self._mapped = sorted(sections.values(), key=lambda section: section.start)
        self._starts = [section.start for section in self._mapped]
        links = sections[".typelink"]
        count = (links.end - links.start) // 4
        self._links = struct.unpack_from(f"<{count}i", data, links.offset)
        self._base = self._find_base(sections)

    def all(self) -> list[int]:
        return [self._base + link for link in self._links]

    def kind(self, type: int) -> int:
        return self._data[self._at(type) + 23] & 31

    def element(self, type: int) -> int:
        """Of a pointer, slice or array; the value's type of a map."""
        return self._word(type + (56 if self.kind(type) == _MAP else 48))

    def name(self, type: int) -> str:
        at = self._at(type)
        text, _ = self._name(self._base + struct.unpack_from("<i", self._data, at + 40)[0])
        text = text[1:] if self._data[at + 20] & _EXTRA_STAR else text
        return text.rsplit(".", 1)[-1]

    def package(self, type: int) -> str:
        """The import path of a named struct; "" for one without a name."""
        at = self._at(type)
        if not self._data[at + 20] & _HAS_UNCOMMON or self.kind(type) != _STRUCT:
            return ""
        offset = struct.unpack_from("<i", self._data, at + _SIZE_OF_STRUCT_TYPE)[0]
        return self._name(self._base + offset)[0]

    def fields(self, type: int) -> list[tuple[str, int]]:
        """Tags and types of a struct's fields."""
        first, count = self._word(type + 56), self._word(type + 64)
        found = []
        for index in range(count):
            at = first + 24 * index
            found.append((self._name(self._word(at))[1], self._word(at + 8)))
        return found

    def _find_base(self, sections: dict[str, Section]) -> int:
        # moduledata holds, among other addresses, that of the types' segment. It is the one from which the
        # offsets in .typelink lead to types.
        module = sections.get(".go.module") or sections[".noptrdata"]
        rodata = sections[".rodata"]
        words: tuple[int, ...] = struct.unpack_from(
            f"<{(module.end - module.start) // 8}Q", self._data, module.offset
        )
        candidates = {word for word in words if rodata.start - 4096 <= word < rodata.end}
        sample = self._links[:: max(1, len(self._links) // 60)]
        hits: dict[int, int] = {
            base: sum(self._is_type(base, link) for link in sample) for base in candidates
        }
        return max(hits, key=lambda base: hits[base])

    def _is_type(self, base: int, link: int) -> bool:
        try:
            at = self._at(base + link)
            text, _ = self._name(base + struct.unpack_from("<i", self._data, at + 40)[0])
        except (LookupError, UnicodeDecodeError, struct.error):
            return False
        return 1 <= self._data[at + 23] & 31 <= 26 and bool(re.match(r"\*?[\w\[\]*{}(]", text))

    def _at(self, address: int) -> int:
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._mapped[index].end:
            raise LookupError(f"nothing is mapped at {address:#x}")
        return self._mapped[index].offset + address - self._mapped[index].start

    def _word(self, address: int) -> int:
        word: int = struct.unpack_from("<Q", self._data, self._at(address))[0]
        return word

    def _name(self, address: int) -> tuple[str, str]:
        """A name and its tag: flags, a length as varint, the text, and the same for the tag."""
        at = self._at(address)
        flags = self._data[at]
        text, at = self._counted(at + 1)
        tag = self._counted(at)[0] if flags & 2 else ""
        return text, tag

    def _counted(self, at: int) -> tuple[str, int]:
        length = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return self._data[at : at + length].decode(), at + length


def generate(data: bytes) -> dict[str, Any]:
    """The table of `fields.json` from the bytes of a kubectl."""
    types = GoTypes(data)
    structs = _structs(types)
    wanted = [message_name(kind.api_version, kind.kind) for kind in SERVED]
    wanted += [message_name(*pair) for pair in _ALSO]
    # Kinds whose types kubectl does not know (definitions of kinds, our own) are read as JSON only.
    wanted = [name for name in wanted if name in structs]
    table: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name in table or "." not in name:
            continue
        # A message without fields (a choice that needs no words) is in no struct tag, and empty here.
        fields = _message_fields(types, structs[name]) if name in structs else {}
        table[name] = fields
        wanted += [field[1] for field in fields.values()]
    return dict(sorted(table.items()))


def _structs(types: GoTypes) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting, seen = types.all(), set[int]()
    while waiting:
        type = waiting.pop()
        if type in seen or not type:
            continue
        seen.add(type)
        kind = types.kind(type)
        if kind in (_POINTER, _SLICE, _ARRAY, _MAP):
            waiting.append(types.element(type))
        elif kind == _STRUCT:
            fields = types.fields(type)
            waiting += [field for _, field in fields]
            if any('protobuf:"' in tag for tag, _ in fields):
                found[_message(types, type)] = type
    return found


def _message(types: GoTypes, type: int) -> str:
    package = types.package(type)
    for pattern, short in _PACKAGES:
        if match := pattern.match(package):
            return f"{match.expand(short)}.{types.name(type)}"
    return f"{package}.{types.name(type)}"


def _message_fields(types: GoTypes, type: int) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {}
    for tag, field in types.fields(type):
        number, json = re.search(r'protobuf:"\w+,(\d+)', tag), re.search(r'json:"([^"]*)"', tag)
        if number is None:
            continue
        name, *options = (json.group(1) if json else "").split(",")
        kind, shape = types.kind(field), "one"
        is_pointer = kind == _POINTER
        if is_pointer:
            field = types.element(field)
            kind = types.kind(field)
        if kind == _MAP or (kind == _SLICE and types.kind(types.element(field)) != _UINT8):
            shape = "map" if kind == _MAP else "list"
            field = types.element(field)
            kind = types.kind(field)
        word = _word_of(types, field, kind)
        is_message = "." in word
        keeps_empty = is_pointer or (not is_message and "omitempty" not in options)
        result[number.group(1)] = [name, word, shape, keeps_empty]
    return result


def _word_of(types: GoTypes, type: int, kind: int) -> str:
    if kind == _POINTER:
        return _word_of(types, types.element(type), types.kind(types.element(type)))
    if kind == _STRUCT:
        message = _message(types, type)
        return _SPECIAL.get(message, message)
    if kind == _SLICE:
        return "bytes"
    if kind == _STRING:
        return "string"
    if kind == _BOOL:
        return "bool"
    if kind in _INTS:
        return "int"
    if kind in _FLOATS:
        return "double"
    raise ValueError(f"no word for Go's kind {kind}")


def _sections(data: bytes) -> dict[str, Section]:
    table = struct.unpack_from("<Q", data, 0x28)[0]
    size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + index * size) for index in range(count)]
    names = headers[names_index][4]
    found = {}
    for name, type, _, address, offset, length, *_rest in headers:
        if address and type != 8:  # SHT_NOBITS has no bytes in the file
            end = data.index(b"\0", names + name)
            found[data[names + name : end].decode()] = Section(address, address + length, offset)
    return found


def main() -> None:
    table = generate(Path(sys.argv[1]).read_bytes())
    target = Path(__file__).parent / "fields.json"
    lines = [f'"{name}":{orjson.dumps(fields).decode()}' for name, fields in table.items()]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
