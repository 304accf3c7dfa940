"""A whole cluster in one file, and a new cluster out of it.

A backup is a file of parts (`parts.py`): the head says what it is of, the parts are those of a snapshot. It
is made online by whoever has a state at hand, and counts only once `verify` has read all of it again.

`restore` and `force_new_cluster` both make a *new* cluster of one member: new ids, so that no member of the
old one ever takes it for its own, and none of the old members. They differ in what they start from: a backup,
or all that a survivor knows. In both something may be missing that was written last: watchers have seen
revisions that the new cluster would hand out again for other things, and hosts have obeyed a leader whose
term is one of them. So both move the revision on by more than can have been written since, and say that all
before is compacted: those watchers are told to read again, and the next leader is newer than any before.

Both prepare a directory beside the final one and rename it, so that there is all of it or nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gitkube.store import command
from gitkube.store.directory import (
    LOCK,
    SNAPSHOTS,
    WAL,
    Identity,
    check_identity,
    clear,
    create_member,
    read_identity,
)
from gitkube.store.disk import Disk
from gitkube.store.mvcc import KeySpace
from gitkube.store.parts import PartsReader, encode_parts
from gitkube.store.protocol import CorruptError, StoreError
from gitkube.store.raft.types import (
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemberId,
    SnapshotMeta,
)
from gitkube.store.segments import read_log
from gitkube.store.snapshot import (
    meta_from_list,
    meta_to_list,
    newest_snapshot,
    read_pieces,
    read_snapshot,
    remove_leftovers,
    write_file,
)
from gitkube.store.wal import SEGMENT_BYTES

REVISION_BUMP = 1_000_000_000
"""More than a cluster writes between two backups: at 10,000 a second it is a day."""
MEMBER_PARTS = frozenset({"conf", "members"})
"""First words of the parts that say who takes part; a new cluster has its own."""
_MAGIC = b"gitkube back"

MemberParts = Callable[[Identity, str], Iterable[Sequence[Any]]]
"""Makes the parts that stand for MEMBER_PARTS, from the lone member's identity and its peer address."""


class BackupError(StoreError):
    """A backup that cannot be restored as it was asked; nothing was changed."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """What a backup is of."""

    meta: SnapshotMeta
    source: Identity
    """The member that made it."""
    created_s: int
    """Seconds since 1970, by that member's clock."""
    revision: int
    compact_revision: int
    parts: int
    size_bytes: int


def no_member_parts(identity: Identity, peer_address: str) -> Iterable[Sequence[Any]]:
    """For a layer above that keeps none."""
    return ()


def encode_backup(
    source: Identity, meta: SnapshotMeta, parts: Iterable[Sequence[Any]], *, created_s: int
) -> Iterator[bytes]:
    """The bytes of a backup, in pieces.

    Args:
        source: the member that makes it.
        meta, parts: as for a snapshot.
        created_s: now, in seconds since 1970.
    """
    head = [source.cluster_id, source.member_id, source.name, created_s, meta_to_list(meta)]
    return encode_parts(_MAGIC, meta.index, head, parts)


def save_backup(disk: Disk, path: Path, pieces: Iterable[bytes]) -> BackupInfo:
    """Write what `encode_backup` gave (or another member sent) to a file, durably, and verify it.

    Raises:
        CorruptError: what came is not a whole backup; there is no such file then, or the one of before.
        OSError: the disk failed or is full; the same.
    """
    received = path.with_name(path.name + ".new")
    try:
        write_file(disk, received, pieces)
        info = verify(disk, received)
    except (CorruptError, OSError):
        if disk.exists(received):
            disk.unlink(received)
        raise
    disk.rename(received, path)
    disk.sync_directory(path.parent)
    return info


def verify(disk: Disk, path: Path) -> BackupInfo:
    """Read all of a backup.

    Raises:
        CorruptError: it is damaged, incomplete, or no backup; says where.
        OSError: it cannot be read.
    """
    source = _Source(disk, path)
    for _ in source.parts():
        pass
    return source.info()


class _Source:
    """A backup that is being read."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._reader = PartsReader(str(path), _MAGIC)
        self._revisions = (0, 0)

    def parts(self) -> Iterator[list[Any]]:
        for piece in read_pieces(self._disk, self._path):
            for part in self._reader.feed(piece):
                if part[0] == "space":
                    self._revisions = part[2], part[3]
                yield part
        self._reader.finish()
        if not self._revisions[0]:
            raise CorruptError(f"{self._path} is not the backup of a key space: it has no revision in it")

    def info(self) -> BackupInfo:
        assert self._reader.head is not None  # `parts` was read to its end
        cluster_id, member_id, name, created_s, meta = self._reader.head
        return BackupInfo(
            meta_from_list(meta),
            Identity(cluster_id, MemberId(member_id), name),
            created_s,
            *self._revisions,
            self._reader.count,
            self._disk.size(self._path),
        )


def restore(
    disk: Disk,
    directory: Path,
    file: Path,
    *,
    name: str,
    rng: random.Random,
    peer_address: str = "",
    member_parts: MemberParts = no_member_parts,
    revision_bump: int = REVISION_BUMP,
    segment_bytes: int = SEGMENT_BYTES,
) -> Identity:
    """Make a new cluster of one member from a backup.

    Leases keep their full time to live: nobody knows how much of it had passed.

    Args:
        directory: where; must not exist, or be empty.
        name: of the new member.
        rng: gives the new ids.
        peer_address: where other members will reach it, for `member_parts`.
        revision_bump: how far the revision is moved on.

    Returns:
        Who the new member is.

    Raises:
        BackupError: the directory is not empty.
        CorruptError: the backup is damaged.
        OSError: the disk failed or is full. In all cases nothing was changed.
    """
    if [entry for entry in disk.names(directory) if entry != LOCK]:
        raise BackupError(
            f"cannot restore into {directory}: it is not empty. Choose another directory, or move it away."
        )
    info = verify(disk, file)
    identity = _new_identity(rng, name)
    space = KeySpace.load(_without_member_parts(_Source(disk, file).parts()))
    space.move_on(revision_bump)
    parts = chain(member_parts(identity, peer_address), space.dump())
    meta = info.meta._replace(conf=ConfState(voters=(identity.member_id,)))
    prepared = _beside(directory, "restoring")
    clear(disk, prepared)
    create_member(disk, prepared, identity, meta, parts, segment_bytes=segment_bytes)
    if disk.exists(directory / LOCK):
        disk.unlink(directory / LOCK)
    disk.make_directory(directory.parent)
    disk.rename(prepared, directory)
    disk.sync_directory(directory.parent)
    return identity


def _without_member_parts(parts: Iterable[list[Any]]) -> Iterator[list[Any]]:
    return (part for part in parts if part[0] not in MEMBER_PARTS)


def force_new_cluster(
    disk: Disk,
    directory: Path,
    *,
    rng: random.Random,
    peer_address: str = "",
    member_parts: MemberParts = no_member_parts,
    revision_bump: int = REVISION_BUMP,
    segment_bytes: int = SEGMENT_BYTES,
) -> Identity:
    """Make one survivor's directory a cluster of its own, when the others are lost for good.

    All entries of its log count as committed, as an acknowledged write may be among those that it did not yet
    know to be. The directory as it was stays beside the new
    one as `<name>.before-new-cluster`, until somebody removes it. After a crash on the way either all is as
    it was, or `finish_new_cluster` finishes it, and so does calling this again.

    Args:
        directory: nobody else may use it meanwhile (`lock_directory`).
        revision_bump: how far the revision is moved on.

    Raises:
        IdentityError: it is no member's directory.
        CorruptError: its data is damaged.
        OSError: the disk failed or is full. Nothing was changed then.
    """
    made = finish_new_cluster(disk, directory)
    if made is not None:
        return made
    prepared, before = _beside(directory, "new-cluster"), _beside(directory, "before-new-cluster")
    old = check_identity(disk, directory)
    if disk.exists(before):
        raise BackupError(
            f"{before} is there already, from an earlier time. If the new cluster has begun since, start "
            "without --force-new-cluster; else move that directory away first."
        )
    remove_leftovers(disk, directory / SNAPSHOTS)
    found = newest_snapshot(disk, directory / SNAPSHOTS)
    meta = found or SnapshotMeta()
    contents = read_log(disk, directory / WAL, meta.index)
    entries = [entry for entry in contents.entries if entry.index > meta.index]
    identity = _new_identity(rng, old.name)
    space = KeySpace()
    if found is not None:
        space = KeySpace.load(_without_member_parts(read_snapshot(disk, directory / SNAPSHOTS, found)))
    for entry in entries:
        if entry.data and entry.kind is not EntryKind.CONF_CHANGE:
            space.apply(*command.decode(entry.data))
    space.move_on(revision_bump)
    last = entries[-1] if entries else Entry(meta.index, meta.term, b"")
    clear(disk, prepared)
    create_member(
        disk,
        prepared,
        identity,
        SnapshotMeta(last.index, last.term, ConfState(voters=(identity.member_id,))),
        chain(member_parts(identity, peer_address), space.dump()),
        hard_state=HardState(max(last.term, contents.hard_state.term), commit=last.index),
        segment_bytes=segment_bytes,
    )
    disk.rename(directory, before)
    disk.sync_directory(directory.parent)
    disk.rename(prepared, directory)
    disk.sync_directory(directory.parent)
    return identity


def finish_new_cluster(disk: Disk, directory: Path) -> Identity | None:
    """Finish what a crash between the two renames of `force_new_cluster` left: the directory has the name of
    what was, and the new one not yet its own. Whoever began anew in its place would begin with nothing.

    Returns:
        Who the new member is; None: there is nothing to finish.
    """
    if read_identity(disk, directory) is not None or not disk.exists(
        _beside(directory, "before-new-cluster")
    ):
        return None
    prepared = _beside(directory, "new-cluster")
    made = read_identity(disk, prepared)
    if made is None:
        return None
    if disk.exists(directory / LOCK):
        disk.unlink(directory / LOCK)
    disk.rename(prepared, directory)
    disk.sync_directory(directory.parent)
    return made


def _new_identity(rng: random.Random, name: str) -> Identity:
    return Identity(rng.getrandbits(62) + 1, MemberId(rng.getrandbits(62) + 1), name)


def _beside(directory: Path, word: str) -> Path:
    return directory.with_name(f"{directory.name}.{word}")
