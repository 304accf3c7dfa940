"""Answers to `Get` and to comparisons, as etcd 3.4 gives them.

A read goes through etcd's steps in etcd's order (`applierV3backend.Range`): find the range at its revision,
leave out what is outside of the bounds, sort, cut at the limit, drop the values. `count` is of the range
before bounds and limit, and `more` says that the limit cut something off.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from gitkube.store.protocol import (
    Compare,
    Get,
    KeyValue,
    Op,
    RangeResult,
    Revision,
    SortBy,
    Target,
)
from gitkube.store.versions import Versions

ALL = -1

_SORT_KEYS = {
    SortBy.VERSION: attrgetter("version"),
    SortBy.CREATE: attrgetter("create_revision"),
    SortBy.MOD: attrgetter("mod_revision"),
    SortBy.VALUE: attrgetter("value"),
}
_MISSING = KeyValue(b"", b"", Revision(0), Revision(0), 0)
"""What a comparison sees in place of a key that is not there."""


def read(versions: Versions, get: Get) -> RangeResult:
    """The answer to a read; `get.revision` was checked. 0 or less is now."""
    latest = versions.latest
    revision = get.revision if get.revision > 0 else latest
    if get.count_only:
        count, _ = versions.find(get.key, get.end, revision, 0)
        return RangeResult([], latest, count)
    limit = get.limit if get.limit > 0 else ALL
    is_in_order = get.sort_by is SortBy.KEY and not get.descending
    if is_in_order and not _has_bounds(get):
        count, found = versions.find(get.key, get.end, revision, limit)
        more = len(found) < count
    else:
        count, found = versions.find(get.key, get.end, revision, ALL)
        found = _within_bounds(found, get)
        _sort(found, get)
        more = 0 < limit < len(found)
        if more:
            del found[limit:]
    if get.keys_only:
        found = [kv._replace(value=b"") for kv in found]
    return RangeResult(found, latest, count, more)


def _has_bounds(get: Get) -> bool:
    return bool(
        get.min_mod_revision or get.max_mod_revision or get.min_create_revision or get.max_create_revision
    )


def _within_bounds(found: list[KeyValue], get: Get) -> list[KeyValue]:
    if get.min_mod_revision:
        found = [kv for kv in found if kv.mod_revision >= get.min_mod_revision]
    if get.max_mod_revision:
        found = [kv for kv in found if kv.mod_revision <= get.max_mod_revision]
    if get.min_create_revision:
        found = [kv for kv in found if kv.create_revision >= get.min_create_revision]
    if get.max_create_revision:
        found = [kv for kv in found if kv.create_revision <= get.max_create_revision]
    return found


def _sort(found: list[KeyValue], get: Get) -> None:
    # Equal ones stay in the order of their keys; etcd's sort leaves them in any order.
    if get.sort_by is not SortBy.KEY:
        found.sort(key=_SORT_KEYS[get.sort_by], reverse=get.descending)
    elif get.descending:
        found.reverse()


def holds(versions: Versions, compare: Compare) -> bool:
    """Whether a comparison is true now; with a range, for each of its keys."""
    kvs: list[KeyValue]
    if compare.end:
        _, kvs = versions.find(compare.key, compare.end, versions.latest, ALL)
    else:
        kv = versions.get(compare.key)
        kvs = [] if kv is None else [kv]
    if not kvs:
        # A key that is not there has no value to compare with, and 0 in place of every number.
        return compare.target is not Target.VALUE and _holds_for(_MISSING, compare)
    return all(_holds_for(kv, compare) for kv in kvs)


def _holds_for(kv: KeyValue, compare: Compare) -> bool:
    actual: Any
    match compare.target:
        case Target.VERSION:
            actual = kv.version
        case Target.CREATE:
            actual = kv.create_revision
        case Target.MOD:
            actual = kv.mod_revision
        case Target.LEASE:
            actual = kv.lease
        case Target.VALUE:
            actual = kv.value
    match compare.op:
        case Op.EQUAL:
            return bool(actual == compare.value)
        case Op.NOT_EQUAL:
            return bool(actual != compare.value)
        case Op.GREATER:
            return bool(actual > compare.value)
        case Op.LESS:
            return bool(actual < compare.value)
