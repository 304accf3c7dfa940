"""Another key for sealed Secrets: made, written with, all records sealed anew, the old keys forgotten.

Flow of `rotate`: the ring gets a new key to write with, in one transaction, from which on nothing is written
under an old one (`sealing.py`); every record under an old key, and every open one of a sealed kind, is
replaced by what it says under the new one; when none is left the ring loses the old keys, and the history
before is compacted. Each step can be the last before a power cut: whoever calls again goes on.

What was sealed under an old key stays readable in old backups as long as the cluster's authority is there,
because the ring in a backup wraps its keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gitkube.api.keys import REGISTRY_PREFIX, RING_KEY
from gitkube.api.sealing import (
    KEY_BYTES,
    RandomBytes,
    Ring,
    SealError,
    Sealing,
    Wrapping,
    key_id,
    sealed_under,
)
from gitkube.store.protocol import Compare, KeyValue, Op, Put, Revision, Store, Target, prefix_end

PAGE_KEYS = 500
BATCH_RECORDS = 16
"""Replaced in one transaction: a Secret may have a megabyte."""
MAX_BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was done."""

    key: str
    retired: tuple[str, ...]
    resealed: int
    refused: tuple[str, ...]
    """Places of records that could not be opened, and lie there as before."""


async def read_ring(store: Store) -> tuple[Ring, KeyValue]:
    """The ring.

    Raises:
        SealError: there is none.
    """
    found = await store.range(RING_KEY)
    if not found.kvs:
        raise SealError("nothing is sealed in this store yet; start this version of gitkube serve once")
    return Ring.decode(found.kvs[0].value), found.kvs[0]


async def rotate(
    store: Store,
    sealing: Sealing,
    wrapping: Wrapping,
    *,
    random_bytes: RandomBytes,
    on_progress: Callable[[int], None],
) -> Rotation:
    """See the module's text. One that was broken off is finished, without a further key.

    Args:
        on_progress: called with how many records were sealed anew so far.

    Raises:
        SealError: a key is missing, or somebody else rotates at the same time.
        StoreError: the store cannot be asked.
    """
    ring, kv = await read_ring(store)
    if len(ring.wrapped) == 1:
        key = random_bytes(KEY_BYTES)
        ring = Ring(key_id(key), {**ring.wrapped, key_id(key): wrapping.wrap(key)})
        kv = await _replace(store, ring, kv)
    sealing.take_ring(kv)
    resealed, refused = 0, set[str]()
    while True:
        left = await _outdated(store, sealing, refused)
        if not left:
            break
        for batch in _batches(left):
            resealed += await _reseal(store, sealing, batch, refused)
            on_progress(resealed)
    retired = tuple(id for id in ring.wrapped if id != ring.writes)
    kv = await _replace(store, Ring(ring.writes, {ring.writes: ring.wrapped[ring.writes]}), kv)
    await store.compact(Revision(kv.mod_revision))
    return Rotation(ring.writes, retired, resealed, tuple(sorted(refused)))


async def _replace(store: Store, ring: Ring, kv: KeyValue) -> KeyValue:
    unchanged = Compare(RING_KEY, Target.MOD, Op.EQUAL, kv.mod_revision)
    if not (await store.txn([unchanged], [Put(RING_KEY, ring.encode())])).succeeded:
        raise SealError("the keys were changed by somebody else meanwhile; run this again when he is done")
    return (await store.range(RING_KEY)).kvs[0]


async def _outdated(store: Store, sealing: Sealing, refused: set[str]) -> list[KeyValue]:
    """Records that are not as they would be written now; without those that nobody can open."""
    start, found = REGISTRY_PREFIX, list[KeyValue]()
    while True:
        page = await store.range(start, prefix_end(REGISTRY_PREFIX), limit=PAGE_KEYS)
        for kv in page.kvs:
            id = sealed_under(kv.value)
            is_outdated = id != sealing.writes if id else sealing.covers(kv.key)
            if is_outdated and _place(kv) not in refused:
                found.append(kv)
        if not page.more:
            return found
        start = page.kvs[-1].key + b"\x00"


def _batches(records: list[KeyValue]) -> list[list[KeyValue]]:
    batches: list[list[KeyValue]] = []
    size_bytes = 0
    for kv in records:
        size_bytes += len(kv.value)
        if not batches or len(batches[-1]) == BATCH_RECORDS or size_bytes > MAX_BATCH_BYTES:
            batches.append([])
            size_bytes = len(kv.value)
        batches[-1].append(kv)
    return batches


async def _reseal(store: Store, sealing: Sealing, batch: list[KeyValue], refused: set[str]) -> int:
    """How many were done: all of the batch, or none when one of them has changed meanwhile."""
    compares, puts = [], []
    for kv in batch:
        try:
            plain = sealing.open(kv.key, kv.value)
        except SealError:
            refused.add(_place(kv))
            continue
        compares.append(Compare(kv.key, Target.MOD, Op.EQUAL, kv.mod_revision))
        puts.append(Put(kv.key, sealing.seal(kv.key, plain), ignore_lease=True))
    done = not puts or (await store.txn(compares, puts)).succeeded
    return len(puts) if done else 0


def _place(kv: KeyValue) -> str:
    return kv.key.decode(errors="replace")
