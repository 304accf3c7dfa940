"""Charges over a store that answers late, out of order or not at all, while others change the quota, too."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gitkube.api.errors import StatusError
from gitkube.api.lanes import MAX_ROUND, Charge, Lanes, Newest, Touch
from gitkube.objects.types import Object
from gitkube.store.protocol import (
    Compare,
    Get,
    KeyValue,
    Op,
    Operation,
    Put,
    RangeResult,
    Revision,
    Target,
    TxnResult,
)

QUOTA = b"quota"
HARD = 25


@dataclass
class ModelStore:
    """Keys with their versions, and a cache that has everything that was answered."""

    chance: random.Random
    is_faulty: bool = True
    revision: int = 1
    kvs: dict[bytes, KeyValue] = field(default_factory=dict)
    under_way: int = 0
    most: int = 0

    @property
    def objects(self) -> int:
        return sum(key != QUOTA for key in self.kvs)

    @property
    def used(self) -> int:
        return int(self.kvs[QUOTA].value)

    def cached(self) -> Object:
        kv = self.kvs[QUOTA]
        return {"metadata": {"resourceVersion": str(kv.mod_revision)}, "used": int(kv.value)}

    def put(self, key: bytes, value: bytes) -> None:
        before = self.kvs.get(key)
        created, version = (before.create_revision, before.version) if before else (self.revision, 0)
        self.kvs[key] = KeyValue(key, value, Revision(created), Revision(self.revision), version + 1)

    def apply(self, compares: list[Compare], success: list[Operation], failure: list[Operation]) -> TxnResult:
        is_so = all(self._holds(compare) for compare in compares)
        operations = success if is_so else failure
        self.revision += is_so
        results: list[Any] = []
        for operation in operations:
            if isinstance(operation, Put):
                self.put(operation.key, operation.value)
                results.append(None)
            elif isinstance(operation, Get):
                found = self.kvs.get(operation.key)
                results.append(RangeResult([found] if found else [], Revision(self.revision), 1))
        assert self.used == self.objects <= HARD
        return TxnResult(is_so, Revision(self.revision), results)

    def _holds(self, compare: Compare) -> bool:
        assert compare.op is Op.EQUAL
        kv = self.kvs.get(compare.key)
        if kv is None:
            return compare.value == 0
        values = {
            Target.MOD: kv.mod_revision, Target.CREATE: kv.create_revision, Target.VERSION: kv.version
        }  # fmt: skip
        return compare.value == values[compare.target]

    async def commit(
        self, compares: list[Compare], success: list[Operation], failure: list[Operation]
    ) -> TxnResult:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self.chance.randrange(4) if self.is_faulty else 2):
                await asyncio.sleep(0)
            if self.is_faulty and self.chance.random() < 0.03:
                raise StatusError(504, "Timeout", "not done")
            result = self.apply(compares, success, failure)
            for _ in range(self.chance.randrange(4) if self.is_faulty else 2):
                await asyncio.sleep(0)
            if self.is_faulty and self.chance.random() < 0.03:
                raise StatusError(504, "Timeout", "done or not, nobody knows")
            return result
        finally:
            self.under_way -= 1

    def take(self, newest: Newest) -> list[Touch]:
        cached = self.cached()
        used = newest(QUOTA, cached)["used"] + 1
        if used > HARD:
            raise StatusError(403, "Forbidden", "exceeded quota")
        after = {**cached, "used": used}
        return [Touch(QUOTA, int(cached["metadata"]["resourceVersion"]), after, b"%d" % used)]


async def write(lanes: Lanes, store: ModelStore, name: bytes) -> TxnResult | StatusError | None:
    compare = Compare(name, Target.VERSION, Op.EQUAL, 0)
    return await lanes.commit(Charge("shop", store.take), [compare], [Put(name, b"")], store.commit)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_the_quota_counts_what_is_stored(seed: int) -> None:
    chance = random.Random(seed)
    store = ModelStore(chance)
    store.put(QUOTA, b"0")
    ours, others = Lanes(timeout_s=30), Lanes(timeout_s=30)
    names = [b"object-%d" % chance.randrange(30) for _ in range(60)]
    tasks = [asyncio.ensure_future(write(chance.choice((ours, others)), store, name)) for name in names]
    for task in tasks:
        if chance.random() < 0.1:
            await asyncio.sleep(0)
            task.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert store.used == store.objects
    for name, task in zip(names, tasks, strict=True):
        outcome = None if task.cancelled() else task.exception() or task.result()
        if isinstance(outcome, TxnResult):
            assert name in store.kvs  # stored by this write, or by the one that was there before it
        elif isinstance(outcome, StatusError):
            assert outcome.code in (403, 504)
            assert outcome.code != 403 or store.used == HARD
    assert ours._lanes == others._lanes == {}


async def test_a_full_quota_is_filled_to_the_last_piece_and_a_round_is_never_longer_than_it_may_be() -> None:
    store = ModelStore(random.Random(1), is_faulty=False)
    store.put(QUOTA, b"0")
    lanes = Lanes(timeout_s=30)
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(write(lanes, store, b"%d" % number) for number in range(60)))
    assert sum(isinstance(each, TxnResult) and each.succeeded for each in outcomes) == HARD
    assert sum(isinstance(each, StatusError) and each.code == 403 for each in outcomes) == 60 - HARD
    assert 1 < store.most <= MAX_ROUND
