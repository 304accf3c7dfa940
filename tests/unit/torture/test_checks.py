"""Each promise that torture checks is broken once here, in a history that is otherwise good, and is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture.checks import judge
from tests.torture.history import Attempt, Ending, Fault, History, Watched
from tests.torture.run import recoveries


def good_history() -> History:
    """Two clients, two members: a write, a key of its own, a swap, a swap without an answer, a pair, a
    deletion.
    """
    events: list[tuple[int, str, str | None]] = [
        (2, "k0", "a"), (3, "add/0/1", "b"), (4, "k0", "c"), (5, "k1", "lost answer"),
        (6, "p3/a", "d"), (6, "p3/b", "d"), (7, "k1", None),
    ]  # fmt: skip
    keys = {"k0": ("c", 4), "add/0/1": ("b", 3), "p3/a": ("d", 6), "p3/b": ("d", 6)}
    return History(
        seed=1,
        attempts=[
            Attempt(0, 0, "write", "k0", 0.0, 0.1, "ok", "a", revision=2),
            Attempt(1, 1, "read", "k0", 0.2, 0.3, "ok", "a", revision=2, mod_revision=2),
            Attempt(0, 0, "add", "add/0/1", 0.4, 0.5, "ok", "b", revision=3),
            Attempt(1, 1, "swap", "k0", 0.6, 0.7, "ok", "c", expected="a", revision=4),
            Attempt(0, 0, "swap", "k0", 0.8, 0.9, "failed", "c", expected="a", revision=4, mod_revision=4),
            Attempt(1, 1, "swap", "k1", 1.0, None, "unknown", "lost answer", expected=None),
            Attempt(0, 0, "write", "p3", 1.2, 1.3, "ok", "d", revision=6),
            Attempt(1, 1, "stale", "p3", 1.4, 1.5, "ok", None, revision=5),
            Attempt(0, 0, "read", "k1", 1.4, 1.5, "ok", "lost answer", revision=6, mod_revision=5),
            Attempt(0, 0, "delete", "k1", 1.6, 1.7, "ok", revision=7),
            Attempt(1, 1, "read", "k1", 1.8, 1.9, "ok", None, revision=7),
        ],
        watches=[
            Watched("steady-0", 0, 2, 7, list(events)),
            Watched("steady-1", 1, 2, 4, events[:3]),
            Watched("late-1", 1, 5, 7, events[3:]),
        ],
        faults=[Fault("kill leader", [0], begin=0.55, able=0.55, end=1.0, kills=1)],
        endings=[Ending(0, 7, 99, dict(keys)), Ending(1, 7, 99, dict(keys))],
    )


def test_a_good_history_has_nothing_to_find() -> None:
    judgement = judge(good_history())
    assert judgement.findings == []
    assert (judgement.lost, judgement.linearizable) == (0, True)


def lose_a_write_on_one_member(history: History) -> None:
    del history.endings[1].keys["add/0/1"]


def lose_a_write_everywhere(history: History) -> None:
    for ending in history.endings:
        ending.keys["k0"] = ("a", 2)


def lose_a_write_from_the_watchers(history: History) -> None:
    history.attempts.append(Attempt(0, 0, "write", "k5", 2.0, 2.1, "ok", "e", revision=8))
    for watched in (history.watches[0], history.watches[2]):
        watched.events.append((9, "k6", "f"))
        watched.through = 9


def read_a_stale_value(history: History) -> None:
    history.attempts.append(Attempt(1, 1, "read", "k0", 2.0, 2.1, "ok", "a", revision=7, mod_revision=2))


def tear_a_pair(history: History) -> None:
    history.attempts.append(Attempt(1, 1, "read", "p3", 2.0, 2.1, "ok", "TORN", revision=7))


def go_back_in_revision(history: History) -> None:
    history.attempts.append(Attempt(1, 1, "read", "k9", 2.0, 2.1, "ok", None, revision=6))


def give_a_revision_twice(history: History) -> None:
    history.attempts.append(Attempt(0, 0, "write", "k5", 1.55, 1.75, "ok", "e", revision=7))


def read_another_value_than_was_written(history: History) -> None:
    history.attempts.append(Attempt(1, 1, "stale", "k0", 2.0, 2.1, "ok", "x", revision=7, mod_revision=4))


def read_what_never_was(history: History) -> None:
    history.attempts.append(Attempt(1, 1, "stale", "k0", 2.0, 2.1, "ok", "a", revision=7, mod_revision=2))


def leave_an_event_out(history: History) -> None:
    del history.watches[0].events[2]


def leave_the_last_event_out(history: History) -> None:
    history.watches[1].events.pop()


def tell_an_event_twice(history: History) -> None:
    history.watches[0].events.insert(3, history.watches[0].events[2])


def tell_events_in_disorder(history: History) -> None:
    events = history.watches[0].events
    events[1], events[2] = events[2], events[1]


def tell_watchers_different_things(history: History) -> None:
    history.watches[1].events[1] = (3, "add/0/1", "other")


def tell_the_writer_another_revision(history: History) -> None:
    for watched in history.watches[:2]:
        watched.events[0] = (2, "k7", "a")


def apply_a_write_twice(history: History) -> None:
    for watched in (history.watches[0], history.watches[2]):
        watched.events.append((8, "k1", "lost answer"))
        watched.through = 8


def end_with_another_hash(history: History) -> None:
    history.endings[1].hash = 98


def end_with_another_key(history: History) -> None:
    history.endings[1].keys["k9"] = ("z", 7)


def stop_by_itself(history: History) -> None:
    history.incidents.append("member 1 ended by itself with code 70")


BROKEN: dict[Callable[[History], None], str] = {
    lose_a_write_on_one_member: "member 1 has None of revision 0",
    lose_a_write_everywhere: "k0='c' was written at revision 4, but in the end member 0 has 'a'",
    lose_a_write_from_the_watchers: "revision 8, which no watcher saw",
    read_a_stale_value: "not linearizable",
    tear_a_pair: "not linearizable",
    go_back_in_revision: "is at revision 6, after 7 had been acknowledged",
    give_a_revision_twice: "revision 7 was given to 2 acknowledged writes",
    read_another_value_than_was_written: "where 'c' was written",
    read_what_never_was: "where the key held 'c' since 4",
    leave_an_event_out: "was told of revision 5 (k1) after 3; 4 was due",
    leave_the_last_event_out: "had seen all through 4, but the last change it got is 3",
    tell_an_event_twice: "was told of revision 4 (k0) after 4; 5 was due",
    tell_events_in_disorder: "was told of revision 4 (k0) after 2; 3 was due",
    tell_watchers_different_things: "got add/0/1='other'",
    tell_the_writer_another_revision: "got revision 2, where watchers saw k7='a'",
    apply_a_write_twice: "was written 2 times, at revisions [5, 8]",
    end_with_another_hash: "with hash 62",
    end_with_another_key: "differ in 1 keys, first k9",
    stop_by_itself: "ended by itself",
}


@pytest.mark.parametrize("breach", BROKEN, ids=lambda breach: breach.__name__)
def test_a_broken_promise_is_found(breach: Callable[[History], None]) -> None:
    history = good_history()
    breach(history)
    assert BROKEN[breach] in "\n".join(judge(history).findings)


def test_a_kept_history_is_judged_as_it_was(tmp_path: Path) -> None:
    history = good_history()
    history.write(tmp_path / "history.jsonl")
    assert History.read(tmp_path / "history.jsonl") == history


def test_recovery_is_counted_to_the_first_answer_of_a_write_that_was_called_later() -> None:
    assert recoveries(good_history()) == {"kill leader": [pytest.approx(0.15)]}
