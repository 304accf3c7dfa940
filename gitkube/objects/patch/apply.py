"""Server-side apply: who owns which field, and what follows from it.

An apply says "these fields, with these values, are mine". Merged into the live object, it takes over its
fields; where it would change a field of another manager it is refused, unless forced; and fields that the
same manager claimed last time and does not any more are removed if nobody else owns them. Every other write
is tracked too: who changes a field owns it from then on. The rules are those of structured-merge-diff and
Kubernetes' field manager.

Invariants: a field is in the set of every manager who applied it with its present value, and in that of no
one whose value was overwritten; identity (name, uid, versions) is owned by nobody.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gitkube.objects.kinds import Kind
from gitkube.objects.normalise import normalise_value, without_empties
from gitkube.objects.patch.copying import clone
from gitkube.objects.patch.errors import ConflictError, FieldConflict, PatchError
from gitkube.objects.patch.fieldset import (
    Comparison,
    FieldSet,
    children,
    compare,
    difference,
    fields_of,
    intersection,
    members,
    path_text,
    union,
    with_named_members,
)
from gitkube.objects.patch.last_applied import KUBECTL, conflicts_left, with_note
from gitkube.objects.patch.managers import (
    APPLY,
    UPDATE,
    Entry,
    ManagerId,
    Managers,
    fold_old_updates,
    is_reset,
    manager_id,
    read_managers,
    write_managers,
)
from gitkube.objects.patch.typed import check_elements, merge, remove_fields
from gitkube.objects.schema import Schema
from gitkube.objects.types import Object

BEFORE_FIRST_APPLY = "before-first-apply"
_UNOWNED_METADATA = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    }
)
_UNOWNED_STEPS = frozenset(f"f:{name}" for name in _UNOWNED_METADATA)
_IDENTITY: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {step: {} for step in sorted(_UNOWNED_STEPS)},
}


def track_update(
    before: Object | None,
    after: Object,
    schema: Schema,
    *,
    kind: Kind,
    manager: str,
    now: str,
    subresource: str = "",
) -> list[Object]:
    """The `managedFields` after a write that is no apply: the manager owns what it changed.

    Args:
        before: the stored object; None when `after` is created.
        now: the time to note, RFC 3339.
    """
    if is_reset(after):
        managers: Managers = {}
    else:
        given = read_managers(after)
        managers = given if given else (read_managers(before or {}) or {})
    if before is not None and not managers:
        return []  # its owners were thrown away on purpose, or it comes from before there were any
    changes = _compare(before if before is not None else _empty(schema), after, schema)
    identity = manager_id(manager, UPDATE, kind.api_version, subresource)
    managers = _take_from_others(managers, identity, changes)
    changed = _owned(union(changes.modified, changes.added))
    present = managers.get(identity)
    if changed:
        kept = difference(present.fields, changes.removed) if present else {}
        managers[identity] = Entry(union(kept, changed), kind.api_version, now)
    elif present is not None:
        managers[identity] = Entry(
            difference(present.fields, changes.removed), present.api_version, present.time
        )
    return write_managers(fold_old_updates(managers))


def server_side_apply(
    live: Object | None,
    applied: Object,
    schema: Schema,
    *,
    kind: Kind,
    manager: str,
    now: str,
    force: bool = False,
    subresource: str = "",
) -> Object:
    """The live object with `applied` merged in and `managedFields` brought up to date.

    Args:
        live: the stored object; None when there is none.
        applied: just the fields that the manager wants to own.
        force: take over what others own.

    Raises:
        ConflictError: others own fields that would change, and `force` is not set.
        PatchError: an associative list has elements that cannot be told apart.
    """
    check_elements(applied, schema)
    current = live if live is not None else _bare(kind, applied)
    managers = dict(read_managers(current) or {})
    if live is not None and not managers:
        managers = _owned_before_first_apply(live, schema, kind, now)
    applied = _without_managers(applied)
    current = _without_managers(current)
    try:
        merged = merge(current, applied, schema)
        mine, reset = _owned(fields_of(applied, schema)), _reset_fields(kind, subresource)
        claimed = difference(mine, reset, takes_below=True)
        identity = manager_id(manager, APPLY, kind.api_version, subresource)
        last = managers.get(identity)
        managers[identity] = Entry(claimed, kind.api_version, now)
        if last is not None and difference(last.fields, claimed):
            merged = _prune(merged, last.fields, managers, schema)
        changes = _compare(current, merged, schema)
        if changes.added:
            # What holds nothing is not stored where nothing was: who applies it adds nothing by it, and must
            # not take it from whoever applies it, too, time and again.
            stored = _compare(current, _without_empties(kind, merged, schema), schema)
            changes = Comparison(stored.added, changes.modified, changes.removed)
    except ValueError as error:
        raise PatchError(f"the stored object cannot be applied to: {error}") from error
    conflicts = _conflicts(managers, identity, changes)
    if conflicts and not force:
        if manager == KUBECTL:
            conflicts = conflicts_left(current, conflicts, schema)
        if conflicts:
            raise ConflictError(conflicts)
    managers = _take_from_others(managers, identity, changes)
    is_same = last is not None and last.fields == claimed and last.api_version == kind.api_version
    if last is not None and is_same and _is_nothing(changes):
        managers[identity] = last
    entries = write_managers(fold_old_updates(managers))
    metadata = dict(merged.get("metadata") or {})
    if entries:
        metadata["managedFields"] = entries
    result = {**merged, "metadata": metadata}
    return with_note(live, applied, result) if manager == KUBECTL and live is not None else result


def _prune(merged: Object, last: FieldSet, managers: Managers, schema: Schema) -> Object:
    """Without what the manager claimed last time and nobody owns now: of what it claims again, nothing goes.

    A named field counts as owned when something below it is; so a struct stays as long as a part of it does.
    """
    pruned = remove_fields(merged, with_named_members(last), schema)
    before = with_named_members(fields_of(merged, schema))
    # Identity is nobody's, and still must not go with the last label of its metadata.
    owned = _IDENTITY
    for entry in managers.values():
        owned = union(owned, entry.fields)
    owned = with_named_members(owned)
    # What went although somebody owns it comes back,
    gone = difference(before, with_named_members(fields_of(pruned, schema)))
    pruned = remove_fields(merged, difference(gone, owned), schema)
    # and so does what went only because something around it went, but was never the manager's.
    gone = difference(before, with_named_members(fields_of(pruned, schema)))
    result: Object = remove_fields(merged, intersection(gone, with_named_members(last)), schema)
    return result


def _conflicts(managers: Managers, identity: ManagerId, changes: Comparison) -> list[FieldConflict]:
    changed = union(changes.modified, changes.added)
    found: list[FieldConflict] = []
    if not changed:
        return found
    for other in sorted(managers, key=str):
        if other == identity:
            continue
        for path in members(intersection(managers[other].fields, changed)):
            found.append(FieldConflict(str(other), path_text(path)))
    return found


def _take_from_others(managers: Managers, identity: ManagerId, changes: Comparison) -> Managers:
    """Whoever is overwritten loses the field, and what is gone is nobody's."""
    if _is_nothing(changes):
        return dict(managers)
    changed = union(changes.modified, changes.added)
    result: Managers = {}
    for other, entry in managers.items():
        if other == identity:
            result[other] = entry
            continue
        lost = intersection(entry.fields, changed)
        fields = difference(difference(entry.fields, lost), changes.removed)
        result[other] = entry if fields == entry.fields else Entry(fields, entry.api_version, entry.time)
    return result


def _owned_before_first_apply(live: Object, schema: Schema, kind: Kind, now: str) -> Managers:
    """An object without managers belongs, as a whole, to somebody unknown."""
    changes = _compare(_empty(schema), live, schema)
    fields = _owned(union(changes.modified, changes.added))
    identity = manager_id(BEFORE_FIRST_APPLY, UPDATE, kind.api_version, "")
    return {identity: Entry(fields, kind.api_version, now)}


def _compare(before: Object, after: Object, schema: Schema) -> Comparison:
    before, after = _with_null_times(before, schema), _with_null_times(after, schema)
    try:
        return compare(_owned_part(before), _owned_part(after), schema)
    except ValueError:
        # An element without its key: validation will refuse the object; until then nobody gains or loses.
        return Comparison({}, {}, {})


def _with_null_times(value: Any, schema: Schema | None) -> Any:
    """With the times that nobody has set as null: they are written, and so owned with their struct."""
    if schema is None or not schema.has_times:
        return value
    if isinstance(value, list):
        return [_with_null_times(item, schema.items) for item in value]
    if not isinstance(value, dict):
        return value
    result = {field: _with_null_times(item, schema.child(field)) for field, item in value.items()}
    for field in schema.times:
        result.setdefault(field, None)
    return result


def _without_empties(kind: Kind, merged: Object, schema: Schema) -> Object:
    """Without the empty maps and lists that are not stored. Custom resources keep those outside metadata."""
    if kind.custom is None:
        stored: Object = without_empties(schema, merged)
        return stored
    metadata = schema.child("metadata")
    return (
        merged if metadata is None else {**merged, "metadata": without_empties(metadata, merged["metadata"])}
    )


def _owned(fields: FieldSet) -> FieldSet:
    """Without identity, and without `metadata` itself: both are the server's."""
    result = {step: node for step, node in fields.items() if step not in ("f:apiVersion", "f:kind")}
    metadata = result.pop("f:metadata", None)
    if metadata is not None:
        rest = {step: node for step, node in children(metadata).items() if step not in _UNOWNED_STEPS}
        if rest:
            result["f:metadata"] = rest
    return result


def _owned_part(obj: Object) -> Object:
    metadata = obj.get("metadata")
    rest: dict[str, Any] = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    if isinstance(metadata, dict):
        rest["metadata"] = {key: value for key, value in metadata.items() if key not in _UNOWNED_METADATA}
    return rest


def _without_managers(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return {**obj}  # a plain dict, as what it is merged and compared with
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


@lru_cache(maxsize=256)
def _empty(schema: Schema) -> Object:
    """What is written even of an object that holds nothing: nobody owns a struct for having been created
    in it. Only to be compared with."""
    empty: Object = _with_empty_lists(normalise_value(schema, {}), schema)
    return {"metadata": {}, **empty}


def _with_empty_lists(value: Any, schema: Schema) -> Any:
    """A struct with the lists that are written even when they are empty, here and below."""
    if not isinstance(value, dict):
        return value
    below = {field: schema.child(field) for field in value}
    filled = {
        field: _with_empty_lists(item, child) if (child := below[field]) is not None else item
        for field, item in value.items()
    }
    return {**clone(dict(schema.nulls)), **filled}


def _bare(kind: Kind, applied: Object) -> Object:
    """What an apply merges into where nothing is yet."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}


def _reset_fields(kind: Kind, subresource: str) -> FieldSet:
    """What a write through this door cannot change and so cannot own."""
    if subresource == "status":
        return {"f:spec": {}}
    # Of a custom resource without that subresource, the status is a field as any other.
    return {} if kind.custom is not None and "status" not in kind.subresources else {"f:status": {}}


def _is_nothing(changes: Comparison) -> bool:
    return not (changes.added or changes.modified or changes.removed)
