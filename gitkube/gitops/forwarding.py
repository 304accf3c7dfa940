"""A push to a controller that does not lead: passed on to the one that does, and told as if it were here.

git has the new commits in quarantine. They are packed and sent with the hook's request to the leader, which
judges, and makes them durable, as it does with pushes to its own repository; its lines come back to the
pusher's terminal. When it has accepted, git moves the branch here to what the store has as its head already.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import structlog

from gitkube.clock import Clock
from gitkube.gitops.hook_socket import (
    ZERO,
    Answer,
    HookSocket,
    Line,
    PushRequest,
    Storing,
    Verdict,
    checked_quarantine,
    commits_for,
    hook_socket,
    install_hooks,
)
from gitkube.gitops.packs import MAX_PACK_BYTES, PackTooLargeError, make_pack
from gitkube.gitops.replication import Replica
from gitkube.gitops.source import CommitId, SourceError

LEADER_S = 10.0
"""How long a push waits for somebody to lead."""
LOOK_S = 0.1
FULL_DISK_RETRY_S = 5.0

log = structlog.get_logger(__name__)


class LeaderUnreachableError(Exception):
    """The leader's API could not be asked, or broke off; the text says why."""


class Leader(Protocol):
    """Where pushes are passed on to."""

    def push(self, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        """What the leader answers.

        Raises:
            LeaderUnreachableError: at any point.
        """
        ...


class Forwarding:
    """Serves the hooks of a repository while another controller leads. `run` works until cancelled.

    Args:
        leader: who leads now; None while nobody does.
    """

    def __init__(
        self,
        leader: Callable[[], Leader | None],
        replica: Replica,
        *,
        repo: Path,
        branch: str,
        clock: Clock,
    ) -> None:
        self._leader = leader
        self._clock = clock
        self._replica = replica
        self._repo = repo
        self._branch = branch

    async def run(self) -> None:
        """Raises:
        HookError: the repository has hooks that are not ours.
        """
        socket = hook_socket(self._repo)
        while True:
            try:
                await asyncio.to_thread(install_hooks, self._repo, socket)
                await HookSocket(self.answer, repo=self._repo, socket=socket).run()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # A full disk takes the lead away, which brings us here; reads go on, so this must not end it.
                log.warning("pushes_not_taken", error=str(error), retry_s=FULL_DISK_RETRY_S)
                await self._clock.sleep(FULL_DISK_RETRY_S)

    async def answer(self, request: PushRequest) -> AsyncGenerator[Answer]:
        """Everything there is to say to a push."""
        leader = await self._wait_for_leader()
        if leader is None:
            yield Line(
                "refused  nothing was changed: no controller leads at the moment; push again soon, or "
                "see: gitkube store status"
            )
            yield Verdict(1)
            return
        if request.hook == "post-receive":
            answers = self._pass_on(leader, request)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
            return
        with self._replica.left_to_git(commits_for(request, self._branch)) as turn:
            answers = self._pass_on(leader, request)
            async with aclosing(answers):
                async for answer in answers:
                    turn.is_accepted = answer == Verdict(0)
                    yield answer

    async def _wait_for_leader(self) -> Leader | None:
        """Elections are short: who pushes in the middle of one need not hear of it."""
        deadline_s = self._clock.monotonic() + LEADER_S
        while (leader := self._leader()) is None and self._clock.monotonic() < deadline_s:
            await self._clock.sleep(LOOK_S)
        return leader

    async def _pass_on(self, leader: Leader, request: PushRequest) -> AsyncGenerator[Answer]:
        is_first = request.hook == "pre-receive"
        has_stored = False
        try:
            pack = await asyncio.to_thread(self._pack, request) if is_first else b""
            async with aclosing(leader.push(request, pack)) as answers:
                async for answer in answers:
                    has_stored = has_stored or isinstance(answer, Storing)
                    yield answer
                    if isinstance(answer, Verdict):
                        return
            raise LeaderUnreachableError("it stopped without a verdict")
        except SourceError as error:
            yield Line(f"refused  nothing was changed: {error}")
            yield Verdict(1)
        except LeaderUnreachableError as error:
            for line in _lost(str(error), is_first=is_first, has_stored=has_stored):
                yield Line(line)
            yield Verdict(1 if is_first else 0)

    def _pack(self, request: PushRequest) -> bytes:
        """The new commits of the branch. Other refs stay in the repository that they were pushed to."""
        for old, new, ref in request.updates:
            if ref == f"refs/heads/{self._branch}" and new != ZERO:
                extra = checked_quarantine(self._repo, request.quarantine)
                base = None if old == ZERO else CommitId(old)
                try:
                    return make_pack(self._repo, CommitId(new), base, extra_objects=extra).data
                except PackTooLargeError as error:
                    raise SourceError(
                        f"{error}; push at most {MAX_PACK_BYTES >> 20} MiB at once, in steps such as "
                        "git push lab main~100:main"
                    ) from error
        return b""


def _lost(why: str, *, is_first: bool, has_stored: bool) -> list[str]:
    if not is_first:
        return [
            f"waiting  the push is accepted, but the leader went away ({why})",
            "         the next leader deploys it: gitkube status",
        ]
    if has_stored:
        return [
            f"unknown  the leader went away while it stored the push ({why})",
            "         look with: gitkube status   (to push the same commit again is safe)",
        ]
    return [f"refused  nothing was changed: the leader went away ({why})", "         push again in a moment"]
