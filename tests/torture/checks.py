"""What a correct store could not have answered: each check is a promise of the store, and a pure function.

Each gives sentences, one for each thing found, and none when the promise was kept. Together they are stronger
than linearizability of single keys: revisions order all writes, and that order must agree with real time,
with what readers saw, with what every watcher was told and with what is there in the end.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gitkube.sim.linearizability import FOREVER, Action, Operation, Read, Swap, Verdict, Write, check
from tests.torture.history import WRITES, Attempt, History

MAX_SENTENCES = 5
"""Of one check: the first ones tell, and the history has the rest."""


@dataclass(frozen=True, slots=True)
class Judgement:
    findings: list[str]
    lost: int
    """Acknowledged writes that are missing somewhere."""
    linearizable: bool | None


def judge(history: History) -> Judgement:
    """All checks on all that was seen."""
    linearizable = register_verdict(history)
    findings = list(history.incidents)
    if linearizable.is_linearizable is not True:
        findings.append(linearizable.explain())
    lost = lost_writes(history)
    findings += _first("acknowledged writes are lost", lost)
    for title, promise in PROMISES.items():
        findings += _first(title, list(promise(history)))
    return Judgement(findings, len(lost), linearizable.is_linearizable)


def _first(title: str, sentences: list[str]) -> list[str]:
    shown = sentences[:MAX_SENTENCES]
    if len(sentences) > len(shown):
        shown.append(f"{title}: {len(sentences)} in all")
    return shown


# ---------------------------------------------------------------------- registers


def register_verdict(history: History) -> Verdict:
    """Whether reads, writes and swaps of each key are linearizable."""
    return check(operation for attempt in history.attempts if (operation := _operation(attempt)) is not None)


def _operation(attempt: Attempt) -> Operation | None:
    if attempt.kind == "stale":
        return None  # they may be behind; `stale_reads_are_of_the_past` looks at them
    if attempt.outcome == "unknown" and attempt.kind == "read":
        return None
    action: Action
    match attempt.kind, attempt.outcome:
        case ("read", _) | ("swap", "failed"):
            action = Read(attempt.value)
        case "swap", _:
            action = Swap(attempt.expected, attempt.value, True if attempt.outcome == "ok" else None)
        case "delete", _:
            action = Write(None)
        case _:
            action = Write(attempt.value)
    returned = FOREVER if attempt.returned is None else attempt.returned
    return Operation(
        attempt.key, action, attempt.call, returned, f"client {attempt.client} at {attempt.member}"
    )


# ---------------------------------------------------------------------- revisions


def _acknowledged(history: History) -> list[Attempt]:
    """Writes that were answered and changed something. (A deletion of nothing takes no revision.)"""
    return [
        each for each in history.attempts if each.outcome == "ok" and each.kind in WRITES and each.revision
    ]


def revisions_are_unique(history: History) -> Iterable[str]:
    """No revision is given to two writes."""
    for revision, count in Counter(each.revision for each in _acknowledged(history)).items():
        if count > 1:
            yield f"revision {revision} was given to {count} acknowledged writes"


def revisions_follow_time(history: History) -> Iterable[str]:
    """Whoever is called after a write was answered gets a later revision, and a reader one that is as
    late.
    """
    answered = sorted(
        (each.returned, each.revision) for each in _acknowledged(history) if each.returned is not None
    )
    times = [returned for returned, _ in answered]
    highest: list[int] = []
    for _, revision in answered:
        highest.append(max(revision, highest[-1] if highest else 0))
    for attempt in history.attempts:
        if attempt.outcome == "unknown" or attempt.kind == "stale" or not attempt.revision:
            continue
        before = bisect.bisect_left(times, attempt.call)
        if not before:
            continue
        floor = highest[before - 1]
        is_write = attempt.kind in WRITES and attempt.outcome == "ok"
        if attempt.revision < floor or (is_write and attempt.revision == floor):
            yield (
                f"{_described(attempt)} is at revision {attempt.revision}, after {floor} "
                "had been acknowledged"
            )


def reads_agree_with_writes(history: History) -> Iterable[str]:
    """What was read at a mod revision is what was written there, by everybody's account."""
    written = _written(history)
    for attempt in history.attempts:
        if not attempt.mod_revision:
            continue
        known = written.get(attempt.mod_revision)
        if known is not None and known != attempt.value:
            yield (
                f"{_described(attempt)} found {attempt.value!r} of mod revision {attempt.mod_revision}, "
                f"where {known!r} was written"
            )
        if attempt.mod_revision > attempt.revision:
            yield (
                f"{_described(attempt)} found mod revision {attempt.mod_revision} "
                f"at revision {attempt.revision}"
            )


def stale_reads_are_of_the_past(history: History) -> Iterable[str]:
    """A serializable read shows the key as it was at its revision, and that revision had been reached."""
    changes: defaultdict[str, list[tuple[int, str | None]]] = defaultdict(list)
    known_from = min((each.start for each in history.watches if each.through), default=0)
    known_through = max((each.through for each in history.watches), default=0)
    for revision, (key, value) in sorted(_told(history).items()):
        changes[_register(key)].append((revision, value))
    for attempt in history.attempts:
        if attempt.outcome != "ok" or attempt.kind not in ("read", "stale"):
            continue
        if not known_from <= attempt.revision <= known_through:
            continue
        of_key = changes[attempt.key]
        at = bisect.bisect_right(of_key, attempt.revision, key=lambda change: change[0])
        if at and of_key[at - 1][1] != attempt.value:
            yield (
                f"{_described(attempt)} found {attempt.value!r} at revision {attempt.revision}, where the "
                "key "
                f"held {of_key[at - 1][1]!r} since {of_key[at - 1][0]}"
            )


def _written(history: History) -> dict[int, str | None]:
    written: dict[int, str | None] = {revision: value for revision, (_, value) in _told(history).items()}
    for attempt in _acknowledged(history):
        written[attempt.revision] = None if attempt.kind == "delete" else attempt.value
    return written


# ---------------------------------------------------------------------- watchers


def _register(key: str) -> str:
    """A pair of keys that is written together is one register."""
    return key.removesuffix("/a").removesuffix("/b")


def _told(history: History) -> dict[int, tuple[str, str | None]]:
    """What watchers were told of each revision; of a pair its first key."""
    told: dict[int, tuple[str, str | None]] = {}
    for watched in history.watches:
        for revision, key, value in watched.events:
            told.setdefault(revision, (key, value))
    return told


def watchers_saw_each_revision_once(history: History) -> Iterable[str]:
    """Every revision of a watcher's range, once, in order. Every change of a run is within all watchers'
    range.
    """
    for watched in history.watches:
        expected = watched.start
        previous = 0
        for revision, key, _ in watched.events:
            if revision == previous and key.endswith("/b"):
                continue  # the second key of a pair
            if revision != expected:
                yield (
                    f"watcher {watched.watcher} of member {watched.member} was told of revision {revision} "
                    f"({key}) "
                    f"after {previous}; {expected} was due"
                )
            previous, expected = revision, revision + 1
        if watched.through and expected != watched.through + 1:
            yield (
                f"watcher {watched.watcher} of member {watched.member} was told that it had seen all through "
                f"{watched.through}, but the last change it got is {expected - 1}"
            )


def watchers_agree(history: History) -> Iterable[str]:
    """All were told the same of each revision, and what the writer had been told."""
    told: dict[tuple[int, str], tuple[str | None, str]] = {}
    for watched in history.watches:
        for revision, key, value in watched.events:
            known, who = told.setdefault((revision, key), (value, watched.watcher))
            if known != value:
                yield (
                    f"at {revision} watcher {watched.watcher} got {key}={value!r}, "
                    f"watcher {who} got {known!r}"
                )
    by_revision = _told(history)
    for attempt in _acknowledged(history):
        if attempt.revision not in by_revision:
            continue
        key, value = by_revision[attempt.revision]
        wrote = None if attempt.kind == "delete" else attempt.value
        if (_register(key), value) != (attempt.key, wrote):
            yield f"{_described(attempt)} got revision {attempt.revision}, where watchers saw {key}={value!r}"


def writes_are_applied_once(history: History) -> Iterable[str]:
    """A value that was sent once is written at one revision only, however often the request was sent
    again.
    """
    at: defaultdict[str, set[int]] = defaultdict(set)
    for revision, (_, value) in _told(history).items():
        if value is not None:
            at[value].add(revision)
    for value, revisions in at.items():
        if len(revisions) > 1:
            yield f"value {value!r} was written {len(revisions)} times, at revisions {sorted(revisions)}"


# ---------------------------------------------------------------------- the end


def lost_writes(history: History) -> list[str]:
    """Acknowledged writes that watchers were told nothing of, or that a member does not have in the end."""
    told = _told(history)
    acknowledged = _acknowledged(history)
    lost = [
        f"{_described(attempt)} was acknowledged with revision {attempt.revision}, which no watcher saw"
        for attempt in acknowledged
        if attempt.revision not in told and _is_covered(history, attempt.revision, attempt.revision)
    ]
    last: dict[str, tuple[int, str | None]] = {}
    writes = [(revision, _register(key), value) for revision, (key, value) in told.items()]
    writes += [
        (each.revision, each.key, None if each.kind == "delete" else each.value) for each in acknowledged
    ]
    for revision, key, value in writes:
        if revision > last.get(key, (0, None))[0]:
            last[key] = (revision, value)
    for ending in history.endings:
        for key, (revision, value) in last.items():
            found, found_at = ending.keys.get(key) or ending.keys.get(f"{key}/a") or (None, 0)
            if found_at >= revision or (found is None and value is None):
                continue
            if found is None and not _is_covered(history, revision, ending.revision):
                continue  # nobody watched all the time since: it may have been deleted
            lost.append(
                f"{key}={value!r} was written at revision {revision}, but in the end member "
                f"{ending.member} has "
                f"{found!r} of revision {found_at}"
            )
    return lost


def _is_covered(history: History, first: int, last: int) -> bool:
    """Whether some watcher saw every one of these revisions."""
    return any(each.start <= first and last <= each.through for each in history.watches)


def members_are_equal(history: History) -> Iterable[str]:
    """Same revision, same hash of all that can be read, same keys on every member."""
    for ending in history.endings[1:]:
        first = history.endings[0]
        if (ending.revision, ending.hash) != (first.revision, first.hash):
            yield (
                f"member {ending.member} ended at revision {ending.revision} with hash {ending.hash:x}, "
                "member "
                f"{first.member} at {first.revision} with {first.hash:x}"
            )
        if ending.keys != first.keys:
            different = sorted(
                key
                for key in ending.keys.keys() | first.keys.keys()
                if ending.keys.get(key) != first.keys.get(key)
            )
            yield (
                f"members {first.member} and {ending.member} differ in {len(different)} keys, first "
                f"{different[0]}: "
                f"{first.keys.get(different[0])} and {ending.keys.get(different[0])}"
            )


PROMISES: dict[str, Callable[[History], Iterable[str]]] = {
    "revisions given twice": revisions_are_unique,
    "revisions against time": revisions_follow_time,
    "reads of what was not written": reads_agree_with_writes,
    "reads that were never true": stale_reads_are_of_the_past,
    "watchers with gaps, doubles or disorder": watchers_saw_each_revision_once,
    "watchers that disagree": watchers_agree,
    "writes applied twice": writes_are_applied_once,
    "members that differ": members_are_equal,
}


def _described(attempt: Attempt) -> str:
    return (
        f"{attempt.kind} of {attempt.key} by client {attempt.client} at member {attempt.member} "
        f"[{attempt.call:.3f} .. {'never' if attempt.returned is None else f'{attempt.returned:.3f}'}]"
    )
