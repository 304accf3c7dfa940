"""HTTP/2 without IO: header tables, flow control, and clients that break the rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.door.http2 import connection, hpack
from gitkube.store.door.http2.connection import PREFACE, Connection, ConnectionFailed, Data, Request, Reset

SETTINGS_FRAME = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
POST = hpack.encoded([(b":method", b"POST"), (b":path", b"/a/b")])
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def opened() -> Connection:
    http2 = Connection()
    assert http2.receive(PREFACE + SETTINGS_FRAME) == []
    http2.taken()
    return http2


def test_the_static_table_and_the_huffman_code_are_whole() -> None:
    assert len(hpack.STATIC_TABLE) == 61
    assert hpack.STATIC_TABLE[60] == (b"www-authenticate", b"")
    # Kraft's equality: no bits are wasted, and none are used twice.
    assert sum(2.0**-length for length, _ in hpack.huffman_codes()) == 1


@pytest.mark.parametrize(
    ("blocks", "last"),
    [
        # RFC 7541, C.3.1 to C.3.3: without Huffman; C.4.1 to C.4.3: with it.
        (
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                (b":path", b"/index.html"),
                (b":authority", b"www.example.com"),
                (b"custom-key", b"custom-value"),
            ],
        ),
        (
            ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"],
            [(b":authority", b"www.example.com"), (b"cache-control", b"no-cache")],
        ),
    ],
)
def test_the_examples_of_the_standard_are_decoded(blocks: list[str], last: list[hpack.Field]) -> None:
    decoder = hpack.HeaderDecoder()
    for block in blocks:
        fields = decoder.decode(bytes.fromhex(block))
    assert list(fields[-len(last) :]) == last


def test_a_block_that_is_remembered_means_something_else_after_the_table_changed() -> None:
    decoder = hpack.HeaderDecoder()
    first, second = (bytes.fromhex("400161") + b"\x01" + value for value in (b"1", b"2"))
    newest = b"\xbe"
    decoder.decode(first)
    assert [decoder.decode(newest) for _ in range(2)] == [((b"a", b"1"),)] * 2
    decoder.decode(second)
    assert decoder.decode(newest) == ((b"a", b"2"),)


@pytest.mark.parametrize("block", ["80", "ff", "c0", "0003616263", "3fe21f", "8220", "00810600"])
def test_a_malformed_block_is_refused(block: str) -> None:
    with pytest.raises(hpack.HeaderError):
        hpack.HeaderDecoder().decode(bytes.fromhex(block))


def test_a_small_block_may_not_stand_for_a_huge_one() -> None:
    decoder = hpack.HeaderDecoder()
    decoder.decode(b"\x40\x01a\x7f\x81\x17" + b"x" * 3072)
    with pytest.raises(hpack.HeaderError):
        decoder.decode(b"\xbe" * 100)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=400)), max_size=8))
def test_what_is_encoded_is_decoded(fields: list[hpack.Field]) -> None:
    assert list(hpack.HeaderDecoder().decode(hpack.encoded(fields))) == fields


def test_a_request_is_the_same_however_its_bytes_are_cut() -> None:
    sent = (
        PREFACE
        + SETTINGS_FRAME
        + frame(HEADERS, 0, 1, POST[:5])
        + frame(CONTINUATION, END_HEADERS, 1, POST[5:])
        + frame(DATA, PADDED, 1, b"\x03hel\0\0\0")
        + frame(0xEE, 0, 1, b"unknown")
        + frame(DATA, END_STREAM, 1, b"lo")
    )
    wanted = [
        Request(1, ((b":method", b"POST"), (b":path", b"/a/b"))),
        Data(1, b"hel", is_last=False),
        Data(1, b"lo", is_last=True),
    ]
    assert Connection().receive(sent) == wanted
    http2 = Connection()
    assert [event for byte in sent for event in http2.receive(bytes([byte]))] == wanted


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak HTTP/2"),
        (PREFACE + b"\x01\x00\x00" + bytes(6), "a frame of 65536 bytes"),
        (PREFACE + frame(DATA, 0, 1, b"x"), "idle"),
        (PREFACE + frame(HEADERS, END_HEADERS, 2, POST), "out of turn"),
        (PREFACE + frame(HEADERS, 0, 1, POST) + frame(PING, 0, 0, bytes(8)), "interrupted"),
        (PREFACE + frame(HEADERS, 0, 1, POST) + frame(CONTINUATION, 0, 1), "goes on with nothing"),
        (PREFACE + frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16000)) * 3, "too large"),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff"), "header block"),
        (PREFACE + frame(WINDOW_UPDATE, 0, 0, bytes(4)), "window of the connection"),
        (PREFACE + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2, "window of the connection"),
        (PREFACE + frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"), "initial window"),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, POST) + frame(DATA, 0, 1, bytes(16384)) * 65, "window"),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, POST) + frame(DATA, PADDED, 1, b"\x09x"), "padding"),
        (PREFACE + frame(PING, 0, 0, b"x"), "PING"),
        (PREFACE + frame(5, 0, 1), "push"),
    ],
)
def test_a_client_that_breaks_the_rules_is_told_why_before_it_is_cut_off(sent: bytes, reason: str) -> None:
    http2 = Connection()
    with pytest.raises(ConnectionFailed, match=reason):
        http2.receive(sent)
    kind, _, _, payload = frames(http2.taken())[-1]
    assert kind == 7
    assert reason in payload[8:].decode()


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_more_harm_than_to_end_their_connection(noise: bytes, has_preface: bool) -> None:
    http2 = Connection()
    try:
        http2.receive((PREFACE if has_preface else b"") + noise)
    except ConnectionFailed:
        assert frames(http2.taken())[-1][0] == 7


def test_a_ping_is_answered_and_a_reset_is_told() -> None:
    http2 = opened()
    events = http2.receive(frame(PING, 0, 0, b"12345678") + frame(HEADERS, END_HEADERS, 1, POST))
    events += http2.receive(frame(RST_STREAM, 0, 1, bytes(4)))
    assert events[1:] == [Reset(1)]
    assert frames(http2.taken()) == [(PING, 1, 0, b"12345678")]
    http2.send(1, b"too late")
    http2.finish(1)
    assert http2.taken() == b""


def test_a_stream_counts_until_its_work_is_done_not_only_until_it_is_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_STREAMS", 2)
    http2 = opened()
    for stream in (1, 3):
        http2.receive(frame(HEADERS, END_HEADERS, stream, POST) + frame(RST_STREAM, 0, stream, bytes(4)))
    assert http2.receive(frame(HEADERS, END_HEADERS, 5, POST)) == []
    assert frames(http2.taken()) == [(RST_STREAM, 0, 5, struct.pack(">I", connection.REFUSED_STREAM))]
    http2.finish(1)
    assert http2.receive(frame(HEADERS, END_HEADERS, 7, POST)) == [
        Request(7, ((b":method", b"POST"), (b":path", b"/a/b")))
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([1, 3]), st.integers(0, 60_000)),
        st.tuples(st.just("window"), st.sampled_from([0, 1, 3]), st.integers(1, 60_000)),
        st.tuples(st.just("initial"), st.just(0), st.integers(0, 100_000)),
    ),
    max_size=30,
)


@given(steps)
def test_flow_control_is_never_exceeded_and_everything_arrives_in_order(
    script: list[tuple[str, int, int]],
) -> None:
    http2 = opened()
    for stream in (1, 3):
        http2.receive(frame(HEADERS, END_HEADERS | END_STREAM, stream, POST))
    windows, initial = {0: 65_535, 1: 65_535, 3: 65_535}, 65_535
    sent = {1: bytearray(), 3: bytearray()}
    arrived = {1: bytearray(), 3: bytearray()}

    def take() -> None:
        for kind, _, stream, payload in frames(http2.taken()):
            if kind == DATA:
                arrived[stream] += payload
                for each in (0, stream):
                    windows[each] -= len(payload)
                    assert windows[each] >= 0 or not payload

    for number, (what, stream, amount) in enumerate(script):
        if what == "send":
            sent[stream] += bytes([number]) * amount
            http2.send(stream, bytes([number]) * amount)
        elif what == "window":
            windows[stream] += amount
            http2.receive(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", amount)))
        else:
            for each in (1, 3):
                windows[each] += amount - initial
            initial = amount
            http2.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, amount)))
        take()
    for stream in (1, 3):
        http2.end(stream, b"")
        http2.finish(stream)
    for stream in (0, 1, 3):
        http2.receive(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**30)))
        windows[stream] += 2**30
    take()
    assert arrived == sent
    assert not any(http2.is_open(stream) for stream in (1, 3))
