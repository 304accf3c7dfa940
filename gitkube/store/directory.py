"""The data directory of a member: one process at a time, a format that this version knows, one identity.

`format` is one number, readable for all time: it is looked at before anything else. `member.json` says whose
data this is; it is written last when a directory is made, so a directory without it was never a member's and
may be filled anew. The log and the snapshots beside them belong together: a member with its snapshot and
without its log would have forgotten its votes. `create_member` makes all of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.clock import Clock
from gitkube.store import records
from gitkube.store.disk import Disk
from gitkube.store.protocol import CorruptError, IdentityError, StoreError
from gitkube.store.raft.types import Entry, HardState, MemberId, SnapshotMeta
from gitkube.store.snapshot import remove_leftovers, write_file, write_snapshot
from gitkube.store.wal import SEGMENT_BYTES, Wal

DATA_FORMAT = 2
WAL, SNAPSHOTS = "wal", "snap"
"""Names of the directories inside."""
IDENTITY, FORMAT, LOCK = "member.json", "format", "lock"
_LOCK_PAUSE_S = 0.05
_ENTRIES_A_SYNC = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data a directory has."""

    cluster_id: int
    """Random 63-bit number, chosen when the cluster was made."""
    member_id: MemberId
    name: str


async def lock_directory(directory: Path, clock: Clock, wait_s: float) -> int:
    """Take a directory of this machine for this process; closing the descriptor gives it back.

    Raises:
        StoreError: another process still has it after `wait_s` seconds.
    """
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = clock.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError as error:
            if clock.monotonic() >= deadline:
                os.close(descriptor)
                raise StoreError(
                    f"the data directory {directory} is in use by another gitkube process. "
                    "Stop that one first."
                ) from error
        await clock.sleep(_LOCK_PAUSE_S)


def check_format(disk: Disk, directory: Path) -> None:
    """Mark a new directory with the format of this version, and remove what a crash left half-written.

    Raises:
        CorruptError: the directory has another format; nothing in it was touched.
    """
    refuse_other_format(disk, directory)
    disk.make_directory(directory)
    for name in disk.names(directory):
        if name.endswith(".tmp"):
            disk.unlink(directory / name)
    if not disk.exists(directory / FORMAT):
        write_file(disk, directory / FORMAT, [f"{DATA_FORMAT}\n".encode()])
    disk.sync_directory(directory)
    remove_leftovers(disk, directory / SNAPSHOTS)


def refuse_other_format(disk: Disk, directory: Path) -> None:
    """Raises:
    CorruptError: the directory has data of another format.
    """
    path = directory / FORMAT
    if not disk.exists(path):
        return
    data = disk.read(path)
    if data == f"{DATA_FORMAT}\n".encode():
        return
    text = data.decode(errors="replace").strip()
    if text == str(DATA_FORMAT):
        raise records.damaged(str(path), 0, f"{data!r} is not quite a number and a newline")
    remedy = "Use a newer gitkube."
    if text.isdecimal() and int(text) < DATA_FORMAT:
        remedy = (
            "It cannot be converted: start with an empty directory, and the state comes back from git; "
            "or use the gitkube that wrote it."
        )
    raise CorruptError(
        f"{directory} has data of format {text!r}; this version knows {DATA_FORMAT}. "
        f"Nothing was changed. {remedy}"
    )


def read_identity(disk: Disk, directory: Path) -> Identity | None:
    """Whose data this is; None for a directory that was never a member's.

    Raises:
        CorruptError: the file is damaged, or the directory has another format.
    """
    refuse_other_format(disk, directory)
    path = directory / IDENTITY
    if not disk.exists(path):
        return None
    data = disk.read(path)
    try:
        content = json.loads(data)
        checksum = content.pop("checksum")
        identity = Identity(
            int(content["cluster_id"], 16), MemberId(int(content["member_id"], 16)), str(content["name"])
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise records.damaged(str(path), 0, f"it is not the identity of a member ({error})") from error
    if data != _encode(identity) or checksum != _checksum(content):
        raise records.damaged(str(path), 0, "it fails its checksum")
    return identity


def check_identity(
    disk: Disk, directory: Path, *, cluster_id: int | None = None, member_id: int | None = None
) -> Identity:
    """The identity of a directory that must be there.

    Args:
        cluster_id, member_id: whose data it must be; None is anybody's.

    Raises:
        IdentityError: it belongs to another cluster or member, or to nobody.
        CorruptError: as for `read_identity`.
    """
    identity = read_identity(disk, directory)
    if identity is None:
        raise IdentityError(
            f"{directory} is not the data directory of a member: there is no {IDENTITY} in it"
        )
    for word, found, expected in (
        ("cluster", identity.cluster_id, cluster_id),
        ("member", identity.member_id, member_id),
    ):
        if expected is not None and found != expected:
            raise IdentityError(
                f"{directory} has the data of {word} {found:x} (member {identity.name!r}), not of "
                f"{expected:x}. Give this member its own directory; or, if its data may go, move that "
                "directory away and let the member get its state from the others."
            )
    return identity


def write_identity(disk: Disk, directory: Path, identity: Identity) -> None:
    """Durable when it returns."""
    write_file(disk, directory / IDENTITY, [_encode(identity)])


def create_member(
    disk: Disk,
    directory: Path,
    identity: Identity,
    meta: SnapshotMeta | None = None,
    parts: Iterable[Sequence[Any]] = (),
    *,
    entries: Sequence[Entry] = (),
    hard_state: HardState | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> None:
    """Fill a directory that is nobody's, durably: format, snapshot, log, and last the identity.

    Leftovers of an attempt that a crash cut short are removed first.

    Args:
        meta: of the state to begin with, with who takes part; its index may be 0. None for a member that
            gets its state from others.
        parts: that state.
        entries: that follow it.
        hard_state: by default the snapshot's term and commit, with no vote.

    Raises:
        IdentityError: it is a member's directory.
        OSError: the disk failed or is full; the directory is still nobody's.
    """
    existing = read_identity(disk, directory)
    if existing is not None:
        raise IdentityError(
            f"{directory} already has the data of member {existing.name!r} ({existing.member_id:x}). "
            "Choose an empty directory."
        )
    clear(disk, directory)
    check_format(disk, directory)
    wal = Wal(disk, directory / WAL, segment_bytes=segment_bytes)
    try:
        wal.open(0)
        if meta is not None:
            write_snapshot(disk, directory / SNAPSHOTS, meta, parts)
            wal.reset(meta.index, meta.term)
            hard_state = hard_state or HardState(term=meta.term, commit=meta.index)
        for start in range(0, len(entries), _ENTRIES_A_SYNC):
            wal.append(entries[start : start + _ENTRIES_A_SYNC])
            wal.sync()
        wal.append([], hard_state)
        wal.sync()
    finally:
        wal.close()
    write_identity(disk, directory, identity)


def clear(disk: Disk, directory: Path) -> None:
    """Remove a member's files, the identity first; the lock and what is not ours stay."""
    for name in (IDENTITY, FORMAT):
        if disk.exists(directory / name):
            disk.unlink(directory / name)
            disk.sync_directory(directory)
    for inner in (directory / WAL, directory / SNAPSHOTS):
        for name in disk.names(inner):
            disk.unlink(inner / name)
        if disk.exists(inner):
            disk.sync_directory(inner)


def _encode(identity: Identity) -> bytes:
    content: dict[str, Any] = {
        "format": DATA_FORMAT,
        "cluster_id": f"{identity.cluster_id:x}",
        "member_id": f"{identity.member_id:x}",
        "name": identity.name,
    }
    content["checksum"] = _checksum(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def _checksum(content: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
