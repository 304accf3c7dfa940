"""Merging and pruning along a schema: the two moves of server-side apply on values.

Follows structured-merge-diff, which defines them: maps merge by key and associative lists by element,
everything else is replaced as a whole.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.patch.copying import are_alike, clone
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.fieldset import FieldSet, children, element_step, is_granular, is_member, path_text
from gitkube.objects.schema import Schema


def merge(live: Any, applied: Any, schema: Schema | None) -> Any:
    """`applied` laid over `live`."""
    if not (is_granular(schema, live) and is_granular(schema, applied) and are_alike(live, applied)):
        return clone(applied)
    if isinstance(applied, dict):
        merged = dict(live)
        for key, item in applied.items():
            child = schema.child(key) if schema is not None and key in live else None
            if item is None and live.get(key) and is_granular(child, live[key]):
                continue  # it claims no element of that map or list, and takes away none of another's
            if key not in live or not isinstance(item, (dict, list)):
                merged[key] = clone(item)
            else:
                merged[key] = merge(live[key], item, child)
        return merged
    assert schema is not None  # a list without a schema is not granular
    return _merge_list(live, applied, schema)


def _merge_list(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    """Elements of both; those that are in both come in the order of `applied`."""
    left = [element_step(schema, item) for item in live]
    right = [element_step(schema, item) for item in applied]
    left_items = dict(reversed(list(zip(left, live, strict=True))))
    right_items = dict(zip(right, applied, strict=True))
    shared = iter([step for step in right if step in left_items])
    next_shared = next(shared, None)
    done: set[str] = set()
    result: list[Any] = []

    def take_right(step: str) -> None:
        nonlocal next_shared
        done.add(step)
        item = right_items[step]
        result.append(merge(left_items[step], item, schema.items) if step in left_items else clone(item))
        if step == next_shared:
            next_shared = next(shared, None)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                take_right(right[j])
                i, j = i + 1, j + 1
                continue
            if left[i] in right_items and next_shared is not None and next_shared != left[i]:
                i += 1  # in both, but its turn in the applied order has not come, or is over
                continue
        if i < len(left):
            if left[i] not in right_items:
                result.append(live[i])
                i += 1
                continue
            if left[i] in done:
                i += 1
        if j < len(right):
            take_right(right[j])
            j += 1
    return result


def remove_fields(value: Any, fields: FieldSet, schema: Schema | None) -> Any:
    """`value` without the members of a set; what lies below a member goes with it."""
    if not fields or not is_granular(schema, value):
        return value
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            node = fields.get(f"f:{key}")
            if node is None:
                result[key] = item
            elif not is_member(node):
                child = schema.child(key) if schema is not None else None
                result[key] = remove_fields(item, children(node), child)
        return result
    assert schema is not None
    kept = []
    for item in value:
        node = fields.get(element_step(schema, item))
        if node is None:
            kept.append(item)
        elif not is_member(node):
            kept.append(remove_fields(item, children(node), schema.items))
    return kept


def check_elements(value: Any, schema: Schema | None, path: tuple[str, ...] = ()) -> None:
    """Make sure that the elements of every associative list can be told apart.

    Raises:
        PatchError: two share a key, or one has none.
    """
    if not is_granular(schema, value):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)):
                check_elements(item, schema.child(key) if schema is not None else None, (*path, f"f:{key}"))
        return
    assert schema is not None
    seen: set[str] = set()
    for index, item in enumerate(value):
        try:
            step = element_step(schema, item)
        except ValueError as error:
            raise PatchError(f"{path_text(path)}: element {index}: {error}") from error
        if step in seen:
            raise PatchError(f"{path_text(path)}: duplicate entries for key {path_text((step,))}")
        seen.add(step)
        check_elements(item, schema.items, (*path, step))
