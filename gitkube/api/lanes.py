"""How writes that are charged to one namespace's quotas come to the store: in rounds, on top of one another.

A charge is the quota's new `used`, written in the transaction of the object, and compared with the quota that
it was computed from. Were each write to wait for the one before it, a namespace would get one write a round
trip. So a write is charged on top of the charges that are still under way: its transaction compares that the
quota was written as often as it will have been by then (`_Tip`); the store decides them in the order in which
it is told. When one fails, those behind it find the quota short of a version and fail with it. Nothing of
them was stored; the round ends, and they are charged anew from what is there. A quota's refusal is only given
when nothing is under way whose failure could lift it.

Writers of other processes change the quota, too. Rounds are short and end before the next begins, which
leaves them a gap. A round that finds a quota changed by another makes the next one a single write, and each
full one that does not lets the next be twice as long.

Invariant: each transaction carries the comparisons under which its charge is true. What is remembered here
may be wrong; that costs time, and never a quota's limit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gitkube.api.errors import StatusError, unavailable
from gitkube.objects.types import Object
from gitkube.store.protocol import Compare, Get, Op, Operation, Put, RangeResult, Target, TxnResult

MAX_ROUND = 16
"""Writes: what a failure undoes at most, and how many of ours another process may have to wait for."""
MAX_CHARGES = 256
"""How often a write is charged anew because quotas change under it; each time takes a round trip."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What a write makes of one quota."""

    key: bytes
    revision: int
    """Of the quota that the cache has."""
    after: Object
    """The quota with the charge."""
    value: bytes
    """The same as it is stored."""


Newest = Callable[[bytes, Object], Object]
"""From a quota's key and what the cache has of it to what it will be after the writes under way."""
Commit = Callable[[list[Compare], list[Operation], list[Operation]], Awaitable[TxnResult]]
"""What to compare, to do, and to do otherwise. Returns when the cache has what became of it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a write takes from the quotas of its namespace, found when it is its turn."""

    lane: str
    """Writes of one lane are charged to the same quotas."""
    take: Callable[[Newest], list[Touch]]
    """
    Raises:
        StatusError: 403, a quota would be exceeded.
    """


@dataclass(slots=True)
class _Tip:
    """A quota as it will be when the writes under way are through."""

    quota: Object
    created: int
    """The revision of its creation."""
    version: int
    """How often it was written by then."""
    revision: int
    """Of the newest write that the store has answered."""
    under_way: int = 0


@dataclass(slots=True)
class _Lane:
    """The charged writes of one namespace. A lane without users is forgotten."""

    users: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    length: int = MAX_ROUND
    """How many writes a round may have."""
    started: int = 0
    """Writes that this round has had."""
    inside: int = 0
    """Those that are not through yet."""
    sent: int = 0
    """Those of these that the store was told of."""
    is_broken: bool = False
    """A write of this round has failed, or waits for its end: nobody else begins in it."""
    was_others: bool = False
    """It failed because somebody else has changed a quota."""
    tips: dict[bytes, _Tip] = field(default_factory=dict)
    opening: set[bytes] = field(default_factory=set)
    """Quotas without a tip that a write under way changes: its answer says how often they were written."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever the store has answered."""

    def may_begin(self) -> bool:
        return self.inside == 0 or (not self.is_broken and self.started < self.length)

    def begin(self) -> None:
        if self.inside == 0:
            if self.was_others:
                self.length = 1
            elif self.started >= self.length:
                self.length = min(MAX_ROUND, 2 * self.length)
            if self.is_broken:
                self.tips.clear()
            self.started = 0
            self.is_broken = self.was_others = False
        self.started += 1
        self.inside += 1

    def end(self) -> None:
        self.inside -= 1
        while self.waiting and self.may_begin():
            waiter = self.waiting.popleft()
            if not waiter.done():
                self.begin()
                waiter.set_result(None)

    def newest(self, key: bytes, cached: Object) -> Object:
        tip = self.tips.get(key)
        if tip is not None and (tip.under_way or str(tip.revision) == cached["metadata"]["resourceVersion"]):
            return tip.quota
        self.tips.pop(key, None)
        return cached

    def send(self, touches: Sequence[Touch]) -> list[Compare]:
        """What must hold of the quotas; from now on they count as changed."""
        self.sent += 1
        compares = []
        for touch in touches:
            tip = self.tips.get(touch.key)
            if tip is None:
                compares.append(Compare(touch.key, Target.MOD, Op.EQUAL, touch.revision))
                self.opening.add(touch.key)
            else:
                compares.append(Compare(touch.key, Target.CREATE, Op.EQUAL, tip.created))
                compares.append(Compare(touch.key, Target.VERSION, Op.EQUAL, tip.version))
                tip.quota, tip.version, tip.under_way = touch.after, tip.version + 1, tip.under_way + 1
        return compares

    def hear(self, touches: Sequence[Touch], result: TxnResult | None) -> None:
        """Take the answer to what was sent; None when there was none."""
        self.sent -= 1
        is_stored = result is not None and result.succeeded
        for touch in touches:
            tip = self.tips.get(touch.key)
            if tip is not None:
                tip.under_way -= 1
                if result is not None and is_stored:
                    tip.revision = result.revision
            self.opening.discard(touch.key)
        if result is not None and is_stored:
            for touch, found in zip(touches, _quotas_in(result, len(touches)), strict=True):
                if touch.key not in self.tips and found.kvs:
                    kv = found.kvs[0]
                    self.tips[touch.key] = _Tip(touch.after, kv.create_revision, kv.version, kv.mod_revision)
        else:
            self.is_broken = True
        self.answered.set()
        self.answered = asyncio.Event()


class Lanes:
    def __init__(self, timeout_s: float) -> None:
        """
        Args:
            timeout_s: how long a write waits for its turn.
        """
        self._timeout_s = timeout_s
        self._lanes: dict[str, _Lane] = {}

    async def commit(
        self,
        charge: Charge,
        compares: list[Compare],
        operations: list[Operation],
        commit: Commit,
        *,
        dry_run: bool = False,
    ) -> TxnResult | StatusError | None:
        """Store a write with what it costs.

        Args:
            compares, operations: the write without its charge.

        Returns:
            What the store said. If it did not do it, that is because of the write's own comparisons. None
            after a dry run; an error is a quota's refusal.

        Raises:
            StatusError: 503, others keep the quotas busy for too long; and what `commit` raises.
        """
        lane = self._lanes.setdefault(charge.lane, _Lane())
        lane.users += 1
        try:
            for attempt in range(MAX_CHARGES):
                await self._turn(lane, charge.lane, is_again=attempt > 0)
                try:
                    touches = await _taken(lane, charge)
                    if isinstance(touches, StatusError) or (touches is not None and dry_run):
                        return touches if isinstance(touches, StatusError) else None
                    if touches is not None:
                        result = await _send(lane, touches, compares, operations, commit)
                        if result is not None:
                            return result
                finally:
                    lane.end()
            raise _busy(charge.lane)
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[charge.lane]

    async def _turn(self, lane: _Lane, name: str, *, is_again: bool) -> None:
        """Begin in a round. Who has begun before and failed with others goes first."""
        if lane.may_begin() and (is_again or not lane.waiting):
            lane.begin()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if is_again:
            lane.waiting.appendleft(waiter)
        else:
            lane.waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout_s):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                lane.end()  # its turn had come at this very moment
            else:
                with contextlib.suppress(ValueError):
                    lane.waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise _busy(name) from error
            raise


async def _taken(lane: _Lane, charge: Charge) -> list[Touch] | StatusError | None:
    """What the write changes, or a refusal that is final; None: only after the round can that be said."""
    while not lane.is_broken:
        try:
            touches = charge.take(lane.newest)
        except StatusError as refusal:
            if not lane.sent:
                return refusal
            break
        if not any(touch.key in lane.opening for touch in touches):
            return touches
        await lane.answered.wait()
    lane.is_broken = True
    return None


async def _send(
    lane: _Lane,
    touches: list[Touch],
    compares: list[Compare],
    operations: list[Operation],
    commit: Commit,
) -> TxnResult | None:
    """The store's answer; None when it was no for the quotas' sake."""
    expected = lane.send(touches)
    puts = [Put(touch.key, touch.value) for touch in touches]
    looks: list[Operation] = [Get(touch.key, keys_only=True) for touch in touches]
    result: TxnResult | None = None
    was_broken = False
    try:
        result = await commit([*compares, *expected], [*operations, *puts, *looks], looks)
        was_broken = lane.is_broken
    finally:
        lane.hear(touches, result)
    if result.succeeded or _hold(expected, _quotas_in(result, len(touches))):
        return result
    lane.was_others |= not was_broken
    return None


def _quotas_in(result: TxnResult, count: int) -> list[RangeResult]:
    """What the transaction saw of the quotas: its last `count` results."""
    seen = result.results[len(result.results) - count :]
    return [each for each in seen if isinstance(each, RangeResult)]


def _hold(expected: Sequence[Compare], seen: Sequence[RangeResult]) -> bool:
    """Whether what was expected of the quotas was so: then the write failed for another reason."""
    found = {kv.key: kv for each in seen for kv in each.kvs}
    for compare in expected:
        kv = found.get(compare.key)
        if kv is None:
            return False
        values = {
            Target.MOD: kv.mod_revision, Target.CREATE: kv.create_revision, Target.VERSION: kv.version
        }  # fmt: skip
        if values[compare.target] != compare.value:
            return False
    return True


def _busy(name: str) -> StatusError:
    return unavailable(f"too many writes to namespace {name} wait for its quota; try again")
