"""The OpenAPI v2 document as a message: each field under the number by which kubectl knows it."""

from __future__ import annotations

import json

from gitkube.server.openapi_protobuf import encode

DEFINITION = {
    "type": "object",
    "description": "A thing.",
    "required": ["spec"],
    "properties": {
        "spec": {"$ref": "#/definitions/Spec"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "format": "x"}},
    },
    "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Thing"}],
}


def fields(message: bytes) -> list[tuple[int, bytes]]:
    """Number and body of each field of a message that has only texts and messages."""
    found = []
    while message:
        tag, message = varint(message)
        length, message = varint(message)
        assert tag & 7 == 2
        found.append((tag >> 3, message[:length]))
        message = message[length:]
    return found


def varint(message: bytes) -> tuple[int, bytes]:
    value = 0
    for index, byte in enumerate(message):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, message[index + 1 :]
    raise AssertionError("a number without an end")


def only(message: bytes, number: int) -> bytes:
    (body,) = [body for found, body in fields(message) if found == number]
    return body


def named(message: bytes) -> dict[str, bytes]:
    """The members of a map: messages with a name and a value."""
    return {only(member, 1).decode(): only(member, 2) for _, member in fields(message)}


def test_a_definition_is_found_again_with_its_fields_items_and_extensions() -> None:
    document = encode({"swagger": "2.0", "info": {"title": "t"}, "definitions": {"Thing": DEFINITION}})
    assert only(document, 1) == b"2.0"
    thing = named(only(document, 9))["Thing"]
    assert (only(thing, 4), only(thing, 19)) == (b"A thing.", b"spec")
    assert only(only(thing, 22), 1) == b"object"
    properties = named(only(thing, 25))
    assert only(properties["spec"], 1) == b"#/definitions/Spec"
    assert only(only(only(only(properties["tags"], 23), 1), 22), 1) == b"string"
    assert only(only(only(properties["labels"], 21), 1), 2) == b"x"
    extension = only(thing, 31)
    assert only(extension, 1) == b"x-kubernetes-group-version-kind"
    assert json.loads(only(only(extension, 2), 2))[0]["kind"] == "Thing"


def test_a_patch_says_which_queries_it_takes() -> None:
    operation = {
        "operationId": "patchThing",
        "parameters": [{"name": "dryRun", "in": "query", "type": "string"}, {"name": "body", "in": "body"}],
        "x-kubernetes-action": "patch",
    }
    document = encode({"paths": {"/things/{name}": {"patch": operation, "parameters": []}}})
    (member,) = [body for _, body in fields(only(document, 8))]
    patch = only(only(member, 2), 8)
    assert (only(member, 1), only(patch, 5)) == (b"/things/{name}", b"patchThing")
    query = only(only(only(only(patch, 8), 1), 2), 3)
    assert (only(query, 2), only(query, 4), only(query, 6)) == (b"query", b"dryRun", b"string")
