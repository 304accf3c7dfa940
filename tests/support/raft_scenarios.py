"""Scenarios of the consensus core as text files: commands, and what the members then do.

The idea is etcd-io/raft's. A file is a list of blocks: command lines, `----`, and the output, up to an empty
line. Lines with `#` tell the story. The runner runs the commands on a cluster of pretend members and compares
the output; with `GITKUBE_REGENERATE=1` it writes the output into the file instead, to be read as a diff.

Nothing moves by itself. Messages wait on their links until `deliver` or `stabilize`; a Ready waits for
`work`, `stabilize`, or the phases one by one (`take`, `persist`, `send`, `apply`, `finish`).

```
members 3 [learners=4] [pre-vote=no] …     a cluster whose members know each other from index 0
member 4 [log=1,1,2 term=3 commit=2]       set one member's disk (terms of the entries), or add a new member
campaign 1 | tick 1 [count] | tick-election 1 | tick-heartbeat 1
propose 1 foo bar | read 1 name | transfer 1 to 2 | conf-change 1 add 4 remove 2 learner 3
deliver [APPEND] [1->2] | drop [APPEND] [1->2] | stabilize | work 1 | take 1 …
cut 1 2 | mend | crash 1 | restart 1 | snapshot 1 [keep] | unreachable 1 2 | count
status | log | quietly <another command>
```
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from gitkube.store.raft import (
    NOBODY,
    ConfChange,
    ConfChangeError,
    ConfChangeKind,
    ConfChangeStep,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    Message,
    MessageKind,
    ProposalDropped,
    RaftConfig,
    Ready,
    SnapshotMeta,
)
from tests.support.raft_cluster import PretendMember, Promises

_STEPS = {
    "add": ConfChangeKind.ADD_VOTER,
    "remove": ConfChangeKind.REMOVE,
    "learner": ConfChangeKind.ADD_LEARNER,
}


def run_file(path: Path) -> None:
    """Run a scenario and compare, or write the file again if the environment asks for it."""
    scenario = Scenario()
    found: list[str] = []
    for commands, expected, lines in _blocks(path.read_text()):
        output: list[str] = []
        for command in commands:
            output += scenario.run(command)
        found += [*lines, "----", *(output or ["ok"]), ""]
        if not os.environ.get("GITKUBE_REGENERATE"):
            assert output == expected or (not output and expected == ["ok"]), (
                f"{path.name}: after {commands}:\n"
                + "\n".join(output)
                + "\ninstead of\n"
                + "\n".join(expected)
            )
    if os.environ.get("GITKUBE_REGENERATE"):
        path.write_text("\n".join(found))


def _blocks(text: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Commands, expected output, and the lines above `----` as they are (with comments)."""
    lines = iter([*text.splitlines(), ""])
    for line in lines:
        if not line:
            continue
        head = [line]
        for following in lines:
            if following == "----":
                break
            head.append(following)
        expected = []
        for following in lines:
            if not following:
                break
            expected.append(following)
        commands = [each for each in head if each and not each.startswith("#")]
        yield commands, expected, head


class Scenario:
    """The cluster of one scenario."""

    def __init__(self) -> None:
        self.members: dict[MemberId, PretendMember] = {}
        self.links: list[Message] = []
        self.isolated: set[MemberId] = set()
        self.promises = Promises()
        self.settings: dict[str, object] = {}
        self.messages_sent = 0
        self.output: list[str] = []

    def run(self, command: str) -> list[str]:
        """Do one command; its output."""
        self.output = []
        name, *words = command.split()
        getattr(self, "do_" + name.replace("-", "_"))(*words)
        return self.output

    # ------------------------------------------------------------------ who is there
    def do_members(self, count: str, *settings: str) -> None:
        learners: tuple[MemberId, ...] = ()
        for setting in settings:
            name, _, value = setting.partition("=")
            if name == "learners":
                learners = tuple(MemberId(int(each)) for each in value.split(","))
            else:
                self.settings[name.replace("-", "_")] = {"yes": True, "no": False}.get(value, value)
        self.settings = {k: v if isinstance(v, bool) else int(str(v)) for k, v in self.settings.items()}
        voters = tuple(MemberId(each) for each in range(1, int(count) + 1))
        for member in voters + learners:
            self._add(member, SnapshotMeta(conf=ConfState(voters, learners)))

    def do_member(self, name: str, *settings: str) -> None:
        if MemberId(int(name)) not in self.members:
            self._add(MemberId(int(name)), SnapshotMeta())
        member = self._member(name)
        values = dict(setting.split("=") for setting in settings)
        terms = [int(term) for term in values.get("log", "").split(",") if term]
        member.disk.entries = [Entry(i, term, b"old%d" % term) for i, term in enumerate(terms, start=1)]
        term = int(values.get("term", terms[-1] if terms else 0))
        member.disk.hard_state = HardState(term, NOBODY, int(values.get("commit", 0)))
        member.restart()

    def _add(self, member: MemberId, snapshot: SnapshotMeta) -> None:
        def config(name: MemberId) -> RaftConfig:
            return RaftConfig(id=name, **self.settings)  # type: ignore[arg-type]

        rng = random.Random(member)
        self.members[member] = PretendMember(member, make_config=config, rng=rng, snapshot=snapshot)

    def _member(self, name: str) -> PretendMember:
        return self.members[MemberId(int(name))]

    # ------------------------------------------------------------------ what goes in
    def do_campaign(self, name: str) -> None:
        self._member(name).node.campaign()

    def do_tick(self, name: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._member(name).node.tick()

    def do_tick_election(self, name: str) -> None:
        node = self._member(name).node
        for _ in range(node._state.election_timeout):
            node.tick()

    def do_tick_heartbeat(self, name: str) -> None:
        self._member(name).node.tick()

    def do_propose(self, name: str, *datas: str) -> None:
        self._ask(lambda: self._member(name).node.propose([data.encode() for data in datas]))

    def do_read(self, name: str, context: str) -> None:
        member = self._member(name)
        member.reads_wanted[context.encode()] = self.promises.committed
        self._ask(lambda: member.node.read_index(context.encode()))

    def do_transfer(self, name: str, to: str, target: str) -> None:
        assert to == "to"
        self._ask(lambda: self._member(name).node.transfer_leadership(MemberId(int(target))))

    def do_conf_change(self, name: str, *words: str) -> None:
        pairs = zip(words[::2], words[1::2], strict=True)
        steps = tuple(ConfChangeStep(_STEPS[kind], MemberId(int(member))) for kind, member in pairs)
        self._ask(lambda: self._member(name).node.propose_conf_change(ConfChange(steps)))

    def _ask(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ProposalDropped, ConfChangeError) as error:
            self.output.append(f"{type(error).__name__}: {error}")

    def do_unreachable(self, name: str, other: str) -> None:
        self._member(name).node.report_unreachable(MemberId(int(other)))

    def do_snapshot(self, name: str, keep: str = "0") -> None:
        self._member(name).take_snapshot(int(keep))

    # ------------------------------------------------------------------ faults
    def do_cut(self, *names: str) -> None:
        """These members hear nobody and nobody hears them, nor do they hear each other."""
        self.isolated |= {MemberId(int(name)) for name in names}

    def do_mend(self) -> None:
        self.isolated = set()

    def do_crash(self, name: str) -> None:
        self._member(name).crash(loses_unsynced=True)

    def do_restart(self, name: str) -> None:
        self._member(name).restart()

    # ------------------------------------------------------------------ what moves
    def do_deliver(self, *which: str) -> None:
        for message in self._take(which):
            self._deliver(message)

    def do_drop(self, *which: str) -> None:
        for message in self._take(which):
            self._lose(message)

    def _take(self, which: tuple[str, ...]) -> list[Message]:
        """The messages now under way of this kind and on this link."""
        taken = [message for message in self.links if all(_is_about(message, word) for word in which)]
        self.links = [message for message in self.links if not any(message is each for each in taken)]
        return taken

    def _deliver(self, message: Message) -> None:
        target = self.members.get(message.to)
        if target is None or not target.is_up or {message.sender, message.to} & self.isolated:
            self._lose(message)
            return
        self.output.append(describe(message))
        target.node.step(message)
        self._look(target)

    def _lose(self, message: Message) -> None:
        """As a transport that notices: it reports a state that could not be handed over."""
        self.output.append(f"lost {describe(message)}")
        if message.kind is MessageKind.SNAPSHOT and self.members[message.sender].is_up:
            self.members[message.sender].node.report_snapshot(message.to, ok=False)

    def do_stabilize(self) -> None:
        """Work and deliver until nothing is left to do; what is committed is told to all when it is quiet."""
        busy = True
        while busy:
            busy = bool(self.links)
            for member in self.members.values():
                while member.is_up and (member.ready is not None or member.node.has_ready()):
                    self.do_work(str(member.id))
                    busy = True
            self.do_deliver()
            if not busy:
                busy = self._tell_commits()

    def _tell_commits(self) -> bool:
        up = [member.node for member in self.members.values() if member.is_up]
        told = [node.tell_commit(node.committed) for node in up]  # all of them, not up to the first
        return any(told)

    def do_work(self, name: str) -> None:
        """The rest of the Ready at hand, or a whole one."""
        member = self._member(name)
        if member.ready is None:
            self.do_take(name)
        while member.ready is not None:
            self._phase(member)

    def do_take(self, name: str) -> None:
        member = self._member(name)
        assert member.ready is None, "the Ready before is not finished"
        self._phase(member)
        if member.ready is not None:
            self.output += describe_ready(member.id, member.ready)

    def do_persist(self, name: str) -> None:
        self._phase(self._member(name))

    do_send = do_apply = do_finish = do_persist

    def _phase(self, member: PretendMember) -> None:
        member.work(self._send, self.promises)
        self._look(member)

    def _send(self, message: Message) -> None:
        self.messages_sent += 1
        self.links.append(message)

    def _look(self, member: PretendMember) -> None:
        self.promises.check_leader(member)
        self.promises.check_commit(member, {name: each.disk for name, each in self.members.items()})

    # ------------------------------------------------------------------ what is to be seen
    def do_count(self) -> None:
        self.output.append(f"{self.messages_sent} messages since the last count")
        self.messages_sent = 0

    def do_quietly(self, *words: str) -> None:
        getattr(self, "do_" + words[0].replace("-", "_"))(*words[1:])
        self.output = []

    def do_status(self) -> None:
        for member in self.members.values():
            if not member.is_up:
                self.output.append(f"{member.id} is down")
                continue
            node = member.node
            self.output.append(
                f"{node.id} {node.role.value} of term {node.term}, leader {node.leader or 'unknown'}, "
                f"committed {node.committed} applied {node.applied} last {node.last_index}, "
                f"{describe_conf(node.conf)}"
            )
            for other, progress in node.progress().items():
                if other != node.id:
                    self.output.append(f"    {other}: {progress}")

    def do_log(self) -> None:
        for member in self.members.values():
            node = member.node
            terms = " ".join(str(entry.term) for entry in node.entries())
            begin = f" from {node.first_index}" if node.first_index > 1 else ""
            self.output.append(f"{member.id}{begin}: {terms}")


# ---------------------------------------------------------------------- words
def _is_about(message: Message, word: str) -> bool:
    if "->" in word:
        return word == f"{message.sender}->{message.to}"
    return word == message.kind.name


def describe_entry(entry: Entry) -> str:
    place = f"{entry.index}/{entry.term}" if entry.index else "-"
    if entry.kind is EntryKind.CONF_CHANGE:
        steps = ConfChange.decode(entry.data).steps
        words = {kind: word for word, kind in _STEPS.items()}
        return f"{place} <{' '.join(f'{words[step.kind]} {step.member}' for step in steps) or 'leave joint'}>"
    return f"{place} {entry.data.decode()!r}"


def describe(message: Message) -> str:
    """One message on one line."""
    parts = [f"{message.sender}->{message.to} {message.kind.name}"]
    if message.term:
        parts.append(f"term {message.term}")
    if message.kind in (MessageKind.APPEND, MessageKind.VOTE, MessageKind.PRE_VOTE):
        parts.append(f"after {message.index}/{message.log_term}")
    elif message.reject and message.kind is MessageKind.APPEND_ANSWER:
        parts.append(f"rejects {message.index}, hint {message.reject_hint}/{message.log_term}")
    elif message.reject:
        parts.append("rejects")
    elif message.kind in (MessageKind.APPEND_ANSWER, MessageKind.READ_INDEX_ANSWER):
        parts.append(f"at {message.index}")
    elif message.kind in (MessageKind.VOTE_ANSWER, MessageKind.PRE_VOTE_ANSWER):
        parts.append("grants")
    if message.entries:
        parts.append(f"[{', '.join(map(describe_entry, message.entries))}]")
    if message.commit:
        parts.append(f"commit {message.commit}")
    if message.snapshot is not None:
        meta = message.snapshot
        parts.append(f"state at {meta.index}/{meta.term} with {describe_conf(meta.conf)}")
    if message.kind in (MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_ANSWER) and message.context:
        parts.append(f"round {int.from_bytes(message.context, 'big')}")
    elif message.kind is MessageKind.TRANSFER_LEADER:
        parts.append(f"to {int.from_bytes(message.context, 'big')}")
    elif message.context:
        parts.append(f"({message.context.decode()})")
    return " ".join(parts)


def describe_conf(conf: ConfState) -> str:
    names = {"voters": conf.voters, "outgoing": conf.voters_outgoing, "learners": conf.learners}
    names["learners next"] = conf.learners_next
    return " ".join(f"{name} {','.join(map(str, who))}" for name, who in names.items() if who) or "no members"


def describe_ready(member: MemberId, ready: Ready) -> list[str]:
    """What a Ready asks for, but its messages, which show when they are delivered."""
    lines = []
    if ready.soft_state is not None:
        lines.append(f"{ready.soft_state.role.value}, leader {ready.soft_state.leader or 'unknown'}")
    if ready.snapshot is not None:
        lines.append(f"installs the state at {ready.snapshot.index}")
    if ready.hard_state is not None:
        state = ready.hard_state
        lines.append(f"writes term {state.term} vote {state.vote or '-'} commit {state.commit}")
    if ready.entries:
        lines.append(f"writes {', '.join(map(describe_entry, ready.entries))}")
    if ready.committed:
        lines.append(f"applies {', '.join(map(describe_entry, ready.committed))}")
    lines += [f"serves read {read.context.decode()} at {read.index}" for read in ready.read_states]
    return [f"  {member}: {line}" for line in lines]
