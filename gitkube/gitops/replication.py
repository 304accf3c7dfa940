"""One branch on several controllers: the store knows where it is, and each repository follows.

Every controller has a bare repository of its own. Where the branch *is* stands in the store (`ledger.py`):
a push is accepted when its commits and the new head are on the disks of a majority, and only then does git
move the branch of the repository that was pushed to. Everybody else sees the head, takes the packs that lead
to it, verifies them and moves its own branch. So the leader may die at any point of a push: either nothing
was accepted, or the next leader has all of it and deploys it.

`settle` is the loop's one step: look at the branch here, at the head there, and at the note of when the two
were last the same; `decide` says which of them moved; act; look again. It may be killed at any line.

- The branch moved and the head did not: somebody moved it by hand (or there is one controller only). The
  leader publishes it; elsewhere it is put back.
- The head moved: take it. What was here and is not part of it is kept aside under a name of its own.

A lone controller records the head and sends no packs. Invariant: `settle` gives a commit only when branch and
head are the same, and the note says so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from gitkube.clock import Clock, set_within
from gitkube.gitops.agreement import Action, GitsTurn, Membership, PushRefusedError, decide, forgettable
from gitkube.gitops.ledger import Head, Ledger, LedgerError, PackRecord, Want
from gitkube.gitops.note import read_note, write_note
from gitkube.gitops.packs import (
    MAX_PACK_BYTES,
    Pack,
    PackTooLargeError,
    keep_aside,
    make_pack,
    move_branch,
    take_pack,
)
from gitkube.gitops.source import CommitId, Repository, SourceError
from gitkube.store.protocol import Store, StoreError, prefix_end

POLL_S = 5.0
RETRY_S = 1.0
GIT_MOVES_S = 10.0
"""How long git gets to move the branch after a push was accepted, before we do it."""
_PASSING = (StoreError, SourceError, LedgerError, OSError)
"""What is tried again in a while: no quorum, commits that are not there yet, a disk that is full."""

log = structlog.get_logger(__name__)


class Replica:
    """The branch of this controller's repository. `run` follows until cancelled.

    Args:
        membership: what is known now; None while our member does not answer.
        notify: called when the branch may have moved, or settled.
    """

    def __init__(
        self,
        store: Store,
        *,
        repository: Path,
        branch: str,
        clock: Clock,
        membership: Callable[[], Membership | None],
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._path = repository
        self._branch = branch
        self._clock = clock
        self._membership = membership
        self.notify = notify
        self._leaders: Store | None = None
        self._settling = asyncio.Lock()
        self._wake = asyncio.Event()
        self._moving: dict[CommitId, float] = {}
        """What git is about to move the branch to, and until when it gets to do so."""
        self._failed: tuple[str, float] = ("", 0.0)
        self._settled: CommitId | None = None
        self._told: tuple[int, Head] | None = None
        """What we have said that we have, as which member."""

    @property
    def is_replicated(self) -> bool:
        """Whether other controllers follow: a push is then stored before it is accepted."""
        membership = self._membership()
        return membership is not None and not membership.is_alone

    def lead(self, store: Store) -> None:
        """From now on we lead, and write through this store, which is fenced."""
        self._leaders = store
        self._wake.set()

    def follow(self) -> None:
        """We lead no more."""
        self._leaders = None

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="git-watch")
            while True:
                self._wake.clear()
                await self.settle()
                try:
                    await self._mind_the_others()
                except _PASSING as error:
                    self._complain("replication_upkeep_failed", str(error))
                pause_s = RETRY_S if self._settled is None else POLL_S
                await set_within(self._clock, self._wake, pause_s)

    async def _watch(self) -> None:
        """Wake the loop when something of the branch changes in the store."""
        prefix = Ledger(self._store, self._branch, 0).prefix
        while True:
            try:
                async for _ in self._store.watch(prefix, prefix_end(prefix)):
                    self._wake.set()
            except StoreError as error:
                log.info("branch_watch_ended", error=str(error))
            self._wake.set()
            await self._clock.sleep(RETRY_S)

    def _complain(self, event: str, why: str) -> None:
        """The same complaint once a minute."""
        now_s = self._clock.monotonic()
        if self._failed[0] != why or now_s - self._failed[1] >= 60:
            log.warning(event, branch=self._branch, error=why)
            self._failed = (why, now_s)

    async def settle(self) -> CommitId | None:
        """Bring branch and head together as far as it goes now.

        Returns:
            The commit that both are at; None: they are not, or nobody can tell, or nothing was pushed.
        """
        async with self._settling:
            before = self._settled
            try:
                self._settled = await self._settle()
            except _PASSING as error:
                self._complain("branch_not_settled", str(error))
                self._settled = None
            if self._settled != before:
                self.notify()
            return self._settled

    async def _settle(self) -> CommitId | None:
        membership = self._membership()
        if membership is None:
            return None
        ledger = Ledger(self._store, self._branch, membership.member)
        while True:
            head = await ledger.head()
            local, synced, continues = await asyncio.to_thread(self._look, membership.cluster, head)
            truth = head.commit if head else None
            action = decide(
                local,
                synced.commit if synced else None,
                truth,
                # One that is alone leads in a moment: nobody else could have moved the head meanwhile.
                is_leader=self._leaders is not None or membership.is_alone,
                is_moving=self._is_moving(truth),
                continues=continues,
            )
            if action is Action.WAIT:
                return None
            if action is Action.SETTLED:
                if head is not None:
                    await self._agree(ledger, membership, head, synced)
                return local
            if action is Action.PUBLISH:
                if local is None or self._leaders is None:
                    return None
                await self._publish(ledger.through(self._leaders), membership, head, local)
            else:
                assert head is not None
                if await self._take(ledger, head, local, synced):
                    continue
                if not membership.is_alone or self._leaders is None or local is None:
                    return None
                # A restored store whose branch is nowhere: there is nobody to ask, so what is here counts.
                await self._publish(ledger.through(self._leaders), membership, head, local)

    def _look(self, cluster: int, head: Head | None) -> tuple[CommitId | None, Head | None, bool]:
        repository = Repository(self._path)
        local, continues = repository.head(self._branch), False
        synced = read_note(self._path, cluster, self._branch)
        if local is not None and head is not None and local != head.commit:
            try:
                continues = repository.is_ancestor(head.commit, local)
            except SourceError:
                continues = False  # we do not even have that commit
        return local, synced, continues

    def _is_moving(self, truth: CommitId | None) -> bool:
        now_s = self._clock.monotonic()
        self._moving = {commit: until_s for commit, until_s in self._moving.items() if now_s < until_s}
        return truth in self._moving

    async def _agree(self, ledger: Ledger, membership: Membership, head: Head, synced: Head | None) -> None:
        """Note, for ourselves and for the others, that we have the head."""
        self._moving.pop(head.commit, None)  # git has done it
        if synced is None or (synced.push, synced.commit) != (head.push, head.commit):
            await asyncio.to_thread(write_note, self._path, membership.cluster, self._branch, head)
            log.info("branch_settled", branch=self._branch, commit=head.commit, push=head.push)
        if not membership.is_alone and self._told != (membership.member, head):
            await ledger.have(head)
            self._told = (membership.member, head)

    # ------------------------------------------------------------------ the branch moved here

    async def accept(
        self, old: CommitId | None, new: CommitId, *, extra_objects: Sequence[Path] = ()
    ) -> None:
        """A push was judged good: make it durable on a majority before it counts. We must lead.

        Args:
            old: where the pusher's git has seen the branch.
            extra_objects: where the new commits are.

        Raises:
            PushRefusedError: it is not accepted.
            StoreError: nobody knows whether it is.
        """
        membership = self._membership()
        if membership is None or self._leaders is None:
            raise PushRefusedError("this controller leads no more", "push again: another one takes over")
        if membership.is_alone:
            return  # the branch itself is the truth; `settle` records it
        ledger = Ledger(self._leaders, self._branch, membership.member)
        await self.settle()
        head = await ledger.head()
        if head is not None and head.commit == new:
            # Asked again, because the answer to the first time was lost.
            return
        if (head.commit if head else None) != old:
            raise PushRefusedError("somebody else pushed meanwhile", "fetch, merge, and push again")
        try:
            pack = await asyncio.to_thread(make_pack, self._path, new, old, extra_objects=extra_objects)
        except PackTooLargeError as error:
            raise PushRefusedError(
                f"{error}, and no larger push goes through the store to the other controllers",
                "push in steps, such as: git push lab main~100:main && git push lab main",
            ) from error
        try:
            await ledger.publish(head, new, pack)
        except LedgerError as error:
            raise PushRefusedError(
                "somebody else pushed meanwhile", "fetch, merge, and push again"
            ) from error
        log.info("push_accepted", branch=self._branch, commit=new, size_bytes=len(pack.data))

    @contextmanager
    def left_to_git(self, commits: Sequence[CommitId]) -> Iterator[GitsTurn]:
        """While the block lasts, and for a moment after an accepted push, git moves the branch to these
        commits itself: it would refuse the push if we had done so before it. Whoever judges the push says in
        the `GitsTurn` whether it was accepted.
        """
        turn = GitsTurn()
        self._moving.update(dict.fromkeys(commits, math.inf))
        try:
            yield turn
        finally:
            until_s = self._clock.monotonic() + GIT_MOVES_S if turn.is_accepted else 0.0
            self._moving.update(dict.fromkeys(commits, until_s))
            self._wake.set()

    async def _publish(
        self, ledger: Ledger, membership: Membership, head: Head | None, local: CommitId
    ) -> None:
        pack = None
        if not membership.is_alone:
            try:
                base = head.commit if head else None
                pack = await asyncio.to_thread(make_pack, self._path, local, base)
            except PackTooLargeError as error:
                log.error("branch_too_large_to_replicate", commit=local, error=str(error), remedy=_BY_HAND)
        await ledger.publish(head, local, pack)
        log.info("branch_published", branch=self._branch, commit=local)

    # ------------------------------------------------------------------ the head moved

    async def _take(self, ledger: Ledger, head: Head, local: CommitId | None, synced: Head | None) -> bool:
        """Get the head's commits and move the branch; False: they are not to be had yet."""
        if not await self._has(head.commit):
            await self._take_pushes(ledger, synced)
        if not await self._has(head.commit):
            await self._take_answer(ledger, synced.commit if synced else None)
        if not await self._has(head.commit):
            return False
        await asyncio.to_thread(self._move, local, head.commit)
        return True

    async def _take_pushes(self, ledger: Ledger, synced: Head | None) -> None:
        for number, record in await ledger.pushes(synced.push if synced else 0):
            commit, base = CommitId(record.commit), CommitId(record.base)
            if await self._has(commit):
                continue
            if not record.pieces or (base and not await self._has(base)):
                return
            await self._take_in(await ledger.pack_of_push(number, record), record)

    async def _take_answer(self, ledger: Ledger, have: CommitId | None) -> None:
        """Ask for what the pushes cannot give, and take it when it is there."""
        want = await ledger.want(have if have and await self._has(have) else None)
        found = await ledger.answer_to(want)
        if found is None:
            self._complain("branch_waits_for_commits", "asked the other controllers for what is missing")
            return
        answer, data = found
        await self._take_in(data, answer.record)
        await ledger.want_no_more()

    async def _take_in(self, data: bytes, record: PackRecord) -> None:
        await asyncio.to_thread(take_pack, self._path, data)
        log.info("commits_taken", commit=record.commit, size_bytes=record.size_bytes)

    async def _has(self, commit: CommitId) -> bool:
        def look() -> bool:
            try:
                Repository(self._path).commit(commit)
            except SourceError:
                return False
            return True

        return await asyncio.to_thread(look)

    def _move(self, local: CommitId | None, commit: CommitId) -> None:
        if local is not None and not Repository(self._path).is_ancestor(local, commit):
            name = keep_aside(self._path, local)
            log.warning("branch_moved_back", branch=self._branch, was=local, now=commit, kept_as=name)
        move_branch(self._path, self._branch, commit, local)

    # ------------------------------------------------------------------ for the others

    async def _mind_the_others(self) -> None:
        """Answer who lacks commits; on the leader, drop what everybody has."""
        membership = self._membership()
        if membership is None or membership.is_alone or self._settled is None:
            return
        ledger = Ledger(self._store, self._branch, membership.member)
        head = await ledger.head()
        if head is None or head.commit != self._settled:
            return
        for want in await ledger.wants():
            if want.member in membership.members:
                await self._answer(ledger, want.have, head, want)
        if self._leaders is not None:
            await self._tidy(ledger.through(self._leaders), membership)

    async def _answer(self, ledger: Ledger, have: str, head: Head, want: Want) -> None:
        base = CommitId(have) if have and await self._has(CommitId(have)) else None
        try:
            pack: Pack = await asyncio.to_thread(make_pack, self._path, head.commit, base)
        except PackTooLargeError as error:
            self._complain(
                "too_large_to_give", f"member {want.member:016x} lacks commits, but {error}: {_BY_HAND}"
            )
            return
        if await ledger.answer(want, head, pack):
            log.info("commits_given", member=f"{want.member:016x}", commit=head.commit)

    async def _tidy(self, ledger: Ledger, membership: Membership) -> None:
        haves = {member: have.push for member, have in (await ledger.haves()).items()}
        kept = await ledger.pushes(0)
        up_to = forgettable(
            [(number, record.size_bytes) for number, record in kept],
            [haves.get(member, 0) for member in membership.members],
        )
        if kept and up_to >= kept[0][0]:
            await ledger.forget_pushes(up_to)
        await ledger.forget_members(membership.members)


_BY_HAND = (
    f"more than {MAX_PACK_BYTES >> 20} MiB do not go through the store; on that controller run: "
    "git --git-dir=REPO fetch THE-LEADERS-REPO main"
)
