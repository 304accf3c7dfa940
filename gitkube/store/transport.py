"""Between members: one connection to each of the others for messages, another for a state that is sent whole.

The consensus core needs no more of a network than that a message arrives soon, or not at all. So nothing is
kept for a peer that is out of reach or too slow: its messages are dropped, the core is told, and asks again
by itself. A state of some hundred megabytes has a connection of its own, so that heartbeats never stand
behind it.

Each direction has its own connection, opened by the sender; a message's answer travels on the one that its
sender opened. Questions (`ask`) are the exception: their answers come back on the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gitkube.clock import Clock
from gitkube.store import peer_wire as wire
from gitkube.store import results
from gitkube.store.addresses import AddressError, split_address
from gitkube.store.directory import Identity
from gitkube.store.frames import FrameConnection
from gitkube.store.peer_tls import PeerTls, check_peer
from gitkube.store.protocol import IdentityError, RemovedError, StoreError, UnavailableError
from gitkube.store.raft.types import MemberId, Message, MessageKind

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 3.0
BACKOFF_S = (0.05, 1.0)
"""Pause before dialling again, first and largest; a quarter of it at random."""
MAX_UNSENT_BYTES = 32 * 1024 * 1024
"""Written to a peer's connection and not taken yet; more is dropped, as if the network had lost it."""
UNACKNOWLEDGED_TIMEOUT_S = 5.0
"""A machine that is switched off says no farewell: after so long without a sign of it the connection ends, so
that whoever waits for a quorum is told whom to start (TCP_USER_TIMEOUT, RFC 5482)."""
ASKED_AFTER_S = 10
"""After so long without a word the other end's machine is asked for a sign (keep-alive, RFC 9293, 3.8.4): the
end that only listens has sent nothing that could stay unacknowledged."""
PIECE_BYTES = 256 * 1024
STATE_TIMEOUT_S = 60.0
"""Without a sign of progress on the connection of a state."""


class StateReceiver(Protocol):
    """Takes the bytes of a state; see `snapshot.SnapshotReceiver`."""

    received_bytes: int

    def add(self, offset: int, data: bytes) -> None: ...

    def complete(self) -> None: ...

    def abort(self) -> None: ...


class Local(Protocol):
    """What the transport needs of the member that it serves."""

    def addresses(self) -> Mapping[int, str]:
        """Where the other members are reached, by id: `HOST:PORT`."""
        ...

    def is_removed(self, member: int) -> bool: ...

    def on_messages(self, messages: Iterable[Message]) -> None: ...

    def on_unreachable(self, member: MemberId) -> None: ...

    def on_state_sent(self, member: MemberId, *, ok: bool) -> None: ...

    def on_refused(self, error: IdentityError) -> None:
        """Another member says that this one has no place in its cluster."""
        ...

    def state_pieces(self, message: Message, piece_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of the state that a SNAPSHOT message announces."""
        ...

    def receiver_of(self, message: Message) -> StateReceiver: ...

    async def on_state(self, message: Message) -> None:
        """The state of the receiver made last has arrived whole."""
        ...

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        """Answer another member's question; `StoreError`s travel."""
        ...


@dataclass(slots=True)
class _Open:
    """A connection that we dialled."""

    frames: FrameConnection
    answers: dict[int, asyncio.Future[Any]]

    def on_frame(self, content: bytes) -> None:
        frame = wire.decode_frame(content)
        if frame[0] != wire.ANSWER or len(frame) != 4:
            raise wire.PeerFrameError("an answer was expected between members")
        _, number, error, body = frame
        answer = self.answers.get(number)
        if answer is None or answer.done():
            return  # whoever asked has given up
        if error is None:
            answer.set_result(body)
        else:
            answer.set_exception(results.error_from_list(error))


class Transport:
    """See the module's text.

    Args:
        listen: HOST:PORT to listen on.
    """

    def __init__(
        self, local: Local, identity: Identity, *, listen: str, tls: PeerTls, clock: Clock, rng: random.Random
    ) -> None:
        self._local = local
        self._identity = identity
        self._listen = listen
        self._tls = tls
        self._clock = clock
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._server_context: ssl.SSLContext | None = None
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, _Open] = {}
        self._callers: dict[FrameConnection, int] = {}
        """Who has dialled us."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self.last_error: dict[int, str] = {}
        """Why a member was out of reach when it was last dialled; for those who ask why nothing is
        committed.
        """

    async def start(self) -> None:
        """Listen, and dial whoever is known.

        Raises:
            IdentityError: the certificates cannot be used.
            UnavailableError: the address is taken or none of this machine's.
        """
        host, port = _split(self._listen)
        self._server_context = self._tls.server_context()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._called, host, port,
                ssl=self._server_context, ssl_handshake_timeout=CONNECT_TIMEOUT_S,
            )  # fmt: skip
        except OSError as error:
            raise UnavailableError(f"cannot listen for other members on {self._listen}: {error}") from error
        self.refresh()

    def refresh(self) -> None:
        """Follow the membership: dial those who are new, leave those who are gone."""
        wanted = self._local.addresses()
        for member in set(wanted) - set(self._dialling):
            self._dialling[member] = asyncio.create_task(
                self._keep_open(member), name=f"store-peer-{member:x}"
            )
        for member in set(self._dialling) - set(wanted):
            self._dialling.pop(member).cancel()
        for frames, sender in self._callers.items():
            if self._local.is_removed(sender):
                frames.close()  # it calls again, and is told

    async def close(self) -> None:
        tasks = [*self._dialling.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ sending

    def send(self, messages: Iterable[Message]) -> None:
        """Send what can be sent now, and tell the core of the rest."""
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            if message.kind is MessageKind.SNAPSHOT:
                self._spawn(self._send_state(message))
            else:
                by_member.setdefault(message.to, []).append(message)
        for member, each in by_member.items():
            peer = self._open.get(member)
            if peer is None or peer.frames.unsent_bytes > MAX_UNSENT_BYTES:
                self._local.on_unreachable(MemberId(member))
                continue
            peer.frames.write_now(wire.encode_frame(wire.MESSAGES, wire.messages_to_list(each)))

    def is_open(self, member: MemberId) -> bool:
        """Whether there is a connection to a member, though it may be too slow or dead."""
        return member in self._open

    async def ask(self, member: int, method: str, arguments: Sequence[Any], *, timeout_s: float) -> Any:
        """Another member's answer.

        Raises:
            StoreError: what the other member raised.
            UnavailableError: it is out of reach or does not answer in time.
        """
        peer = self._open.get(member)
        if peer is None:
            raise UnavailableError(
                f"member {member:x} is out of reach: {self.last_error.get(member, 'not dialled')}"
            )
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        peer.answers[number] = answer
        try:
            peer.frames.write(wire.encode_frame(wire.ASK, number, method, list(arguments)))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise UnavailableError(f"member {member:x} did not answer {method} in {timeout_s:g} s") from error
        finally:
            peer.answers.pop(number, None)

    # ------------------------------------------------------------------ dialling

    async def _keep_open(self, member: int) -> None:
        pause_s = BACKOFF_S[0]
        while True:
            try:
                frames = await self._dial(member, "messages")
            except (OSError, StoreError, TimeoutError, UnicodeError) as error:  # UnicodeError: can be no host
                self.last_error[member] = str(error) or type(error).__name__
                if isinstance(error, IdentityError):
                    self._local.on_refused(error)
                await self._clock.sleep(pause_s * (1 + self._rng.random() / 4))
                pause_s = min(pause_s * 2, BACKOFF_S[1])
                continue
            pause_s = BACKOFF_S[0]
            self.last_error.pop(member, None)
            peer = self._open[member] = _Open(frames, {})
            log.info("store_peer_connected", member=f"{member:x}")
            try:
                frames.deliver(peer.on_frame)
                await frames.wait_ended()
                self.last_error[member] = str(frames.error or "") or "the connection was lost"
            finally:
                del self._open[member]
                frames.close()
                lost = UnavailableError(f"the connection to member {member:x} was lost")
                for answer in peer.answers.values():
                    if not answer.done():
                        answer.set_exception(lost)
                self._local.on_unreachable(MemberId(member))

    async def _dial(self, member: int, purpose: str) -> FrameConnection:
        """Raises: OSError, TimeoutError: nobody is there. IdentityError: the other end does not want us, or
        is a stranger.
        """
        address = self._local.addresses().get(member)
        if not address:
            raise UnavailableError(f"no address of member {member:x} is known")
        host, port = _split(address)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, frames = await asyncio.get_running_loop().create_connection(
                lambda: FrameConnection(wire.MAX_FRAME_BYTES), host, port,
                ssl=self._tls.client_context(), server_hostname="",
            )  # fmt: skip
            try:
                _end_when_silent(frames)
                check_peer(frames.extra("peercert"))
                identity = self._identity
                frames.write(
                    wire.encode_frame(
                        wire.HELLO, wire.VERSION, identity.cluster_id, identity.member_id, member, purpose
                    )
                )
                frame = await read_frame(frames)
                if frame is None or frame[0] != wire.WELCOME:
                    raise UnavailableError(f"{address} ended the greeting between members")
                if frame[1] is not None:
                    raise results.error_from_list(frame[1])
            except BaseException:
                frames.close()
                raise
        return frames

    async def _send_state(self, message: Message) -> None:
        ok = False
        try:
            frames = await self._dial(message.to, "state")
            try:
                frames.write(wire.encode_frame(wire.STATE, wire.messages_to_list([message])))
                async for piece in self._local.state_pieces(message, PIECE_BYTES):
                    frames.write(wire.encode_frame(wire.PIECE, piece))
                    async with asyncio.timeout(STATE_TIMEOUT_S):
                        await frames.drain()
                frames.write(wire.encode_frame(wire.END))
                async with asyncio.timeout(STATE_TIMEOUT_S):
                    frame = await read_frame(frames)
                ok = frame is not None and frame[0] == wire.END
            finally:
                frames.close()
        except (OSError, StoreError, TimeoutError) as error:
            log.warning(
                "store_state_not_sent", member=f"{message.to:x}", error=str(error) or type(error).__name__
            )
        finally:
            self._local.on_state_sent(message.to, ok=ok)

    # ------------------------------------------------------------------ listening

    def _called(self) -> FrameConnection:
        """Before the handshake: one that failed for an old certificate would never come to renew it."""
        if self._server_context is not None:
            with contextlib.suppress(IdentityError):  # the old certificate stays; dialling says what is wrong
                self._tls.refresh(self._server_context)
        return FrameConnection(wire.MAX_FRAME_BYTES, self._accepted)

    def _accepted(self, frames: FrameConnection) -> None:
        self._spawn(self._serve(frames))

    async def _serve(self, frames: FrameConnection) -> None:
        try:
            _end_when_silent(frames)
            check_peer(frames.extra("peercert"))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                purpose = await self._welcome(frames)
            if purpose == "state":
                await self._take_state(frames)
            elif purpose == "messages":
                frames.deliver(lambda content: self._on_frame(frames, content))
                await frames.wait_ended()
                if frames.error is not None:
                    raise frames.error
        except (OSError, StoreError, TimeoutError) as error:
            log.warning("store_peer_connection_ended", error=str(error) or type(error).__name__)
        finally:
            self._callers.pop(frames, None)
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
        self._callers[frames] = sender
        return str(purpose)

    def _on_frame(self, frames: FrameConnection, content: bytes) -> None:
        frame = wire.decode_frame(content)
        if frame[0] == wire.MESSAGES:
            messages = wire.messages_from_list(frame[1])
            self._local.on_messages(
                message for message in messages if message.kind is not MessageKind.SNAPSHOT
            )
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


def _end_when_silent(frames: FrameConnection) -> None:
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


def _split(address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except AddressError as error:
        raise UnavailableError(str(error)) from error
