"""Was a history of concurrent reads, writes and compare-and-swaps one that a single register could have
given?

A history is linearizable when each operation can be put at one moment between its call and its return so
that, in that order, each answer is right (Herlihy and Wing, 1990). Keys are independent of each other, so
each is checked alone (P-compositionality: Horn and Kroening, "Faster linearizability checking via
P-compositionality", 2015). One key is checked by just-in-time linearization (Lowe, "Testing for
linearizability", 2017, section 5, after Wing and Gong, 1993): walk through the calls and returns in the order
of time and keep all the *configurations* that are possible, each a value of the register and the set of open
operations that have taken effect. A call adds to the open ones; a return leaves only configurations in which
that operation has taken effect, after trying every order of open operations that ends with it. When none is
left, no order explains the history, and the verdict names the operation at which that showed.

An operation whose outcome nobody knows (the connection broke, the server was killed) may have taken effect at
any moment after its call, or never. Left so it would stay open for ever and double the work each time; hence
`_settle` first draws the conclusions that the answers of others allow, where values are written only once:
what somebody has read was written before that read returned, and what nobody has read need not have been.

Nothing here asks a clock: `max_steps` bounds the work, and beyond it the verdict is "undecided".
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

FOREVER = math.inf
"""As `returned`: the operation has no answer, and may take effect at any later time or never."""
DEFAULT_MAX_STEPS = 20_000_000
"""Configurations looked at over all keys, some tens of seconds of work."""
_CROWD = 32
"""From so many configurations on those that another one makes needless are sought and left out."""


@dataclass(frozen=True, slots=True)
class Read:
    value: Hashable
    """What was read; None for a key that does not exist."""


@dataclass(frozen=True, slots=True)
class Write:
    value: Hashable
    """None deletes."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Compare and swap: write `value` if the register holds `expected`, else nothing."""

    expected: Hashable
    value: Hashable
    succeeded: bool | None
    """None: nobody knows. One that failed and says what it found instead is better given as a `Read`."""


Action = Read | Write | Swap


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. Times are of any one clock; only their order counts."""

    key: Hashable
    action: Action
    call: float
    returned: float = FOREVER
    client: str = ""

    def __post_init__(self) -> None:
        if self.returned < self.call:
            raise ValueError(f"{self} returned before it was called")
        if isinstance(self.action, Swap) and (self.action.succeeded is None) != (self.returned == FOREVER):
            raise ValueError(f"{self}: the outcome of a swap is known if and only if it returned")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`is_linearizable` None: undecided within the steps; `key` then names where."""

    is_linearizable: bool | None
    key: Hashable = None
    culprit: Operation | None = None
    """The first return, in time, that no order of the operations explains."""
    possible: Sequence[Hashable] = ()
    """What the register may have held when the culprit returned."""
    overlapping: Sequence[Operation] = ()
    """Operations of that key that were open together with the culprit."""

    def explain(self) -> str:
        """The verdict for the person who must find the cause."""
        if self.is_linearizable:
            return "linearizable"
        if self.is_linearizable is None:
            return f"undecided: the history of key {self.key!r} has too many operations open at a time"
        lines = [
            f"not linearizable: no order of the operations of key {self.key!r} explains",
            f"  {_describe(self.culprit)}" if self.culprit else "",
            f"  when it returned the register can only have held: {', '.join(map(repr, self.possible))}",
            "  operations that overlap it:",
            *(f"    {_describe(operation)}" for operation in self.overlapping),
        ]
        return "\n".join(line for line in lines if line)


def check(
    operations: Iterable[Operation], *, initial: Hashable = None, max_steps: int = DEFAULT_MAX_STEPS
) -> Verdict:
    """Whether a history is linearizable, each key being a register of its own.

    Args:
        operations: in any order. Writes that surely did nothing (refused) are left out by the caller.
        initial: what each key holds before the first of them.
        max_steps: give up after so many configurations.

    Returns:
        The verdict on the first key that is not linearizable, else on the first undecided one, else the good
        one.
    """
    by_key: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    undecided: Verdict | None = None
    steps = max_steps
    for key, history in by_key.items():
        search = _Search(_settle(history, initial), initial, steps)
        verdict = search.run(key)
        steps = search.steps_left
        if verdict.is_linearizable is False:
            return verdict
        if verdict.is_linearizable is None:
            undecided = undecided or verdict
            steps = max(steps, max_steps // 100)  # a bad key elsewhere is still worth finding
    return undecided or Verdict(True)


def _settle(history: Sequence[Operation], initial: Hashable) -> list[Operation]:
    """The same history with what can be concluded about unknown outcomes; equally linearizable.

    A value that only one operation can have written was written by it before anybody who saw the value
    returned. An unknown write whose value nobody saw can be left out: with it the register would only hold
    what no answer asks for. Unless a swap failed without saying at what: then any other value may be the
    reason, and all values that nobody saw are as good as one.
    """
    known = [operation for operation in history if operation.returned < FOREVER]
    unknown = [
        operation
        for operation in history
        if operation.returned == FOREVER and not isinstance(operation.action, Read)
    ]
    if not unknown:
        return known
    writers = Counter(
        operation.action.value
        for operation in (*known, *unknown)
        if not isinstance(operation.action, Read)
        and not (isinstance(operation.action, Swap) and operation.action.succeeded is False)
    )
    writers[initial] += 1
    seen_by: dict[Hashable, float] = {}  # value -> the earliest return of who saw it for sure

    def saw(value: Hashable, returned: float) -> bool:
        if returned < seen_by.get(value, math.inf) or value not in seen_by:
            seen_by[value] = returned
            return True
        return False

    failed_at: set[Hashable] = set()
    for operation in known:
        match operation.action:
            case Read(value):
                saw(value, operation.returned)
            case Swap(expected, _, True):
                saw(expected, operation.returned)
            case Swap(expected, _, False):
                failed_at.add(expected)
    has_changed = True
    while has_changed:  # a swap that must have succeeded saw a value itself, and so on
        has_changed = False
        for operation in unknown:
            action = operation.action
            if isinstance(action, Swap) and (action.value in seen_by or failed_at):
                is_sole = writers[action.value] == 1
                deadline = seen_by.get(action.value, FOREVER) if is_sole else FOREVER
                has_changed |= saw(action.expected, deadline)
    settled = known
    for operation in unknown:
        action = operation.action
        assert not isinstance(action, Read)
        deadline = seen_by.get(action.value, FOREVER)
        if action.value not in seen_by and not failed_at:
            continue
        if action.value not in seen_by and action.value not in failed_at:
            settled.append(replace(operation, action=replace(action, value=_UNSEEN)))
        elif writers[action.value] > 1 or deadline == FOREVER:
            settled.append(operation)
        elif isinstance(action, Swap):
            settled.append(
                replace(
                    operation,
                    action=replace(action, succeeded=True),
                    returned=max(operation.call, deadline),
                )
            )
        else:
            settled.append(replace(operation, returned=max(operation.call, deadline)))
    return settled


class _Unseen:
    """Stands for every value that was perhaps written and that no answer tells of."""

    def __repr__(self) -> str:
        return "(something that nobody read)"


_UNSEEN = _Unseen()

_Configuration = tuple[Hashable, int]
"""The register's value, and a bit mask of the open operations that have taken effect."""


class _Search:
    """Just-in-time linearization of one key's history.

    Operations that leave the register as it is (reads, failed swaps) take effect as soon as the value suits
    them: that never takes anything from others. So only those that change it make branches.
    """

    def __init__(self, history: Sequence[Operation], initial: Hashable, max_steps: int) -> None:
        self.steps_left = max_steps
        self._history = history
        self._configurations: set[_Configuration] = {(initial, 0)}
        self._slots: dict[int, int] = {}  # operation -> its bit
        self._free: list[int] = []
        self._changing: dict[int, Write | Swap] = {}  # bit -> the action that is open
        self._reads: defaultdict[Hashable, int] = defaultdict(int)  # value -> bits of who waits to read it
        self._failed: int = 0  # bits of swaps that failed...
        self._failed_at: defaultdict[Hashable, int] = defaultdict(int)  # ...and cannot have at this value
        self._forever = 0  # bits that no return will clear

    def run(self, key: Hashable) -> Verdict:
        events = sorted(
            (moment, is_return, number)
            for number, operation in enumerate(self._history)
            for moment, is_return in ((operation.call, False), (operation.returned, True))
            if moment < FOREVER
        )  # a call and a return at one moment overlap: the call comes first
        for _, is_return, number in events:
            operation = self._history[number]
            if not is_return:
                self._call(number, operation)
                continue
            before = self._configurations
            if not self._return(number, operation):
                if self.steps_left <= 0:
                    return Verdict(None, key)
                values = {value for value, _ in before}
                overlapping = [
                    other
                    for other in self._history
                    if other is not operation
                    and other.call <= operation.returned
                    and other.returned >= operation.call
                ]
                return Verdict(False, key, operation, sorted(values, key=repr), overlapping)
        return Verdict(True)

    def _call(self, number: int, operation: Operation) -> None:
        bit = self._free.pop() if self._free else 1 << len(self._slots)
        self._slots[number] = bit
        match operation.action:
            case Read(value):
                self._reads[value] |= bit
            case Swap(expected, _, False):
                self._failed |= bit
                self._failed_at[expected] |= bit
            case Write() | Swap():
                self._changing[bit] = operation.action
                if operation.returned == FOREVER:
                    self._forever |= bit
                return
        self._configurations = {(value, done | self._suited(value)) for value, done in self._configurations}

    def _suited(self, value: Hashable) -> int:
        """Bits of the open operations that only look, and whose answer this value is."""
        suited = self._reads.get(value, 0)
        if self._failed:
            suited |= self._failed & ~self._failed_at.get(value, 0)
        return suited

    def _return(self, number: int, operation: Operation) -> bool:
        """Keep what is possible now that this operation has taken effect; False if nothing is."""
        bit = self._slots.pop(number)
        survivors: set[_Configuration] = set()
        seen: dict[_Configuration, list[int]] = {}
        # Those first that used least of what may never happen: they make others needless, not the reverse.
        layers: defaultdict[int, list[_Configuration]] = defaultdict(list)
        for configuration in self._configurations:
            layers[(configuration[1] & self._forever).bit_count()].append(configuration)
        while layers:
            layer = layers.pop(min(layers))
            while layer:
                value, done = layer.pop()
                if self._is_needless(value, done, seen):
                    continue
                self.steps_left -= 1
                if self.steps_left <= 0:
                    return False
                if done & bit:
                    survivors.add((value, done ^ bit))
                    continue
                used = (done & self._forever).bit_count()
                for following in self._followers(value, done):
                    more = (following[1] & self._forever).bit_count()
                    (layer if more == used else layers[more]).append(following)
        match operation.action:
            case Read(read):
                self._reads[read] ^= bit
            case Swap(expected, _, False):
                self._failed ^= bit
                self._failed_at[expected] ^= bit
            case _:
                del self._changing[bit]
        self._free.append(bit)
        if len(survivors) >= _CROWD:
            survivors = self._without_needless(survivors)
        self._configurations = survivors
        return bool(survivors)

    def _is_needless(self, value: Hashable, done: int, seen: dict[_Configuration, list[int]]) -> bool:
        """Whether one like it was seen that used no other of what may never happen; else it is seen now."""
        open_ended = done & self._forever
        others = seen.setdefault((value, done ^ open_ended), [])
        if any(other & ~open_ended == 0 for other in others):
            return True
        others.append(open_ended)
        return False

    def _followers(self, value: Hashable, done: int) -> Iterable[_Configuration]:
        tried: set[tuple[Hashable, bool]] = set()
        for bit, action in self._changing.items():
            if done & bit or (isinstance(action, Swap) and action.expected != value):
                continue
            if self._forever & bit:
                # Of those that are open for ever and do the same, one is as good as the other.
                effect = (action.value, isinstance(action, Swap))
                if effect in tried or action.value == value:
                    continue
                tried.add(effect)
            yield action.value, done | bit | self._suited(action.value)

    def _without_needless(self, configurations: set[_Configuration]) -> set[_Configuration]:
        """Leave out each configuration whose future another one has, too.

        Such a one holds the same value, and has done the same of the changes that must return, at least the
        same of those that only look, and at most the same of the changes that may never happen.
        """
        changing = sum(self._changing)
        groups: defaultdict[tuple[Hashable, int], list[int]] = defaultdict(list)
        for value, done in configurations:
            groups[value, done & changing & ~self._forever].append(done)
        kept: set[_Configuration] = set()
        for (value, _), masks in groups.items():
            # The better one sorts first: it has more of the lookers and less of the open ended.
            masks.sort(key=lambda done: ((done & self._forever).bit_count(), -(done & ~changing).bit_count()))
            best: list[int] = []
            for done in masks:
                open_ended, looked = done & self._forever, done & ~changing
                if not any(
                    (other & self._forever) & ~open_ended == 0 and looked & ~(other & ~changing) == 0
                    for other in best
                ):
                    best.append(done)
            kept.update((value, done) for done in best)
        return kept


def _describe(operation: Operation) -> str:
    match operation.action:
        case Read(value):
            what = f"read {value!r}"
        case Write(value):
            what = f"write {value!r}"
        case Swap(expected, value, succeeded):
            outcome = {True: "swapped", False: "failed", None: "outcome unknown"}[succeeded]
            what = f"swap {expected!r} -> {value!r} ({outcome})"
    end = "never" if operation.returned == FOREVER else f"{operation.returned:.6f}"
    return f"{operation.client or 'client'} [{operation.call:.6f} .. {end}] {what}"
