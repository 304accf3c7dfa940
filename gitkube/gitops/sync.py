"""The sync: makes the cluster what the branch says, keeps it so, and says how it goes.

Flow: something may have moved (the hook, inotify, a second's poll) -> read the branch -> evaluate the commit
-> widen the inventory -> apply in waves -> prune -> narrow the inventory. Beside that, informers show what is
live: a managed object that differs from what was applied is applied again, and the health of all of them
becomes the `Source`'s status and the lines of the running rollout.

Every step may be the last before a `kill -9`: on start the sync reads its `Source`, and goes on from there.
A commit that is refused changes nothing; the one in force stays healed. Applying never waits for health, so
a stuck rollout never holds up the commit that repairs it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.informers import Informers
from gitkube.clock import Clock, rfc3339
from gitkube.gitops.agreement import GitsTurn, Truth
from gitkube.gitops.applier import Applier
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired
from gitkube.gitops.evaluate import Evaluation, Evaluator
from gitkube.gitops.healing import Healer
from gitkube.gitops.health import FAILED, HEALTHY
from gitkube.gitops.hook_socket import Answer, HookSocket, PushRequest, install_hooks
from gitkube.gitops.hooks import PushJudge
from gitkube.gitops.plan import Entry, deletion_brake, live_entry
from gitkube.gitops.problem import Place, count, errors, sorted_problems
from gitkube.gitops.rollout import Rollout
from gitkube.gitops.rollouts import Rollouts
from gitkube.gitops.source import CommitId, Repository, SourceError
from gitkube.gitops.state import DEFAULT_NAME, SourceState, commit_fields, inventory_fields
from gitkube.gitops.summary import summary
from gitkube.gitops.view import WITH_HEALTH, View
from gitkube.gitops.watcher import BranchWatcher
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object

PUBLISH_PAUSE_S = 0.05
"""Changes come in bursts; the status is written once a burst."""
LOOK_S = 1.0
"""A running rollout is looked at this often even if nothing happens, to say what it waits for."""
RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Sync:
    """See the module's text. `run` works until it is cancelled."""

    def __init__(
        self,
        client: Client,
        *,
        repo: Path,
        branch: str,
        socket: Path,
        clock: Clock,
        rng: random.Random,
        name: str = DEFAULT_NAME,
        evaluator: Evaluator | None = None,
        truth: Truth | None = None,
        registry: Registry | None = None,
        informers: Informers | None = None,
    ) -> None:
        """
        Args:
            repo: a bare repository on this machine; hooks are installed into it.
            socket: where the hooks reach this process.
            name: of the Source object.
            truth: where the branch is; None: where this repository has it.
            registry: the kinds that the cluster serves; None: those that are built in.
            informers: those that other loops use, too.
        """
        self._client = client
        self._repo = repo.resolve()
        self._branch = branch
        self._clock = clock
        self._registry = registry or Registry()
        self._evaluator = evaluator or Evaluator(self._repo, registry=self._registry)
        self._state = SourceState(
            client,
            name=name,
            repository=str(self._repo),
            branch=branch,
            clock=clock,
            registry=self._registry,
        )
        self._dirty = asyncio.Event()
        self._view = View(client, clock=clock, rng=rng, informers=informers)
        self._applier = Applier(client, self._view.live, clock=clock)
        self._healer = Healer(
            self._applier,
            wanted=lambda ref: self._desired.get(ref),
            is_deploying=lambda: self._is_deploying,
            on_done=self._dirty.set,
            clock=clock,
            rng=rng,
        )
        self._socket = socket
        self._truth = truth
        self._judge = PushJudge(self, repo=self._repo, branch=branch)
        self._desired: Mapping[Ref, Desired] = {}
        self._is_deploying = False
        self._refused = ""
        """Why the newest commit is."""
        self._held_back: list[Entry] = []
        """What the brake keeps from being pruned."""
        self._rollouts = Rollouts(clock)
        self._touched: set[Ref] = set()
        """Objects that the newest commit changed and whose health its rollout waits for."""
        self._wake = asyncio.Event()
        self._kinds_changed = asyncio.Event()

    # ------------------------------------------------------------------ what the hooks ask

    @property
    def client(self) -> Client:
        return self._client

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def evaluator(self) -> Evaluator:
        return self._evaluator

    @property
    def inventory(self) -> list[Entry]:
        """What came from git until now."""
        return self._state.inventory

    def in_force(self, desired: Mapping[Ref, Desired]) -> set[Ref]:
        """Those objects that are in force exactly as they are wanted."""
        return {ref for ref, wanted in desired.items() if not self._applier.is_due(wanted)}

    def namespaces(self) -> list[str]:
        """Those that the cluster has."""
        return self._view.namespaces()

    def stored_kinds(self) -> Sequence[Kind]:
        """All that a namespace may have in it."""
        return self._registry.stored

    def notify(self, commit: CommitId | None = None) -> None:
        """The branch may have moved."""
        if commit is not None:
            self._rollouts.announce(commit)
        self._wake.set()

    @property
    def is_replicated(self) -> bool:
        """Whether a push is stored on other controllers before it is accepted."""
        return self._truth is not None and self._truth.is_replicated

    async def accept(
        self, old: CommitId | None, new: CommitId, *, extra_objects: Sequence[Path], by_git: bool
    ) -> None:
        """A push is good: make it the branch.

        Raises:
            PushRefusedError, StoreError: see `Replica.accept`.
        """
        if self._truth is None:
            return
        await self._truth.accept(old, new, extra_objects=extra_objects)
        if not by_git:
            self.notify(new)

    def left_to_git(self, commits: Sequence[CommitId]) -> AbstractContextManager[GitsTurn]:
        """While the block lasts git moves the branch to this commit, if it is accepted."""
        return self._truth.left_to_git(commits) if self._truth is not None else nullcontext(GitsTurn())

    def answer_other(self, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        """Judge a push to another controller's repository; see `PushJudge.answer_other`."""
        return self._judge.answer_other(request, pack)

    async def rollout_of(self, commit: CommitId) -> Rollout:
        """The rollout of a commit, as soon as it has begun."""
        return await self._rollouts.of(commit)

    # ------------------------------------------------------------------ the loops

    async def run(self) -> None:
        """Follow the branch until cancelled.

        Raises:
            SourceError: the repository cannot be opened.
        """
        Repository(self._repo)
        await asyncio.to_thread(install_hooks, self._repo, self._socket)
        forget = self._registry.on_change(self._kinds_changed.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._view.start(tasks, self._on_change)
                watcher = BranchWatcher(self._repo, self._branch, self.notify, clock=self._clock)
                tasks.create_task(watcher.run(), name="gitops-watch")
                tasks.create_task(self._follow(), name="gitops-follow")
                tasks.create_task(self._publish_for_ever(), name="gitops-publish")
                tasks.create_task(self._healer.run(), name="gitops-heal")
                hooks = HookSocket(self._judge.answer, repo=self._repo, socket=self._socket)
                tasks.create_task(hooks.run(), name="gitops-hooks")
                tasks.create_task(self._follow_kinds(), name="gitops-kinds")
        finally:
            forget()
            self._evaluator.close()

    async def _follow(self) -> None:
        """Deploy the branch's tip whenever it is another one."""
        repository = Repository(self._repo)
        await self._retried("source_load_failed", self._start)
        done: CommitId | None = None
        while True:
            self._wake.clear()
            try:
                if self._truth is not None:
                    head = await self._truth.settle()
                else:
                    head = await asyncio.to_thread(repository.head, self._branch)
                if head is not None and head != done:
                    await self._deploy(head)
                    done = head
            except (StatusError, SourceError) as error:
                log.warning("deploy_failed", error=str(error), retry_s=RETRY_S)
                await self._clock.sleep(RETRY_S)
                continue
            await self._wake.wait()

    async def _follow_kinds(self) -> None:
        """Watch what git has objects of, also when its kind comes, goes or comes back later."""
        while True:
            await self._kinds_changed.wait()
            self._kinds_changed.clear()
            await self._watch_desired()

    async def _watch_desired(self) -> None:
        wanted = {ref.kind for ref in self._desired}
        served = {kind for kind in wanted if self._registry.by_gvk(kind.api_version, kind.kind) is not None}
        fresh = await self._view.follow(served)
        for ref in self._desired:
            if ref.kind in fresh:
                self._healer.add(ref)  # what happened to it while nobody watched is not known

    async def _retried(self, event: str, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
                return
            except (StatusError, SourceError) as error:
                log.warning(event, error=str(error), retry_s=RETRY_S)
                await self._clock.sleep(RETRY_S)

    async def _start(self) -> None:
        """Take up the commit that was in force when the process ended."""
        await self._state.load()
        applied = self._state.applied
        if applied is None:
            return
        try:
            evaluation = await self._evaluator.evaluate(applied, live_namespaces=self.namespaces())
        except SourceError as error:
            log.warning("applied_commit_lost", commit=applied, error=str(error))
            return
        if not evaluation.has_errors:
            self._desired = evaluation.desired
            await self._watch_desired()
            for ref in evaluation.desired:
                self._healer.add(ref)

    async def _deploy(self, head: CommitId) -> None:
        """Bring a commit into force, as far as it may be."""
        evaluation = await self._evaluator.evaluate(head, live_namespaces=self.namespaces())
        commit = evaluation.commit
        log.info("commit_seen", commit=head, subject=commit.subject)
        rollout = self._rollouts.begin(commit)
        self._touched = set()
        if evaluation.has_errors:
            await self._refuse(evaluation, rollout)
            return
        self._refused = ""
        self._is_deploying = True
        try:
            before = self._state.inventory
            gone = [entry for entry in before if entry.ref not in evaluation.desired]
            brake = await self._brake(gone, before, evaluation)
            uids = {entry.ref: entry.uid for entry in before}
            wanted = [Entry(ref, uids.get(ref, ""), _origin(one)) for ref, one in evaluation.desired.items()]
            widened = {entry.ref: entry for entry in [*before, *wanted]}
            await self._state.write(
                commit=commit_fields(commit), inventory=inventory_fields(widened.values())
            )
            ready_before = self._view.ready_pods(evaluation.desired)
            self._desired = evaluation.desired
            changed = await self._applier.apply_all(evaluation.desired)
            await self._watch_desired()
            self._held_back = gone if brake else await self._applier.prune(gone)
            made = [Entry(entry.ref, self._uid(entry.ref), entry.origin) for entry in wanted]
            await self._state.write(
                applied={"id": head, "time": rfc3339(self._clock.now())},
                inventory=inventory_fields([*self._held_back, *made]),
                set_conditions=[
                    conditions.make("Rendered", True, "Rendered"),
                    conditions.make("Applied", not brake, "Braked" if brake else "Applied", brake),
                ],
            )
        finally:
            self._is_deploying = False
        log.info("commit_applied", commit=head, changed=len(changed), pruned=len(gone) - len(self._held_back))
        self._touched = {ref for ref in changed if ref.kind in WITH_HEALTH}
        rollout.starts_with({ref: ready_before.get(ref, set()) for ref in self._touched})
        if brake:
            rollout.say("held", brake, self._clock.monotonic())
        for ref, quarantined in self._applier.quarantined.items():
            rollout.say("refused", f"{ref}: {quarantined.message}", self._clock.monotonic())
            self._healer.add(ref, RETRY_S)
        self._dirty.set()

    async def _refuse(self, evaluation: Evaluation, rollout: Rollout) -> None:
        """A bad commit is on the branch (it did not come through the hook): say so, change nothing."""
        found = errors(evaluation.problems)
        first = sorted_problems(found)[0]
        message = f"{evaluation.commit.short} is refused: {count(len(found), 'error')}; first {first}"
        log.warning("commit_refused", commit=evaluation.commit.id, errors=len(found))
        self._refused = message
        rollout.say("refused", message, self._clock.monotonic())
        rollout.finish(FAILED)
        await self._state.write(
            commit=commit_fields(evaluation.commit),
            set_conditions=[conditions.make("Rendered", False, "Refused", message)],
        )
        self._dirty.set()

    async def _brake(self, gone: list[Entry], before: list[Entry], evaluation: Evaluation) -> str:
        live = [entry for entry in gone if await live_entry(self._client, entry) is not None]
        message = evaluation.commit.message
        problem = await deletion_brake(self._client, live, before, message, Place("."), self._registry.stored)
        return f"{problem.message}; nothing was deleted; {problem.hint}" if problem is not None else ""

    # ------------------------------------------------------------------ what is live

    def _on_change(self, before: Object | None, after: Object | None) -> None:
        obj = after if after is not None else before
        assert obj is not None
        self._dirty.set()
        kind = self._registry.by_gvk(obj["apiVersion"], obj["kind"])
        if kind is None:
            return
        ref = Ref(kind, meta.namespace(obj), meta.name(obj))
        if ref in self._desired:
            if after is not None:
                self._applier.note_live(ref, after)
            self._healer.add(ref)

    # ------------------------------------------------------------------ telling

    async def _publish_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._dirty.wait()
            except TimeoutError:
                pass
            self._dirty.clear()
            try:
                await self._publish()
            except StatusError as error:
                log.warning("status_write_failed", error=error.message)
                await self._clock.sleep(RETRY_S)
                self._dirty.set()
            await self._clock.sleep(PUBLISH_PAUSE_S)

    async def _publish(self) -> None:
        """Look at everything that came from git; feed the rollout and write the status."""
        newest = self._rollouts.newest
        if newest is None:
            return
        health = self._view.seen(self._desired, self._applier)
        if newest.commit.id == self._state.applied and not self._is_deploying:
            touched = {ref: one for ref, one in health.items() if ref in self._touched}
            unwell = sum(
                1 for ref, one in health.items() if ref not in touched and one.health.state != HEALTHY
            )
            for ref in self._applier.quarantined:
                touched.setdefault(ref, health[ref])
            newest.update(touched, self._clock.monotonic(), others=unwell)
        phase, message = summary(health, newest, refused=self._refused, held_back=len(self._held_back))
        is_ready = phase == HEALTHY
        await self._state.write(
            phase=phase,
            message=message,
            set_conditions=[conditions.make("Ready", is_ready, phase.capitalize(), message)],
        )

    def _uid(self, ref: Ref) -> str:
        applied = self._applier.applied.get(ref)
        return applied.uid if applied is not None else ""


def _origin(wanted: Desired) -> str:
    return f"{wanted.place.path}:{wanted.place.line}"
