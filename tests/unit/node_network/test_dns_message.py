"""DNS messages: what is written is read again, and no bytes make the reader loop or crash."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.node.network.dns import message
from gitkube.node.network.dns.message import A, Answer, MessageError, Record, Srv

LABEL = st.binary(min_size=1, max_size=63)
NAMES = st.lists(LABEL, min_size=0, max_size=6).filter(
    lambda labels: sum(map(len, labels)) + len(labels) < 254
)


def wire_name(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def records_of(response: bytes) -> tuple[int, int, list[tuple[str, int, bytes]]]:
    """(flags, answer count, all records) of a response, read independently of the writer."""
    _, flags, questions, answers, authority, additional = struct.unpack_from("!6H", response)
    at = 12
    for _ in range(questions):
        _, at = message.read_name(response, at)
        at += 4
    found = []
    for _ in range(answers + authority + additional):
        name, at = message.read_name(response, at)
        kind, _, _, length = struct.unpack_from("!HHIH", response, at)
        found.append((name, kind, response[at + 10 : at + 10 + length]))
        at += 10 + length
    assert at == len(response)
    return flags, answers, found


@given(NAMES)
def test_a_name_survives_text_and_wire(labels: list[bytes]) -> None:
    name, after = message.read_name(wire_name(labels), 0)
    assert after == len(wire_name(labels))
    assert message.split_name(name) == labels


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_refused(data: bytes) -> None:
    try:
        message.parse_query(data)
    except MessageError:
        message.format_error(data)


@given(st.integers(0, 65535), NAMES, st.sampled_from([1, 28, 33, 255]), st.sampled_from([0, 512, 1232, 4096]))
def test_a_query_is_read_as_it_was_asked(identifier: int, labels: list[bytes], kind: int, udp: int) -> None:
    name, _ = message.read_name(wire_name(labels), 0)
    query = message.parse_query(message.encode_query(identifier, name, kind, udp_bytes=udp))
    assert (query.id, query.name, query.type, query.has_opt) == (identifier, name, kind, udp > 0)
    assert query.udp_bytes == max(512, min(udp, message.MAX_EDNS_BYTES))


def test_a_pointer_that_loops_is_refused() -> None:
    with pytest.raises(MessageError, match="points forwards"):
        message.read_name(b"\xc0\x00", 0)
    with pytest.raises(MessageError, match="points forwards"):
        message.read_name(b"\x01a\xc0\x04\x01b\xc0\x00", 4)


def test_names_are_compressed_and_read_back() -> None:
    query = message.parse_query(message.encode_query(7, "web.default.svc.cluster.local", A))
    records = tuple(
        Record("web.default.svc.cluster.local", A, 5, ipaddress.IPv4Address(f"10.42.0.{n}")) for n in range(3)
    )
    response = message.encode_response(query, Answer(message.NOERROR, records), 512)
    assert response.count(b"cluster") == 1
    _, count, found = records_of(response)
    assert count == 3
    assert found[2] == ("web.default.svc.cluster.local", A, bytes([10, 42, 0, 2]))


@given(st.integers(0, 200), st.sampled_from([512, 1232, 65535]))
def test_an_answer_never_exceeds_its_limit_and_says_when_it_is_cut(count: int, limit: int) -> None:
    query = message.parse_query(message.encode_query(7, "many.default.svc.cluster.local", A, udp_bytes=1232))
    records = tuple(Record(query.name, A, 5, ipaddress.IPv4Address(n)) for n in range(count))
    response = message.encode_response(query, Answer(message.NOERROR, records), limit)
    flags, answers, _ = records_of(response)
    assert len(response) <= limit
    assert bool(flags & 0x0200) == (answers < count)


def test_additional_records_that_do_not_fit_are_left_out_silently() -> None:
    query = message.parse_query(message.encode_query(7, "a.b", message.SRV))
    answer = Answer(
        message.NOERROR,
        (Record("a.b", message.SRV, 5, Srv(0, 100, 80, "c.b")),),
        additional=tuple(Record("c.b", A, 5, ipaddress.IPv4Address(n)) for n in range(100)),
    )
    flags, answers, found = records_of(message.encode_response(query, answer, 512))
    assert answers == 1
    assert not flags & 0x0200
    assert 1 < len(found) < 101


def test_a_broken_query_is_answered_with_its_id_and_a_response_with_silence() -> None:
    broken = struct.pack("!6H", 99, 0x0100, 2, 0, 0, 0)
    answered = message.format_error(broken)
    assert answered is not None
    assert struct.unpack_from("!HH", answered) == (99, 0x8001)
    assert message.format_error(struct.pack("!6H", 99, 0x8000, 1, 0, 0, 0)) is None
