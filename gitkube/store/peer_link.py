"""One connection between two members, whoever opened it: when it counts as dead, and how its frames are read.

Members stay connected for months, and a machine that is switched off says no farewell. So both ends look for
a sign of the other's machine, whether they send or only listen.
"""

from __future__ import annotations

import socket
from typing import Any

from gitkube.store import peer_wire as wire
from gitkube.store.addresses import AddressError, split_address
from gitkube.store.frames import FrameConnection
from gitkube.store.protocol import UnavailableError

CONNECT_TIMEOUT_S = 3.0
"""For a connection to stand and both ends to be greeted."""
UNACKNOWLEDGED_TIMEOUT_S = 5.0
"""After so long without a sign of the other end's machine the connection ends, so that whoever waits for a
quorum is told whom to start (TCP_USER_TIMEOUT, RFC 5482)."""
ASKED_AFTER_S = 10
"""After so long without a word the machine is asked for a sign (keep-alive, RFC 9293, 3.8.4): the end that
only listens has sent nothing that could stay unacknowledged."""
STATE_TIMEOUT_S = 60.0
"""Without a sign of progress on the connection of a state."""


def end_when_silent(frames: FrameConnection) -> None:
    """Let the connection end by itself when the other end's machine is gone."""
    connected: socket.socket = frames.extra("socket")
    timeout_ms = int(UNACKNOWLEDGED_TIMEOUT_S * 1000)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ASKED_AFTER_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


async def read_frame(frames: FrameConnection) -> list[Any] | None:
    """The next frame between members, or None at the end.

    Raises:
        FrameError: the other end sent something else.
    """
    content = await frames.read()
    return None if content is None else wire.decode_frame(content)


def host_and_port(address: str) -> tuple[str, int]:
    """Of a member's address.

    Raises:
        UnavailableError: it is not HOST:PORT.
    """
    try:
        return split_address(address)
    except AddressError as error:
        raise UnavailableError(str(error)) from error
