"""`--force-new-cluster`: the last of several controllers makes a cluster of one out of what it has.

The store does the work (`store/backup.py`); here is what it means for a controller: its member's directory is
locked meanwhile, and that it once joined another cluster is forgotten. Invariant: a start never begins an
empty store in the place of one that was being made when the power went.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import structlog

from gitkube.clock import Clock
from gitkube.server.joining import forget_joining
from gitkube.server.settings import ControlPlaneSettings
from gitkube.store.protocol import StoreError

LOCK_WAIT_S = 5.0

log = structlog.get_logger()


async def go_on_alone(settings: ControlPlaneSettings, *, clock: Clock, rng: random.Random) -> None:
    """Make a cluster of one out of what is here, when the other members are lost for good.

    Raises:
        StoreError: there is no store, or it cannot be used.
    """
    # A member's whole engine; in this process nothing else needs it.
    from gitkube.store.backup import force_new_cluster
    from gitkube.store.directory import lock_directory
    from gitkube.store.disk import SystemDisk
    from gitkube.store.membership import lone_parts

    if not settings.store_dir.is_dir():
        raise StoreError(f"there is no store in {settings.data_dir} that could go on alone")
    lock = await lock_directory(settings.store_dir, clock, LOCK_WAIT_S)
    try:
        made = force_new_cluster(
            SystemDisk(),
            settings.store_dir,
            rng=rng,
            peer_address=settings.peer_address,
            member_parts=lone_parts,
        )
    finally:
        os.close(lock)
    forget_joining(settings.data_dir)
    log.warning("new_cluster_forced", cluster=f"{made.cluster_id:016x}", member=f"{made.member_id:016x}")


def finish_going_alone(settings: ControlPlaneSettings) -> bool:
    """Finish what a crash in the middle of `go_on_alone` has left, whether it is asked for again or not.

    Returns:
        Whether there was something to finish.

    Raises:
        StoreError: what there is, is damaged.
    """
    if not _may_be_unfinished(settings.store_dir):
        return False
    from gitkube.store.backup import finish_new_cluster
    from gitkube.store.disk import SystemDisk

    made = finish_new_cluster(SystemDisk(), settings.store_dir)
    if made is None:
        return False
    forget_joining(settings.data_dir)
    log.warning("new_cluster_finished", cluster=f"{made.cluster_id:016x}", member=f"{made.member_id:016x}")
    return True


def _may_be_unfinished(store_dir: Path) -> bool:
    """Without the modules that could say it for sure, which hardly any start needs."""
    return not store_dir.exists() and any(store_dir.parent.glob(f"{store_dir.name}.*"))
