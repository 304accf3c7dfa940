"""The same random requests to a real etcd and to our door, by the same client: every answer must be equal.

`GITKUBE_DIFFERENTIAL_EXAMPLES` says how many scenarios to try (each is up to `MAX_STEPS` requests). What
differs and stays so is written down in `testdata/etcd_differences.yaml`, with the reason and a request that
shows it; any other difference fails.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gitkube.clock import SystemClock
from gitkube.store.door import serve_door
from gitkube.store.member import Member
from tests.support.beside_etcd import DELETE, Rel, Request, Side, Watcher, Watching
from tests.support.etcd_server import MISSING, etcd_server, is_installed
from tests.support.real_api import SMALL_STORE

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("GITKUBE_DIFFERENTIAL_EXAMPLES", "300"))
MAX_STEPS = 12

Step = Request | Watching

KEYS = (b"a", b"ab", b"b", b"c", b"d")
keys = st.sampled_from(KEYS)
any_keys = st.sampled_from((*KEYS, *KEYS, b""))
"""Seldom one that is refused."""
ends = st.sampled_from((b"", b"", b"\x00", *KEYS))
values = st.sampled_from((b"", b"1", b"2", b"3"))
leases = st.sampled_from((0, 0, 0, 71, 72))
revisions = st.integers(-2, 14).map(Rel)
flags = st.booleans()
seldom = st.integers(0, 7).map(lambda number: number == 0)


def fields(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional or {})


def without_known_difference(fields_of_range: dict[str, Any]) -> dict[str, Any]:
    """A limit with a sort target has an order, see "a limit with a sort target but without an order"."""
    if fields_of_range.get("sort_target") and not fields_of_range.get("sort_order"):
        return fields_of_range | {"sort_order": 1}
    return fields_of_range


bounds = dict.fromkeys(
    ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"), revisions
)
ranges = fields(
    {"key": any_keys, "range_end": ends},
    {
        "limit": st.integers(0, 4),
        "revision": revisions,
        "sort_order": st.integers(0, 2),
        "sort_target": st.integers(0, 4),
        "serializable": flags,
        "keys_only": flags,
        "count_only": seldom,
        **bounds,
    },
).map(without_known_difference)
puts = fields(
    {"key": any_keys, "value": values},
    {"lease": leases, "prev_kv": flags, "ignore_value": seldom, "ignore_lease": seldom},
)
deletes = fields({"key": any_keys, "range_end": ends}, {"prev_kv": flags})
compares = st.one_of(
    fields(
        {"key": any_keys, "result": st.integers(0, 3), "target": st.just(target), name: operand},
        {"range_end": ends},
    )
    for target, (name, operand) in enumerate(
        [
            ("version", st.integers(0, 3)),
            ("create_revision", revisions | st.just(0)),
            ("mod_revision", revisions | st.just(0)),
            ("value", values),
            ("lease", leases),
        ]
    )
)
operations = st.one_of(
    fields({"request_put": puts}),
    fields({"request_range": ranges}),
    fields({"request_delete_range": deletes}),
)
branches = st.lists(operations, max_size=3)
txns = fields({"compare": st.lists(compares, max_size=2), "success": branches, "failure": branches})
watches = fields(
    {"key": any_keys, "range_end": ends},
    {
        "start_revision": revisions,
        "prev_kv": flags,
        "filters": st.sampled_from(([], [0], [1])),
        "watch_id": st.integers(0, 3),
    },
)
lease_ids = st.sampled_from((71, 72, 73))


def requests(method: str, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Request, st.just(method), strategy)


steps: st.SearchStrategy[Step] = st.one_of(
    requests("Put", puts),
    requests("Put", puts),
    requests("Range", ranges),
    requests("Range", ranges),
    requests("DeleteRange", deletes),
    requests("Txn", txns),
    requests("Txn", txns),
    requests("Compact", fields({"revision": revisions})),
    requests("LeaseGrant", fields({"ID": lease_ids, "TTL": st.sampled_from((0, 1, 600, 10_000_000_000))})),
    requests("LeaseGrant", fields({"ID": lease_ids, "TTL": st.just(600)})),
    requests("LeaseRevoke", fields({"ID": lease_ids})),
    requests("LeaseTimeToLive", fields({"ID": lease_ids, "keys": flags})),
    requests("LeaseKeepAlive", fields({"ID": lease_ids})),
    requests("LeaseLeases", fields({})),
    st.builds(Watching, watches),
)
scenarios = st.lists(steps, min_size=1, max_size=MAX_STEPS)


@dataclass
class Pair:
    runner: asyncio.Runner
    etcd: Side
    ours: Side

    async def both(self, request: Request) -> tuple[Any, Any]:
        return await asyncio.gather(self.etcd.ask(request), self.ours.ask(request))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not is_installed():
        pytest.skip(MISSING)
    directory = tmp_path_factory.mktemp("differential")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(_start(runner, stack, directory))
        runner.run(stack.aclose())


async def _start(runner: asyncio.Runner, stack: AsyncExitStack, directory: Path) -> Pair:
    endpoint = await stack.enter_async_context(etcd_server(directory / "etcd"))
    member = await Member.open(directory / "ours", rng=random.Random(1), settings=SMALL_STORE)
    stack.push_async_callback(member.close)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock())
    stack.push_async_callback(door.close)
    etcd, ours = Side("etcd", endpoint), Side("ours", door.address)
    stack.push_async_callback(etcd.close)
    stack.push_async_callback(ours.close)
    return Pair(runner, etcd, ours)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    before=st.lists(requests("Put", fields({"key": keys, "value": values})), max_size=6), scenario=scenarios
)
def test_every_answer_and_event_is_the_one_that_etcd_gives(
    pair: Pair, before: Sequence[Step], scenario: Sequence[Step]
) -> None:
    pair.runner.run(play(pair, [*before, *scenario]))


async def play(pair: Pair, scenario: Sequence[Step]) -> None:
    await asyncio.gather(pair.etcd.begin(), pair.ours.begin())
    watchers: list[tuple[Watching, Watcher, Watcher]] = []
    compacted = {Rel(0)}
    try:
        for step in scenario:
            if isinstance(step, Watching):
                theirs, ours = await asyncio.gather(pair.etcd.watch(step), pair.ours.watch(step))
                assert ours.created == theirs.created, step
                watchers.append((step, theirs, ours))
                await read_all(pair, *watchers[-1])
                continue
            their_answer, our_answer = await pair.both(step)
            assert our_answer == their_answer, step
            if step.method == "Compact" and "header" in our_answer:
                compacted.add(step.fields["revision"])
        for watching, theirs, ours in watchers:
            await read_all(pair, watching, theirs, ours)
            left_out = compacted if watching.fields.get("start_revision") in compacted else set()
            assert without_deletions_at(left_out, ours) == without_deletions_at(left_out, theirs), watching
            assert ours.end == theirs.end, watching
    finally:
        for _, theirs, ours in watchers:
            theirs.close()
            ours.close()


def without_deletions_at(revisions: set[Rel], watcher: Watcher) -> list[Any]:
    """See "a deletion at exactly the compacted revision, to a watch that starts there"."""
    return [
        event
        for event in watcher.events
        if not (event.get("type") == DELETE and Rel(event["kv"]["mod_revision"]) in revisions)
    ]


async def read_all(pair: Pair, watching: Watching, theirs: Watcher, ours: Watcher) -> None:
    """Change what is watched, and read until that is seen: then nothing is under way any more.

    etcd serves a watch that starts in the past from a loop of its own; if it were not waited for, a
    compaction could come before or after, as chance will have it.
    """
    key = watching.fields["key"] or b"\x00"
    asked = Request("Put", {"key": key, "value": b"seen"}), Request("DeleteRange", {"key": key})
    answers = [await pair.both(request) for request in asked]
    assert all(answer == their_answer for their_answer, answer in answers)
    seen = answers[0] if watching.fields.get("filters") == [1] else answers[1]
    start = watching.fields.get("start_revision", Rel(0)).offset
    revision = seen[0]["header"]["revision"]
    if not theirs.is_cancelled and start <= revision:
        await asyncio.gather(theirs.read_until(revision), ours.read_until(revision))


DIFFERENCES = YAML(typ="safe").load(Path(__file__).parent / "testdata" / "etcd_differences.yaml")


@pytest.mark.parametrize(
    "difference", [each for each in DIFFERENCES if "request" in each], ids=lambda each: str(each["name"])
)
def test_what_differs_is_what_is_written_down(pair: Pair, difference: dict[str, Any]) -> None:
    async def ask() -> tuple[Any, Any]:
        await asyncio.gather(pair.etcd.begin(), pair.ours.begin())
        for request in difference.get("before", []):
            await pair.both(from_yaml(request))
        return await pair.both(from_yaml(difference["request"]))

    theirs, ours = pair.runner.run(ask())
    assert named(theirs, difference["etcd"]) == difference["etcd"]
    assert named(ours, difference["ours"]) == difference["ours"]


def from_yaml(item: dict[str, Any]) -> Request:
    return Request(item["method"], _encoded(item["fields"]))


def _encoded(value: Any) -> Any:
    match value:
        case {"repeat": text, "times": times}:
            return str(text).encode() * times
        case dict():
            return {name: _encoded(each) for name, each in value.items()}
        case list():
            return [_encoded(each) for each in value]
        case str():
            return value.encode()
        case _:
            return value


def named(answer: Any, wanted: dict[str, Any]) -> Any:
    """What of an answer the file speaks of, in the file's form."""
    match answer, wanted:
        case (tuple(), {"ERROR": _}):
            return {"ERROR": list(answer[1:])}
        case (dict(), dict()):
            return {name: named(answer[name], each) for name, each in wanted.items() if name in answer}
        case (list(), list()) if len(answer) == len(wanted):
            return [named(one, other) for one, other in zip(answer, wanted, strict=True)]
        case (bytes(), _):
            return answer.decode()
        case _:
            return answer
