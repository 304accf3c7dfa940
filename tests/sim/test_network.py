"""The pretended network does the harm that it promises, and no other."""

from __future__ import annotations

import random
from collections.abc import Iterator

from gitkube.sim.network import Network, Weather
from gitkube.sim.schedule import SECOND_US, Schedule
from gitkube.store.raft import MemberId, Message, MessageKind, SnapshotMeta

ONE, TWO = MemberId(1), MemberId(2)


class Listener:
    """A member that only listens."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.unreachable: list[MemberId] = []
        self.pieces: list[bytes] = []
        self.ends: list[str] = []

    def on_message(self, message: Message) -> None:
        self.indices.append(message.index)

    def on_unreachable(self, member: MemberId) -> None:
        self.unreachable.append(member)

    def open_stream(self, message: Message) -> Listener:
        return self

    def on_piece(self, piece: bytes) -> bool:
        self.pieces.append(piece)
        return True

    def on_end(self) -> bool:
        self.ends.append("end")
        return True

    def on_cut(self) -> None:
        self.ends.append("cut")


class Wires:
    """A network of two, and what each of them heard."""

    def __init__(self, **weather: object) -> None:
        self.schedule = Schedule()
        self.network = Network(self.schedule, random.Random(1), Weather(**weather))  # type: ignore[arg-type]
        self.one, self.two = Listener(), Listener()
        self.network.attach(ONE, self.one)
        self.network.attach(TWO, self.two)

    def send(self, count: int, *, back: bool = False) -> None:
        sender, to = (TWO, ONE) if back else (ONE, TWO)
        for index in range(count):
            self.network.send(Message(MessageKind.APPEND, to, sender, index=index))

    def settle(self) -> None:
        while self.schedule.run_next():
            pass


def test_in_good_weather_everything_arrives_once() -> None:
    wires = Wires()
    wires.send(200)
    wires.settle()

    assert sorted(wires.two.indices) == list(range(200))


def test_messages_overtake_each_other_unless_the_link_keeps_their_order() -> None:
    free, kept = Wires(), Wires(in_order=True)
    for wires in (free, kept):
        wires.send(50)
        wires.settle()

    assert free.two.indices != sorted(free.two.indices)
    assert kept.two.indices == list(range(50))


def test_bad_weather_loses_some_and_repeats_some() -> None:
    wires = Wires(loss=0.2, duplicate=0.2)
    wires.send(500)
    wires.settle()

    assert 0 < len(set(wires.two.indices)) < 500
    assert len(wires.two.indices) > len(set(wires.two.indices))
    assert wires.network.lost == 500 - len(set(wires.two.indices))


def test_a_cut_in_one_direction_lets_the_other_through() -> None:
    wires = Wires(tells_unreachable=1.0)
    wires.network.cut([ONE], [TWO])
    wires.send(3)
    wires.send(3, back=True)
    wires.settle()

    assert wires.two.indices == []
    assert sorted(wires.one.indices) == [0, 1, 2]
    assert wires.one.unreachable == [TWO, TWO, TWO]


def test_a_cut_takes_what_is_under_way_and_ends_when_it_is_healed() -> None:
    wires = Wires(delay_min_us=SECOND_US)
    wires.send(1)
    wires.network.cut([ONE], [TWO])
    wires.settle()
    assert wires.two.indices == []

    wires.network.heal()
    wires.send(1)
    wires.settle()

    assert wires.two.indices == [0]


def test_a_slow_link_is_slow_in_its_direction_only() -> None:
    wires = Wires()
    wires.network.slow_down(ONE, TWO, 5 * SECOND_US)
    wires.send(1)
    wires.send(1, back=True)

    while not wires.one.indices:
        assert wires.schedule.run_next()
    assert wires.schedule.now_us < SECOND_US
    wires.settle()
    assert wires.schedule.now_us > 5 * SECOND_US


def _pieces(wires: Wires, cut_before: int) -> Iterator[bytes]:
    for number in range(4):
        if number == cut_before:
            wires.network.cut([ONE], [TWO])
        yield bytes([number])


def _stream(cut_before: int) -> tuple[Listener, list[bool]]:
    wires = Wires()
    done: list[bool] = []
    message = Message(MessageKind.SNAPSHOT, TWO, ONE, snapshot=SnapshotMeta(5, 1))
    wires.network.stream(message, _pieces(wires, cut_before), done.append)
    wires.settle()
    return wires.two, done


def test_a_stream_arrives_whole_and_in_order() -> None:
    receiver, done = _stream(cut_before=9)

    assert receiver.pieces == [b"\0", b"\1", b"\2", b"\3"]
    assert receiver.ends == ["end"]
    assert done == [True]


def test_a_stream_that_is_cut_ends_for_both_sides() -> None:
    receiver, done = _stream(cut_before=2)

    assert receiver.pieces == [b"\0", b"\1", b"\2"]
    assert receiver.ends == ["cut"]
    assert done == [False]
