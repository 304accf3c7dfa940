"""What the fleet link and the agent say to each other, and how it is framed.

One byte stream joins the control side and a host (an SSH channel bridged to the agent's unix socket).
On it travel *messages* (JSON, whole state, order kept; `messages`) and *streams* (logs, exec, port-forward;
`connection`), each with its own flow control, so that a slow reader of one log never holds back the status of
the pods. Both go in frames (`frames`).

Shared by both sides, so it runs on Python 3.9 and imports nothing of either.
"""

from __future__ import annotations

from gitkube.wire.connection import (
    DATA_CHUNK_BYTES,
    ERROR,
    MAX_EMPTY_CHUNKS,
    MAX_STREAMS,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    STREAM_WINDOW_BYTES,
    ByteStream,
    Connection,
    SocketStream,
    Stream,
    join,
)
from gitkube.wire.frames import (
    CLOSE,
    DATA,
    MAX_FRAME_BYTES,
    MESSAGE,
    OPEN,
    WINDOW,
    Decoder,
    Frame,
    WireError,
    encode,
)
from gitkube.wire.messages import (
    PING_INTERVAL_S,
    PROTOCOL_VERSION,
    Applied,
    Desired,
    EventReport,
    Hello,
    NetworkDesired,
    NodeReport,
    Peer,
    Ping,
    PodReport,
    PodReports,
    PodsDesired,
    ServicesDesired,
    TokensDesired,
    Welcome,
    digest_of,
    token_key,
    token_lifetime_s,
)

__all__ = [
    "Applied",
    "ByteStream",
    "CLOSE",
    "Connection",
    "DATA",
    "DATA_CHUNK_BYTES",
    "Decoder",
    "Desired",
    "ERROR",
    "EventReport",
    "Frame",
    "Hello",
    "MAX_EMPTY_CHUNKS",
    "MAX_FRAME_BYTES",
    "MAX_STREAMS",
    "MESSAGE",
    "NetworkDesired",
    "NodeReport",
    "OPEN",
    "PING_INTERVAL_S",
    "PROTOCOL_VERSION",
    "Peer",
    "Ping",
    "PodReport",
    "PodReports",
    "PodsDesired",
    "RESIZE",
    "STDERR",
    "STDIN",
    "STDOUT",
    "STREAM_WINDOW_BYTES",
    "ServicesDesired",
    "SocketStream",
    "Stream",
    "TokensDesired",
    "WINDOW",
    "Welcome",
    "WireError",
    "digest_of",
    "encode",
    "join",
    "token_key",
    "token_lifetime_s",
]
