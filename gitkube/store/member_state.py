"""What a member's snapshot holds: who the members are, and the key space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitkube.store.directory import SNAPSHOTS, Identity, create_member
from gitkube.store.disk import Disk
from gitkube.store.membership import PART as MEMBERS_PART
from gitkube.store.membership import Membership, lone
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import CorruptError, MemberInfo
from gitkube.store.raft.types import SnapshotMeta
from gitkube.store.snapshot import read_snapshot


def found(disk: Disk, directory: Path, identity: Identity, info: MemberInfo, *, segment_bytes: int) -> None:
    """Begin a cluster of one: its first snapshot is an empty key space with this member as the only voter.

    Raises:
        OSError: the disk failed or is full; the directory is still nobody's.
    """
    conf, membership = lone(info)
    parts = parts_of(membership, KeySpace())
    create_member(disk, directory, identity, SnapshotMeta(1, 1, conf), parts, segment_bytes=segment_bytes)


def parts_of(membership: Membership, space: KeySpace) -> Iterator[list[Any]]:
    """The parts of a snapshot; all was copied before this returns."""
    members, state = membership.dump(), space.dump()

    def parts() -> Iterator[list[Any]]:
        yield members
        yield from state

    return parts()


def load_state(disk: Disk, directory: Path, meta: SnapshotMeta) -> tuple[KeySpace, Membership]:
    """What a snapshot holds.

    Raises:
        CorruptError: it is damaged, or of a format that this version does not know.
    """
    parts = read_snapshot(disk, directory / SNAPSHOTS, meta)
    first = next(parts, None)
    if first is None or first[0] != MEMBERS_PART:
        raise CorruptError(
            f"the snapshot of {directory} at entry {meta.index} does not begin with its members"
        )
    membership = Membership.load(first)
    return KeySpace.load(parts), membership
