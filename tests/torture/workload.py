"""What goes on while members die: clients on every member, and watchers of everything.

Each client does one thing after the other on few keys, so that they meet: linearizable and serializable
reads, writes, deletions, compare-and-swaps on what it saw last, and keys of its own that must be there in the
end. Every fourth register is a pair of keys, written in one transaction and read in one range: a torn pair is
seen as a value that nobody wrote. Now and then a client gives up early, as people do; whether its write is
done nobody knows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from gitkube.store.protocol import (
    CompactedError,
    Compare,
    Delete,
    DeleteResult,
    EventType,
    FutureRevisionError,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    Revision,
    StoreError,
    Target,
    TxnResult,
    UnavailableError,
    prefix_end,
)
from gitkube.store.remote import RemoteStore
from tests.torture.history import Attempt, History, Kind, Watched

PREFIX = b"t/"
KINDS: dict[Kind, int] = {"read": 25, "stale": 10, "write": 20, "swap": 20, "add": 20, "delete": 5}
"""How often each, out of a hundred."""
GIVE_UP_SHARE = 0.02
GIVE_UP_AFTER_S = (0.001, 0.1)
MAX_SILENCE_S = 40.0
"""A request is answered, or refused for want of a quorum, long before; else a member hangs."""
LATE_WATCHERS_BEHIND = 300
"""A watcher that starts in the past starts up to so many revisions back."""

Stores = Callable[[int], RemoteStore | None]
"""A client of the member with this number; None: there is no such member any more."""


@dataclass(frozen=True, slots=True)
class Load:
    clients: int = 10
    keys: int = 20
    think_s: float = 0.01
    """Mean pause of a client between two requests."""
    padding_bytes: int = 200
    """Of each value, so that logs and snapshots have some weight."""


class Workload:
    """See the module's text.

    Args:
        numbers: of the members there are now.
        now: seconds since the run began.
    """

    def __init__(
        self,
        history: History,
        load: Load,
        *,
        stores: Stores,
        numbers: Callable[[], list[int]],
        now: Callable[[], float],
    ) -> None:
        self._history = history
        self._load = load
        self._stores = stores
        self._numbers = numbers
        self._now = now
        self._is_over = False
        self._padding = "." * load.padding_bytes
        self.acknowledged = 0

    async def run_clients(self) -> None:
        """Until `finish`."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._load.clients):
                group.create_task(self._client(number))

    async def run_watchers(self) -> None:
        """One of each member all the time, and now and then one that starts in the past; until cancelled."""
        followed: dict[int, asyncio.Task[None]] = {}
        rng = random.Random(self._history.seed ^ 0x57A7C4)
        late = 0
        async with asyncio.TaskGroup() as group:
            while True:
                for number in self._numbers():
                    if number not in followed or followed[number].done():
                        followed[number] = group.create_task(self._follow(f"steady-{number}", number, 0))
                await asyncio.sleep(1)
                back = self._seen_through() - rng.randrange(LATE_WATCHERS_BEHIND)
                if back > 1:
                    late += 1
                    name, number = f"late-{late}", rng.choice(self._numbers())
                    group.create_task(self._for_a_while(name, number, back, rng.uniform(1, 10)))

    def finish(self) -> None:
        """Clients end with what they are doing."""
        self._is_over = True

    def _seen_through(self) -> int:
        return max((each.through for each in self._history.watches), default=0)

    # ------------------------------------------------------------------ clients

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self._history.seed}/{number}")
        seen: dict[str, str | None] = {}
        count = 0
        kinds, weights = list(KINDS), list(KINDS.values())
        while not self._is_over:
            members = self._numbers()
            member = members[number % len(members)] if rng.random() < 0.9 else rng.choice(members)
            kind = rng.choices(kinds, weights)[0]
            index = rng.randrange(self._load.keys)
            key = f"p{index}" if index % 4 == 3 else f"k{index}"
            if kind == "add":
                key = f"add/{number}/{count}"
            value = f"{number}-{count}{self._padding}" if kind in ("write", "swap", "add") else None
            attempt = Attempt(number, member, kind, key, self._now(), value=value, expected=seen.get(key))
            store = self._stores(member)
            if store is not None:
                self._history.attempts.append(attempt)
                give_up_s = rng.uniform(*GIVE_UP_AFTER_S) if rng.random() < GIVE_UP_SHARE else None
                await self._try(attempt, store, give_up_s)
                if attempt.outcome != "unknown" and kind != "stale":
                    seen[key] = attempt.value
                    self.acknowledged += kind not in ("read", "stale") and attempt.outcome == "ok"
            count += 1
            await asyncio.sleep(rng.expovariate(1 / self._load.think_s) if self._load.think_s else 0)

    async def _try(self, attempt: Attempt, store: RemoteStore, give_up_s: float | None) -> None:
        try:
            async with asyncio.timeout(give_up_s or MAX_SILENCE_S):
                await self._do(attempt, store)
            attempt.returned = self._now()
        except UnavailableError:
            attempt.outcome, attempt.returned = "unknown", None
        except TimeoutError:
            attempt.outcome, attempt.returned = "unknown", None
            if give_up_s is None:
                self._history.incidents.append(
                    f"a {attempt.kind} of client {attempt.client} at member {attempt.member}, called at "
                    f"{attempt.call:.1f} s, was not even refused within {MAX_SILENCE_S:.0f} s"
                )
        except StoreError as error:
            self._history.incidents.append(f"client {attempt.client} got {type(error).__name__}: {error}")

    async def _do(self, attempt: Attempt, store: RemoteStore) -> None:
        keys = _keys_of(attempt.key)
        match attempt.kind:
            case "read" | "stale":
                found = await store.range(keys[0], keys[-1] + b"\0", serializable=attempt.kind == "stale")
                self._found(attempt, found)
            case "delete":
                result = await store.txn([], [Delete(key) for key in keys])
                [first, *_] = result.results
                assert isinstance(first, DeleteResult)
                attempt.outcome, attempt.revision = "ok", result.revision if first.deleted else 0
            case "swap":
                await self._swap(attempt, store, keys)
            case _:
                result = await store.txn([], self._puts(attempt, keys))
                attempt.outcome, attempt.revision = "ok", result.revision

    async def _swap(self, attempt: Attempt, store: RemoteStore, keys: list[bytes]) -> None:
        if attempt.expected is None:
            compare = Compare(keys[0], Target.VERSION, Op.EQUAL, 0)
        else:
            compare = Compare(keys[0], Target.VALUE, Op.EQUAL, attempt.expected.encode())
        result: TxnResult = await store.txn(
            [compare], self._puts(attempt, keys), [Get(keys[0], keys[-1] + b"\0")]
        )
        if result.succeeded:
            attempt.outcome, attempt.revision = "ok", result.revision
        else:
            [found] = result.results
            assert isinstance(found, RangeResult)
            self._found(attempt, found)
            attempt.outcome, attempt.revision = "failed", result.revision

    def _puts(self, attempt: Attempt, keys: list[bytes]) -> list[Put]:
        assert attempt.value is not None
        return [Put(key, attempt.value.encode()) for key in keys]

    def _found(self, attempt: Attempt, found: RangeResult) -> None:
        attempt.outcome, attempt.revision = "ok", found.revision
        attempt.value = None
        if found.kvs:
            attempt.value, attempt.mod_revision = found.kvs[0].value.decode(), found.kvs[0].mod_revision
        expected = len(_keys_of(attempt.key)) if found.kvs else 0
        if len(found.kvs) != expected or any(_differ(found.kvs[0], kv) for kv in found.kvs):
            attempt.value = f"TORN {[(kv.key, kv.value, kv.mod_revision) for kv in found.kvs]}"

    # ------------------------------------------------------------------ watchers

    async def _for_a_while(self, name: str, number: int, start: int, duration_s: float) -> None:
        try:
            async with asyncio.timeout(duration_s):
                await self._follow(name, number, start)
        except TimeoutError:
            return  # it has seen what it was to see

    async def _follow(self, name: str, number: int, start: int) -> None:
        """Follow one member until its history is compacted away before us, or it is gone."""
        store = self._stores(number)
        if store is None:
            return
        watched = Watched(name, number, start)
        self._history.watches.append(watched)
        try:
            async for batch in store.watch(PREFIX, prefix_end(PREFIX), start_revision=Revision(start)):
                if not watched.start:
                    watched.start = (
                        batch.revision + 1 if not batch.events else batch.events[0].kv.mod_revision
                    )
                watched.events += [
                    (
                        event.kv.mod_revision,
                        event.kv.key.decode().removeprefix(PREFIX.decode()),
                        event.kv.value.decode() if event.type is EventType.PUT else None,
                    )
                    for event in batch.events
                ]
                if batch.revision >= watched.start:
                    watched.through = batch.revision
        except (CompactedError, FutureRevisionError, UnavailableError):
            return  # too late, too early or cut off: what it saw until then counts, and another begins


def _keys_of(register: str) -> list[bytes]:
    if register.startswith("p"):
        return [PREFIX + f"{register}/{half}".encode() for half in "ab"]
    return [PREFIX + register.encode()]


def _differ(first: KeyValue, other: KeyValue) -> bool:
    return (first.value, first.mod_revision) != (other.value, other.mod_revision)
