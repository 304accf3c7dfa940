"""The watch hub: who is told what, with what work."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitkube.store.command import Command, Compact, LeaseId, Txn
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    Delete,
    Event,
    EventType,
    Put,
    Revision,
    TxnResult,
    prefix_end,
)
from gitkube.store.ranges import covers
from gitkube.store.watching import MAX_MATCHED, Watcher, WatchHub

ALL_KEYS = (b"\0", b"\0")


class Scene:
    """A key space with its hub, as a member drives them."""

    def __init__(self) -> None:
        self.space = KeySpace()
        self.hub = WatchHub(self.space.versions)

    def put(self, key: bytes, value: bytes = b"x") -> list[Watcher]:
        return self.apply(Txn((), (Put(key, value),)))

    def apply(self, command: Command) -> list[Watcher]:
        result = self.space.apply(command)
        assert not isinstance(result, Exception)
        return self.hub.collect(self.space.revision)

    def compact(self, revision: int) -> None:
        self.apply(Compact(Revision(revision)))
        while self.space.sweep(1000):
            pass


@pytest.fixture
def scene() -> Scene:
    return Scene()


def told(watcher: Watcher, limit: int = 1000) -> list[tuple[int, bytes]]:
    events: list[tuple[int, bytes]] = []
    while watcher.has_something:
        events += [(event.kv.mod_revision, event.kv.key) for event in watcher.take(limit).events]
    return events


def test_only_those_whose_range_changed_are_woken(scene: Scene) -> None:
    single = scene.hub.add(b"a/1")
    prefix = scene.hub.add(b"a/", prefix_end(b"a/"))
    other = scene.hub.add(b"b/", prefix_end(b"b/"))
    onward = scene.hub.add(b"a/5", b"\0")
    middle = scene.hub.add(b"a/2", b"a/5")
    everything = scene.hub.add(*ALL_KEYS)
    assert set(scene.put(b"a/1")) == {single, prefix, everything}
    assert set(scene.put(b"a/3")) == {middle}  # the others had something already
    assert set(scene.put(b"c")) == {onward}
    assert told(single) == [(2, b"a/1")]
    assert told(prefix) == [(2, b"a/1"), (3, b"a/3")]
    assert told(everything) == [(2, b"a/1"), (3, b"a/3"), (4, b"c")]
    assert told(onward) == [(4, b"c")]
    assert told(other) == []
    assert other.progress == 4


def test_a_revision_is_never_divided_and_its_operations_keep_their_order(scene: Scene) -> None:
    watcher = scene.hub.add(*ALL_KEYS)
    scene.apply(Txn((), (Put(b"z", b""), Put(b"a", b""), Put(b"m", b""))))
    scene.put(b"later")
    batch = watcher.take(1)
    assert batch.revision == 2
    assert [event.kv.key for event in batch.events] == [b"z", b"a", b"m"]
    assert told(watcher) == [(3, b"later")]


def test_a_watch_from_the_past_catches_up_and_then_goes_with_the_others(scene: Scene) -> None:
    for number in range(10):
        scene.put(b"k%d" % number)
    late = scene.hub.add(b"k", b"l", start_revision=Revision(5))
    assert late.has_something
    assert late.take(3).revision == 7
    scene.put(b"k-new")
    assert told(late, 2) == [(8, b"k6"), (9, b"k7"), (10, b"k8"), (11, b"k9"), (12, b"k-new")]
    assert scene.put(b"k-newer") == [late]


def test_a_watch_of_the_future_waits_for_it(scene: Scene) -> None:
    watcher = scene.hub.add(b"k", start_revision=Revision(4))
    assert scene.put(b"k") == []
    assert scene.put(b"k") == []
    assert scene.put(b"k") == [watcher]
    assert told(watcher) == [(4, b"k")]


def test_a_quiet_watcher_is_not_overtaken_by_a_compaction(scene: Scene) -> None:
    quiet = scene.hub.add(b"quiet")
    for _ in range(100):
        scene.put(b"noisy")
    scene.compact(101)
    assert scene.put(b"quiet") == [quiet]
    assert told(quiet) == [(102, b"quiet")]


def test_nor_is_one_whose_neighbour_took_the_last_event_later(scene: Scene) -> None:
    quick, slow = scene.hub.add(b"k"), scene.hub.add(b"k")
    scene.put(b"k")
    assert told(quick) == [(2, b"k")]
    for _ in range(10):
        scene.put(b"noisy")
    assert told(slow) == [(2, b"k")]
    scene.compact(12)
    scene.put(b"k")
    assert told(quick) == told(slow) == [(13, b"k")]


def test_a_newcomer_from_the_past_gets_what_the_others_have_taken_already(scene: Scene) -> None:
    early = scene.hub.add(b"k")
    scene.put(b"k")
    scene.put(b"k")
    assert told(early) == [(2, b"k"), (3, b"k")]
    assert told(scene.hub.add(b"k", start_revision=Revision(3))) == [(3, b"k")]
    assert told(scene.hub.add(b"k", start_revision=Revision(2))) == [(2, b"k"), (3, b"k")]


def test_what_matched_is_still_told_after_a_compaction_took_it_from_the_log(scene: Scene) -> None:
    watcher = scene.hub.add(b"k", previous=True)
    for number in range(10):
        scene.put(b"k", b"%d" % number)
    scene.compact(11)
    events = watcher.take(100).events
    assert [event.kv.value for event in events] == [b"%d" % number for number in range(10)]
    assert [event.previous.value if event.previous else None for event in events[:3]] == [None, b"0", b"1"]


def test_a_watcher_that_is_too_slow_is_told_to_read_anew(scene: Scene) -> None:
    slow = scene.hub.add(b"k")
    for _ in range(MAX_MATCHED * 2):
        scene.put(b"k")
    scene.compact(MAX_MATCHED * 2)
    for _ in range(2):
        with pytest.raises(CompactedError) as caught:
            slow.take(10)
        assert caught.value.compact_revision == MAX_MATCHED * 2
    scene.hub.remove(slow)
    assert len(scene.hub) == 0


def test_a_slow_watcher_costs_the_hub_a_bounded_number_of_revisions_and_loses_none(scene: Scene) -> None:
    slow, fast = scene.hub.add(b"k"), scene.hub.add(b"k")
    seen: list[tuple[int, bytes]] = []
    for _ in range(MAX_MATCHED * 3):
        scene.put(b"k")
        seen += told(fast)
    assert len(slow._group.matched) <= MAX_MATCHED
    assert told(slow, 100) == seen


def test_a_watch_may_begin_at_the_compacted_revision_and_not_before(scene: Scene) -> None:
    scene.put(b"k", b"1")
    scene.apply(Txn((), (Delete(b"k"),)))
    scene.put(b"k", b"2")
    scene.compact(3)
    with pytest.raises(CompactedError):
        scene.hub.add(b"k", start_revision=Revision(2))
    watcher = scene.hub.add(b"k", start_revision=Revision(3), previous=True)
    deleted, put = watcher.take(10).events
    assert (deleted.type, deleted.previous) == (EventType.DELETE, None)  # the value before is compacted
    assert put.kv.value == b"2"


def test_a_compaction_that_overtakes_the_hub_itself_makes_everybody_read_anew(scene: Scene) -> None:
    watcher = scene.hub.add(b"k")
    for _ in range(5):
        scene.space.apply(Txn((), (Put(b"k", b""),)))
    scene.space.apply(Compact(Revision(5)))
    scene.space.sweep(100)
    assert scene.hub.collect(scene.space.revision) == [watcher]
    with pytest.raises(CompactedError):
        watcher.take(10)


def test_a_watcher_from_between_is_told_of_that_compaction_too(scene: Scene) -> None:
    for _ in range(5):
        scene.space.apply(Txn((), (Put(b"k", b""),)))
    watcher = scene.hub.add(b"k", start_revision=Revision(4))
    later = scene.hub.add(b"k", start_revision=Revision(6))
    scene.space.apply(Compact(Revision(6)))
    scene.space.sweep(100)
    assert set(scene.hub.collect(scene.space.revision)) == {watcher, later}
    with pytest.raises(CompactedError):
        watcher.take(10)
    assert told(later) == [(6, b"k")]


def test_a_watch_of_the_future_takes_nothing_from_one_of_the_past(scene: Scene) -> None:
    future = scene.hub.add(b"k", start_revision=Revision(4))
    scene.put(b"k")
    past = scene.hub.add(b"k", start_revision=Revision(2))
    scene.put(b"k")
    scene.put(b"k")
    assert told(past) == [(2, b"k"), (3, b"k"), (4, b"k")]
    assert told(future) == [(4, b"k")]


def test_kinds_of_events_can_be_left_out(scene: Scene) -> None:
    puts = scene.hub.add(b"k", without=frozenset({EventType.DELETE}))
    deletions = scene.hub.add(b"k", without=frozenset({EventType.PUT}))
    assert scene.put(b"k") == [puts]
    assert scene.apply(Txn((), (Delete(b"k"),))) == [deletions]
    assert told(puts) == [(2, b"k")]
    assert told(deletions) == [(3, b"k")]


def test_watchers_of_the_same_range_share_one_batch(scene: Scene) -> None:
    watchers = [scene.hub.add(b"p/", prefix_end(b"p/")) for _ in range(1000)]
    assert scene.put(b"p/a") == watchers
    batches = {id(watcher.take(100)) for watcher in watchers}
    assert len(batches) == 1
    assert scene.hub._groups[(b"p/", b"p0", False, frozenset())].matched == []


def test_nothing_is_left_of_watchers_that_are_gone(scene: Scene) -> None:
    ranges = [(b"a", None), (b"a", b"b"), (b"a", b"c"), ALL_KEYS, (b"a", b"\0"), (b"b", b"a")]
    watchers = [scene.hub.add(key, end) for key, end in ranges for _ in range(2)]
    for watcher in watchers:
        scene.hub.remove(watcher)
        scene.hub.remove(watcher)
    assert scene.put(b"a") == []
    hub = scene.hub
    assert not (hub._groups or hub._by_key or hub._by_prefix or hub._prefix_lengths or hub._by_start)


keys = st.sampled_from([b"a", b"ab", b"abc", b"b", b"\xff", b"\xffa", b"\xff\xff"])
ends = st.none() | keys | st.just(b"\0")
ranges = st.tuples(keys, ends) | st.sampled_from([(b"a", None), (b"a", b"b")])
filters = st.sampled_from(
    [frozenset(), frozenset(), frozenset({EventType.PUT}), frozenset({EventType.DELETE})]
)
write = st.tuples(st.just("write"), st.lists(st.tuples(keys, st.booleans()), min_size=1, max_size=3))
collect = st.tuples(st.just("collect"), st.just(0))
steps = st.one_of(
    write,
    write,
    write,
    collect,
    collect,
    st.tuples(st.just("add"), st.tuples(ranges, st.integers(-4, 3), filters)),
    st.tuples(st.just("add"), st.tuples(st.just((b"a", None)), st.integers(-4, 3), st.just(frozenset()))),
    st.tuples(st.just("take"), st.tuples(st.integers(0, 9), st.integers(1, 3))),
    st.tuples(st.just("take"), st.tuples(st.integers(0, 9), st.integers(1, 3))),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("compact"), st.integers(0, 5)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=15, max_size=60))
def test_every_watcher_gets_each_event_of_its_range_once_and_in_order(script: list) -> None:
    space = KeySpace()
    hub = WatchHub(space.versions)
    history: dict[int, list[Event]] = {}
    watchers: list[tuple[Watcher, int, list[Event], bytes, bytes | None, frozenset[EventType]]] = []

    def collect() -> None:
        for watcher in hub.collect(space.revision):
            assert watcher.has_something

    for kind, body in script:
        if kind == "write":
            before = space.revision
            distinct = dict(body)
            changes = [Put(key, b"v") if is_put else Delete(key) for key, is_put in distinct.items()]
            result = space.apply(Txn((), tuple(changes)))
            assert isinstance(result, TxnResult)
            if space.revision > before:
                ((revision, events),) = space.events_since(space.revision, 1)
                history[revision] = [Event(event.type, event.kv) for event in events]
        elif kind == "add":
            (key, end), offset, without = body
            start = 0 if offset == 3 else max(1, space.revision + offset)
            if 0 < start < space.compact_revision:
                continue
            watcher = hub.add(key, end, start_revision=Revision(start), without=without)
            watchers.append((watcher, start or space.revision + 1, [], key, end, without))
        elif kind == "take" and watchers:
            chosen, limit = body
            watcher, _, seen, *_ = watchers[chosen % len(watchers)]
            try:
                seen += watcher.take(limit).events
            except CompactedError:
                hub.remove(watcher)
                del watchers[chosen % len(watchers)]
        elif kind == "remove" and watchers:
            watcher, *_ = watchers.pop(body % len(watchers))
            hub.remove(watcher)
        elif kind == "compact":
            space.apply(Compact(Revision(max(0, space.revision - body))))
            space.sweep(2)
        elif kind == "collect":
            collect()
    collect()
    for watcher, start, seen, key, end, without in watchers:
        try:
            while watcher.has_something:
                seen += watcher.take(2).events
        except CompactedError:
            continue
        expected = [
            event
            for revision, events in sorted(history.items())
            if revision >= start
            for event in events
            if covers(key, end, event.kv.key) and event.type not in without
        ]
        assert seen == expected
        assert watcher.progress >= space.revision


def test_a_lease_that_ends_is_one_revision_for_its_watchers(scene: Scene) -> None:
    from gitkube.store.command import LeaseGrant, LeaseRevoke

    scene.apply(LeaseGrant(LeaseId(7), 10))
    scene.apply(Txn((), (Put(b"b", b"", LeaseId(7)), Put(b"a", b"", LeaseId(7)), Put(b"c", b"", NO_LEASE))))
    watcher = scene.hub.add(*ALL_KEYS)
    assert scene.apply(LeaseRevoke(LeaseId(7))) == [watcher]
    assert told(watcher) == [(3, b"a"), (3, b"b")]
