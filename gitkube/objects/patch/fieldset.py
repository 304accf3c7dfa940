"""Sets of fields: which paths of an object a manager owns, in Kubernetes' FieldsV1 form.

A set is a tree. Each step is a string: `f:NAME` a field, `k:{"key":value}` an element of a list of type map,
`v:VALUE` an element of a list of type set. A node is a map of its children; the path to it belongs to the
set if the node is empty or has the child ".". So the JSON form is the set itself, and the operations below
keep it canonical: a member without children is {}, a node that is neither member nor parent does not exist.

Everything returns new trees and shares subtrees: none is ever changed once it was made. So the same few
sets, which thousands of objects have from the same few managers, are parsed and sorted once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from gitkube.objects.patch.copying import are_alike, equal
from gitkube.objects.schema import Schema

Node = dict[str, Any]
FieldSet = dict[str, Node]
"""The children of the root; {} is the empty set."""

_MEMBER = "."
_LEAF: Node = {}
MAX_DEPTH = 200
KEPT_SETS = 512
MAX_KEPT_BYTES = 8 * 1024
"""Of a set that is kept, as JSON: larger ones are rare, and parsed whenever they come."""


def is_member(node: Mapping[str, Any]) -> bool:
    return not node or _MEMBER in node


def children(node: Mapping[str, Any]) -> FieldSet:
    if _MEMBER not in node:
        return node  # type: ignore[return-value]
    return {step: child for step, child in node.items() if step != _MEMBER}


def _node(member: bool, below: FieldSet) -> Node | None:
    if not below:
        return _LEAF if member else None
    return {_MEMBER: _LEAF, **below} if member else below


# -- algebra ------------------------------------------------------------------------------------------------


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    if not left or not right:
        return left or right
    result = dict(left)
    for step, node in right.items():
        present = result.get(step)
        if present is None:
            result[step] = node
        elif present is not node:
            joined = union(children(present), children(node))
            result[step] = _node(is_member(present) or is_member(node), joined) or _LEAF
    return result


def difference(left: FieldSet, right: FieldSet, *, takes_below: bool = False) -> FieldSet:
    """Members of `left` that are none of `right`.

    Args:
        takes_below: a member of `right` takes everything below it away, too.
    """
    if not left or not right:
        return left
    result: FieldSet = {}
    for step, node in left.items():
        other = right.get(step)
        if other is None:
            result[step] = node
            continue
        if takes_below and is_member(other):
            continue
        below = difference(children(node), children(other), takes_below=takes_below)
        rest = _node(is_member(node) and not is_member(other), below)
        if rest is not None:
            result[step] = rest
    return result


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    result: FieldSet = {}
    for step, node in left.items():
        other = right.get(step)
        if other is None:
            continue
        both = _node(is_member(node) and is_member(other), intersection(children(node), children(other)))
        if both is not None:
            result[step] = both
    return result


def with_named_members(fields: FieldSet) -> FieldSet:
    """The set with every named field on the way to a member as a member itself."""
    result: FieldSet = {}
    for step, node in fields.items():
        member = is_member(node) or step.startswith("f:")
        result[step] = _node(member, with_named_members(children(node))) or _LEAF
    return result


def members(fields: FieldSet, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path in the set, each parent before its children, in the order of the steps."""
    for step in sorted(fields, key=_order):
        node = fields[step]
        here = (*path, step)
        if is_member(node):
            yield here
        yield from members(children(node), here)


def sorted_fields(fields: Mapping[str, Any]) -> FieldSet:
    """The same set with its steps in Kubernetes' order, for people and for stable bytes."""
    text = orjson.dumps(fields)
    return _sorted(fields) if len(text) > MAX_KEPT_BYTES else _known_sorted(text)


@lru_cache(maxsize=KEPT_SETS)
def _known_sorted(text: bytes) -> FieldSet:
    return _sorted(orjson.loads(text))


def _sorted(fields: Mapping[str, Any]) -> FieldSet:
    return {step: _sorted(fields[step]) for step in sorted(fields, key=_order)}


def _order(step: str) -> tuple[int, str]:
    return (0 if step == _MEMBER else 1, step)


def path_text(path: tuple[str, ...]) -> str:
    """As people read a path: `.spec.containers[name="web"].image`."""
    text = ""
    for step in path:
        form, _, rest = step.partition(":")
        if form == "f":
            text += f".{rest}"
        elif form == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def parse_fields(raw: Any) -> FieldSet:
    """A set out of the FieldsV1 of an object.

    Raises:
        ValueError: it is none.
    """
    try:
        text = orjson.dumps(raw)
    except TypeError as error:
        raise ValueError(f"fieldsV1 must be a tree of maps: {error}") from error
    return _parse(raw) if len(text) > MAX_KEPT_BYTES else _known(text)


@lru_cache(maxsize=KEPT_SETS)
def _known(text: bytes) -> FieldSet:
    return _parse(orjson.loads(text))


def _parse(raw: Any, depth: int = 0) -> FieldSet:
    if not isinstance(raw, dict) or depth > MAX_DEPTH:
        raise ValueError("fieldsV1 must be a tree of maps")
    result: FieldSet = {}
    for step, child in raw.items():
        if step == _MEMBER:
            result[step] = _LEAF
            continue
        if step[:2] not in ("f:", "k:", "v:", "i:"):
            raise ValueError(f"{step!r} is no step of a path; it must start with f:, k: or v:")
        if step.startswith("k:") and not isinstance(json.loads(step[2:]), dict):
            raise ValueError(f"{step!r} must hold a map of keys")
        result[step] = _parse(child, depth + 1)
    return result


# -- from objects -------------------------------------------------------------------------------------------


def is_granular(schema: Schema | None, value: Any) -> bool:
    """Whether the parts of a value are owned one by one; otherwise it is one leaf."""
    if isinstance(value, dict):
        return schema is None or (schema.map_type != "atomic" and not schema.preserve_unknown)
    if isinstance(value, list):
        return schema is not None and schema.list_type in ("map", "set")
    return False


def element_step(schema: Schema, item: Any) -> str:
    """The step to an element of a list of type map or set.

    Raises:
        ValueError: the element lacks a key that has no default.
    """
    if schema.list_type == "set":
        return "v:" + _compact(item)
    keys: dict[str, Any] = {}
    if not isinstance(item, dict):
        raise ValueError("associative list with keys may not have non-map elements")
    item_schema = schema.items
    for key in sorted(schema.list_map_keys):
        if key in item:
            keys[key] = item[key]
            continue
        field = item_schema.child(key) if item_schema is not None else None
        if field is not None and field.default is not None:
            keys[key] = field.default
    if not keys:
        wanted = ", ".join(f"{key!r}" for key in schema.list_map_keys)
        raise ValueError(f"an element of the list has none of its keys {wanted}")
    return "k:" + _compact(keys)


def fields_of(value: Any, schema: Schema | None) -> FieldSet:
    """The fields that an applied configuration claims (structured-merge-diff's ToFieldSet)."""
    return children(_claimed(value, schema) or _LEAF) if is_granular(schema, value) else {}


def _claimed(value: Any, schema: Schema | None) -> Node | None:
    if not is_granular(schema, value):
        return _LEAF
    below: FieldSet = {}
    if isinstance(value, dict):
        for key, item in value.items():
            if item is not None and not isinstance(item, (dict, list)):
                below[f"f:{key}"] = _LEAF
                continue
            node = _claimed(item, schema.child(key) if schema is not None else None)
            is_named = schema is not None and key in schema.properties
            if item is None or item == {} or not is_named:
                node = _node(True, children(node or _LEAF))
            if node is not None:
                below[f"f:{key}"] = node
    elif schema is not None:
        for item in value:
            node = _claimed(item, schema.items)
            below[element_step(schema, item)] = _node(True, children(node or _LEAF)) or _LEAF
    return below or None


def all_fields_of(value: Any, schema: Schema | None) -> Node:
    """Every path at and below a value, each as a member."""
    if not is_granular(schema, value):
        return _LEAF
    below: FieldSet = {}
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(item, (dict, list)):
                below[f"f:{key}"] = _LEAF
                continue
            below[f"f:{key}"] = all_fields_of(item, schema.child(key) if schema is not None else None)
    elif schema is not None:
        for item in value:
            below[element_step(schema, item)] = all_fields_of(item, schema.items)
    return _node(True, below) or _LEAF


class Comparison:
    """What differs between two objects."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self, added: FieldSet, modified: FieldSet, removed: FieldSet) -> None:
        self.added = added
        self.modified = modified
        self.removed = removed


def compare(before: Any, after: Any, schema: Schema | None) -> Comparison:
    """Which fields `after` has more, other, and less than `before`."""
    added, modified, removed = _compare(before, after, schema)
    return Comparison(children(added or _LEAF), children(modified or _LEAF), children(removed or _LEAF))


_Triple = tuple[Node | None, Node | None, Node | None]
_NOTHING: _Triple = (None, None, None)


def _compare(before: Any, after: Any, schema: Schema | None) -> _Triple:
    if before is after:
        return _NOTHING
    granular = is_granular(schema, before) and is_granular(schema, after) and are_alike(before, after)
    if not granular:
        return _NOTHING if equal(before, after) else (None, _LEAF, None)
    if isinstance(before, dict):
        return _compare_parts(
            before, after, "f:", lambda key: schema.child(key) if schema is not None else None
        )
    assert schema is not None  # a list without a schema is not granular
    items = schema.items
    left = {element_step(schema, item): item for item in before}
    right = {element_step(schema, item): item for item in after}
    if len(left) != len(before) or len(right) != len(after):
        # Elements that share a key cannot be told apart: the list is compared as a whole.
        if equal(before, after):
            return _NOTHING
        return None, all_fields_of(after, schema), all_fields_of(before, schema)
    return _compare_parts(left, right, "", lambda _: items)


def _compare_parts(
    left: Mapping[str, Any], right: Mapping[str, Any], form: str, schema_at: Callable[[str], Schema | None]
) -> _Triple:
    """
    Args:
        form: what makes a step of a key.
    """
    added: FieldSet = {}
    modified: FieldSet = {}
    removed: FieldSet = {}
    for key, item in right.items():
        if key not in left:
            added[form + key] = all_fields_of(item, schema_at(key))
            continue
        other = left[key]
        if other is item or (type(item) is str and other == item):
            continue
        more, changed, less = _compare(other, item, schema_at(key))
        if more is not None:
            added[form + key] = more
        if changed is not None:
            modified[form + key] = changed
        if less is not None:
            removed[form + key] = less
    if not left.keys() <= right.keys():
        for key, item in left.items():
            if key not in right:
                removed[form + key] = all_fields_of(item, schema_at(key))
    return added or None, modified or None, removed or None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
