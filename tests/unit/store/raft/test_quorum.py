"""Majorities, single and joint."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.raft import MemberId
from gitkube.store.raft.quorum import EVERYTHING, Quorum, VoteResult, agreed


def voters(*members: int) -> frozenset[MemberId]:
    return frozenset(map(MemberId, members))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], EVERYTHING),
        ([7], 7),
        ([7, 9], 7),
        ([5, 9, 7], 7),
        ([9, 9, 0], 9),
        ([0, 0, 9], 0),
        ([1, 2, 3, 4], 2),
        ([1, 2, 3, 4, 5], 3),
    ],
)
def test_a_majority_agrees_on_what_most_have_reached(values: list[int], expected: int) -> None:
    assert agreed(values) == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_what_is_agreed_is_the_highest_value_that_a_majority_has(values: list[int]) -> None:
    def has_majority(value: int) -> bool:
        return sum(each >= value for each in values) > len(values) / 2

    result = agreed(list(values))
    assert has_majority(result)
    assert not has_majority(result + 1)


def test_a_joint_configuration_agrees_on_what_both_halves_have() -> None:
    quorum = Quorum(voters(1, 2, 3), voters(3, 4, 5))
    reached = {MemberId(m): value for m, value in {1: 9, 2: 9, 3: 5, 4: 4, 5: 1}.items()}
    assert quorum.agreed(reached) == 4
    assert quorum.agreed({MemberId(1): 9, MemberId(2): 9}) == 0


@pytest.mark.parametrize(
    ("granted", "rejected", "expected"),
    [
        ((), (), VoteResult.PENDING),
        ((1,), (), VoteResult.PENDING),
        ((1, 2), (), VoteResult.WON),
        ((1,), (2,), VoteResult.PENDING),
        ((1,), (2, 3), VoteResult.LOST),
        ((1, 7, 8, 9), (), VoteResult.PENDING),
    ],
)
def test_a_vote_is_won_or_lost_as_soon_as_nothing_can_change_it(
    granted: tuple[int, ...], rejected: tuple[int, ...], expected: VoteResult
) -> None:
    votes = {MemberId(m): m in granted for m in (*granted, *rejected)}
    assert Quorum(voters(1, 2, 3)).vote_result(votes) is expected


def test_a_joint_vote_needs_both_halves_and_is_lost_with_one() -> None:
    quorum = Quorum(voters(1, 2), voters(3, 4, 5))
    yes, no = True, False
    for one, other in product([yes, no, None], repeat=2):
        cast = {1: one, 2: one, 3: other, 4: other}
        votes = {MemberId(member): vote for member, vote in cast.items() if vote is not None}
        if one is no or other is no:
            expected = VoteResult.LOST
        else:
            expected = VoteResult.WON if one and other else VoteResult.PENDING
        assert quorum.vote_result(votes) is expected, (one, other)


def test_a_member_of_both_halves_counts_in_both() -> None:
    quorum = Quorum(voters(1, 2), voters(1, 3))
    assert not quorum.is_reached_by([MemberId(2), MemberId(3)])
    assert quorum.is_reached_by([MemberId(1), MemberId(2), MemberId(3)])


@given(
    st.sets(st.integers(1, 7), min_size=1), st.sets(st.integers(1, 7)), st.sets(st.integers(1, 7)), st.data()
)
def test_two_quorums_of_a_configuration_always_meet(
    incoming: set[int], outgoing: set[int], first: set[int], data: st.DataObject
) -> None:
    quorum = Quorum(voters(*incoming), voters(*outgoing))
    second = data.draw(st.sets(st.integers(1, 7)))
    if quorum.is_reached_by(voters(*first)) and quorum.is_reached_by(voters(*second)):
        assert first & second & incoming
