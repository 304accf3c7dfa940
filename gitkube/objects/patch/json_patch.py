"""JSON patch, RFC 6902: a list of operations, done in order, all or none.

Each operation is checked on its own; the first that fails ends the patch, and its error names the
operation's place in the list, the path and the cause. As in Kubernetes, and beyond the RFC: an index may be
negative (-1 is the last element, or for `add` the place behind it), and `test` for null holds where the
path's last key is missing.
"""

from __future__ import annotations

import re
from typing import Any

from gitkube.objects.patch.copying import clone, equal
from gitkube.objects.patch.errors import PatchError

MAX_OPERATIONS = 10_000
"""As the Kubernetes API server's limit: each operation walks the document."""
MAX_COPIED_NODES = 1_000_000
"""A chain of `copy` operations doubles a document each time; this ends it long before memory does."""

_INDEX = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_MISSING: Any = object()


def apply_json_patch(document: Any, patch: Any) -> Any:
    """The document after all operations of RFC 6902, section 4. Neither argument is changed.

    Raises:
        PatchError: the patch is malformed, or an operation cannot be done on this document.
    """
    if not isinstance(patch, list):
        raise PatchError(
            f"a JSON patch is a list of operations, not {_type_name(patch)} (RFC 6902, section 3)"
        )
    if len(patch) > MAX_OPERATIONS:
        raise PatchError(
            f"the patch has {len(patch)} operations; the limit is {MAX_OPERATIONS}: send it in parts"
        )
    run = _Run(clone(document))
    for position, operation in enumerate(patch):
        if not isinstance(operation, dict):
            raise PatchError(f"operation {position} is {_type_name(operation)}, not an object")
        try:
            run.do(operation)
        except _OperationError as error:
            word = operation.get("op")
            path = operation.get("path")
            text = f"operation {position} ({word} {path!r}): {error}"
            raise PatchError(text, is_unprocessable=True) from error
    return run.document


def parse_pointer(pointer: str) -> list[str]:
    """The reference tokens of a JSON pointer (RFC 6901, section 4).

    Raises:
        PatchError: it does not start with a slash, or a ~ is not followed by 0 or 1.
    """
    try:
        return _tokens(pointer, "pointer")
    except _OperationError as error:
        raise PatchError(str(error)) from error


class _OperationError(Exception):
    """Why an operation cannot be done; `apply_json_patch` adds which one it was."""


class _Run:
    """A document while operations change it."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.copied_nodes = 0

    def do(self, operation: dict[str, Any]) -> None:
        word = operation.get("op")
        path = _tokens(operation.get("path", _MISSING), "path")
        if word == "add":
            self.add(path, clone(_value(operation)))
        elif word == "remove":
            self.remove(path)
        elif word == "replace":
            self.replace(path, clone(_value(operation)))
        elif word == "move":
            source = _tokens(operation.get("from", _MISSING), "from")
            # Section 4.4: "The 'from' location MUST NOT be a proper prefix of the 'path' location".
            if len(source) < len(path) and path[: len(source)] == source:
                raise _OperationError("a value cannot be moved into itself")
            value = self.get(source)
            if source != path:
                self.remove(source)
                self.add(path, value)
        elif word == "copy":
            value = self.get(_tokens(operation.get("from", _MISSING), "from"))
            self.copied_nodes += _count_nodes(value)
            if self.copied_nodes > MAX_COPIED_NODES:
                raise _OperationError(f"copies make the document larger than {MAX_COPIED_NODES} values")
            self.add(path, clone(value))
        elif word == "test":
            self.test(path, _value(operation))
        else:
            raise _OperationError(
                "unknown operation; it must be add, remove, replace, move, copy or test in small letters"
            )

    def get(self, path: list[str]) -> Any:
        node = self.document
        for depth, token in enumerate(path):
            node = _child(node, token, path[: depth + 1])
        return node

    def add(self, path: list[str], value: Any) -> None:
        if not path:
            self.document = value
            return
        parent, token = self.get(path[:-1]), path[-1]
        if isinstance(parent, dict):
            parent[token] = value
        elif isinstance(parent, list):
            parent.insert(_insert_position(parent, token), value)
        else:
            raise _OperationError(
                f"{_pointer(path[:-1])} is {_type_name(parent)}, nothing can be added below it"
            )

    def remove(self, path: list[str]) -> None:
        if not path:
            raise _OperationError("the whole document cannot be removed")
        parent, token = self.get(path[:-1]), path[-1]
        _child(parent, token, path)
        if isinstance(parent, dict):
            del parent[token]
        else:
            del parent[_position(parent, token)]

    def replace(self, path: list[str], value: Any) -> None:
        if not path:
            self.document = value
            return
        parent, token = self.get(path[:-1]), path[-1]
        _child(parent, token, path)
        if isinstance(parent, dict):
            parent[token] = value
        else:
            parent[_position(parent, token)] = value

    def test(self, path: list[str], expected: Any) -> None:
        if path and expected is None:
            parent = self.get(path[:-1])
            if isinstance(parent, dict) and path[-1] not in parent:
                return
        if not equal(self.get(path), expected):
            raise _OperationError("the value there is another one")


def _tokens(pointer: Any, member: str) -> list[str]:
    if pointer is _MISSING:
        raise _OperationError(f"the operation lacks {member!r}")
    if not isinstance(pointer, str):
        raise _OperationError(f"{member!r} must be a string, not {_type_name(pointer)}")
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise _OperationError(f"{member} {pointer!r} must start with a slash (RFC 6901)")
    if re.search(r"~(?![01])", pointer):
        raise _OperationError(f"{member} {pointer!r} has a ~ that is followed by neither 0 nor 1 (RFC 6901)")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise _OperationError("the operation lacks 'value'")
    return operation["value"]


def _child(node: Any, token: str, path: list[str]) -> Any:
    if isinstance(node, dict):
        if token not in node:
            raise _OperationError(f"{_pointer(path)} does not exist")
        return node[token]
    if isinstance(node, list):
        return node[_position(node, token)]
    raise _OperationError(f"{_pointer(path[:-1])} is {_type_name(node)}, {_pointer(path)} does not exist")


def _position(items: list[Any], token: str) -> int:
    if token == "-":
        raise _OperationError('"-" is the place behind the last element: nothing is there')
    index = _index(token)
    position = index + len(items) if index < 0 else index
    if not 0 <= position < len(items):
        raise _OperationError(f"index {token} is outside of the list, which has {len(items)} elements")
    return position


def _insert_position(items: list[Any], token: str) -> int:
    if token == "-":
        return len(items)
    index = _index(token)
    position = index + len(items) + 1 if index < 0 else index
    if not 0 <= position <= len(items):
        raise _OperationError(f"index {token} is outside of the list, which has {len(items)} elements")
    return position


def _index(token: str) -> int:
    if not _INDEX.fullmatch(token) or len(token) > 12:
        raise _OperationError(f"{token!r} is no index of a list")
    return int(token)


def _pointer(path: list[str]) -> str:
    if not path:
        return "the document"
    return repr("".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path))


def _count_nodes(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_count_nodes, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_count_nodes, value))
    return 1


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
