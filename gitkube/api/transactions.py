"""One write: decide from the cache, try it in the store, and decide anew when the store has moved on.

A decision is a function of what the cache shows now; its transaction compares that the store still looks so.
If it does not, the cache is awaited and the decision made again. A refusal is only given from a cache that
is known to be current, so nobody is told "not found" or "conflict" from stale memory. Where deciding asks
others (webhooks), the cache is made current first, so that they are asked once only, unless the object was
changed meanwhile. A write is answered when the cache has it, so whoever wrote reads what he wrote. What a
write takes from quotas is charged last, when it is the write's turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError, store_is_full, unavailable
from gitkube.api.keys import object_key
from gitkube.api.lanes import Charge, Lanes
from gitkube.api.settings import ApiSettings
from gitkube.api.stored import encode
from gitkube.objects.custom.versions import from_stored, to_stored
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.store.protocol import (
    NO_LEASE,
    Compare,
    Delete,
    InvalidRequestError,
    LeaseId,
    LeaseNotFoundError,
    NoSpaceError,
    Op,
    Operation,
    Put,
    Store,
    Target,
    TxnResult,
    UnavailableError,
)


@dataclass(slots=True)
class Write:
    """What a decision wants. Without operations nothing is written."""

    result: Object
    compares: list[Compare] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    is_end: bool = False
    """The object is gone after this."""
    is_creation: bool = False
    is_rewritten: bool = False
    """The object that goes was changed once more, so that its last version is a new one."""
    charge: Charge | None = None
    """What it takes from the namespace's quotas in the same transaction."""
    place: tuple[Kind, str] | None = None
    """Kind and namespace of what is put."""


def put(kind: Kind, namespace: str, obj: Object, old: Object | None, stored: Object | None = None) -> Write:
    """Store `obj` over `old`, or as a new one.

    Args:
        stored: of a custom resource, what `obj` is as it is stored.
    """
    key = object_key(kind, namespace, obj["metadata"]["name"])
    compare = _unchanged(key, old)
    if kind.custom is None:
        return Write(
            obj, [compare], [Put(key, encode(obj))], is_creation=old is None, place=(kind, namespace)
        )
    # All versions of a custom resource are stored as one, and the writer gets what he would read.
    if stored is None:
        stored = to_stored(kind.custom, kind.api_version, obj)
    asks = kind.custom.webhook is not None and stored["apiVersion"] != kind.api_version
    result = obj if asks else from_stored(kind.custom, kind.api_version, stored)
    return Write(result, [compare], [Put(key, encode(stored))], is_creation=old is None)


def remove(kind: Kind, namespace: str, obj: Object, old: Object) -> Write:
    """Delete the object; `obj` is what it was last."""
    key = object_key(kind, namespace, old["metadata"]["name"])
    return Write(obj, [_unchanged(key, old)], [Delete(key)], is_end=True)


def _unchanged(key: bytes, old: Object | None) -> Compare:
    if old is None:
        return Compare(key, Target.VERSION, Op.EQUAL, 0)
    return Compare(key, Target.MOD, Op.EQUAL, int(old["metadata"]["resourceVersion"]))


class Transactor:
    def __init__(self, store: Store, cache: WatchCache, settings: ApiSettings) -> None:
        self._store = store
        self._cache = cache
        self._settings = settings
        self._lanes = Lanes(settings.store_timeout_s)

    async def run(
        self,
        decide: Callable[[], Awaitable[Write]],
        *,
        dry_run: bool = False,
        lease: LeaseId = NO_LEASE,
        asks_others: bool = False,
    ) -> Write:
        """Do what `decide` wants, however often the store moves on meanwhile.

        Args:
            lease: what is put ends with it.
            asks_others: a decision may take long and should not be made for nothing.

        Raises:
            StatusError: what `decide` raises; 409 after too many attempts; 503 when the store is away.
        """
        await self._cache.wait_for(self._cache.revision)
        is_current = asks_others
        if asks_others:
            await self._cache.reach_current()
        for _ in range(self._settings.retries):
            try:
                write = await decide()
            except StatusError:
                if is_current:
                    raise
                write = None
            if write is None or not write.operations:
                # A refusal, or "nothing to change": only the current state may say so.
                if write is not None and is_current:
                    return write
                await self._cache.reach_current()
                is_current = True
                continue
            if lease != NO_LEASE:
                write.operations = [
                    each._replace(lease=lease) if isinstance(each, Put) else each for each in write.operations
                ]
            if write.charge is not None:
                outcome = await self._lanes.commit(
                    write.charge, write.compares, write.operations, self._commit, dry_run=dry_run
                )
                if isinstance(outcome, StatusError):
                    if is_current:
                        raise outcome
                    await self._cache.reach_current()
                    is_current = True
                    continue
            elif dry_run:
                outcome = None
            else:
                outcome = await self._commit(write.compares, write.operations)
            if outcome is None:
                return write
            if outcome.succeeded:
                if write.is_end and not write.is_rewritten:
                    return write
                write.result = self._as_stored(write, str(outcome.revision))
                return write
            is_current = True
        raise StatusError(
            409,
            "Conflict",
            f"the object was changed by others {self._settings.retries} times meanwhile; try again",
            retry_after_s=1,
        )

    def _as_stored(self, write: Write, version: str) -> Object:
        """What was written, with its version: the cache's own when nobody has written since."""
        metadata = write.result["metadata"]
        if write.place is not None:
            kind, namespace = write.place
            stored = self._cache.of(kind).get(metadata["name"], namespace)
            if stored is not None and stored["metadata"]["resourceVersion"] == version:
                return stored
        return {**write.result, "metadata": {**metadata, "resourceVersion": version}}

    async def _commit(
        self, compares: list[Compare], operations: list[Operation], otherwise: Sequence[Operation] = ()
    ) -> TxnResult:
        """Returns when the cache has what was written, or what was there instead."""
        if (sealing := self._cache.sealing) is not None:
            compares, operations = sealing.sealed(compares, operations)
        result: TxnResult | None = None
        try:
            async with asyncio.timeout(self._settings.store_timeout_s):
                result = await self._store.txn(compares, operations, otherwise)
                await self._cache.reached(result.revision)
        except InvalidRequestError as error:
            raise StatusError(
                413, "RequestEntityTooLarge", f"the object cannot be stored: {error}"
            ) from error
        except LeaseNotFoundError as error:
            raise unavailable("the lease of this write has ended meanwhile; try again") from error
        except NoSpaceError as error:
            raise store_is_full(error) from error
        except UnavailableError as error:
            raise unavailable(f"the store is not available: {error}") from error
        except TimeoutError as error:
            if result is not None:
                raise self._cache.is_late(result.revision) from error
            text = "the store did not answer in time; whether the write was done is not known"
            raise StatusError(504, "Timeout", text, retry_after_s=1) from error
        return result
