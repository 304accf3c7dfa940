"""Between members: one connection to each of the others for messages, another for a state that is sent whole.

The consensus core needs no more of a network than that a message arrives soon, or not at all. So nothing is
kept for a peer that is out of reach or too slow: its messages are dropped, the core is told, and asks again
by itself. A state of some hundred megabytes has a connection of its own, so that heartbeats never stand
behind it.

Each direction has its own connection, opened by the sender; a message's answer travels on the one that its
sender opened. Questions (`ask`) are the exception: their answers come back on the same connection. What
others have dialled is in `listening.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from gitkube.clock import Clock, set_within
from gitkube.store import peer_wire as wire
from gitkube.store import results
from gitkube.store.directory import Identity
from gitkube.store.frames import FrameConnection
from gitkube.store.listening import Listener
from gitkube.store.peer_link import (
    CONNECT_TIMEOUT_S,
    STATE_TIMEOUT_S,
    end_when_silent,
    host_and_port,
    read_frame,
)
from gitkube.store.peer_local import Local
from gitkube.store.peer_tls import PeerTls, check_peer, words_of
from gitkube.store.protocol import IdentityError, StoreError, UnavailableError
from gitkube.store.raft.types import MemberId, Message, MessageKind

log = structlog.get_logger()

BACKOFF_S = (0.05, 1.0)
"""Pause before dialling again, first and largest; a quarter of it at random. One that dials us ends it."""
MAX_UNSENT_BYTES = 32 * 1024 * 1024
"""Written to a peer's connection and not taken yet; more is dropped, as if the network had lost it."""
PIECE_BYTES = 256 * 1024


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
        self._tls = tls
        self._clock = clock
        self._rng = rng
        self._listener = Listener(local, identity, listen=listen, tls=tls, on_called=self._called)
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, _Open] = {}
        self._has_called: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        """Set when a member dials us: then it is there, and is dialled without waiting any longer."""
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
            PeerListenError: the address is taken or none of this machine's.
        """
        await self._listener.start()
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
        self._listener.leave_removed()

    async def close(self) -> None:
        tasks = [*self._dialling.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.close()

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
                self._note_out_of_reach(member, words_of(error))
                if isinstance(error, IdentityError):
                    self._local.on_refused(error)
                pause_s = await self._pause(member, pause_s)
                continue
            pause_s = BACKOFF_S[0]
            self.last_error.pop(member, None)
            peer = self._open[member] = _Open(frames, {})
            log.info("store_peer_connected", member=f"{member:x}")
            try:
                frames.deliver(peer.on_frame)
                await frames.wait_ended()
                self._note_out_of_reach(member, str(frames.error or "") or "the connection was lost")
            finally:
                del self._open[member]
                frames.close()
                lost = UnavailableError(f"the connection to member {member:x} was lost")
                for answer in peer.answers.values():
                    if not answer.done():
                        answer.set_exception(lost)
                self._local.on_unreachable(MemberId(member))

    async def _pause(self, member: int, pause_s: float) -> float:
        """Wait before a member is dialled again; how long the next time."""
        called = self._has_called[member]
        called.clear()
        if await set_within(self._clock, called, pause_s * (1 + self._rng.random() / 4)):
            return BACKOFF_S[0]
        return min(pause_s * 2, BACKOFF_S[1])

    def _called(self, member: int) -> None:
        self._has_called[member].set()

    def _note_out_of_reach(self, member: int, why: str) -> None:
        """A member is dialled for as long as it is gone; the log is told once for each reason."""
        if self.last_error.get(member) != why:
            log.warning("store_peer_out_of_reach", member=f"{member:x}", error=why)
        self.last_error[member] = why

    async def _dial(self, member: int, purpose: str) -> FrameConnection:
        """Raises: OSError, TimeoutError: nobody is there. IdentityError: the other end does not want us, or
        is a stranger.
        """
        address = self._local.addresses().get(member)
        if not address:
            raise UnavailableError(f"no address of member {member:x} is known")
        host, port = host_and_port(address)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, frames = await asyncio.get_running_loop().create_connection(
                lambda: FrameConnection(wire.MAX_FRAME_BYTES), host, port,
                ssl=self._tls.client_context(), server_hostname="",
            )  # fmt: skip
            try:
                end_when_silent(frames)
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
            log.warning("store_state_not_sent", member=f"{message.to:x}", error=words_of(error))
        finally:
            self._local.on_state_sent(message.to, ok=ok)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
