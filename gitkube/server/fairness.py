"""Whose request is served next: turns between priority levels and between users, and no more at once than the
server can do well. Pure; `turns.py` waits for what is decided here.

Kubernetes' priority and fairness in a small form. A request belongs to a level (by the FlowSchemas) and to a
flow in it (its user, as a rule). While seats are free everybody gets one at once. When all are taken,
requests wait in their flow, and each seat that falls free goes to the level that has the least of its share,
and there to the flows in turn: so a flow with a thousand waiting requests delays another flow's request by
one, not by a thousand. One flow never holds more than `FLOW_SEATS`, whatever is free, so that a burst of
another finds seats.

Invariants: of all levels that are not exempt there are never more than `seats` served at once; what waits is
bounded for each flow and each level, and what is beyond the bound is refused at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

SEATS = 256
"""Requests served at once, the exempt ones aside. They wait for the store together, so it takes many to keep
it busy; each holds some memory."""
FLOW_SEATS = 64
"""Of one flow at once: a loaded loop answers so many within some tens of milliseconds."""
FLOW_WAITING = 200
LEVEL_WAITING = 2000


@dataclass(frozen=True, slots=True)
class Level:
    """A priority level."""

    name: str
    shares: int = 1
    """What it gets of the seats, relative to the other levels, when all want more."""
    is_exempt: bool = False
    """Takes no seats and is never refused; only `FLOW_SEATS` holds for it, too."""
    may_queue: bool = True
    """Whether requests wait when there is no seat, or are refused at once."""


class RefusedError(Exception):
    """There is no place for this request; it should be sent again later."""


@dataclass(slots=True, eq=False)
class Turn:
    """A request's place: it `is_served` or waits."""

    level: Level
    flow: str
    is_served: bool = False


@dataclass(slots=True)
class _Flow:
    served: int = 0
    waiting: deque[Turn] = field(default_factory=deque)


@dataclass(slots=True)
class _LevelState:
    level: Level
    served: int = 0
    waiting: int = 0
    flows: dict[str, _Flow] = field(default_factory=dict)
    """Those that have something served or waiting; the first one is the next to be looked at."""


class Fairness:
    def __init__(self, *, seats: int = SEATS, flow_seats: int = FLOW_SEATS) -> None:
        self._seats = seats
        self._flow_seats = flow_seats
        self._served = 0
        self._levels: dict[str, _LevelState] = {}

    @property
    def served(self) -> Mapping[str, int]:
        """Level -> requests that are served now."""
        return {name: state.served for name, state in self._levels.items()}

    @property
    def waiting(self) -> Mapping[str, int]:
        return {name: state.waiting for name, state in self._levels.items()}

    def arrive(self, level: Level, flow: str) -> Turn:
        """A request comes; it is served or waits.

        Raises:
            RefusedError: there are too many already.
        """
        state = self._levels.get(level.name)
        if state is None:
            state = self._levels[level.name] = _LevelState(level)
        state.level = level
        its_flow = state.flows.get(flow)
        if its_flow is None:
            its_flow = state.flows[flow] = _Flow()
        turn = Turn(level, flow)
        has_seat = level.is_exempt or self._served < self._seats
        if has_seat and its_flow.served < self._flow_seats and not its_flow.waiting:
            self._serve(state, its_flow, turn)
            return turn
        if not level.is_exempt:
            is_full = len(its_flow.waiting) >= FLOW_WAITING or state.waiting >= LEVEL_WAITING
            if is_full or not level.may_queue:
                self._forget_if_idle(state, flow, its_flow)
                raise RefusedError
        its_flow.waiting.append(turn)
        state.waiting += 1
        return turn

    def leave(self, turn: Turn) -> list[Turn]:
        """A request is done, or its client has gone; those that are served now instead."""
        state = self._levels[turn.level.name]
        its_flow = state.flows[turn.flow]
        if turn.is_served:
            turn.is_served = False
            its_flow.served -= 1
            state.served -= 1
            if not turn.level.is_exempt:
                self._served -= 1
        else:
            its_flow.waiting.remove(turn)
            state.waiting -= 1
        self._forget_if_idle(state, turn.flow, its_flow)
        return self._serve_next(turn)

    def _serve_next(self, left: Turn) -> list[Turn]:
        served: list[Turn] = []
        if left.level.is_exempt:
            # No seat fell free, but its flow may go on.
            state = self._levels[left.level.name]
            its_flow = state.flows.get(left.flow)
            if its_flow is not None and its_flow.waiting and its_flow.served < self._flow_seats:
                served.append(self._take(state, its_flow))
            return served
        while self._served < self._seats:
            wanting = sorted(
                (state for state in self._levels.values() if state.waiting and not state.level.is_exempt),
                key=lambda state: (state.served / max(1, state.level.shares), state.level.name),
            )
            found = next((turn for state in wanting if (turn := self._next_of(state)) is not None), None)
            if found is None:
                break
            served.append(found)
        return served

    def _next_of(self, state: _LevelState) -> Turn | None:
        for name, its_flow in state.flows.items():
            if its_flow.waiting and its_flow.served < self._flow_seats:
                turn = self._take(state, its_flow)
                # It has had its turn: now the others.
                del state.flows[name]
                state.flows[name] = its_flow
                return turn
        return None

    def _take(self, state: _LevelState, its_flow: _Flow) -> Turn:
        turn = its_flow.waiting.popleft()
        state.waiting -= 1
        self._serve(state, its_flow, turn)
        return turn

    def _serve(self, state: _LevelState, its_flow: _Flow, turn: Turn) -> None:
        turn.is_served = True
        its_flow.served += 1
        state.served += 1
        if not turn.level.is_exempt:
            self._served += 1

    def _forget_if_idle(self, state: _LevelState, flow: str, its_flow: _Flow) -> None:
        if not its_flow.served and not its_flow.waiting:
            state.flows.pop(flow, None)
