"""Records come back, end where a crash tore them, and are refused where a bit was flipped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.store import records
from gitkube.store.protocol import CorruptError


@given(
    st.lists(st.binary(max_size=1500), min_size=1, max_size=6),
    st.integers(0, 2**64),
    st.integers(0, 100),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_records_come_back_from_any_offset_whole_and_in_pieces(
    payloads: list[bytes], number: int, start: int, data: st.DataObject
) -> None:
    offset = start * records.ALIGNMENT
    file = bytearray(offset)
    for payload in payloads:
        cut = data.draw(st.integers(0, len(payload)))
        file += records.encode(number, 3, [payload[:cut], payload[cut:]], len(file))
    found = list(records.scan("f", number, bytes(file) + bytes(64), offset, tail_may_be_torn=True))
    assert [record.payload for record in found] == payloads
    assert {record.type for record in found} == {3}
    parser = records.Parser("f", number, offset)
    size = data.draw(st.integers(1, 600))
    pieces = [bytes(file[at : at + size]) for at in range(offset, len(file), size)]
    assert [record for piece in pieces for record in parser.feed(piece)] == found
    assert parser.pending_bytes == 0
    with pytest.raises(CorruptError):
        list(records.scan("f", number + 1, bytes(file), offset, tail_may_be_torn=True))


@given(st.binary(min_size=600, max_size=3000), st.integers(0, 40), st.data())
@settings(max_examples=200, deadline=None)
def test_a_record_torn_by_a_crash_is_the_end_and_one_with_a_flipped_bit_is_damage(
    payload: bytes, start: int, data: st.DataObject
) -> None:
    offset = start * records.ALIGNMENT
    whole = bytes(offset) + bytes(records.encode(1, 1, [payload], offset))
    sector = data.draw(st.integers(offset // 512, (len(whole) - 1) // 512))
    cut = max(offset, sector * 512 + data.draw(st.integers(0, 63)) * 8)
    torn = (
        whole[:cut] + bytes(max(0, min(len(whole), sector * 512 + 512) - cut)) + whole[sector * 512 + 512 :]
    )
    found = list(records.scan("f", 1, torn, offset, tail_may_be_torn=True))
    assert len(found) == (torn == whole)
    at = data.draw(st.integers(offset, len(whole) - 1))
    mask = 1 << data.draw(st.integers(0, 7))
    if whole[at] == mask:
        return  # that byte alone becomes zero: at a sector's end nobody can tell it from a torn write
    flipped = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
    with pytest.raises(CorruptError, match=f"offset {offset}"):
        list(records.scan("f", 1, flipped, offset, tail_may_be_torn=True))
