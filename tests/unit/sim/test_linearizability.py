"""The checker is itself checked: by histories known to be good or bad, and by one that tries all orders."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.sim.linearizability import FOREVER, Action, Operation, Read, Swap, Write, check


def history(*rows: tuple[float, float, Action]) -> list[Operation]:
    return [Operation("k", action, call, returned) for call, returned, action in rows]


GOOD = {
    "nothing at all": [],
    "a key that nobody wrote is read as absent": [(0, 1, Read(None))],
    "one after the other": [(0, 1, Write(1)), (2, 3, Read(1)), (4, 5, Swap(1, 2, True)), (6, 7, Read(2))],
    "a read beside a write sees the old value or the new one": [
        (0, 9, Write(1)), (1, 2, Read(None)), (3, 4, Read(1)), (10, 11, Read(1)),
    ],
    "two writes at once end in either order": [
        (0, 5, Write(1)), (0, 5, Write(2)), (6, 7, Read(1)),
    ],
    "a call at the very moment of a return overlaps it": [
        (0, 1, Write(1)), (1, 2, Write(2)), (3, 4, Read(1)),
    ],
    "a write without an answer was done": [(0, FOREVER, Write(1)), (5, 6, Read(None)), (7, 8, Read(1))],
    "a write without an answer was never done": [(0, FOREVER, Write(1)), (5, 6, Read(None))],
    "a write without an answer is done late, over a later one": [
        (0, FOREVER, Write(1)), (1, 2, Write(2)), (3, 4, Read(2)), (5, 6, Read(1)),
    ],
    "a swap without an answer was done": [
        (0, 1, Write(1)), (2, FOREVER, Swap(1, 2, None)), (3, 4, Read(1)), (5, 6, Swap(2, 3, True)),
    ],
    "a swap without an answer was done since another one built on it": [
        (0, FOREVER, Write(1)), (0, FOREVER, Swap(1, 2, None)), (3, 4, Read(2)),
    ],
    "a swap fails when something else is there": [(0, 1, Write(1)), (2, 3, Swap(2, 3, False))],
    "a swap fails since a write that nobody answered or saw was there": [
        (0, 1, Write(1)), (2, FOREVER, Write(9)), (3, 4, Swap(1, 2, False)), (5, 6, Swap(1, 2, False)),
    ],
    "a deletion without an answer is used once": [
        (0, 1, Write(1)), (2, FOREVER, Write(None)), (3, 4, Read(1)), (5, 6, Read(None)), (7, 8, Write(2)),
    ],
    "two deletions without an answer are used twice": [
        (0, 1, Write(1)), (2, FOREVER, Write(None)), (2, FOREVER, Write(None)), (3, 4, Read(None)),
        (5, 6, Write(2)), (7, 8, Read(None)),
    ],
}  # fmt: skip

BAD = {
    "a value that nobody wrote": [(0, 1, Read(7))],
    "an acknowledged write is lost": [(0, 1, Write(1)), (2, 3, Read(None))],
    "a stale read": [(0, 1, Write(1)), (2, 3, Write(2)), (4, 5, Read(1))],
    "a read that goes back": [(0, 9, Write(1)), (1, 2, Read(1)), (3, 4, Read(None))],
    "a read from the future": [(0, 1, Read(1)), (2, 3, Write(1))],
    "two readers who saw two writes in opposite order": [
        (0, 9, Write(1)), (0, 9, Write(2)), (1, 2, Read(1)), (3, 4, Read(2)), (5, 6, Read(1)),
    ],
    "two swaps from one value both succeed": [
        (0, 1, Write(1)), (2, 5, Swap(1, 2, True)), (2, 5, Swap(1, 3, True)),
    ],
    "a swap fails for no reason": [(0, 1, Write(1)), (2, 3, Swap(1, 2, False))],
    "a write without an answer is done before it was called": [(0, 1, Read(1)), (2, FOREVER, Write(1))],
    "a write without an answer is done twice": [
        (0, FOREVER, Write(1)), (1, 2, Read(1)), (3, 4, Write(2)), (5, 6, Read(1)),
    ],
    "a swap without an answer whose reason never was": [
        (0, 1, Write(1)), (2, FOREVER, Swap(5, 6, None)), (3, 4, Read(6)),
    ],
    "a deletion without an answer is used twice": [
        (0, 1, Write(1)), (2, FOREVER, Write(None)), (3, 4, Read(None)), (5, 6, Write(2)), (7, 8, Read(None)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_a_register_can_give_is_linearizable(name: str) -> None:
    assert check(history(*GOOD[name])).is_linearizable is True


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_no_register_gives_is_not_linearizable(name: str) -> None:
    verdict = check(history(*BAD[name]))
    assert verdict.is_linearizable is False
    assert verdict.culprit is not None


def test_each_key_is_a_register_of_its_own() -> None:
    good = [Operation(key, Write(key), 0, 1) for key in "abc"] + [Operation("a", Read("a"), 2, 3)]
    assert check(good).is_linearizable is True
    verdict = check([*good, Operation("b", Read("a"), 2, 3)])
    assert verdict.is_linearizable is False
    assert verdict.key == "b"


def test_the_verdict_names_the_operation_and_what_the_register_can_have_held() -> None:
    verdict = check(
        [
            Operation("config", Write("old"), 0, 1, "ann"),
            Operation("config", Write("new"), 2, 3, "bob"),
            Operation("config", Read("old"), 4, 6, "eve"),
            Operation("config", Write("newer"), 5, 7, "bob"),
        ]
    )
    told = verdict.explain()
    assert "'config'" in told
    assert "eve [4.000000 .. 6.000000] read 'old'" in told
    assert "'new'" in told
    assert "bob [5.000000 .. 7.000000] write 'newer'" in told
    assert "ann" not in told


def test_too_much_work_is_said_to_be_undecided_rather_than_good_or_bad() -> None:
    crowd = [Operation("k", Write(number), 0, 100) for number in range(20)]
    verdict = check([*crowd, Operation("k", Read(21), 1, 101)], max_steps=1000)
    assert verdict.is_linearizable is None
    assert "undecided" in verdict.explain()


def test_a_bad_key_is_found_beside_one_that_is_too_much_work() -> None:
    crowd = [Operation("crowd", Write(number), 0, 100) for number in range(20)]
    bad = [Operation("bad", Read(1), 0, 1)]
    assert check([*crowd, Operation("crowd", Read(21), 1, 101), *bad], max_steps=1000).key == "bad"


def test_an_operation_that_returns_before_its_call_is_refused() -> None:
    with pytest.raises(ValueError, match="before it was called"):
        Operation("k", Write(1), 2, 1)


def test_a_swap_that_returned_says_whether_it_succeeded() -> None:
    with pytest.raises(ValueError, match="outcome of a swap"):
        Operation("k", Swap(1, 2, None), 0, 1)


# ---------------------------------------------------------------------- against all orders


def is_explained_by_some_order(operations: Sequence[Operation]) -> bool:
    """By trying every subset of what has no answer, and every order: the definition, word by word."""
    known = [each for each in operations if each.returned < FOREVER]
    unknown = [each for each in operations if each.returned == FOREVER]
    for size in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, size):
            for order in itertools.permutations([*known, *some]):
                keeps_time = all(
                    not later.returned < earlier.call for earlier, later in itertools.combinations(order, 2)
                )
                if keeps_time and is_run_of_a_register(order):
                    return True
    return False


def is_run_of_a_register(order: Sequence[Operation]) -> bool:
    value: object = None
    for operation in order:
        match operation.action:
            case Read(read):
                if read != value:
                    return False
            case Write(written):
                value = written
            case Swap(expected, written, succeeded):
                if succeeded is not None and succeeded != (expected == value):
                    return False
                if expected == value:
                    value = written
    return True


VALUES = st.sampled_from([None, 1, 2, 3])


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    operations = []
    for number in range(draw(st.integers(1, 6))):
        call = draw(st.integers(0, 6))
        returned: float = call + draw(st.integers(0, 4))
        kind = draw(st.sampled_from(["read", "write", "swap"]))
        is_unknown = kind != "read" and draw(st.integers(0, 3)) == 0
        if is_unknown:
            returned = FOREVER
        value = draw(st.one_of(VALUES, st.just(10 + number)))
        action: Action
        if kind == "read":
            action = Read(draw(st.one_of(VALUES, st.integers(10, 15))))
        elif kind == "write":
            action = Write(value)
        else:
            expected = draw(st.one_of(VALUES, st.integers(10, 15)))
            action = Swap(expected, value, None if is_unknown else draw(st.booleans()))
        operations.append(Operation("k", action, call, returned))
    return operations


@given(small_histories())
def test_the_verdict_is_that_of_trying_every_order(operations: list[Operation]) -> None:
    assert check(operations).is_linearizable is is_explained_by_some_order(operations)


# ---------------------------------------------------------------------- histories of a real register


def run_of_clients(
    rng: random.Random, *, clients: int, keys: int, operations: int, lost_share: float = 0.03
) -> list[Operation]:
    """What clients of one correct register saw: each operation takes effect once between call and return."""
    registers: dict[str, object] = {}
    free_at = [0.0] * clients
    planned: list[tuple[float, float, float, int]] = []
    for _ in range(operations):
        client = min(range(clients), key=free_at.__getitem__)
        call = free_at[client] + rng.expovariate(10)
        returned = call + rng.expovariate(1)
        free_at[client] = returned
        planned.append((rng.uniform(call, returned), call, returned, client))
    done: list[Operation] = []
    for number, (_, call, returned, client) in enumerate(sorted(planned)):
        key = f"key-{rng.randrange(keys)}"
        held = registers.get(key)
        is_lost = rng.random() < lost_share
        has_effect = not is_lost or rng.random() < 0.5
        action: Action
        match rng.choice(["read", "write", "swap"]):
            case "read":
                if is_lost:
                    continue
                action = Read(held)
            case "write":
                value = None if rng.random() < 0.05 else number
                action = Write(value)
                if has_effect:
                    registers[key] = value
            case _:
                expected = held if rng.random() < 0.7 else number - 1
                action = Swap(expected, number, None if is_lost else expected == held)
                if has_effect and expected == held:
                    registers[key] = number
        done.append(Operation(key, action, call, FOREVER if is_lost else returned, f"client-{client}"))
    return done


@given(st.integers(0, 10**9), st.integers(1, 8), st.integers(1, 3))
def test_what_clients_of_a_correct_register_saw_is_linearizable(seed: int, clients: int, keys: int) -> None:
    operations = run_of_clients(random.Random(seed), clients=clients, keys=keys, operations=150)
    assert check(operations).is_linearizable is True


@given(st.integers(0, 10**9))
def test_one_read_of_a_value_that_was_overwritten_before_it_is_found(seed: int) -> None:
    rng = random.Random(seed)
    operations = run_of_clients(rng, clients=6, keys=2, operations=150, lost_share=0.0)
    end = max(each.returned for each in operations)
    written = [
        each for each in operations if isinstance(each.action, Write) and each.action.value is not None
    ]
    if not written:
        return
    victim = rng.choice(written)
    assert isinstance(victim.action, Write)
    stale = [
        Operation(victim.key, Write("after"), end + 1, end + 2),
        Operation(victim.key, Read(victim.action.value), end + 3, end + 4, "stale"),
    ]
    verdict = check([*operations, *stale])
    assert verdict.is_linearizable is False
    assert verdict.culprit is stale[1]


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_an_answer_that_is_changed_to_a_value_nobody_wrote_then_is_found(seed: int, choice: int) -> None:
    """A read gets the value of a write that was called only after the read had returned."""
    operations = run_of_clients(random.Random(seed), clients=6, keys=1, operations=80)
    end = max(each.call for each in operations) + 1000
    reads = [number for number, each in enumerate(operations) if isinstance(each.action, Read)]
    if not reads:
        return
    changed = reads[choice % len(reads)]
    operations[changed] = replace(operations[changed], action=Read("later"))
    assert check([*operations, Operation("key-0", Write("later"), end, end + 1)]).is_linearizable is False


@given(st.integers(0, 10**9))
def test_an_acknowledged_write_that_is_gone_at_the_end_is_found(seed: int) -> None:
    before = run_of_clients(random.Random(seed), clients=6, keys=1, operations=80)
    end = max(each.call for each in before) + 1000
    lost = Operation("key-0", Write("lost"), end, end + 1)
    assert check([*before, lost]).is_linearizable is True
    assert check([*before, lost, Operation("key-0", Read(-1), end + 2, end + 3)]).is_linearizable is False


def test_a_long_history_of_many_clients_takes_few_steps() -> None:
    """10,000 operations of ten clients on twenty keys, 3 % without an answer: near one step an operation."""
    operations = run_of_clients(random.Random(1), clients=10, keys=20, operations=10_000)
    assert check(operations, max_steps=100_000).is_linearizable is True


def test_all_clients_on_one_key_are_decided_too() -> None:
    operations = run_of_clients(random.Random(2), clients=10, keys=1, operations=3_000)
    assert check(operations).is_linearizable is True
