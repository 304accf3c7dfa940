"""The key space beside a model that is too simple to be wrong: a full copy of all keys at each revision."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.store import command
from gitkube.store.command import Compact, Txn
from gitkube.store.mvcc import KeySpace
from gitkube.store.protocol import (
    Compare,
    Delete,
    Get,
    InvalidRequestError,
    Op,
    Operation,
    Put,
    Revision,
    Target,
    TxnResult,
)

keys = st.sampled_from([b"a", b"b", b"ba", b"bb", b"c"])
puts = st.builds(Put, keys, st.binary(max_size=3))
deletes = st.builds(Delete, keys, st.none() | keys)
gets = st.builds(Get, keys, st.none() | keys, st.integers(0, 3))
compares = st.builds(
    Compare, keys, st.sampled_from([Target.MOD, Target.VERSION]), st.sampled_from(Op), st.integers(0, 9)
)
operations: st.SearchStrategy[list[Operation]] = st.lists(puts | deletes | gets, max_size=4)
txns = st.builds(Txn, st.lists(compares, max_size=2), operations, operations)
compacts = st.builds(Compact, st.integers(0, 40).map(Revision))


@settings(max_examples=300, deadline=None)
@given(st.lists(txns | compacts, max_size=30))
def test_every_revision_reads_as_it_was_until_compacted_and_after_a_snapshot(
    commands: list[Txn | Compact],
) -> None:
    space = KeySpace()
    model: dict[int, dict[bytes, bytes]] = {1: {}}
    for each in commands:
        decoded, _ = command.decode(command.encode(each))
        try:
            space.check(decoded)
        except InvalidRequestError:
            continue
        before = dict(model[space.revision])
        revision = space.revision
        result = space.apply(decoded)
        if isinstance(each, Compact):
            continue
        assert isinstance(result, TxnResult)
        for operation in each.success if result.succeeded else each.failure:
            if isinstance(operation, Put):
                before[operation.key] = operation.value
            elif isinstance(operation, Delete):
                end = operation.end or operation.key + b"\0"
                before = {k: v for k, v in before.items() if not operation.key <= k < end}
        changed = space.revision != revision
        if changed:
            model[space.revision] = before
        else:
            assert before == model[revision]
    for copy in (space, KeySpace.load(space.dump())):
        assert copy.revision == space.revision
        for revision in range(max(1, space.compact_revision), space.revision + 1):
            found = copy.range(b"\0", b"\0", revision=Revision(revision))
            assert {kv.key: kv.value for kv in found.kvs} == model[revision]
        first = Revision(space.compact_revision + 1)
        events = copy.events_since(Revision(max(2, first)), 1000) if space.revision >= first else []
        replayed = dict(model[max(1, space.compact_revision)])
        for revision, changes in events:
            for event in changes:
                if event.kv.version:
                    replayed[event.kv.key] = event.kv.value
                else:
                    del replayed[event.kv.key]
            assert replayed == model[revision]


@given(st.lists(txns, min_size=1, max_size=10))
def test_two_members_that_apply_the_same_commands_agree_in_everything(commands: list[Txn]) -> None:
    one, other = KeySpace(), KeySpace()
    for each in commands:
        try:
            one.check(each)
        except InvalidRequestError:
            continue
        assert one.apply(each) == other.apply(*command.decode(command.encode(each)))
    assert list(one.dump()) == list(other.dump())
