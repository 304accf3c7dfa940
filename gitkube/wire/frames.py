"""Frames: how messages and the data of streams share one byte stream.

A frame is `length:u32 type:u8 stream:u32 payload`, big endian, `length` counting the payload only.
The side that opened the connection (control) numbers its streams oddly, the other evenly.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A whole desired state must fit into one message; more than this is a broken or hostile peer."""

MESSAGE, OPEN, DATA, WINDOW, CLOSE = 1, 2, 3, 4, 5

_HEADER = struct.Struct("!IBI")


class WireError(Exception):
    """The peer sent something that the protocol does not allow, or the connection ended."""


class Frame(NamedTuple):
    type: int
    stream: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        WireError: the payload is larger than MAX_FRAME_BYTES.
    """
    if len(frame.payload) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(frame.payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(frame.payload), frame.type, frame.stream) + frame.payload


class Decoder:
    """Bytes in, frames out; keeps what is not yet a whole frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises:
            WireError: a header that cannot be right. The connection is of no more use.
        """
        self._buffer += data
        frames = []
        at = 0
        while len(self._buffer) - at >= _HEADER.size:
            length, kind, stream = _HEADER.unpack_from(self._buffer, at)
            if length > MAX_FRAME_BYTES or not MESSAGE <= kind <= CLOSE:
                raise WireError(f"not a frame: type {kind}, length {length}")
            end = at + _HEADER.size + length
            if end > len(self._buffer):
                break
            frames.append(Frame(kind, stream, bytes(self._buffer[at + _HEADER.size : end])))
            at = end
        del self._buffer[:at]
        return frames
