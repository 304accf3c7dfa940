"""A write that is sent again is done once, whatever was forgotten meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.command import Alarm, AlarmKind, Compact, Origin, Txn
from gitkube.store.mvcc import KeySpace, Result
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Delete,
    Get,
    NoSpaceError,
    Op,
    Put,
    Revision,
    SessionExpiredError,
    Target,
    TxnResult,
)
from gitkube.store.sessions import SessionTable, Unseen


def put(value: bytes) -> Txn:
    return Txn((), (Put(b"k", value),))


def revision_of(result: Result) -> int:
    assert isinstance(result, TxnResult)
    return result.revision


def test_the_same_write_again_has_the_same_answer_and_changes_nothing() -> None:
    space = KeySpace()
    create = Txn((Compare(b"k", Target.CREATE, Op.EQUAL, 0),), (Put(b"k", b"mine"),), (Get(b"k"),))
    first = space.apply(create, Origin(5, 1))
    space.apply(Txn((), (Delete(b"k"),)))
    assert space.apply(create, Origin(5, 1)) is first
    assert isinstance(first, TxnResult)
    assert first.succeeded
    assert space.revision == 3


def test_a_write_without_a_session_is_done_each_time() -> None:
    space = KeySpace()
    assert revision_of(space.apply(put(b"1"))) == 2
    assert revision_of(space.apply(put(b"1"))) == 3


def test_writes_of_a_session_may_arrive_in_any_order() -> None:
    space = KeySpace()
    late = space.apply(put(b"3"), Origin(5, 3))
    early = space.apply(put(b"1"), Origin(5, 1))
    assert (revision_of(late), revision_of(early)) == (2, 3)
    assert space.apply(put(b"3"), Origin(5, 3)) is late
    assert space.apply(put(b"1"), Origin(5, 1)) is early
    assert space.range(b"k").kvs[0].value == b"1"


def test_an_error_is_an_answer_too() -> None:
    space = KeySpace()
    space.apply(put(b"1"))
    space.apply(Alarm(AlarmKind.NOSPACE, 1))
    refused = space.apply(put(b"2"), Origin(5, 1))
    assert isinstance(refused, NoSpaceError)
    space.apply(Alarm(AlarmKind.NOSPACE, 1, is_raised=False))
    assert space.apply(put(b"2"), Origin(5, 1)) is refused
    assert revision_of(space.apply(put(b"2"), Origin(5, 2))) == 3
    space.apply(Compact(Revision(2)), Origin(5, 3))
    assert isinstance(space.apply(Compact(Revision(2)), Origin(5, 4)), CompactedError)


def test_an_acknowledged_answer_is_forgotten_and_its_write_is_not_done_again() -> None:
    space = KeySpace()
    space.apply(put(b"1"), Origin(5, 1))
    second = space.apply(put(b"2"), Origin(5, 2))
    space.apply(put(b"3"), Origin(5, 3, acknowledged=2))
    assert space._sessions._sessions[5].answers.keys() == {2, 3}
    assert space.apply(put(b"2"), Origin(5, 2, acknowledged=2)) is second
    assert isinstance(space.apply(put(b"1"), Origin(5, 1)), SessionExpiredError)
    assert space.revision == 4


def test_the_least_recently_used_session_goes_and_its_writes_are_not_done_again() -> None:
    table = SessionTable(max_sessions=2)
    for origin in (Origin(1, 5, 5), Origin(2, 1), Origin(1, 2), Origin(2, 2), Origin(1, 3), Origin(3, 1)):
        if isinstance(table.recall(origin), Unseen) and origin.session in table._sessions:
            table.remember(origin, None)
    # Session 1 was new with `acknowledged` 5: it must have been another table's, and is not taken in.
    assert len(table) == 2
    assert isinstance(table.recall(Origin(2, 3, 2)), SessionExpiredError)
    assert table.recall(Origin(1, 3)) is None


def test_more_answers_than_a_session_may_keep_push_out_the_oldest() -> None:
    table = SessionTable(max_answers=3)
    for sequence in range(1, 6):
        assert isinstance(table.recall(Origin(1, sequence)), Unseen)
        table.remember(Origin(1, sequence), None)
    assert isinstance(table.recall(Origin(1, 2)), SessionExpiredError)
    assert table.recall(Origin(1, 3)) is None


def test_sessions_are_part_of_the_snapshot_with_their_order_of_use() -> None:
    space = KeySpace()
    answers = {session: space.apply(put(b"%d" % session), Origin(session, 1)) for session in range(1, 200)}
    space.apply(put(b"again"), Origin(1, 1))  # so it is the last one used
    loaded = KeySpace.load(space.dump())
    assert list(loaded._sessions._sessions) == [*range(2, 200), 1]
    for session, answer in answers.items():
        assert loaded.apply(put(b"again"), Origin(session, 1)) == answer
    assert loaded.revision == space.revision


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(0, 8)).map(lambda each: Origin(*each)),
        max_size=60,
    ),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_no_write_is_done_twice_however_small_the_table(
    origins: list[Origin], max_sessions: int, max_answers: int
) -> None:
    """But for a session that was forgotten before it acknowledged anything, which the table names."""
    table = SessionTable(max_sessions=max_sessions, max_answers=max_answers)
    done: set[tuple[int, int]] = set()
    forgotten: set[int] = set()
    for origin in origins:
        before = set(table._sessions)
        known = table.recall(origin)
        forgotten |= before - set(table._sessions)
        if isinstance(known, Unseen):
            at = (origin.session, origin.sequence)
            assert at not in done or origin.session in forgotten
            done.add(at)
            table.remember(origin, None)
        assert len(table) <= max_sessions
        assert all(len(each.answers) <= max_answers for each in table._sessions.values())
