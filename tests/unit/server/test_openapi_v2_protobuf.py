"""OpenAPI v2 as protobuf: the bytes of small documents, read back by the numbers of gnostic's messages."""

from __future__ import annotations

from gitkube.server.openapi_v2_protobuf import encode

Fields = list[tuple[int, "bytes | int"]]


def fields(data: bytes) -> Fields:
    """The fields of a message, one level deep."""
    found: Fields = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, varint()))
            continue
        length = varint()
        found.append((key >> 3, data[at : at + length]))
        at += length
    return found


def inside(data: bytes, *path: int) -> bytes:
    for number in path:
        data = next(value for key, value in fields(data) if key == number and isinstance(value, bytes))
    return data


def test_a_patch_tells_its_kind_and_its_parameters() -> None:
    patch = {
        "parameters": [
            {"name": "body", "in": "body", "required": True, "schema": {"type": "object"}},
            {"name": "fieldValidation", "in": "query", "type": "string", "uniqueItems": True},
        ],
        "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": "Namespace"},
    }
    data = encode({"swagger": "2.0", "paths": {"/api/v1/namespaces/{name}": {"patch": patch}}})
    named_path = inside(data, 8, 2)
    assert inside(named_path, 1) == b"/api/v1/namespaces/{name}"
    operation = inside(named_path, 2, 8)
    body, query = [value for key, value in fields(operation) if key == 8]
    assert isinstance(body, bytes) and isinstance(query, bytes)
    assert (4, 1) in fields(inside(body, 1, 1))
    assert inside(query, 1, 2, 3, 4) == b"fieldValidation"
    extension = inside(operation, 13)
    assert inside(extension, 1) == b"x-kubernetes-group-version-kind"
    assert inside(extension, 2, 2) == b'{"group":"","version":"v1","kind":"Namespace"}'


def test_a_definition_keeps_its_properties_in_order() -> None:
    of_map = {"type": "object", "additionalProperties": {"$ref": "#/definitions/Item"}}
    schema = {"type": "object", "required": ["a"], "properties": {"b": of_map, "a": {"type": "integer"}}}
    definition = inside(encode({"definitions": {"Thing": schema}}), 9, 1)
    assert inside(definition, 1) == b"Thing"
    assert inside(definition, 2, 19) == b"a"
    properties = [value for key, value in fields(inside(definition, 2, 25)) if key == 1]
    names = [inside(one, 1) for one in properties if isinstance(one, bytes)]
    assert names == [b"b", b"a"]
    first = properties[0]
    assert isinstance(first, bytes)
    assert inside(first, 2, 21, 1, 1) == b"#/definitions/Item"


def test_a_map_of_anything_is_said_by_a_flag() -> None:
    definition = inside(encode({"definitions": {"Thing": {"additionalProperties": True}}}), 9, 1, 2, 21)
    assert fields(definition) == [(2, 1)]
