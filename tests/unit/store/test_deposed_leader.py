"""What a member that has stepped down is told about messages which it had sent while it led."""

from __future__ import annotations

import random

from gitkube.store.raft import RaftConfig, RaftNode
from gitkube.store.raft.types import ConfState, HardState, MemberId, Message, Role, SnapshotMeta

ONE, TWO, THREE = (MemberId(number) for number in (1, 2, 3))
CONF = ConfState((ONE, TWO, THREE), (), (), (), False)
MAX_TURNS = 100


def node(member: MemberId) -> RaftNode:
    return RaftNode(
        RaftConfig(member),
        rng=random.Random(member),
        hard_state=HardState(1, MemberId(0), 1),
        snapshot=SnapshotMeta(1, 1, CONF),
        entries=[],
        applied=1,
    )


class Trio:
    def __init__(self) -> None:
        self.nodes = {member: node(member) for member in (ONE, TWO, THREE)}

    def settle(self, *, cut_off: MemberId | None = None) -> None:
        """Carry messages until nobody has anything to do."""
        for _ in range(MAX_TURNS):
            messages: list[Message] = []
            for each in self.nodes.values():
                if each.has_ready():
                    ready = each.ready()
                    messages += [*ready.early_messages, *ready.messages]
                    each.advance()
            for message in messages:
                if cut_off not in (message.to, message.sender):
                    self.nodes[message.to].step(message)
            if not any(each.has_ready() for each in self.nodes.values()):
                return
        raise AssertionError("somebody always has something to do")

    def tick(self, *members: MemberId, times: int, cut_off: MemberId | None = None) -> None:
        for _ in range(times):
            for member in members:
                self.nodes[member].tick()
            self.settle(cut_off=cut_off)


def test_a_leader_that_stepped_down_has_nothing_to_do_about_a_member_it_cannot_reach() -> None:
    trio = Trio()
    trio.tick(ONE, times=30)
    assert trio.nodes[ONE].role is Role.LEADER
    trio.nodes[ONE].propose([b"first"])
    trio.settle()
    trio.tick(TWO, THREE, times=60, cut_off=ONE)  # the others elect one of them
    trio.tick(ONE, TWO, THREE, times=5)
    assert trio.nodes[ONE].role is Role.FOLLOWER
    trio.nodes[ONE].report_unreachable(TWO)
    trio.nodes[ONE].report_unreachable(THREE)
    trio.settle()
    assert not trio.nodes[ONE].has_ready()
