"""The conversation with the person who pushes, where the push is judged: on the leader.

pre-receive judges the commit while its objects are still in git's quarantine: problems with their lines and a
refusal, or the plan; then the commits are made durable on a majority of the controllers, and only then is the
push accepted. post-receive tells the rollout until it is healthy or failed; whoever stops watching stops
nothing else.

One push of the branch is judged at a time: the next one is judged against what this one has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing
from pathlib import Path
from typing import Protocol

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.clock import Clock
from gitkube.gitops.agreement import GitsTurn, PushRefusedError
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired
from gitkube.gitops.evaluate import Evaluation, Evaluator
from gitkube.gitops.hook_socket import (
    ZERO,
    Answer,
    Line,
    PushRequest,
    Storing,
    Verdict,
    checked_quarantine,
    commits_for,
)
from gitkube.gitops.packs import PackError, quarantine
from gitkube.gitops.plan import Entry, format_plan, make_plan
from gitkube.gitops.problem import Place, Problem, count, errors, format_problems, summary_of
from gitkube.gitops.rollout import Rollout
from gitkube.gitops.source import CommitId, Repository, SourceError
from gitkube.objects.kinds import Kind
from gitkube.store.protocol import StoreError

JUDGE_DEADLINE_S = 120.0
WATCH_LIMIT_S = 3_600.0
"""A rollout that is told for an hour is no longer read."""
MAX_WATCHERS = 64


class Host(Protocol):
    """What the judge needs of the sync it belongs to."""

    @property
    def client(self) -> Client: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def evaluator(self) -> Evaluator: ...

    @property
    def inventory(self) -> list[Entry]: ...

    def in_force(self, desired: Mapping[Ref, Desired]) -> Collection[Ref]: ...

    def namespaces(self) -> list[str]: ...

    def stored_kinds(self) -> Sequence[Kind]: ...

    @property
    def is_replicated(self) -> bool: ...

    def notify(self, commit: CommitId | None = None) -> None: ...

    async def accept(
        self, old: CommitId | None, new: CommitId, *, extra_objects: Sequence[Path], by_git: bool
    ) -> None: ...

    def left_to_git(self, commits: Sequence[CommitId]) -> AbstractContextManager[GitsTurn]: ...

    async def rollout_of(self, commit: CommitId) -> Rollout: ...


class PushJudge:
    """Answers the hooks of one repository, and those of other controllers' repositories."""

    def __init__(self, host: Host, *, repo: Path, branch: str) -> None:
        self._host = host
        self._repo = repo
        self._branch = branch
        self._watchers = 0
        self._judging = asyncio.Lock()

    async def answer(self, request: PushRequest) -> AsyncGenerator[Answer]:
        """Everything there is to say to a push to our own repository."""
        if request.hook == "post-receive":
            answers = self._watch(request)
        else:
            extra = checked_quarantine(self._repo, request.quarantine)
            answers = self._judge(request, extra, by_git=True)
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def answer_other(self, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        """The same for a push to the repository of another controller.

        Args:
            pack: the commits that are new; empty when the branch is not pushed to.
        """
        with ExitStack() as stack:
            try:
                extra = [stack.enter_context(quarantine(self._repo, pack))] if pack else []
            except PackError as error:
                yield Line(f"refused  nothing was changed: {error}")
                yield Verdict(1)
                return
            is_judged = request.hook == "pre-receive"
            answers = self._judge(request, extra, by_git=False) if is_judged else self._watch(request)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

    # ------------------------------------------------------------------ pre-receive

    async def _judge(
        self, request: PushRequest, extra: Sequence[Path], *, by_git: bool
    ) -> AsyncGenerator[Answer]:
        wanted = commits_for(request, self._branch)
        async with self._judging:
            updates = self._judge_updates(request, extra, by_git=by_git)
            with self._host.left_to_git(wanted if by_git else []) as turn:
                async with aclosing(updates):
                    async for answer in updates:
                        turn.is_accepted = answer == Verdict(0)
                        yield answer

    async def _judge_updates(
        self, request: PushRequest, extra: Sequence[Path], *, by_git: bool
    ) -> AsyncGenerator[Answer]:
        for old, new, ref in request.updates:
            if ref != f"refs/heads/{self._branch}":
                name = ref.removeprefix("refs/heads/")
                yield Line(f"note     {name} is stored; only {self._branch} deploys")
                continue
            refused, lines = await self._judge_safely(old, new, extra)
            for line in lines:
                yield Line(line)
            if not refused:
                if self._host.is_replicated:
                    yield Storing()
                refused, lines = await self._accept(old, new, extra, by_git=by_git)
                for line in lines:
                    yield Line(line)
            if refused:
                yield Verdict(1)
                return
        yield Verdict(0)

    async def _judge_safely(self, old: str, new: str, extra: Sequence[Path]) -> tuple[bool, list[str]]:
        try:
            async with asyncio.timeout(JUDGE_DEADLINE_S):
                return await self._judge_branch(old, new, extra)
        except TimeoutError:
            return True, ["refused  nothing was changed: judging took too long; try again"]
        except SourceError as error:
            return True, [f"refused  nothing was changed: {error}"]
        except StatusError as error:
            text = f"refused  nothing was changed: the cluster cannot be asked now ({error.message})"
            return True, [text, "         push again in a moment"]

    async def _accept(
        self, old: str, new: str, extra: Sequence[Path], *, by_git: bool
    ) -> tuple[bool, list[str]]:
        before = None if old == ZERO else CommitId(old)
        try:
            await self._host.accept(before, CommitId(new), extra_objects=extra, by_git=by_git)
        except PushRefusedError as error:
            first, *rest = error.lines
            return True, [f"refused  nothing was changed: {first}", *(f"         {line}" for line in rest)]
        except SourceError as error:
            return True, [f"refused  nothing was changed: {error}"]
        except StoreError as error:
            return True, [
                f"unknown  the store did not answer in time whether the push is accepted ({error})",
                "         look with: gitkube status   (to push the same commit again is safe)",
            ]
        return False, []

    async def _judge_branch(self, old: str, new: str, extra: Sequence[Path]) -> tuple[bool, list[str]]:
        if new == ZERO:
            return True, [f"refused  {self._branch} is what the cluster follows; it cannot be deleted"]
        header, behind = await asyncio.to_thread(self._header, CommitId(old), CommitId(new), extra)
        if behind:
            return True, [
                "refused  nothing was changed: this push would take commits away from the branch",
                f"         fetch and merge first; to go back to an older state: git revert {behind}",
            ]
        evaluation = await self._host.evaluator.evaluate(
            CommitId(new), extra_objects=extra, live_namespaces=self._host.namespaces()
        )
        if evaluation.has_errors:
            return True, [header, *_refusal(evaluation.problems)]
        plan = await make_plan(
            self._host.client,
            evaluation.desired,
            self._host.inventory,
            message=evaluation.commit.message,
            unchanged=self._host.in_force(evaluation.desired),
            commit_place=Place(f"commit {evaluation.commit.short}"),
            stored_kinds=self._host.stored_kinds(),
        )
        problems = [*evaluation.problems, *plan.problems]
        if errors(problems):
            return True, [header, *_refusal(problems)]
        return False, [header, *_warnings(evaluation), *_labelled("plan", format_plan(plan))]

    def _header(self, old: CommitId, new: CommitId, extra: Sequence[Path]) -> tuple[str, str]:
        """The first line, and the commit to revert to when the push is no fast-forward."""
        repository = Repository(self._repo, extra_objects=extra)
        commit = repository.commit(new)
        base = None if old == ZERO else old
        if base is not None and not repository.is_ancestor(base, new):
            return "", base[:7]
        return f"gitkube  {commit} · {count(repository.count_commits(base, new), 'commit')}", ""

    # ------------------------------------------------------------------ post-receive

    async def _watch(self, request: PushRequest) -> AsyncGenerator[Answer]:
        for _, new, ref in request.updates:
            if ref != f"refs/heads/{self._branch}" or new == ZERO:
                continue
            self._host.notify(CommitId(new))
            if self._watchers >= MAX_WATCHERS:
                yield Line(f"note     {MAX_WATCHERS} pushes are watched already; see: gitkube status")
                continue
            self._watchers += 1
            try:
                async with asyncio.timeout(WATCH_LIMIT_S):
                    rollout = await self._host.rollout_of(CommitId(new))
                    async for line in rollout.follow():
                        yield Line(line)
            except TimeoutError:
                yield Line("stopped  watching ends after an hour; the deployment goes on: gitkube status")
            finally:
                self._watchers -= 1
        yield Verdict(0)


def _refusal(problems: Sequence[Problem]) -> list[str]:
    lines = ["refused  nothing was changed", ""]
    lines += [f"  {line}" for line in format_problems(problems)]
    return [*lines, "", f"{summary_of(problems)} · try it without pushing: gitkube plan"]


def _warnings(evaluation: Evaluation) -> list[str]:
    warnings = [problem for problem in evaluation.problems if not problem.is_error]
    return [f"  {line}" for line in format_problems(warnings)]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{label if index == 0 else '':<8} {line}" for index, line in enumerate(lines)]
