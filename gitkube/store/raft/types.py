"""The words of the consensus core: what goes in, what comes out, what lies on the disk.

Nothing here does anything. The names are those of etcd-io/raft, of the Raft paper (Ongaro and Ousterhout, "In
Search of an Understandable Consensus Algorithm", 2014) and of the thesis (Ongaro, "Consensus: Bridging Theory
and Practice", 2014), so that whoever knows them finds everything at once.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

MemberId = NewType("MemberId", int)
"""Random 63-bit number, chosen when a member is added; never used again after its removal."""

NOBODY = MemberId(0)


class EntryKind(enum.IntEnum):
    NORMAL = 0
    """A command of the layer above; empty data is the entry with which a leader opens its term (5.4.2)."""
    CONF_CHANGE = 1
    """`ConfChange.encode()`: a change of the members."""


class Entry(NamedTuple):
    """One entry of the replicated log."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs on an entry
    term: int
    data: bytes
    kind: EntryKind = EntryKind.NORMAL


class HardState(NamedTuple):
    """What a member must not forget over a restart (Raft, figure 2); `commit` may be behind, never ahead."""

    term: int = 0
    vote: MemberId = NOBODY
    commit: int = 0


class ConfState(NamedTuple):
    """Who takes part. While `voters_outgoing` is not empty both majorities are needed (thesis, 4.3)."""

    voters: tuple[MemberId, ...] = ()
    learners: tuple[MemberId, ...] = ()
    voters_outgoing: tuple[MemberId, ...] = ()
    learners_next: tuple[MemberId, ...] = ()
    """Voters of the outgoing half that become learners when the joint change is left."""
    auto_leave: bool = False


class SnapshotMeta(NamedTuple):
    """A state that replaces the log up to `index`. The bytes of the state are none of the core's business."""

    index: int = 0  # type: ignore[assignment]
    term: int = 0
    conf: ConfState = ConfState()


class ConfChangeKind(enum.IntEnum):
    ADD_VOTER = 0
    REMOVE = 1
    ADD_LEARNER = 2


class ConfChangeStep(NamedTuple):
    kind: ConfChangeKind
    member: MemberId


class ConfChange(NamedTuple):
    """One or more steps at once. More than one step goes through a joint configuration; none leaves it."""

    steps: tuple[ConfChangeStep, ...] = ()
    context: bytes = b""
    """For the layer above: who the member is and where it is reached."""

    def encode(self) -> bytes:
        """The data of a CONF_CHANGE entry."""
        packed = [_CHANGE_STEP.pack(step.kind, step.member) for step in self.steps]
        return b"".join([_CHANGE_HEAD.pack(_CHANGE_FORMAT, len(packed)), *packed, self.context])

    @staticmethod
    def decode(data: bytes) -> ConfChange:
        """Of a CONF_CHANGE entry.

        Raises:
            ValueError: this is no such data.
        """
        try:
            format_version, count = _CHANGE_HEAD.unpack_from(data)
            if format_version != _CHANGE_FORMAT:
                raise ValueError(f"a configuration change of format {format_version}, not {_CHANGE_FORMAT}")
            end = _CHANGE_HEAD.size + count * _CHANGE_STEP.size
            packed = _CHANGE_STEP.iter_unpack(data[_CHANGE_HEAD.size : end])
            steps = tuple(ConfChangeStep(ConfChangeKind(kind), MemberId(member)) for kind, member in packed)
        except struct.error as error:
            raise ValueError(f"not a configuration change: {error}") from error
        if len(steps) != count:
            raise ValueError(f"a configuration change of {count} steps was cut off after {len(steps)}")
        return ConfChange(steps, bytes(data[end:]))


_CHANGE_FORMAT = 1
_CHANGE_HEAD = struct.Struct(">BH")
_CHANGE_STEP = struct.Struct(">BQ")


class MessageKind(enum.IntEnum):
    """As the RPCs of the paper, each as request and answer."""

    PROPOSE = 1
    """A follower passes proposals on to its leader: `entries` without index and term."""
    APPEND = 2
    APPEND_ANSWER = 3
    VOTE = 4
    VOTE_ANSWER = 5
    PRE_VOTE = 6
    PRE_VOTE_ANSWER = 7
    SNAPSHOT = 8
    HEARTBEAT = 9
    HEARTBEAT_ANSWER = 10
    READ_INDEX = 11
    READ_INDEX_ANSWER = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14


@dataclass(slots=True)
class Message:
    """One message between two members. Fields that a kind doesn't use stay at their defaults."""

    kind: MessageKind
    to: MemberId
    sender: MemberId = NOBODY
    term: int = 0
    """0 only for PROPOSE, READ_INDEX and their like, which belong to no term."""
    log_term: int = 0
    """APPEND: term of the entry before `entries`. Answers with `reject`: the term of the hint."""
    index: int = 0
    """APPEND: index of the entry before `entries`; answers: the last index that is durable at the sender."""
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    """READ_INDEX, HEARTBEAT: which reads this round confirms. VOTE: b"transfer" if it may break a lease."""
    snapshot: SnapshotMeta | None = None
    state_index: int = 0
    """HEARTBEAT: an applied index of the leader's, and ..."""
    state_hash: int = 0
    """... the hash of its state there: whoever has another one for the same index has diverged."""


class ReadState(NamedTuple):
    """The read with this context may be served once `index` is applied (thesis, section 6.4)."""

    index: int  # type: ignore[assignment]
    context: bytes


class SoftState(NamedTuple):
    """What need not be kept: who leads, and what this member is."""

    leader: MemberId
    role: Role


class Role(enum.Enum):
    __hash__ = object.__hash__  # rules are found by it for each message, and Enum's own is written in Python

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(slots=True)
class Ready:
    """What the caller must do now, in this order; then `advance`. One at a time.

    1. `early_messages` may be sent at once: a leader's APPENDs go out while its own disk writes (thesis,
       section 10.2.1). Nothing in them says that anything is durable here.
    2. If `snapshot` is there: make the received state durable and load it; it replaces all before.
    3. Persist `hard_state` and `entries` (they may replace a conflicting tail), and sync if `must_sync`.
    4. Send `messages`: votes, answers and all that depends on the disk.
    5. Apply `committed`, in order; for each CONF_CHANGE call `apply_conf_change`.
    6. Serve `read_states` whose index is applied.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMeta | None = None
    committed: list[Entry] = field(default_factory=list)
    early_messages: list[Message] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    read_states: list[ReadState] = field(default_factory=list)
    must_sync: bool = False


class ProposalDropped(Exception):
    """There is no leader, or it is handing over: nothing was written, try again."""
