"""Consensus: several members agree on one log, and go on while a majority of them can talk (Raft).

The core is a state machine without clock, chance, disk or network: `RaftNode` takes messages, ticks and
proposals, and gives what is to be persisted, sent and applied. Its design is that of etcd-io/raft; each rule
names its section of the Raft paper or of Ongaro's thesis.

To read it, in this order: `types` (the words), `log`, `quorum`, `progress`, `configuration`, `read_only` (the
parts, each alone), `state` (all that a member holds), then the rules on it: `roles`, `election`,
`replication`, `following`, `reading`, `transfer`, `membership`; and `node`, which ties them together.

What the whole rests on: term, vote and entries are on a member's disk before anything that it says because of
them leaves; the caller keeps to the order that `Ready` tells.
"""

from gitkube.store.raft.config import RaftConfig
from gitkube.store.raft.configuration import ConfChangeError
from gitkube.store.raft.node import RaftNode
from gitkube.store.raft.progress import Progress, ProgressState
from gitkube.store.raft.types import (
    NOBODY,
    ConfChange,
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
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
    SoftState,
)

__all__ = [
    "NOBODY",
    "ConfChange",
    "ConfChangeError",
    "ConfChangeKind",
    "ConfChangeStep",
    "ConfState",
    "Entry",
    "EntryKind",
    "HardState",
    "MemberId",
    "Message",
    "MessageKind",
    "Progress",
    "ProgressState",
    "ProposalDropped",
    "RaftConfig",
    "RaftNode",
    "ReadState",
    "Ready",
    "Role",
    "SnapshotMeta",
    "SoftState",
]
