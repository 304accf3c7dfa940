"""Verify a data directory while nobody uses it: every byte of every file, and what the files say together.

`check` only reads. It goes on after a finding, so that one run tells all: each with the place, what is the
matter, and what to do. No findings means that a member can start from this directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gitkube.store.directory import (
    FORMAT,
    IDENTITY,
    LOCK,
    SNAPSHOTS,
    WAL,
    read_identity,
    refuse_other_format,
)
from gitkube.store.disk import Disk
from gitkube.store.protocol import CorruptError, StoreError
from gitkube.store.raft.types import SnapshotMeta
from gitkube.store.segments import LogContents, read_log
from gitkube.store.snapshot import read_meta, read_snapshot, snapshot_paths

_RESTORE = (
    "One of several controllers: remove this member on another one, and add it anew with an empty directory. "
    "A lone one: `gitkube store restore` a backup. docs/how-to/disaster.md says how."
)
_OTHER_VERSION = (
    "The data may be whole: start the gitkube that wrote them. If this one did, the file `format` is "
    "damaged; then as with all damage, docs/how-to/disaster.md."
)
_UNREADABLE = f"Run this as the user of gitkube serve. If the disk has failed, as with damage. {_RESTORE}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is the matter."""

    place: Path
    what: str
    remedy: str
    is_fatal: bool = True
    """A member does not start with it; otherwise it is only good to know."""


def check(
    disk: Disk, directory: Path, *, load: Callable[[Iterator[list[Any]]], object] | None = None
) -> list[Finding]:
    """All that is the matter with a data directory.

    Args:
        load: makes a state of a snapshot's parts, such as `KeySpace.load`; its errors are findings too.
    """
    try:
        refuse_other_format(disk, directory)
    except CorruptError as error:
        return [Finding(directory, str(error), _OTHER_VERSION)]
    try:
        identity = read_identity(disk, directory)
    except (CorruptError, OSError) as error:
        return [_finding(directory, error)]
    if identity is None:
        remedy = f"Name the data directory of a member; or, if this was one, put its {IDENTITY} back."
        return [Finding(directory, f"not a member's directory: it has no {IDENTITY}", remedy)]
    metas, findings = _check_snapshots(disk, directory / SNAPSHOTS, load)
    if not findings or metas:
        findings += _check_log(disk, directory / WAL, metas[-1] if metas else SnapshotMeta())
    return [*findings, *_check_names(disk, directory)]


def _check_snapshots(
    disk: Disk, directory: Path, load: Callable[[Iterator[list[Any]]], object] | None
) -> tuple[list[SnapshotMeta], list[Finding]]:
    """The heads that can be read, and what is the matter with the rest."""
    metas, findings = [], []
    paths = snapshot_paths(disk, directory)
    for path in paths:
        is_newest = path == paths[-1]
        try:
            meta = read_meta(disk, path)
            metas.append(meta)
            parts = read_snapshot(disk, directory, meta)
            if load is not None and is_newest:
                load(parts)
            for _ in parts:
                pass
        except (StoreError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if is_newest:
                findings.append(_finding(path, error))
            else:
                remedy = "It is not needed any more: remove this file."
                findings.append(Finding(path, _words(error), remedy, is_fatal=False))
    return metas, findings


def _check_log(disk: Disk, directory: Path, meta: SnapshotMeta) -> list[Finding]:
    try:
        contents = read_log(disk, directory, meta.index, everything=True)
    except (CorruptError, OSError) as error:
        try:
            read_log(disk, directory, meta.index)
        except (CorruptError, OSError):
            return [_finding(directory, error)]
        remedy = "The newest snapshot has these entries: it goes away with the next snapshot."
        return [Finding(directory, _words(error), remedy, is_fatal=False)]
    if not contents.segments:
        return [Finding(directory, "there is no log: the member would have forgotten its votes", _RESTORE)]
    return list(_check_contents(directory, contents, meta))


def _check_contents(directory: Path, contents: LogContents, meta: SnapshotMeta) -> Iterator[Finding]:
    for before, after in pairwise(contents.entries):
        if after.term < before.term:
            what = f"entry {after.index} has term {after.term}, the one before it {before.term}"
            yield Finding(directory, what, _RESTORE)
    for entry in contents.entries:
        if entry.index == meta.index and entry.term != meta.term:
            what = (
                f"entry {entry.index} has term {entry.term} in the log and {meta.term} in the newest "
                "snapshot: a crash came while a snapshot of another member was installed"
            )
            yield Finding(directory, what, "None needed: the next start finishes it.", is_fatal=False)
    last_index = max(contents.last_index, meta.index)
    if contents.hard_state.commit > last_index:
        what = f"{contents.hard_state.commit} entries were committed, but the log ends at {last_index}"
        yield Finding(directory, what, _RESTORE)
    if contents.rest_bytes:
        what = f"the last write was cut short by a crash, behind offset {contents.end}; nobody was told of it"
        yield Finding(contents.segments[-1].path, what, "None needed: the next start removes it.", False)
    for path in contents.leftovers:
        what = "made ahead for what comes, or left over from something that a crash cut short"
        yield Finding(path, what, "None needed: the next start removes it.", False)


def _check_names(disk: Disk, directory: Path) -> Iterator[Finding]:
    for name in disk.names(directory):
        if name not in {IDENTITY, FORMAT, LOCK, WAL, SNAPSHOTS}:
            remedy = "Remove it if you know what it is." if not name.endswith(".tmp") else "None needed."
            yield Finding(directory / name, "not a file of the store", remedy, False)


def _finding(place: Path, error: Exception) -> Finding:
    """A file without which a member does not start."""
    return Finding(place, _words(error), _UNREADABLE if isinstance(error, OSError) else _RESTORE)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError | OSError) else f"it cannot be loaded: {error!r}"
