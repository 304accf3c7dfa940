"""Commands and results go through bytes and come out as they were."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.command import (
    NO_ORIGIN,
    Alarm,
    AlarmKind,
    Command,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    Origin,
    Txn,
    decode,
    encode,
)
from gitkube.store.protocol import (
    CompactedError,
    Compare,
    CorruptError,
    Delete,
    DeleteResult,
    Get,
    KeyValue,
    LeaseId,
    NoSpaceError,
    Op,
    Put,
    PutResult,
    RangeResult,
    Revision,
    SortBy,
    StoreError,
    Target,
    TxnResult,
)
from gitkube.store.results import Result, result_from_list, result_to_list

keys = st.binary(max_size=5)
ends = st.none() | keys
numbers = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**63 - 1)
puts = st.builds(Put, keys, keys, numbers, st.booleans(), st.booleans())
gets = st.builds(
    Get,
    keys,
    ends,
    numbers,
    numbers,
    st.booleans(),
    st.booleans(),
    st.sampled_from(SortBy),
    st.booleans(),
    *[st.just(0) | counts] * 4,
)
operations = st.lists(puts | gets | st.builds(Delete, keys, ends), max_size=3).map(tuple)
compares = st.lists(
    st.builds(Compare, keys, st.sampled_from(Target), st.sampled_from(Op), keys | numbers, ends), max_size=2
).map(tuple)
commands = st.one_of(
    st.builds(Txn, compares, operations, operations),
    st.builds(LeaseGrant, numbers, numbers),
    st.builds(LeaseRevoke, numbers),
    st.builds(Compact, numbers),
    st.builds(Alarm, st.sampled_from(AlarmKind), counts, st.booleans()),
)
origins = st.just(NO_ORIGIN) | st.builds(Origin, st.integers(1, 2**64 - 1), counts, counts)


@given(commands, origins)
def test_what_is_encoded_is_decoded(command: Command, origin: Origin) -> None:
    assert decode(encode(command, origin)) == (command, origin)


def test_a_put_costs_few_bytes_beside_its_key_and_value() -> None:
    data = encode(Txn((), (Put(b"k" * 30, b"v" * 1000),)))
    assert len(data) - 1030 < 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([]),
        msgpack.packb(7),
        msgpack.packb([99, 0, 0, 0]),
        msgpack.packb([1, 0, 0, 0]),
        msgpack.packb([1, 0, 0, 0, [], [[9, b"k"]], []]),
        msgpack.packb([1, 0, 0, 0, [[b"k", 9, 9, 0]], [], []]),
        msgpack.packb([5, 0, 0, 0, 77, 1, True]),
        encode(Compact(Revision(1))) + b"more",
    ],
)
def test_what_is_no_command_is_damage(data: bytes) -> None:
    with pytest.raises(CorruptError):
        decode(data)


KV = KeyValue(b"k", b"v", Revision(2), Revision(3), 2, LeaseId(-4))


@pytest.mark.parametrize(
    "result",
    [
        None,
        TxnResult(True, Revision(3), [PutResult(None), PutResult(KV)]),
        TxnResult(False, Revision(3), [DeleteResult([KV, KV]), RangeResult([KV], Revision(3), 7, True)]),
    ],
)
def test_results_go_through_bytes(result: Result) -> None:
    assert result_from_list(msgpack.unpackb(msgpack.packb(result_to_list(result)))) == result


@pytest.mark.parametrize("error", [NoSpaceError("full"), CompactedError(Revision(9)), StoreError("else")])
def test_an_error_comes_out_as_the_same_exception(error: StoreError) -> None:
    again = result_from_list(msgpack.unpackb(msgpack.packb(result_to_list(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    if isinstance(again, CompactedError):
        assert again.compact_revision == 9
