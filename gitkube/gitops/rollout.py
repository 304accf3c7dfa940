"""How one commit gets on, told line by line until it is healthy, failed or superseded.

A `Rollout` is fed with the health of what its commit changed and keeps the lines that it has said, so a
watcher that comes late reads from the start and one that goes away disturbs nothing. It decides by what it
is given; time is an argument. Invariant: once it has a result it says nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gitkube.gitops.check import Ref
from gitkube.gitops.health import DEGRADED, FAILED, HEALTHY, Health
from gitkube.gitops.problem import Place, count, printable
from gitkube.gitops.source import Commit
from gitkube.objects import meta, pods
from gitkube.objects.types import Object

SUPERSEDED = "superseded"
STUCK_S = 20.0
"""A reason that stands so long is told as a failure, even if it could still pass."""
SETTLE_S = 2.0
"""A pod without a readiness probe is ready as soon as it runs; it is believed when it has run for so long."""
SILENCE_S = 2.0
"""Longer than this without a line, and it says what it waits for; then less and less often."""
MAX_SILENCE_S = 30.0
MAX_LINES = 2_000
_LABEL = 9


@dataclass(frozen=True)
class Seen:
    """What is known of one object of the commit."""

    health: Health
    place: Place
    pods: Sequence[Object] = ()
    """Those of the newest revision."""


@dataclass
class _Told:
    ready: set[str] = field(default_factory=set)
    """uids of the pods whose readiness was said, or was there before."""
    new: set[str] = field(default_factory=set)
    """Those of them that became ready in this rollout."""
    starts: dict[tuple[str, int], float] = field(default_factory=dict)
    """(uid, restarts) of the new ones -> when they were first seen ready, on the rollout's clock."""
    reason: str = ""
    stuck_since_s: float | None = None


class Rollout:
    """The story of one commit."""

    def __init__(self, commit: Commit, *, started_s: float) -> None:
        """
        Args:
            started_s: when the push was noticed, on a monotonic clock.
        """
        self.commit = commit
        self.lines: list[str] = []
        self.result = ""
        """"", or one of healthy, failed, superseded."""
        self._started_s = started_s
        self._told: dict[Ref, _Told] = {}
        self._changed = asyncio.Event()
        self._last_line_s = started_s
        self._silence_s = SILENCE_S

    def starts_with(self, ready_pods: Mapping[Ref, Collection[str]]) -> None:
        """Set what is watched, with the uids of pods that were ready before."""
        for ref, uids in ready_pods.items():
            self._told.setdefault(ref, _Told()).ready.update(uids)

    def say(self, label: str, text: str, now_s: float) -> None:
        """Add a line, such as `rollout  web 1/3`."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(printable(f"{label:<{_LABEL}}{text}").rstrip())
        self._last_line_s = now_s
        self._changed.set()

    def finish(self, result: str) -> None:
        self.result = self.result or result
        self._changed.set()

    def supersede(self, by: Commit, now_s: float) -> None:
        """Another commit has taken over."""
        if not self.result:
            self.say("stopped", f"{by.short} took over; this one is no longer watched", now_s)
            self.finish(SUPERSEDED)

    def update(self, seen: Mapping[Ref, Seen], now_s: float, *, others: int = 0) -> None:
        """Look at what the commit changed, say what is new, and conclude when there is something to conclude.

        Args:
            others: how many objects that this commit did not touch are unwell.
        """
        if self.result:
            return
        for ref, one in seen.items():
            self._tell(ref, one, now_s)
        failed = {ref: one for ref, one in seen.items() if self._is_lost(ref, one, now_s)}
        if failed:
            self._fail(failed, now_s)
        elif all(
            one.health.state == HEALTHY and self._is_proven(ref, one, now_s) for ref, one in seen.items()
        ):
            text = f"{self.commit.short} everywhere, {_seconds(now_s - self._started_s)} after the push"
            self.say("healthy", f"{text} · undo: git revert {self.commit.short}", now_s)
            if others:
                verb = "is" if others == 1 else "are"
                self.say(
                    "", f"{count(others, 'object')} it did not touch {verb} unwell: gitkube status", now_s
                )
            self.finish(HEALTHY)
        elif now_s - self._last_line_s >= self._silence_s:
            self._silence_s = min(self._silence_s * 2, MAX_SILENCE_S)
            waiting = [
                f"{_short(ref)} ({one.health})" for ref, one in seen.items() if one.health.state != HEALTHY
            ]
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
            self.say("", "waiting for " + ", ".join(waiting[:3]) + more, now_s)

    async def follow(self) -> AsyncIterator[str]:
        """Every line from the first on, until there is a result."""
        at = 0
        while True:
            self._changed.clear()
            for line in self.lines[at:]:
                yield line
                at += 1
            if self.result and at >= len(self.lines):
                return
            if at >= len(self.lines):
                await self._changed.wait()

    def _tell(self, ref: Ref, one: Seen, now_s: float) -> None:
        told = self._told.setdefault(ref, _Told())
        health = one.health
        ready = {meta.uid(pod): pod for pod in one.pods if pods.is_ready(pod) and not meta.is_deleting(pod)}
        before = len(told.ready & ready.keys())
        for uid, pod in ready.items():
            if uid not in told.ready:
                told.ready.add(uid)
                told.new.add(uid)
                before += 1
                host = pods.node_name(pod)
                word = "ready" if _has_probe(pod) else "running"
                text = f"{_short(ref)} {before}/{health.wanted}  {host} {word} in "
                self.say("rollout", text + _seconds(now_s - self._started_s), now_s)
        for uid in told.new & ready.keys():
            told.starts.setdefault((uid, pods.restarts(ready[uid])), now_s)
        if health.reason == "completed" and told.reason != "completed":
            self.say("rollout", f"{_short(ref)} completed in {_seconds(now_s - self._started_s)}", now_s)
        elif health.is_stuck and health.state != FAILED and health.reason != told.reason:
            self.say("rollout", f"{_short(ref)} {health.ready}/{health.wanted}  {health.reason}", now_s)
        told.reason = health.reason
        if not health.is_stuck:
            told.stuck_since_s = None
        elif told.stuck_since_s is None:
            told.stuck_since_s = now_s

    def _is_proven(self, ref: Ref, one: Seen, now_s: float) -> bool:
        """Whether its ready pods have passed a probe, or stayed up for a while without one."""
        starts = self._told[ref].starts
        return all(
            _has_probe(pod) or now_s - starts.get((meta.uid(pod), pods.restarts(pod)), 0.0) >= SETTLE_S
            for pod in one.pods
            if pods.is_ready(pod) and not meta.is_deleting(pod)
        )

    def _is_lost(self, ref: Ref, one: Seen, now_s: float) -> bool:
        since_s = self._told[ref].stuck_since_s
        if one.health.state == FAILED:
            return True
        return since_s is not None and one.health.state != DEGRADED and now_s - since_s >= STUCK_S

    def _fail(self, failed: Mapping[Ref, Seen], now_s: float) -> None:
        label = "failed"
        for ref, one in failed.items():
            place = f"{one.place.path}:{one.place.line}"
            self.say(label, f"{ref}: {one.health.reason}   {place}", now_s)
            label = ""
        undo = f"git revert {self.commit.short}"
        self.say("", f"next: fix and push (it takes over at once), or: {undo}", now_s)
        self.finish(FAILED)


def _has_probe(pod: Object) -> bool:
    return all(container.get("readinessProbe") for container in pods.spec(pod).get("containers") or ())


def _short(ref: Ref) -> str:
    return ref.name if ref.kind.kind in ("Deployment", "ReplicaSet") else f"{ref.kind.singular} {ref.name}"


def _seconds(duration_s: float) -> str:
    return f"{max(0.0, duration_s):.1f} s" if duration_s < 60 else f"{int(duration_s // 60)} min"
