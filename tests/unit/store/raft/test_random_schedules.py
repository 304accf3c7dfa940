"""Whole lives of a cluster by chance: whatever network, disks and members do, Raft's promises hold.

Each seed draws a schedule: messages are lost, doubled and overtaken, links are cut, members crash and come
back with what was synced, Readies are worked off phase by phase in between, members are added and removed,
states are taken and logs compacted. `Promises` looks after each step. At the end all is mended, and the
cluster must get to work again: safety alone could be had by doing nothing.

`GITKUBE_RAFT_SEEDS=10000` runs as many seeds, `GITKUBE_RAFT_FIRST_SEED=…` begins with another one.
"""

from __future__ import annotations

import os
import random

import pytest

from gitkube.store.raft import (
    ConfChange,
    ConfChangeError,
    ConfChangeKind,
    ConfChangeStep,
    MemberId,
    Message,
    MessageKind,
    ProposalDropped,
    RaftConfig,
    Role,
)
from tests.support.raft_cluster import PretendMember, Promises, first_snapshot

SEEDS = int(os.environ.get("GITKUBE_RAFT_SEEDS", "60"))
FIRST_SEED = int(os.environ.get("GITKUBE_RAFT_FIRST_SEED", "0"))
STEPS = 1500
MEMBERS = 6


class RandomCluster:
    """A cluster and the chance that rules it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.promises = Promises()
        self.queue: list[Message] = []
        self.cut: set[tuple[MemberId, MemberId]] = set()
        self.counter = 0
        self.loss = rng.choice([0.0, 0.02, 0.1, 0.3])
        self.doubling = rng.choice([0.0, 0.05, 0.2])
        self.disorder = rng.choice([0.0, 0.3, 1.0])
        crash = rng.choice([0.0, 0.3, 1.5])
        self.weights = {
            "deliver": 60,
            "tick": 25,
            "work": 60,
            "propose": 10,
            "read": 8,
            "change": rng.choice([0.0, 2.0, 8.0]),
            "transfer": 0.5,
            "campaign": 0.3,
            "snapshot": 2,
            "crash": crash,
            "restart": crash * 3,
            "cut": rng.choice([0.3, 1.0]),
        }
        self.settings = {
            "pre_vote": rng.random() < 0.75,
            "check_quorum": rng.random() < 0.75,
            "max_append_bytes": rng.choice([1, 20, 1 << 20]),
            "max_inflight": rng.choice([1, 2, 256]),
            "max_committed_entries": rng.choice([1, 3, 4096]),
            "max_uncommitted_bytes": rng.choice([40, 1 << 20]),
        }
        first = rng.choice([1, 2, 3, 3, 3, 4, 5])
        founders = tuple(range(1, first + 1))
        self.members = {
            member: PretendMember(
                member,
                make_config=self.config,
                rng=random.Random(rng.random()),
                **({"snapshot": first_snapshot(*founders)} if member in founders else {}),
            )
            for member in map(MemberId, range(1, MEMBERS + 1))
        }

    def config(self, member: MemberId) -> RaftConfig:
        return RaftConfig(id=member, election_ticks=5, **self.settings)

    # ------------------------------------------------------------------ the network
    def send(self, message: Message) -> None:
        chance = self.rng.random
        if (message.sender, message.to) in self.cut or chance() < self.loss:
            self.lose(message)
            return
        self.queue.append(message)
        if chance() < self.doubling:
            self.queue.append(message)

    def lose(self, message: Message) -> None:
        sender = self.members[message.sender]
        if not sender.is_up:
            return
        if message.kind is MessageKind.SNAPSHOT:
            sender.node.report_snapshot(message.to, ok=False)
        elif self.rng.random() < 0.3:
            sender.node.report_unreachable(message.to)

    def deliver(self) -> None:
        if not self.queue:
            return
        position = self.rng.randrange(len(self.queue)) if self.rng.random() < self.disorder else 0
        message = self.queue.pop(position)
        target = self.members[message.to]
        if not target.is_up or (message.sender, message.to) in self.cut:
            self.lose(message)
            return
        target.node.step(message)
        if message.kind is MessageKind.SNAPSHOT and self.members[message.sender].is_up:
            self.members[message.sender].node.report_snapshot(message.to, ok=True)
        self.look(target)

    # ------------------------------------------------------------------ what may happen
    def look(self, member: PretendMember) -> None:
        self.promises.check_leader(member)
        self.promises.check_commit(member, {name: m.disk for name, m in self.members.items()})

    def work(self, member: PretendMember, phases: int = 1) -> bool:
        worked = False
        for _ in range(phases):
            if not member.work(self.send, self.promises):
                break
            worked = True
            self.look(member)
        return worked

    def any_up(self) -> PretendMember | None:
        up = [member for member in self.members.values() if member.is_up]
        return self.rng.choice(up) if up else None

    def happen(self) -> None:
        rng = self.rng
        member = self.any_up()
        event = rng.choices(list(self.weights), self.weights.values())[0]
        if event == "restart":
            down = [each for each in self.members.values() if not each.is_up]
            if down:
                rng.choice(down).restart()
            return
        if event == "deliver":
            for _ in range(rng.choice([1, 2, 10])):
                self.deliver()
            return
        if event == "work":
            for each in rng.sample(list(self.members.values()), 3):
                if each.is_up:
                    self.work(each, rng.choice([1, 2, 5, 10]))
            return
        if event == "cut":
            self.cut_links()
            return
        if member is None:
            return
        leaders = [each for each in self.members.values() if each.is_up and each.node.role is Role.LEADER]
        if event in ("propose", "change", "read") and leaders and rng.random() < 0.7:
            member = rng.choice(leaders)
        node = member.node
        try:
            if event == "tick":
                node.tick()
            elif event == "propose":
                self.counter += 1
                node.propose([b"%d-%d" % (self.counter, i) for i in range(rng.choice([1, 1, 3]))])
            elif event == "read":
                self.counter += 1
                context = b"r%d" % self.counter
                member.reads_wanted[context] = self.promises.committed
                node.read_index(context)
            elif event == "change":
                node.propose_conf_change(self.any_change())
            elif event == "transfer":
                node.transfer_leadership(rng.choice(list(self.members)))
            elif event == "campaign":
                node.campaign()
            elif event == "snapshot":
                member.take_snapshot(rng.choice([0, 0, 3]))
            elif event == "crash":
                member.crash(loses_unsynced=rng.random() < 0.5)
                return
        except (ProposalDropped, ConfChangeError):
            pass
        self.look(member)

    def any_change(self) -> ConfChange:
        rng = self.rng
        return ConfChange(
            tuple(
                ConfChangeStep(rng.choice(list(ConfChangeKind)), rng.choice(list(self.members)))
                for _ in range(rng.choice([1, 1, 2, 3]))
            )
        )

    def cut_links(self) -> None:
        """No cut, one member alone, a one-way cut, or two halves."""
        rng, names = self.rng, list(self.members)
        how = rng.choice(["none", "none", "alone", "one way", "halves"])
        self.cut = set()
        if how == "alone":
            leader = self.leader()
            alone = leader.id if leader is not None and rng.random() < 0.5 else rng.choice(names)
            self.cut = {pair for other in names for pair in ((alone, other), (other, alone))}
        elif how == "one way":
            self.cut = {(rng.choice(names), rng.choice(names)) for _ in range(4)}
        elif how == "halves":
            half = set(rng.sample(names, len(names) // 2))
            self.cut = {(a, b) for a in names for b in names if (a in half) != (b in half)}

    # ------------------------------------------------------------------ the end
    def mend(self) -> None:
        self.cut, self.loss, self.doubling, self.disorder = set(), 0.0, 0.0, 0.0
        for member in self.members.values():
            if not member.is_up:
                member.restart()

    def settle(self) -> None:
        """Deliver and work until nothing is left to do."""
        for _ in range(100_000):
            busy = bool(self.queue)
            while self.queue:
                self.deliver()
            for member in self.members.values():
                busy |= self.work(member, 5)
            if not busy and not self.tell_commits():
                return
        raise AssertionError("the members never come to rest")

    def tell_commits(self) -> bool:
        up = [member.node for member in self.members.values() if member.is_up]
        told = [node.tell_commit(node.committed) for node in up]  # all of them, not up to the first
        return any(told)

    def leader(self) -> PretendMember | None:
        leaders = [m for m in self.members.values() if m.is_up and m.node.role is Role.LEADER]
        return max(leaders, key=lambda m: m.node.term, default=None)

    def get_to_work(self) -> None:
        """After all is mended: a leader, a joint configuration left, one more entry on all its members."""
        self.mend()
        for _ in range(400):
            for member in self.members.values():
                member.node.tick()
                self.look(member)
            self.settle()
            if (leader := self.leader()) is None or leader.node.conf.voters_outgoing:
                continue
            target = leader.node.last_index
            conf = leader.node.conf
            if self.is_level(conf.voters + conf.learners, target):
                try:
                    leader.node.propose([b"the last"])
                except ProposalDropped:
                    continue
                self.settle()
                if self.is_level(conf.voters + conf.learners, target + 1):
                    return
        raise AssertionError(
            f"no progress: {[(m.id, m.node.role, m.node.term) for m in self.members.values()]}"
        )

    def is_level(self, members: tuple[MemberId, ...], index: int) -> bool:
        return all(self.members[member].node.applied >= index for member in members)


def live(seed: int) -> RandomCluster:
    cluster = RandomCluster(seed)
    for _ in range(STEPS):
        cluster.happen()
    cluster.get_to_work()
    return cluster


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_rafts_promises_hold_and_a_mended_cluster_gets_to_work(seed: int) -> None:
    cluster = live(seed)
    assert cluster.promises.committed > 1
