"""How a member comes to be: the first of a cluster, one that joins, or one that was here before.

The directory decides. It has an identity or it is new; a new one begins a cluster of its own, unless it was
given a place in another. Every step may be repeated after a crash: the identity is written last, and what is
there without one is removed as left over. So a directory that has lost its identity, and has a state, must be
told from one whose beginning was interrupted; that one has no entry, no vote, and no snapshot but the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import structlog

from gitkube.store.config import JoinInfo
from gitkube.store.directory import (
    IDENTITY,
    SNAPSHOTS,
    WAL,
    Identity,
    check_format,
    create_member,
    read_identity,
)
from gitkube.store.disk import Disk
from gitkube.store.member_state import found
from gitkube.store.protocol import CorruptError, IdentityError, MemberInfo
from gitkube.store.raft.types import NOBODY, MemberId, SnapshotMeta
from gitkube.store.replica import Replica, ReplicaSettings
from gitkube.store.segments import read_log
from gitkube.store.snapshot import newest_snapshot

log = structlog.get_logger()

_FIRST_INDEX = 1
"""Of the snapshot with which a cluster begins."""


def open_replica(
    disk: Disk,
    directory: Path,
    *,
    name: str,
    rng: random.Random,
    join: JoinInfo | None,
    peer_address: str,
    client_urls: Sequence[str],
    settings: ReplicaSettings,
) -> Replica:
    """The replica of a directory, which is made if it is empty.

    Raises:
        CorruptError: what is there is damaged or of another format.
        IdentityError: it is a member of another cluster than the one to join.
    """
    identity = read_identity(disk, directory)
    if identity is None:
        refuse_lost_identity(disk, directory)
        identity = _begin(
            disk, directory, name, rng, join, peer_address, client_urls, segment_bytes=settings.segment_bytes
        )
        log.info("store_created", cluster=f"{identity.cluster_id:x}", member=f"{identity.member_id:x}")
    elif join is not None and (identity.cluster_id, identity.member_id) != (join.cluster_id, join.member_id):
        raise IdentityError(
            f"{directory} belongs to member {identity.member_id:x} of cluster {identity.cluster_id:x}, and "
            f"was told to join cluster {join.cluster_id:x} as member {join.member_id:x}. Start without "
            "--join to go on as the former, or with an empty data directory to begin as the latter."
        )
    else:
        check_format(disk, directory)
    return Replica.open(disk, directory, identity, rng=rng, settings=settings)


def refuse_lost_identity(disk: Disk, directory: Path) -> None:
    """Keep the state of a member whose identity is gone from being taken for the rest of a first start.

    Raises:
        CorruptError: a member has worked in this directory, or what is there cannot be read.
    """
    meta = newest_snapshot(disk, directory / SNAPSHOTS) or SnapshotMeta()
    if not disk.names(directory / WAL) and meta.index <= _FIRST_INDEX:
        return
    contents = read_log(disk, directory / WAL, meta.index)
    if meta.index <= _FIRST_INDEX and not contents.entries and contents.hard_state.vote == NOBODY:
        return
    raise CorruptError(
        f"{directory / IDENTITY} is missing, which says whose data these are, and there is a state up to "
        f"entry {max(contents.last_index, meta.index)}. Nothing was changed. Put that file back, restore a "
        "backup, or rebuild this member from the others; if its data may go, move the directory away."
    )


def _begin(
    disk: Disk,
    directory: Path,
    name: str,
    rng: random.Random,
    join: JoinInfo | None,
    peer_address: str,
    client_urls: Sequence[str],
    *,
    segment_bytes: int,
) -> Identity:
    if join is not None:
        identity = Identity(join.cluster_id, MemberId(join.member_id), name)
        create_member(disk, directory, identity, segment_bytes=segment_bytes)
        return identity
    identity = Identity(_new_id(rng), MemberId(_new_id(rng)), name)
    info = MemberInfo(identity.member_id, name, peer_address, tuple(client_urls))
    found(disk, directory, identity, info, segment_bytes=segment_bytes)
    return identity


def _new_id(rng: random.Random) -> int:
    return rng.getrandbits(62) + 1
