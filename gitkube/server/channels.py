"""The remote command protocol over WebSocket, `v5.channel.k8s.io` and its elders, without IO.

Each binary message is a byte that names the channel, then data: 0 standard input, 1 output, 2 error, 3 the
final `Status` of the server, 4 the terminal's size as JSON. Version 5 adds the message `255, channel`, which
closes a channel: without it a client has no way to say that standard input has ended (Kubernetes KEP-4006).
Terminals in browsers speak the older ones: with `base64` in its name, a message is text, the channel a digit
and the data base64; before version 4, the last word is plain text, and none when all went well. Who asks for
no protocol gets the oldest.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

import orjson

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4
CLOSE = 255

V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
V1, V1_BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64)
"""As we prefer them."""
MAX_MESSAGE_BYTES = 1024 * 1024
"""Clients send at most 32 KiB at once; more is a broken one."""


class ChannelError(Exception):
    """The client sent something that the protocol does not have."""


class Inbound(NamedTuple):
    """What a client said: data for STDIN or RESIZE. Empty data on STDIN is its end."""

    channel: int
    data: bytes


def decode(message: bytes, protocol: str) -> Inbound | None:
    """What a message says; None when it says nothing (clients open channels with empty messages).

    Raises:
        ChannelError: a channel that clients have no business on.
    """
    if not message:
        return None
    channel, data = message[0], message[1:]
    if channel == CLOSE and protocol == V5:
        if data != bytes([STDIN]):
            raise ChannelError("a client can close standard input and no other channel")
        return Inbound(STDIN, b"")
    if channel not in (STDIN, RESIZE):
        raise ChannelError(f"a client cannot send on channel {channel}")
    return Inbound(channel, data) if data else None


def from_message(message: bytes | str, protocol: str) -> bytes:
    """The bytes of a message as `decode` takes them.

    Raises:
        ChannelError: it is not written as the protocol says.
    """
    raw = message.encode() if isinstance(message, str) else message
    if protocol not in (V4_BASE64, V1_BASE64) or not raw:
        return raw
    try:
        return bytes([int(raw[:1])]) + base64.b64decode(raw[1:], validate=True)
    except (ValueError, binascii.Error) as error:
        raise ChannelError("a message must be the digit of its channel and base64") from error


def to_message(channel: int, data: bytes, protocol: str) -> bytes | str:
    """A message of the server: bytes, or text in the protocols that are text."""
    if protocol in (V4_BASE64, V1_BASE64):
        return f"{channel}{base64.b64encode(data).decode()}"
    return bytes([channel]) + data


def last_word(result: dict[str, Any] | None, protocol: str) -> bytes:
    """What is said on channel 3 at the end; "" is nothing."""
    if protocol in (V1, V1_BASE64):
        return str(_status(result).get("message", "")).encode()
    return final_status(result)


def final_status(result: dict[str, Any] | None) -> bytes:
    """The last message on channel 3, from how the stream ended (as `StreamSession.result` says it)."""
    return orjson.dumps(_status(result))


def _status(result: dict[str, Any] | None) -> dict[str, Any]:
    if result is None:
        result = {"error": "the stream to the pod ended without a result", "reason": "InternalError"}
    code = result.get("exitCode")
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    if code is not None:
        return {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    return {
        "metadata": {},
        "status": "Failure",
        "message": result.get("error") or "the stream to the pod failed",
        "reason": "InternalError",
        "details": {"causes": [{"reason": result.get("reason") or "InternalError"}]},
        "code": 500,
    }
