"""The end of the connections between members that others have dialled: who may come in, and what he brings.

A caller shows a certificate, then says who it is and what for. Messages go to the core as they come,
questions are answered on the same connection, and a state is taken in as a whole or not at all. Invariant:
nothing of a caller counts before it was welcomed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gitkube.store import peer_wire as wire
from gitkube.store import results
from gitkube.store.directory import Identity
from gitkube.store.frames import FrameConnection
from gitkube.store.peer_link import (
    CONNECT_TIMEOUT_S,
    STATE_TIMEOUT_S,
    end_when_silent,
    host_and_port,
    read_frame,
)
from gitkube.store.peer_local import Local
from gitkube.store.peer_tls import PeerTls, check_peer, words_of
from gitkube.store.protocol import IdentityError, RemovedError, StoreError, UnavailableError
from gitkube.store.raft.types import MessageKind

log = structlog.get_logger()


class PeerListenError(UnavailableError):
    """Other members cannot reach this one; to start again changes nothing."""


class Listener:
    """See the module's text.

    Args:
        listen: HOST:PORT to listen on.
        on_called: told of each member that has dialled us to talk.
    """

    def __init__(
        self,
        local: Local,
        identity: Identity,
        *,
        listen: str,
        tls: PeerTls,
        on_called: Callable[[int], None],
    ) -> None:
        self._local = local
        self._on_called = on_called
        self._identity = identity
        self._listen = listen
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._server_context: ssl.SSLContext | None = None
        self._stamp: object = None
        """Of the files that the context was made of."""
        self.callers: dict[FrameConnection, int] = {}
        """Who has dialled us."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            IdentityError: the certificates cannot be used.
            PeerListenError: the address is taken or none of this machine's.
        """
        host, port = host_and_port(self._listen)
        self._stamp = self._tls.stamp()
        self._server_context = self._tls.server_context()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._called, host, port,
                ssl=self._server_context, ssl_handshake_timeout=CONNECT_TIMEOUT_S,
            )  # fmt: skip
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise PeerListenError(
                f"cannot listen for other members on {self._listen}: {why}; choose another with --peer-listen"
            ) from error

    def leave_removed(self) -> None:
        """Hang up on members that were removed; they call again, and are told."""
        for frames, sender in self.callers.items():
            if self._local.is_removed(sender):
                frames.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------ callers

    def _called(self) -> FrameConnection:
        """Before the handshake: one that failed for an old certificate would never come to renew it."""
        stamp = self._tls.stamp()
        if self._server_context is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                self._tls.refresh(self._server_context)
            except IdentityError as error:  # as while the two files are being replaced: the old one stays
                log.warning("store_certificate_not_renewed", error=str(error))
        return FrameConnection(wire.MAX_FRAME_BYTES, self._accepted)

    def _accepted(self, frames: FrameConnection) -> None:
        self._spawn(self._serve(frames))

    async def _serve(self, frames: FrameConnection) -> None:
        try:
            end_when_silent(frames)
            check_peer(frames.extra("peercert"))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                purpose = await self._welcome(frames)
            if purpose == "state":
                await self._take_state(frames)
            elif purpose == "messages":
                frames.deliver(lambda content: self._on_frame(frames, content))
                self._on_called(self.callers[frames])
                await frames.wait_ended()
                if frames.error is not None:
                    raise frames.error
        except Exception as error:  # whatever it is: the other end calls again
            log.warning("store_peer_connection_ended", error=words_of(error))
        finally:
            self.callers.pop(frames, None)
            frames.close()

    async def _welcome(self, frames: FrameConnection) -> str:
        frame = await read_frame(frames)
        if frame is None or frame[0] != wire.HELLO or len(frame) != 6:
            raise wire.PeerFrameError("a greeting was expected between members")
        _, version, cluster_id, sender, to, purpose = frame
        error: StoreError | None = None
        if version != wire.VERSION:
            error = UnavailableError(
                f"member {sender:x} speaks version {version}, this one {wire.VERSION}: upgrade"
            )
        elif cluster_id != self._identity.cluster_id:
            error = IdentityError(
                f"this member belongs to cluster {self._identity.cluster_id:x}, the caller to "
                f"{cluster_id:x}: an address or a data directory is another cluster's"
            )
        elif to != self._identity.member_id:
            error = UnavailableError(f"this is member {self._identity.member_id:x}, not {to:x}")
        elif self._local.is_removed(sender):
            error = RemovedError(
                f"member {sender:x} was removed from the cluster. To take part again it must be added anew "
                "(gitkube store add) and start with an empty data directory."
            )
        frames.write(wire.encode_frame(wire.WELCOME, None if error is None else results.error_to_list(error)))
        if error is not None:
            await frames.drain()
            raise error
        self.callers[frames] = sender
        return str(purpose)

    def _on_frame(self, frames: FrameConnection, content: bytes) -> None:
        frame = wire.decode_frame(content)
        if frame[0] == wire.MESSAGES:
            messages = wire.messages_from_list(frame[1])
            for message in messages:
                if message.kind is MessageKind.SNAPSHOT:
                    raise wire.PeerFrameError("a state without its bytes")
            self._local.on_messages(messages)
        elif frame[0] == wire.ASK and len(frame) == 4:
            self._spawn(self._answer(frames, *frame[1:]))
        else:
            raise wire.PeerFrameError(f"frame type {frame[0]} among messages")

    async def _answer(self, frames: FrameConnection, number: int, method: str, arguments: list[Any]) -> None:
        error, body = None, None
        try:
            body = await self._local.answer(method, arguments)
        except StoreError as failure:
            error = results.error_to_list(failure)
        except Exception as failure:  # who asked waits
            log.error("store_peer_answer_failed", method=method, exc_info=failure)
            told = UnavailableError(f"member {self._identity.name} failed at {method!r}: {failure!r}")
            error = results.error_to_list(told)
        frames.write(wire.encode_frame(wire.ANSWER, number, error, body))

    async def _take_state(self, frames: FrameConnection) -> None:
        frame = await read_frame(frames)
        if frame is None or frame[0] != wire.STATE:
            raise wire.PeerFrameError("a state was expected between members")
        (message,) = wire.messages_from_list(frame[1])
        if message.kind is not MessageKind.SNAPSHOT or message.snapshot is None:
            raise wire.PeerFrameError("a state without its message")
        receiver = self._local.receiver_of(message)
        try:
            while True:
                async with asyncio.timeout(STATE_TIMEOUT_S):
                    frame = await read_frame(frames)
                if frame is None:
                    raise UnavailableError("the connection was lost before the state was whole")
                if frame[0] == wire.END:
                    break
                if frame[0] != wire.PIECE or type(frame[1]) is not bytes:
                    raise wire.PeerFrameError(f"frame type {frame[0]} in a state")
                receiver.add(receiver.received_bytes, frame[1])
            await asyncio.to_thread(receiver.complete)
        except BaseException:
            receiver.abort()
            raise
        await self._local.on_state(message)
        frames.write(wire.encode_frame(wire.END))
        await frames.drain()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
