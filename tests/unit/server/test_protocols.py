"""The codecs without IO: WebSocket channels, SPDY, protobuf."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.server import channels, spdy
from gitkube.server.protobuf import ProtobufError, UnknownKindError, decode


def test_channels_carry_input_size_and_its_end() -> None:
    assert channels.decode(b"\x00hi", channels.V5) == (channels.STDIN, b"hi")
    assert channels.decode(b'\x04{"Width":80}', channels.V5) == (channels.RESIZE, b'{"Width":80}')
    assert channels.decode(b"\xff\x00", channels.V5) == (channels.STDIN, b"")
    assert channels.decode(b"\x00", channels.V4) is None
    assert channels.decode(b"", channels.V5) is None


@pytest.mark.parametrize("protocol", [channels.V4_BASE64, channels.V1_BASE64])
def test_in_base64_a_message_is_the_digit_of_its_channel_and_text(protocol: str) -> None:
    assert channels.to_message(channels.STDOUT, b"hi", protocol) == "1aGk="
    for message in ("0aGk=", b"0aGk="):
        assert channels.from_message(message, protocol) == b"\x00hi"
    assert channels.decode(channels.from_message("0", protocol), protocol) is None
    for broken in ("aGk=", "0!", "x", "\x00hi"):
        with pytest.raises(channels.ChannelError):
            channels.from_message(broken, protocol)


def test_before_version_4_the_last_word_is_a_sentence_or_nothing() -> None:
    assert channels.last_word({"exitCode": 0}, channels.V1) == b""
    assert channels.last_word({"error": "no host"}, channels.V1_BASE64) == b"no host"
    assert json.loads(channels.last_word({"exitCode": 0}, channels.V4_BASE64))["status"] == "Success"


@pytest.mark.parametrize(
    ("message", "protocol"), [(b"\x01x", channels.V5), (b"\xff\x01", channels.V5), (b"\xff\x00", channels.V4)]
)
def test_clients_have_no_business_on_other_channels(message: bytes, protocol: str) -> None:
    with pytest.raises(channels.ChannelError):
        channels.decode(message, protocol)


def test_the_last_word_carries_the_exit_code() -> None:
    assert json.loads(channels.final_status({"exitCode": 0}))["status"] == "Success"
    failed = json.loads(channels.final_status({"exitCode": 3}))
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert (
        json.loads(channels.final_status({"error": "no host", "reason": "LinkLost"}))["message"] == "no host"
    )
    assert json.loads(channels.final_status(None))["status"] == "Failure"


def syn_stream(deflate: zlib._Compress, stream: int, headers: dict[str, str]) -> bytes:
    plain = struct.pack("!I", len(headers))
    for name, value in headers.items():
        for text in (name.encode(), value.encode()):
            plain += struct.pack("!I", len(text)) + text
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = struct.pack("!IIH", stream, 0, 0) + block
    return struct.pack("!HHI", 0x8003, spdy.SYN_STREAM, len(payload)) + payload


def test_spdy_frames_come_whole_however_they_are_cut() -> None:
    deflate = zlib.compressobj(6, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, spdy.DICTIONARY)
    first = syn_stream(deflate, 1, {"streamType": "error", "requestID": "0"})
    second = syn_stream(deflate, 3, {"streamtype": "data", "requestid": "0", "port": "80"})
    sent = first + second + spdy.data_frame(3, b"hello") + spdy.data_frame(3, b"", is_last=True)
    session, events = spdy.Session(), []
    for byte in sent:
        events += session.feed(bytes([byte]))
    assert events == [
        spdy.StreamOpened(1, {"streamtype": "error", "requestid": "0"}),
        spdy.StreamOpened(3, {"streamtype": "data", "requestid": "0", "port": "80"}),
        spdy.Data(3, b"hello", False),
        spdy.Data(3, b"", True),
    ]


def test_spdy_refuses_a_block_that_swells() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, spdy.DICTIONARY)
    with pytest.raises(spdy.SpdyError, match="over"):
        spdy.Session().feed(syn_stream(deflate, 1, {"a": "x" * 10_000_000}))


@given(st.binary(max_size=300))
def test_no_bytes_break_spdy_otherwise(data: bytes) -> None:
    for sent in (data, b"\x80\x03\x00\x01" + data):
        with contextlib.suppress(spdy.SpdyError):
            spdy.Session().feed(sent)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, obj: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, api_version) + field(2, kind)) + field(2, obj)


def test_a_protobuf_config_map_is_the_same_as_its_json() -> None:
    metadata = (
        field(1, "settings") + field(3, "shop") + field(8, b"") + field(11, field(1, "a") + field(2, "b"))
    )
    body = field(1, metadata) + field(2, field(1, "colour") + field(2, "green"))
    body += field(3, field(1, "logo") + field(2, b"\x00\xff"))
    assert decode(envelope("v1", "ConfigMap", body)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop", "labels": {"a": "b"}},
        "data": {"colour": "green"},
        "binaryData": {"logo": base64.b64encode(b"\x00\xff").decode()},
    }


def test_no_replicas_and_negative_numbers_survive() -> None:
    toleration = field(1, "gone") + field(5, -5)
    spec = field(1, 0) + field(3, field(2, field(22, toleration)))
    decoded = decode(envelope("apps/v1", "Deployment", field(1, field(1, "web")) + field(2, spec)))
    assert decoded["spec"]["replicas"] == 0
    assert decoded["spec"]["template"]["spec"]["tolerations"][0]["tolerationSeconds"] == -5


def test_ports_are_numbers_or_names_and_quantities_texts() -> None:
    by_name = field(4, field(1, 1) + field(2, 0) + field(3, "http"))
    by_number = field(4, field(1, 0) + field(2, 8080) + field(3, ""))
    spec = field(1, field(3, 80) + by_name) + field(1, field(3, 81) + by_number)
    decoded = decode(envelope("v1", "Service", field(2, spec)))
    assert [port["targetPort"] for port in decoded["spec"]["ports"]] == ["http", 8080]
    limits = field(8, field(1, field(1, "cpu") + field(2, field(1, "500m"))))
    pod = decode(envelope("v1", "Pod", field(2, field(2, field(1, "c") + limits))))
    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}


def test_delete_options_travel_under_any_group() -> None:
    old = decode(envelope("policy/v1beta1", "Eviction", field(1, field(1, "web"))))
    assert (old["apiVersion"], old["metadata"]) == ("policy/v1beta1", {"name": "web"})
    options = decode(envelope("apps/v1", "DeleteOptions", field(1, 0) + field(4, "Background")))
    assert (options["gracePeriodSeconds"], options["propagationPolicy"]) == (0, "Background")


def test_a_kind_without_numbers_is_named() -> None:
    with pytest.raises(UnknownKindError, match=r"example\.org/v1 Widget"):
        decode(envelope("example.org/v1", "Widget", b""))


@given(st.binary(max_size=400))
def test_no_bytes_break_the_decoder_otherwise(data: bytes) -> None:
    for body in (data, b"k8s\x00" + data, envelope("v1", "Pod", data)):
        with contextlib.suppress(ProtobufError):
            decode(body)
