"""The network between members: late, lossy, repeating, and cut in one direction or both.

Each ordered pair of members has a link. A message draws its fate when it is sent: lost, delayed by the link's
distribution, perhaps delivered twice. Delays are drawn one by one, so messages overtake each other; a link
may be kept in order instead, as one connection does. A cut link loses what is sent on it and what is still
under way. Streams (a snapshot's bytes) are sent in pieces, each delayed; when a piece is lost the stream is
over, as a connection that broke.

Invariant: what is delivered was sent to that member, some time before. Nothing else is promised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gitkube.sim.schedule import MILLISECOND_US, Schedule
from gitkube.store.raft.types import MemberId, Message


class Receiver(Protocol):
    """A member, as the network sees it."""

    def on_message(self, message: Message) -> None: ...

    def on_unreachable(self, member: MemberId) -> None: ...

    def open_stream(self, message: Message) -> Stream | None:
        """The end for the bytes of a state that is about to come; None when the member is not there."""
        ...


class Stream(Protocol):
    """The receiving end of a stream."""

    def on_piece(self, piece: bytes) -> bool:
        """Take the next bytes; False when the receiver is gone."""
        ...

    def on_end(self) -> bool:
        """All bytes have come; False when the receiver is gone, or cannot use them."""
        ...

    def on_cut(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Weather:
    """What links are like unless something particular happens to one."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_us: int = MILLISECOND_US // 2
    delay_mean_us: int = 2 * MILLISECOND_US
    """Of the exponential part on top of the minimum."""
    tail: float = 0.0
    """Share of messages that take up to `tail_us`: longer than an election."""
    tail_us: int = 3_000 * MILLISECOND_US
    in_order: bool = False
    tells_unreachable: float = 0.5
    """How often the sender hears that a message was lost."""


CALM = Weather()


class Network:
    """See the module's text."""

    def __init__(self, schedule: Schedule, rng: random.Random, weather: Weather) -> None:
        self.weather = weather
        self.lost = 0
        self.delivered = 0
        self._schedule = schedule
        self._rng = rng
        self._receivers: dict[MemberId, Receiver] = {}
        self._cut: set[tuple[MemberId, MemberId]] = set()
        self._slow: dict[tuple[MemberId, MemberId], int] = {}
        self._last_arrival_us: dict[tuple[MemberId, MemberId], int] = {}

    def attach(self, member: MemberId, receiver: Receiver) -> None:
        self._receivers[member] = receiver

    def detach(self, member: MemberId) -> None:
        """The member is gone for good."""
        self._receivers.pop(member, None)

    # ------------------------------------------------------------------ faults

    def cut(self, sources: Iterable[MemberId], targets: Iterable[MemberId]) -> None:
        """Let nothing through from `sources` to `targets`; call it twice for both directions."""
        self._cut.update((source, target) for source in sources for target in targets if source != target)

    def slow_down(self, source: MemberId, target: MemberId, extra_us: int) -> None:
        self._slow[(source, target)] = extra_us

    def heal(self) -> None:
        """Repair all links; the weather stays."""
        self._cut.clear()
        self._slow.clear()

    def is_cut(self, source: MemberId, target: MemberId) -> bool:
        return (source, target) in self._cut

    # ------------------------------------------------------------------ messages

    def send(self, message: Message) -> None:
        link = (message.sender, message.to)
        rng, weather = self._rng, self.weather
        if link in self._cut or rng.random() < weather.loss:
            self._lose(message)
            return
        self._schedule.after(self._delay_us(link), self._deliver, message)
        if weather.duplicate and rng.random() < weather.duplicate:
            self._schedule.after(self._delay_us(link), self._deliver, message)

    def _delay_us(self, link: tuple[MemberId, MemberId]) -> int:
        rng, weather = self._rng, self.weather
        delay_us = weather.delay_min_us + int(rng.expovariate(1.0) * weather.delay_mean_us)
        if weather.tail and rng.random() < weather.tail:
            delay_us += rng.randrange(weather.tail_us)
        if self._slow:
            delay_us += self._slow.get(link, 0)
        if weather.in_order:
            arrival_us = max(self._schedule.now_us + delay_us, self._last_arrival_us.get(link, 0))
            self._last_arrival_us[link] = arrival_us
            delay_us = arrival_us - self._schedule.now_us
        return delay_us

    def _deliver(self, message: Message) -> None:
        if (message.sender, message.to) in self._cut:
            self._lose(message)
            return
        receiver = self._receivers.get(message.to)
        if receiver is not None:
            self.delivered += 1
            receiver.on_message(message)

    def _lose(self, message: Message) -> None:
        self.lost += 1
        if self._rng.random() < self.weather.tells_unreachable:
            sender = self._receivers.get(message.sender)
            if sender is not None:
                self._schedule.after(MILLISECOND_US, sender.on_unreachable, message.to)

    # ------------------------------------------------------------------ streams

    def stream(self, message: Message, pieces: Iterator[bytes], done: Callable[[bool], None]) -> None:
        """Send a SNAPSHOT message with the bytes of its state; `done` hears whether all of them arrived."""
        self._next_piece(_Transfer(message, pieces, done))

    def _next_piece(self, transfer: _Transfer) -> None:
        link = (transfer.message.sender, transfer.message.to)
        self._schedule.after(self._delay_us(link), self._piece, transfer)

    def _piece(self, transfer: _Transfer) -> None:
        message = transfer.message
        if transfer.stream is None:
            receiver = self._receivers.get(message.to)
            transfer.stream = None if receiver is None else receiver.open_stream(message)
        stream = transfer.stream
        if (
            stream is None
            or (message.sender, message.to) in self._cut
            or self._rng.random() < self.weather.loss
        ):
            self._break(transfer)
            return
        try:
            piece = next(transfer.pieces, None)
        except OSError:  # the sender's file went away under it, or the sender itself
            self._break(transfer)
            return
        if piece is None:
            transfer.done(stream.on_end())
        elif stream.on_piece(piece):
            self._next_piece(transfer)
        else:
            transfer.done(False)

    def _break(self, transfer: _Transfer) -> None:
        self.lost += 1
        if transfer.stream is not None:
            transfer.stream.on_cut()
        transfer.done(False)


@dataclass(slots=True)
class _Transfer:
    message: Message
    pieces: Iterator[bytes]
    done: Callable[[bool], None]
    stream: Stream | None = None
