"""A pretended member: the product's `Replica` in a shell that owns nothing real.

It does what the shell of a real member does (`gitkube/store/member.py`): turns the core's work into disk and
network operations, takes snapshots, expires leases while it leads; its clients wait at its `Desk`. What it
does not have is a loop, a socket or a thread: everything comes from the schedule, and each disk operation
may be the last.

    on_message, tick, request ─▶ replica ─▶ ready ─(disk delay)─▶ persist ─(delay)─▶ finish ─▶ answers

Invariants: whatever was scheduled by a run that has crashed does nothing any more; between `ready` and
`finish` messages and ticks go on; a client is answered only from `finish`, or from the applied state.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gitkube.sim.checks import Violation
from gitkube.sim.clock import LocalClock
from gitkube.sim.desk import Desk
from gitkube.sim.disk import PowerCut, SimDisk
from gitkube.sim.durable import Durable
from gitkube.sim.incoming import Incoming
from gitkube.sim.network import Stream
from gitkube.sim.schedule import MILLISECOND_US, SECOND_US
from gitkube.sim.world import World
from gitkube.store.directory import Identity
from gitkube.store.protocol import CorruptError, LeaseId
from gitkube.store.raft import (
    ConfChange,
    ConfChangeError,
    MemberId,
    Message,
    MessageKind,
    ProposalDropped,
    RaftNode,
    Role,
    SnapshotMeta,
)
from gitkube.store.replica import OwnSnapshot, Replica, ReplicaSettings, Turn

DIRECTORY = Path("/member")
SNAPSHOT_PIECE_BYTES = 1024
MAX_COMMIT_DELAY_US = 5 * MILLISECOND_US
SWEPT_PER_TICK = 10
"""Few, so that what is compacted and not swept yet is met by reads, watches and snapshots."""


@dataclass(slots=True)
class Pace:
    """How fast a member's disk is."""

    sync_mean_us: int = MILLISECOND_US
    stall_us: int = 0
    """A slow disk: each sync takes up to so much more."""
    snapshot_mean_us: int = 30 * MILLISECOND_US


@dataclass(slots=True, eq=False)
class _Run:
    """What dies with the process."""

    replica: Replica
    desk: Desk
    turn: Turn | None = None
    led_term: int = 0
    """The newest term in which it was seen to lead."""
    is_writing_snapshot: bool = False
    is_telling_commit: bool = False
    is_stopped: bool = False
    postponed: list[tuple[Callable[..., None], tuple[object, ...]]] = field(default_factory=list)


class SimMember:
    """See the module's text."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        disk: SimDisk,
        clock: LocalClock,
        settings: ReplicaSettings,
        hooks: Hooks,
    ) -> None:
        self.id = MemberId(identity.member_id)
        self.name = identity.name
        self.identity = identity
        self.disk = disk
        self.clock = clock
        self.pace = Pace()
        self.starts = 0
        self.is_damaged = False
        """Bits of its disk were flipped: a refusal to start is right, and it has to be replaced."""
        self.has_refused = False
        self.is_destroyed = False
        self.durable = Durable()
        self._run: _Run | None = None
        self._world = world
        self._settings = settings
        self._hooks = hooks
        world.network.attach(self.id, self)

    @property
    def is_up(self) -> bool:
        return self._run is not None

    @property
    def running(self) -> Replica:
        assert self._run is not None, f"{self.name} is down"
        return self._run.replica

    @property
    def now_s(self) -> float:
        """On its own monotonic clock."""
        return self.clock.monotonic_s(self._world.schedule.now_us)

    # ------------------------------------------------------------------ life and death

    def start(self) -> None:
        """Start on the disk as it is. It may refuse to, or lose power while it reads and repairs."""
        assert self._run is None and not self.is_destroyed
        world = self._world
        self.starts += 1
        rng = random.Random(world.rng.getrandbits(64))
        try:
            replica = Replica.open(self.disk, DIRECTORY, self.identity, rng=rng, settings=self._settings)
        except PowerCut:
            world.note(self.name, "loses power while it starts")
            self._die()
            return
        except OSError as error:
            world.counts.disk_errors += 1
            world.note(self.name, f"cannot start: {error}")
            self._die(is_power_cut=world.chance(0.5))
            return
        except CorruptError as error:
            if not self.is_damaged:
                raise
            self.has_refused = True
            world.counts.refused += 1
            world.note(self.name, f"refuses to start: {error}")
            return
        if not self._has_all_durable(replica.node):
            replica.close()
            self.has_refused = True
            return
        self._run = _Run(replica, Desk(replica, f"{self.id}.{self.starts}"))
        node = replica.node
        world.note(self.name, f"starts in term {node.term} with entries {node.first_index}-{node.last_index}")
        world.checks.check_state_at(self.name, replica, replica.snapshot.index)
        self._later(world.rng.randrange(self.clock.next_tick_us(world.rng)), self._tick)
        self._do(_nothing)

    def _has_all_durable(self, node: RaftNode) -> bool:
        """Whether all is there again that was synced. On a damaged disk the newest write may be missing.

        A bit that is flipped in the very last record cannot be told from a write that was torn. Whoever runs
        a real cluster cannot see it; here it is seen, and the member is replaced.

        Raises:
            Violation: something else is missing.
        """
        if self.durable.is_found_in(node):
            self.durable.begin_anew(node)
            return True
        if self.is_damaged and node.last_index >= self.durable.newest_write - 1:
            self._world.counts.torn_by_damage += 1
            self._world.note(self.name, "has lost its newest write to the damage")
            return False
        raise Violation(
            f"{self.name} starts with entries up to {node.last_index} in term {node.term} with vote "
            f"{node.vote}; {self.durable} was synced"
        )

    def crash(self) -> None:
        """The power goes: what was not synced may be lost."""
        if self._run is not None:
            self._world.note(self.name, "loses power")
            self._die()

    def kill(self) -> None:
        """The process ends (kill -9): what was written can be read, durable or not."""
        if self._run is not None:
            self._world.note(self.name, "is killed")
            self._die(is_power_cut=False)

    def destroy(self) -> None:
        """It is a member no more: its machine is taken away."""
        self._world.note(self.name, "is destroyed")
        self._run = None
        self.is_destroyed = True
        self._world.network.detach(self.id)

    def _die(self, *, is_power_cut: bool = True) -> None:
        self._run = None
        if is_power_cut:
            self.disk.crash()
        else:
            self.disk.kill()
        self._world.counts.crashes += 1
        self._hooks.on_down(self)

    def _later(self, delay_us: int, action: Callable[..., None], *arguments: object) -> None:
        self._world.schedule.after(delay_us, self._resume, self._run, action, *arguments)

    def _resume(self, run: _Run, action: Callable[..., None], *arguments: object) -> None:
        if self._run is not run:
            return
        if run.is_stopped:
            run.postponed.append((action, arguments))
        else:
            self._do(action, *arguments)

    def _do(self, action: Callable[..., None], *arguments: object) -> None:
        """Run a piece of the product, be ready for the power to go, then see what there is to do."""
        run = self._run
        assert run is not None
        try:
            action(*arguments)
            self._look_who_leads(run)
            self._turn_over(run)
        except PowerCut:
            if self._run is run:
                self._world.note(self.name, "loses power during a disk operation")
                self._die()
        except OSError as error:
            self._world.counts.disk_errors += 1
            self._world.note(self.name, f"ends, because its disk failed: {error}")
            if self._run is run:
                self._die(is_power_cut=self._world.chance(0.5))

    def _look_who_leads(self, run: _Run) -> None:
        node = run.replica.node
        if node.role is Role.LEADER and node.term != run.led_term:
            run.led_term = node.term
            self._world.checks.on_leader(self)

    # ------------------------------------------------------------------ time

    def _tick(self) -> None:
        run = self._run
        assert run is not None
        self._later(self.clock.next_tick_us(self._world.rng), self._tick)
        run.replica.tick()
        run.replica.space.sweep(SWEPT_PER_TICK)
        for lease in run.desk.expire_leases(self.now_s):
            self._hooks.on_expiry_asked(self, lease)
        if not run.is_writing_snapshot and run.turn is None and run.replica.snapshot_is_due():
            self._begin_snapshot(run)

    def jump(self, ticks: int) -> None:
        """Let many ticks come at once."""
        run = self._run
        if run is not None and not run.is_stopped:
            self._do(self._tick_often, ticks)

    def _tick_often(self, ticks: int) -> None:
        for _ in range(ticks):
            self.running.tick()

    def stop(self, duration_us: int) -> None:
        """Stop the process for a while (SIGSTOP): what arrives meanwhile is handled after it."""
        run = self._run
        if run is None or run.is_stopped:
            return
        self._world.note(self.name, f"is stopped for {duration_us / SECOND_US:.3f} s")
        run.is_stopped = True
        self._world.schedule.after(duration_us, self._continue, run)

    def _continue(self, run: _Run) -> None:
        run.is_stopped = False
        postponed, run.postponed = run.postponed, []
        for action, arguments in postponed:
            self._resume(run, action, *arguments)

    # ------------------------------------------------------------------ messages

    def on_message(self, message: Message) -> None:
        if self._run is not None:
            self._resume(self._run, self._take, message)

    def _take(self, message: Message) -> None:
        self.running.step(message)

    def on_unreachable(self, member: MemberId) -> None:
        if self._run is not None:
            self._resume(self._run, self._report_unreachable, member)

    def _report_unreachable(self, member: MemberId) -> None:
        self.running.node.report_unreachable(member)

    def _send(self, message: Message) -> None:
        if message.kind is not MessageKind.SNAPSHOT:
            self._world.network.send(message)
            return
        run = self._run
        assert run is not None and message.snapshot is not None
        self._world.counts.snapshots_sent += 1
        self._world.note(self.name, f"sends its state of entry {message.snapshot.index} to {message.to:x}")

        def done(is_whole: bool) -> None:
            self._resume(run, self._report_snapshot, message.to, is_whole)

        try:
            pieces = run.replica.snapshot_pieces(message.snapshot, SNAPSHOT_PIECE_BYTES)
        except FileNotFoundError:  # a newer one has replaced it
            self._later(0, self._report_snapshot, message.to, False)
            return
        self._world.network.stream(message, pieces, done)

    def _report_snapshot(self, member: MemberId, is_whole: bool) -> None:
        self.running.node.report_snapshot(member, ok=is_whole)

    def open_stream(self, message: Message) -> Stream | None:
        """The receiving end of a state that another member sends."""
        run = self._run
        if run is None or run.is_stopped:
            return None

        def do(action: Callable[..., None], *arguments: object) -> bool:
            self._resume(run, action, *arguments)
            return self._run is run

        return Incoming(run.replica, message, do)

    # ------------------------------------------------------------------ turns

    def _turn_over(self, run: _Run) -> None:
        """Begin the next turn, as long as there is one and the disk is not needed for it."""
        while self._run is run and run.turn is None and not run.is_stopped:
            run.desk.ask_for_reads()
            turn = run.replica.ready()
            if turn is None:
                return
            run.turn = turn
            ready = turn.ready
            self._world.checks.on_ready(self, turn)
            for message in ready.early_messages:
                self._send(message)
            if ready.entries or ready.hard_state is not None or ready.snapshot is not None:
                self._later(self._disk_delay_us(), self._persist, turn)
                return
            run.replica.persist(turn)
            self._finish(turn)

    def _disk_delay_us(self) -> int:
        rng, pace = self._world.rng, self.pace
        delay_us = int(rng.expovariate(1.0) * pace.sync_mean_us)
        return delay_us + rng.randrange(pace.stall_us) if pace.stall_us else delay_us

    def _persist(self, turn: Turn) -> None:
        run = self._run
        assert run is not None
        self.durable.begin_write(turn.ready)
        run.replica.persist(turn)
        self.durable.end_write(turn.ready)
        if self._world.rng.random() < 0.5:
            self._later(self._disk_delay_us(), self._finish, turn)
        else:
            self._finish(turn)

    def _finish(self, turn: Turn) -> None:
        run = self._run
        assert run is not None
        outcome = run.replica.finish(turn)
        run.turn = None
        self._world.checks.on_finish(self, turn, outcome)
        self._look_who_leads(run)
        for message in outcome.messages:
            self._send(message)
        run.desk.on_outcome(outcome, self.now_s)
        if outcome.applied and run.replica.is_leader and not run.is_telling_commit:
            run.is_telling_commit = True
            delay_us = self._world.rng.randrange(MAX_COMMIT_DELAY_US)
            self._later(delay_us, self._tell_commit, run.replica.node.committed)
        if outcome.changes:
            self._hooks.on_change(self)

    def _tell_commit(self, committed: int) -> None:
        run = self._run
        assert run is not None
        run.is_telling_commit = False
        run.replica.node.tell_commit(committed)

    # ------------------------------------------------------------------ snapshots of its own

    def _begin_snapshot(self, run: _Run) -> None:
        own = run.replica.take_snapshot()
        run.is_writing_snapshot = True
        delay_us = int(self._world.rng.expovariate(1.0) * self.pace.snapshot_mean_us)
        self._later(delay_us, self._write_snapshot, own)

    def _write_snapshot(self, own: OwnSnapshot) -> None:
        run = self._run
        assert run is not None
        try:
            run.replica.write_own(own)
        except OSError as error:  # the log still has everything
            self._world.counts.disk_errors += 1
            self._world.note(self.name, f"cannot write its state: {error}")
            run.is_writing_snapshot = False
            return
        self._later(self._disk_delay_us(), self._end_snapshot, own.meta)

    def _end_snapshot(self, meta: SnapshotMeta) -> None:
        run = self._run
        assert run is not None
        self._world.counts.snapshots_taken += 1
        self._world.note(self.name, f"has its state of entry {meta.index} on the disk")
        run.is_writing_snapshot = False
        run.replica.snapshot_written(meta)
        run.replica.trim_log()
        run.replica.prepare_log()

    # ------------------------------------------------------------------ leadership and members

    def campaign(self) -> None:
        """Let it try to become leader without a reason."""
        if self._run is not None:
            self._resume(self._run, self._campaign)

    def _campaign(self) -> None:
        self.running.node.campaign()

    def transfer_leadership(self, to: MemberId) -> None:
        if self._run is not None:
            self._resume(self._run, self._transfer_leadership, to)

    def _transfer_leadership(self, to: MemberId) -> None:
        self._world.note(self.name, f"is asked to hand over to {to:x}")
        with suppress(ProposalDropped):
            self.running.node.transfer_leadership(to)

    def propose_conf_change(self, change: ConfChange, is_still_wanted: Callable[[], bool]) -> None:
        if self._run is not None:
            self._resume(self._run, self._propose_conf_change, change, is_still_wanted)

    def _propose_conf_change(self, change: ConfChange, is_still_wanted: Callable[[], bool]) -> None:
        if not self.running.is_leader or not is_still_wanted():
            return
        self._world.note(
            self.name, f"is asked for {[(step.kind.name, step.member) for step in change.steps]}"
        )
        with suppress(ProposalDropped, ConfChangeError):
            self.running.node.propose_conf_change(change)

    # ------------------------------------------------------------------ requests

    def request(self, action: Callable[[Desk], None]) -> None:
        """Let a client speak to the desk; nothing happens when the member is down."""
        if self._run is not None:
            self._resume(self._run, self._serve, action)

    def _serve(self, action: Callable[[Desk], None]) -> None:
        assert self._run is not None
        action(self._run.desk)


def _nothing() -> None:
    """For what happens anyway after each piece of work."""


class Hooks:
    """What a member tells those who run the life."""

    def on_down(self, member: SimMember) -> None:
        """It has crashed, and may be started again."""

    def on_change(self, member: SimMember) -> None:
        """It has applied a change of the members."""

    def on_expiry_asked(self, member: SimMember, lease: LeaseId) -> None:
        """It has asked the log to end a lease."""
