"""The log: what is cut off and what never is, and how terms are searched."""

from __future__ import annotations

import pytest

from gitkube.store.raft import ConfChange, ConfChangeStep, Entry, EntryKind, MemberId, SnapshotMeta
from gitkube.store.raft.log import RaftLog, are_consecutive
from gitkube.store.raft.types import ConfChangeKind


def entries_of(*terms: int, first: int = 1) -> list[Entry]:
    return [Entry(index, term, b"%d/%d" % (index, term)) for index, term in enumerate(terms, start=first)]


def log_of(*terms: int, committed: int = 0, offset: int = 0, offset_term: int = 0) -> RaftLog:
    meta = SnapshotMeta(offset, offset_term)
    entries = entries_of(*terms, first=offset + 1)
    return RaftLog(meta, entries, committed=max(committed, offset), applied=offset)


def terms_of(log: RaftLog) -> list[int]:
    return [entry.term for entry in log.entries]


@pytest.mark.parametrize(
    ("held", "index", "term", "new", "last_new", "after"),
    [
        ([1, 2, 3], 3, 3, [], 3, [1, 2, 3]),
        ([1, 2, 3], 3, 3, [4, 4], 5, [1, 2, 3, 4, 4]),
        ([1, 2, 3], 2, 2, [3], 3, [1, 2, 3]),
        ([1, 2, 3], 1, 1, [2], 2, [1, 2, 3]),
        ([1, 2, 3], 0, 0, [1, 2, 3, 4], 4, [1, 2, 3, 4]),
        ([1, 2, 3], 1, 1, [4], 2, [1, 4]),
        ([1, 2, 2, 3], 1, 1, [2, 4], 3, [1, 2, 4]),
        ([1, 2, 3], 3, 2, [4], None, [1, 2, 3]),
        ([1, 2, 3], 4, 3, [4], None, [1, 2, 3]),
        ([], 0, 0, [1], 1, [1]),
        ([], 1, 1, [1], None, []),
    ],
    ids=[
        "nothing new",
        "behind the last",
        "already there",
        "an old one with a part of what is there takes nothing away",
        "partly there",
        "conflict at once",
        "conflict later",
        "the entry before is of another term",
        "the entry before is missing",
        "the first",
        "a gap",
    ],
)
def test_entries_are_taken_where_the_log_matches_and_only_conflicts_are_cut(
    held: list[int], index: int, term: int, new: list[int], last_new: int | None, after: list[int]
) -> None:
    log = log_of(*held)
    assert log.try_append(index, term, entries_of(*new, first=index + 1)) == last_new
    assert terms_of(log) == after
    assert log.last_index == len(after)


def test_a_committed_entry_is_not_replaced_whoever_asks() -> None:
    log = log_of(1, 2, 3, committed=2)
    assert log.try_append(1, 1, entries_of(4, first=2)) is None
    assert terms_of(log) == [1, 2, 3]


def test_what_is_cut_off_is_not_stable_any_more() -> None:
    log = log_of(1, 1, 1)
    assert log.stable == 3
    log.try_append(1, 1, entries_of(2, 2, 2, first=2))
    assert log.stable == 1
    assert [entry.index for entry in log.unstable()] == [2, 3, 4]


def test_a_write_that_has_been_overtaken_makes_nothing_stable() -> None:
    log = log_of(1)
    log.append(entries_of(2, first=2))
    log.unstable()
    log.try_append(1, 1, entries_of(3, first=2))
    log.written()
    assert log.stable == 1
    log.unstable()
    log.written()
    assert log.stable == 2


def test_of_a_write_that_was_overtaken_in_part_the_rest_is_stable() -> None:
    """Else what is applied meanwhile would be written anew (found by the simulation, seed 7567)."""
    log = log_of(1)
    log.append(entries_of(2, 2, 2, first=2))
    log.unstable()
    log.try_append(2, 2, entries_of(3, 3, 3, first=3))
    log.written()
    assert log.stable == 2
    assert [entry.index for entry in log.unstable()] == [3, 4, 5]


def test_a_state_that_replaces_the_log_overtakes_the_write_under_way() -> None:
    log = log_of(1)
    log.append(entries_of(2, 2, first=2))
    log.unstable()
    log.restore(SnapshotMeta(10, 3))
    log.append(entries_of(3, first=11))
    log.written()
    assert log.stable == 10


@pytest.mark.parametrize(
    ("term", "up_to", "found"),
    [
        (3, 9, (5, 3)),
        (3, 4, (4, 3)),
        (2, 9, (2, 1)),
        (1, 9, (2, 1)),
        (0, 9, (0, 0)),
        (9, 9, (7, 5)),
        (4, 0, (0, 0)),
    ],
)
def test_the_last_index_of_a_term_not_above_is_found(term: int, up_to: int, found: tuple[int, int]) -> None:
    log = log_of(1, 1, 3, 3, 3, 5, 5)
    assert log.last_index_of_term_at_most(term, up_to) == found


def test_in_a_compacted_log_the_search_ends_where_the_terms_are_unknown() -> None:
    log = log_of(5, 5, offset=10, offset_term=4)
    assert log.last_index_of_term_at_most(4, 12) == (10, 4)
    assert log.last_index_of_term_at_most(3, 12) == (9, None)
    assert log.last_index_of_term_at_most(3, 8) == (8, None)


@pytest.mark.parametrize(
    ("index", "term", "is_up_to_date"),
    [(3, 3, True), (4, 3, True), (2, 3, False), (1, 4, True), (9, 2, False)],
)
def test_a_later_term_or_a_longer_log_of_the_same_is_more_complete(
    index: int, term: int, is_up_to_date: bool
) -> None:
    assert log_of(1, 2, 3).is_up_to_date(index, term) is is_up_to_date


def test_a_slice_holds_at_most_so_many_bytes_but_one_entry() -> None:
    log = log_of(1, 1, 1, 1)  # 3 bytes each
    assert [entry.index for entry in log.slice(1, 7)] == [1, 2]
    assert [entry.index for entry in log.slice(2, 1)] == [2]
    assert [entry.index for entry in log.slice(3, 100)] == [3, 4]
    assert log.slice(5, 100) == ()


def test_followers_that_are_level_are_sent_the_same_tuple_until_the_log_changes() -> None:
    log = log_of(1, 1)
    first = log.slice(2, 100)
    assert log.slice(2, 100) is first
    log.append(entries_of(1, first=3))
    assert [entry.index for entry in log.slice(2, 100)] == [2, 3]
    log.try_append(1, 1, entries_of(2, first=2))
    assert [entry.term for entry in log.slice(2, 100)] == [2]


def test_entries_to_apply_come_in_order_and_no_more_than_asked() -> None:
    log = log_of(1, 1, 1, 1, committed=3)
    assert [entry.index for entry in log.to_apply(2)] == [1, 2]
    log.applied_to(2)
    assert [entry.index for entry in log.to_apply(2)] == [3]
    log.applied_to(3)
    assert log.to_apply(2) == []


def test_a_snapshot_replaces_the_log_and_entries_go_on_behind_it() -> None:
    log = log_of(1, 1, 1, committed=1)
    meta = SnapshotMeta(10, 4)
    log.restore(meta)
    assert (log.first_index, log.last_index, log.committed, log.term(10), log.term(3)) == (
        11,
        10,
        10,
        4,
        None,
    )
    log.try_append(10, 4, entries_of(4, 5, first=11))
    log.commit_to(11)
    assert [entry.index for entry in log.to_apply(9)] == [11]
    log.installed(meta)
    assert (log.applied, log.snapshot) == (10, None)


def test_an_older_snapshot_that_gets_installed_leaves_the_newer_one_to_do() -> None:
    log = log_of(1)
    older, newer = SnapshotMeta(10, 4), SnapshotMeta(20, 4)
    log.restore(older)
    log.restore(newer)
    log.installed(older)
    assert log.snapshot == newer
    assert log.to_apply(9) == []


def test_compaction_keeps_the_term_of_the_last_entry_that_went() -> None:
    log = log_of(1, 1, 2, 3, committed=3)
    log.applied_to(3)
    log.compact(3)
    assert (log.first_index, log.term(3), log.term(2), terms_of(log)) == (4, 2, None, [3])
    log.compact(2)
    assert log.first_index == 4
    assert log.try_append(3, 2, entries_of(4, first=4)) == 4


def test_only_a_committed_change_of_the_members_waits_to_be_applied() -> None:
    change = ConfChange((ConfChangeStep(ConfChangeKind.REMOVE, MemberId(3)),))
    log = log_of(1, committed=1)
    log.append([Entry(2, 1, change.encode(), EntryKind.CONF_CHANGE)])
    assert not log.has_conf_change_to_apply()
    log.commit_to(2)
    assert log.has_conf_change_to_apply()
    log.applied_to(2)
    assert not log.has_conf_change_to_apply()


@pytest.mark.parametrize(
    ("entries", "fits"),
    [
        (entries_of(2, 2, 3, first=6), True),
        ([], True),
        (entries_of(2, first=7), False),
        (entries_of(1, first=6), False),
        (entries_of(3, 2, first=6), False),
        ([*entries_of(2, first=6), *entries_of(2, first=8)], False),
    ],
)
def test_entries_must_follow_without_gap_and_with_terms_that_never_fall(
    entries: list[Entry], fits: bool
) -> None:
    assert are_consecutive(entries, 5, 2) is fits


@pytest.mark.parametrize(("committed", "entries"), [(3, entries_of(1, 1)), (0, entries_of(1, first=2))])
def test_a_log_that_lacks_entries_is_not_started_with(committed: int, entries: list[Entry]) -> None:
    with pytest.raises(AssertionError, match=r"entries are missing|a gap"):
        RaftLog(SnapshotMeta(), entries, committed=committed, applied=0)
