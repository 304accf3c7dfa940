"""The remote command protocol over WebSocket, `v5.channel.k8s.io` and `v4.channel.k8s.io`, without IO.

Each binary message is a byte that names the channel, then data: 0 standard input, 1 output, 2 error, 3 the
final `Status` of the server, 4 the terminal's size as JSON. Version 5 adds the message `255, channel`, which
closes a channel: without it a client has no way to say that standard input has ended (Kubernetes KEP-4006).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4
CLOSE = 255

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
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


def encode(channel: int, data: bytes) -> bytes:
    return bytes([channel]) + data


def final_status(result: dict[str, Any] | None) -> bytes:
    """The last message on channel 3, from how the stream ended (as `StreamSession.result` says it)."""
    if result is None:
        result = {"error": "the stream to the pod ended without a result", "reason": "InternalError"}
    code = result.get("exitCode")
    if code == 0:
        return orjson.dumps({"metadata": {}, "status": "Success"})
    if code is not None:
        return orjson.dumps(
            {
                "metadata": {},
                "status": "Failure",
                "message": f"command terminated with non-zero exit code: exit status {code}",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
            }
        )
    return orjson.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": result.get("error") or "the stream to the pod failed",
            "reason": "InternalError",
            "details": {"causes": [{"reason": result.get("reason") or "InternalError"}]},
            "code": 500,
        }
    )
