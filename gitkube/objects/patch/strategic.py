"""Strategic merge patch: Kubernetes' own, which merges lists by the key that the schema names.

The patch is drawn like the object. Maps merge and null removes, as in a merge patch; a list merges by its
merge key when the schema's patch strategy says so (primitives as a set), else it is replaced. Directives
inside the patch say what a drawing cannot:

- `$patch: replace | delete | merge` in a map, or in an item of a merged list;
- `$setElementOrder/LIST`: the order that the merged list shall have;
- `$deleteFromPrimitiveList/LIST`: which primitives to take out;
- `$retainKeys`: in a map, all other keys go.

Order of a merged list: the items of the patch keep the order of the patch (or of `$setElementOrder`), the
others keep theirs, and both are interleaved by the order of the live list. Invariant: no directive ever
reaches the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects.patch.copying import clone
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.schema import Schema

_PATCH = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER_PREFIX = "$setElementOrder/"
_DELETE_PREFIX = "$deleteFromPrimitiveList/"
MAX_DEPTH = 200
"""Deeper than any schema; protects the stack from hostile patches."""


def apply_strategic_patch(document: Mapping[str, Any], patch: Any, schema: Schema | None) -> dict[str, Any]:
    """The document with the patch merged in. Neither argument is changed.

    Args:
        schema: of the document's kind; None merges maps and replaces lists.

    Raises:
        PatchError: a directive is malformed, or an item lacks its merge key.
    """
    if patch is None:
        return clone(dict(document))
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object drawn like the one to change")
    return _merge_map(dict(document), patch, schema, "", 0)


def _merge_map(
    original: dict[str, Any], patch: dict[str, Any], schema: Schema | None, path: str, depth: int
) -> dict[str, Any]:
    """Returns a new map; parts of `original` that the patch does not touch are shared with it."""
    if depth > MAX_DEPTH:
        raise PatchError(f"the patch is nested deeper than {MAX_DEPTH} levels at {path}")
    if _PATCH in patch:
        return _directed_map(patch, schema, path, depth)
    merged = dict(original)
    _retain_keys(merged, patch, path)
    ordered = _merge_ordered_lists(merged, patch, schema, path, depth)
    for key, value in patch.items():
        if key == _RETAIN_KEYS or key.startswith(_ORDER_PREFIX) or key in ordered:
            continue
        if key.startswith(_DELETE_PREFIX):
            _delete_primitives(merged, key.removeprefix(_DELETE_PREFIX), value, path)
        elif value is None:
            merged.pop(key, None)
        else:
            field = _field(schema, key)
            merged[key] = _merge_value(merged.get(key), value, field, f"{path}.{key}", depth + 1)
    return merged


def _directed_map(patch: dict[str, Any], schema: Schema | None, path: str, depth: int) -> dict[str, Any]:
    word = patch[_PATCH]
    rest = {key: value for key, value in patch.items() if key != _PATCH}
    if word == "replace":
        return _merge_map({}, rest, schema, path, depth)
    if word == "delete":
        return {}
    raise PatchError(f"{path or 'the patch'}: unknown $patch {word!r}; it must be replace or delete")


def _merge_value(original: Any, value: Any, schema: Schema | None, path: str, depth: int) -> Any:
    strategy = _strategies(schema)
    if isinstance(value, dict):
        keep = isinstance(original, dict) and "replace" not in strategy
        return _merge_map(original if keep else {}, value, schema, path, depth)
    if isinstance(value, list) and "merge" in strategy:
        return _merge_list(original if isinstance(original, list) else [], value, schema, path, depth)
    return clone(value)


def _retain_keys(merged: dict[str, Any], patch: dict[str, Any], path: str) -> None:
    if _RETAIN_KEYS not in patch:
        return
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list):
        raise PatchError(f"{path}: $retainKeys must be a list of the keys that stay")
    for key, value in patch.items():
        if key.startswith("$") or value is None:
            continue
        if key not in retained:
            raise PatchError(f"{path}: $retainKeys does not name {key!r}, which the patch sets")
    for key in [key for key in merged if key not in retained]:
        del merged[key]


def _delete_primitives(merged: dict[str, Any], key: str, value: Any, path: str) -> None:
    if not isinstance(value, list):
        raise PatchError(f"{path}: {_DELETE_PREFIX}{key} must be a list")
    present = merged.get(key)
    if present is None:
        return
    if not isinstance(present, list) or any(isinstance(item, (dict, list)) for item in [*present, *value]):
        raise PatchError(f"{path}: {_DELETE_PREFIX}{key} is for lists of primitives only")
    merged[key] = [item for item in present if item not in value]


# -- lists --------------------------------------------------------------------------------------------------


def _merge_ordered_lists(
    merged: dict[str, Any], patch: dict[str, Any], schema: Schema | None, path: str, depth: int
) -> set[str]:
    """Merge the lists whose order the patch sets; returns their names, so that they are not merged again."""
    done: set[str] = set()
    for directive, order in patch.items():
        if not directive.startswith(_ORDER_PREFIX):
            continue
        key = directive.removeprefix(_ORDER_PREFIX)
        where = f"{path}.{key}"
        original, items = merged.get(key), patch.get(key)
        if not isinstance(order, list):
            raise PatchError(f"{path}: {directive} must be a list")
        for present in (original, items):
            if present is not None and not isinstance(present, list):
                raise PatchError(f"{path}: {directive} is for lists only, and {key} is none")
        if key in patch and items is None:
            continue  # null: the list goes, whatever its order
        if original is None and items is None:
            continue
        field = _field(schema, key)
        if items is not None and "merge" not in _strategies(field):
            continue  # an atomic list brings its order with it
        merge_key = _merge_key(field)
        live = original or []
        _check_order(items or [], order, merge_key, where)
        result = _merge_list(live, items, field, where, depth) if items is not None else list(live)
        merged[key] = _interleave(result, order, live, merge_key, where)
        done.add(key)
    return done


def _merge_list(
    original: list[Any], items: list[Any], schema: Schema | None, path: str, depth: int
) -> list[Any]:
    if all(not isinstance(item, (dict, list)) and item is not None for item in [*original, *items]):
        both = list(dict.fromkeys([*original, *items]))
        return _interleave(both, items, original, "", path)
    if not all(isinstance(item, dict) for item in [*original, *items]):
        raise PatchError(f"{path}: the list's elements must all be objects, or all be primitives")
    merge_key = _merge_key(schema)
    if not merge_key:
        raise PatchError(f"{path}: the schema names no merge key for this list of objects")
    kept, plain = _special_items(original, items, merge_key, path)
    merged = list(kept)
    item_schema = schema.items if schema is not None else None
    positions = {_scalar(item.get(merge_key)): index for index, item in reversed(list(enumerate(merged)))}
    for item in plain:
        if merge_key not in item:
            raise PatchError(f"{path}: an item lacks the merge key {merge_key!r}")
        identity = _scalar(item[merge_key])
        where = f"{path}[{merge_key}={item[merge_key]}]"
        index = positions.get(identity)
        if index is None:
            positions[identity] = len(merged)
            merged.append(_merge_map({}, item, item_schema, where, depth + 1))
        else:
            merged[index] = _merge_map(merged[index], item, item_schema, where, depth + 1)
    return _interleave(merged, plain, kept, merge_key, path)


def _special_items(
    original: list[Any], items: list[Any], merge_key: str, path: str
) -> tuple[list[Any], list[Any]]:
    """Do the items that carry `$patch`; returns what is left of the live list and of the patch."""
    kept, plain, replaced = list(original), [], False
    for item in items:
        word = item.get(_PATCH)
        if _PATCH not in item:
            plain.append(item)
        elif word == "replace":
            replaced = True
        elif word == "delete":
            if merge_key not in item:
                raise PatchError(f"{path}: an item with $patch: delete lacks the merge key {merge_key!r}")
            kept = [other for other in kept if other.get(merge_key) != item[merge_key]]
        elif word == "merge":
            raise PatchError(f"{path}: $patch: merge cannot be said of a list's item; merging is the default")
        else:
            raise PatchError(f"{path}: unknown $patch {word!r}; it must be replace or delete")
    return ([] if replaced else kept), plain


def _check_order(items: Sequence[Any], order: Sequence[Any], merge_key: str, path: str) -> None:
    """The items of the patch must come in the order that the patch sets."""
    if not items or not order:
        return
    wanted = [_identity(item, merge_key) for item in items if not _is_deletion(item)]
    position = 0
    for entry in order:
        if position < len(wanted) and wanted[position] == _identity(entry, merge_key):
            position += 1
    if position < len(wanted):
        item = wanted[position][1]
        raise PatchError(
            f"{path}: the order of the patch's items does not match {_ORDER_PREFIX}: "
            f"{item!r} is not where the order says, or not in it"
        )


def _interleave(
    merged: list[Any], order: Sequence[Any], live: Sequence[Any], merge_key: str, path: str
) -> list[Any]:
    """Items named by `order` in that order, the others in the live order, joined by the live order."""
    if merge_key:
        for entry in order:
            if not isinstance(entry, dict) or merge_key not in entry:
                raise PatchError(f"{path}: an entry of the order lacks the merge key {merge_key!r}")
    ranks = _ranks(order, merge_key)
    live_ranks = _ranks(live, merge_key)
    ours = [item for item in merged if _identity(item, merge_key) in ranks]
    others = [item for item in merged if _identity(item, merge_key) not in ranks]
    ours.sort(key=lambda item: ranks[_identity(item, merge_key)])
    others.sort(key=lambda item: live_ranks.get(_identity(item, merge_key), len(live)))
    result: list[Any] = []
    left, right = 0, 0
    while left < len(others) and right < len(ours):
        left_rank = live_ranks.get(_identity(others[left], merge_key))
        right_rank = live_ranks.get(_identity(ours[right], merge_key))
        if left_rank is not None and right_rank is not None and left_rank < right_rank:
            result.append(others[left])
            left += 1
        else:
            result.append(ours[right])
            right += 1
    return [*result, *ours[right:], *others[left:]]


def _ranks(items: Sequence[Any], merge_key: str) -> dict[tuple[str, Any], int]:
    ranks: dict[tuple[str, Any], int] = {}
    for index, item in enumerate(items):
        ranks.setdefault(_identity(item, merge_key), index)
    return ranks


def _identity(item: Any, merge_key: str) -> tuple[str, Any]:
    return _scalar(item.get(merge_key) if merge_key and isinstance(item, dict) else item)


def _scalar(value: Any) -> tuple[str, Any]:
    """Hashable, and tells "80" from 80 and true from 1."""
    if isinstance(value, (dict, list)):
        return ("json", repr(value))
    return (type(value).__name__, value)


def _is_deletion(item: Any) -> bool:
    return isinstance(item, dict) and item.get(_PATCH) == "delete"


# -- what the schema says -----------------------------------------------------------------------------------


def _field(schema: Schema | None, key: str) -> Schema | None:
    return schema.child(key) if schema is not None else None


def _strategies(schema: Schema | None) -> Sequence[str]:
    return schema.patch_strategy if schema is not None else ()


def _merge_key(schema: Schema | None) -> str:
    return schema.patch_merge_key if schema is not None else ""
