"""A read troubles as many followers as it needs, and the others when those do not answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from gitkube.store.raft.types import ConfState, MemberId, Message, MessageKind
from gitkube.store.rounds import Rounds

US = MemberId(1)


def members(*numbers: int) -> tuple[MemberId, ...]:
    return tuple(map(MemberId, numbers))


THREE = ConfState(members(1, 2, 3))


def heartbeats(context: bytes, to: Iterable[MemberId] = members(2, 3)) -> list[Message]:
    return [Message(MessageKind.HEARTBEAT, member, US, 1, context=context) for member in to]


def sent(
    rounds: Rounds, messages: Sequence[Message], conf: ConfState = THREE, *, out_of_reach: Sequence[int] = ()
) -> list[int]:
    return [each.to for each in rounds.to_send(messages, conf, lambda member: member not in out_of_reach)]


def test_of_three_members_one_follower_is_asked_and_the_other_left_alone() -> None:
    rounds = Rounds()
    assert sent(rounds, heartbeats(b"1")) == [2]
    assert rounds.is_holding
    rounds.answered(MemberId(2), 1, b"1")
    assert not rounds.is_holding
    assert rounds.late() == []


def test_when_it_does_not_answer_the_other_is_asked_and_is_the_first_from_then_on() -> None:
    rounds = Rounds()
    assert sent(rounds, heartbeats(b"1")) == [2]
    assert [each.to for each in rounds.late()] == [3]
    assert rounds.late() == []
    rounds.answered(MemberId(3), 1, b"1")
    assert sent(rounds, heartbeats(b"2")) == [3]


def test_an_answer_to_an_older_round_or_term_decides_nothing() -> None:
    rounds = Rounds()
    sent(rounds, heartbeats(b"1"))
    sent(rounds, heartbeats(b"2"))
    rounds.answered(MemberId(2), 1, b"1")
    rounds.answered(MemberId(2), 0, b"2")
    assert [(each.to, each.context) for each in rounds.late()] == [(3, b"2")]


def test_the_heartbeats_of_the_interval_go_to_all() -> None:
    rounds = Rounds()
    sent(rounds, heartbeats(b"1"))
    rounds.interval_begins()
    assert sent(rounds, heartbeats(b"1")) == [2, 3]
    assert not rounds.is_holding
    assert sent(rounds, heartbeats(b"2")) == [2]


def test_of_five_members_two_followers_are_asked() -> None:
    rounds, conf, others = Rounds(), ConfState(members(1, 2, 3, 4, 5)), members(2, 3, 4, 5)
    assert sent(rounds, heartbeats(b"1", others), conf) == [2, 3]
    rounds.answered(MemberId(3), 1, b"1")
    assert [each.to for each in rounds.late()] == [4, 5]
    rounds.answered(MemberId(5), 1, b"1")
    assert sent(rounds, heartbeats(b"2", others), conf) == [3, 5]


@pytest.mark.parametrize(
    ("conf", "context", "out_of_reach", "expected"),
    [
        pytest.param(THREE, b"1", [2], [3], id="whoever is out of reach is not chosen"),
        pytest.param(THREE, b"1", [2, 3], [2, 3], id="with too few in reach all are tried"),
        pytest.param(THREE, b"", [], [2, 3], id="no read waits"),
        pytest.param(ConfState(members(1, 3), members(2)), b"1", [], [3], id="a learner confirms nothing"),
        pytest.param(ConfState(members(2, 3)), b"1", [], [2, 3], id="we are no voter any more"),
        pytest.param(
            ConfState(members(1, 2), (), members(1, 2, 3)), b"1", [], [2, 3], id="the members are changing"
        ),
    ],
)
def test_who_is_asked_follows_the_configuration(
    conf: ConfState, context: bytes, out_of_reach: list[int], expected: list[int]
) -> None:
    assert sent(Rounds(), heartbeats(context), conf, out_of_reach=out_of_reach) == expected


def test_other_messages_are_never_held_back() -> None:
    rounds = Rounds()
    append = Message(MessageKind.APPEND, MemberId(3), US, 1)
    assert rounds.to_send([append], THREE, lambda member: True) == [append]
    messages = [append, *heartbeats(b"1")]
    assert [(each.kind, each.to) for each in rounds.to_send(messages, THREE, lambda member: True)] == [
        (MessageKind.APPEND, 3),
        (MessageKind.HEARTBEAT, 2),
    ]
