"""Which configuration a change leads to, and which changes lead nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.raft import (
    ConfChange,
    ConfChangeError,
    ConfChangeKind,
    ConfChangeStep,
    ConfState,
    MemberId,
)
from gitkube.store.raft.configuration import changed, is_valid, members_of

ADD, REMOVE, LEARNER = ConfChangeKind.ADD_VOTER, ConfChangeKind.REMOVE, ConfChangeKind.ADD_LEARNER


def conf(voters: str = "", learners: str = "", outgoing: str = "", following: str = "") -> ConfState:
    def ids(text: str) -> tuple[MemberId, ...]:
        return tuple(MemberId(int(digit)) for digit in text)

    return ConfState(ids(voters), ids(learners), ids(outgoing), ids(following), auto_leave=bool(outgoing))


def change(*steps: tuple[ConfChangeKind, int]) -> ConfChange:
    return ConfChange(tuple(ConfChangeStep(kind, MemberId(member)) for kind, member in steps))


@pytest.mark.parametrize(
    ("before", "steps", "after"),
    [
        (conf("1"), [(ADD, 2)], conf("12")),
        (conf("123"), [(REMOVE, 2)], conf("13")),
        (conf("123"), [(REMOVE, 9)], conf("123")),
        (conf("123"), [(ADD, 2)], conf("123")),
        (conf("1"), [(LEARNER, 2)], conf("1", "2")),
        (conf("1", "2"), [(ADD, 2)], conf("12")),
        (conf("12"), [(LEARNER, 2)], conf("1", "2")),
        (conf("1", "2"), [(REMOVE, 2)], conf("1")),
        (conf("123"), [(ADD, 4), (REMOVE, 1)], conf("234", "", "123")),
        (conf("123"), [(LEARNER, 1), (ADD, 4)], conf("234", "", "123", "1")),
        (conf("123"), [(LEARNER, 4), (LEARNER, 5)], conf("123", "45", "123")),
        (conf("12", "3"), [(ADD, 3), (LEARNER, 2)], conf("13", "", "12", "2")),
        (conf("123"), [(LEARNER, 1), (ADD, 1)], conf("123", "", "123")),
        (conf("123"), [(LEARNER, 1), (REMOVE, 1)], conf("23", "", "123")),
        (conf("234", "", "123"), [], conf("234")),
        (conf("234", "5", "123", "1"), [], conf("234", "15")),
    ],
)
def test_a_change_leads_to_the_next_configuration(
    before: ConfState, steps: list[tuple[ConfChangeKind, int]], after: ConfState
) -> None:
    assert changed(before, change(*steps)) == after


@pytest.mark.parametrize(
    ("before", "steps", "reason"),
    [
        (conf(), [(ADD, 1)], "snapshot first"),
        (conf("1"), [(REMOVE, 1)], "last voter"),
        (conf("1"), [(LEARNER, 1)], "last voter"),
        (conf("12"), [(REMOVE, 1), (REMOVE, 2)], "last voter"),
        (conf("1"), [], "this is none"),
        (conf("12", "", "1"), [(ADD, 3)], "just changing"),
        (conf("1"), [(ADD, 0)], "no member id"),
    ],
)
def test_an_impossible_change_is_refused_with_its_reason(
    before: ConfState, steps: list[tuple[ConfChangeKind, int]], reason: str
) -> None:
    with pytest.raises(ConfChangeError, match=reason):
        changed(before, change(*steps))


STEPS = st.lists(st.tuples(st.sampled_from(list(ConfChangeKind)), st.integers(1, 6)), max_size=4)


@given(st.lists(STEPS, max_size=12))
def test_whatever_changes_are_made_each_member_has_one_part(
    changes: list[list[tuple[ConfChangeKind, int]]],
) -> None:
    now = conf("123")
    for steps in changes:
        try:
            following = changed(now, change(*steps))
        except ConfChangeError:
            continue
        assert is_valid(following)
        if not following.voters_outgoing and not now.voters_outgoing:
            assert len(set(now.voters) ^ set(following.voters)) <= 1
        now = following


@pytest.mark.parametrize(
    "nonsense",
    [
        conf(),
        conf("12", "2"),
        conf("12", "", "", "1"),
        ConfState(voters=(MemberId(1),), auto_leave=True),
        conf("01"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_noticed(nonsense: ConfState) -> None:
    assert not is_valid(nonsense)


def test_all_parts_of_a_configuration_are_members() -> None:
    assert members_of(conf("12", "3", "14", "4")) == {1, 2, 3, 4}


@given(STEPS, st.binary(max_size=20))
def test_a_change_is_read_as_it_was_written(steps: list[tuple[ConfChangeKind, int]], context: bytes) -> None:
    written = change(*steps)._replace(context=context)
    assert ConfChange.decode(written.encode()) == written


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x02\x00\x00", b"\x01\x00\x01", b"\x01\x00\x01\x09" + bytes(8)]
)
def test_what_is_no_change_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"configuration change|ConfChangeKind"):
        ConfChange.decode(data)
