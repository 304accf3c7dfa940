"""One branch on three controllers: what is accepted is everywhere, whoever dies where."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.gitops import packs
from gitkube.gitops.ledger import Ledger
from gitkube.gitops.note import NOTE
from gitkube.gitops.packs import PackError, make_pack, take_pack
from gitkube.gitops.replication import (
    Action,
    Membership,
    PushRefusedError,
    Replica,
    decide,
    forgettable,
)
from gitkube.gitops.source import CommitId, Repository, make_repository
from gitkube.store.fenced import DeposedError, FencedStore
from gitkube.store.protocol import Delete, Put, UnavailableError, prefix_end
from tests.support.fake_clock import FakeClock
from tests.support.memory_cluster import CLUSTER_ID, MemoryCluster, MemoryStore
from tests.unit.gitops.conftest import Repo

A, B, C = (CommitId(letter * 40) for letter in "abc")
LOCK = b"/leader"


@pytest.mark.parametrize(
    ("local", "synced", "truth", "options", "action"),
    [
        (None, None, None, {}, Action.SETTLED),
        (A, None, None, {"is_leader": True}, Action.PUBLISH),  # the first push of all
        (A, None, None, {}, Action.WAIT),
        (A, A, A, {}, Action.SETTLED),
        (B, None, B, {}, Action.SETTLED),  # died before the note was written
        (B, A, A, {"is_leader": True}, Action.PUBLISH),  # moved by hand, or a lone controller's push
        (B, A, A, {}, Action.TAKE),  # moved by hand where nobody leads: put back
        (A, A, B, {}, Action.TAKE),
        (A, A, B, {"is_leader": True}, Action.TAKE),  # the old leader accepted it and died
        (A, A, B, {"is_leader": True, "is_moving": True}, Action.WAIT),  # git does it
        (C, A, B, {"is_leader": True}, Action.TAKE),  # both moved: the store is right
        (None, A, A, {"is_leader": True}, Action.TAKE),  # the branch was deleted by hand
        (None, None, A, {}, Action.TAKE),  # a new controller
        (B, None, A, {"is_leader": True, "continues": True}, Action.PUBLISH),  # the store is of a backup
        (B, None, A, {"is_leader": True}, Action.TAKE),
        (B, None, A, {"continues": True}, Action.TAKE),
    ],
)
def test_who_moved_is_told_from_where_both_were_the_same(
    local: Any, synced: Any, truth: Any, options: dict[str, bool], action: Action
) -> None:
    assert decide(local, synced, truth, **{"is_leader": False, **options}) is action


@pytest.mark.parametrize(
    ("sizes", "haves", "up_to"),
    [
        ([1, 1, 1], [3, 3, 3], 3),
        ([1, 1, 1], [3, 1, 3], 1),
        ([1, 1, 1], [3, 0, 3], 0),
        ([60, 60, 60], [3, 0, 3], 1),  # too much is kept for the one that is away
        ([200, 200, 200], [3, 0, 3], 3),
        ([200, 200, 200], [3, 0, 0], 0),  # no majority has them: kept whatever it costs
        ([200, 200, 200], [3, 0, 2], 2),
        ([], [], 0),
    ],
)
def test_packs_are_dropped_when_everybody_or_at_least_a_majority_has_them(
    sizes: list[int], haves: list[int], up_to: int
) -> None:
    kept = [(number, size << 20) for number, size in enumerate(sizes, start=1)]
    assert forgettable(kept, haves) == up_to


# ---------------------------------------------------------------------- three controllers


class Dying:
    """A store that fails from its nth write on, as for a process that is killed there."""

    def __init__(self, store: MemoryStore, after: int) -> None:
        self._store, self._left = store, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def txn(self, *arguments: Any, **options: Any) -> Any:
        if self._left == 0:
            raise UnavailableError("killed")
        self._left -= 1
        return await self._store.txn(*arguments, **options)


class Controller:
    def __init__(self, site: Site, name: str) -> None:
        self.name = name
        self.site = site
        self.store = site.cluster.member(name)
        self.repository = site.directory / f"{name}.git"
        make_repository(self.repository, "main")
        self.begin(self.store)

    def begin(self, store: Any) -> None:
        """As after a start of its process."""
        self.replica = Replica(
            store,
            repository=self.repository,
            branch="main",
            clock=self.site.clock,
            membership=lambda: Membership(
                self.store.member_id, [one.id for one in self.site.cluster.members], CLUSTER_ID
            ),
        )

    async def lead(self) -> None:
        taken = await self.store.txn([], [Put(LOCK, self.name.encode())])
        self.replica.lead(FencedStore(self.store, LOCK, taken.revision))

    @property
    def head(self) -> str:
        return Repository(self.repository).head("main") or ""

    async def git_push(self, commit: str) -> None:
        """What git and the hook do, without the judging."""
        self.site.work.git("push", "-q", str(self.repository), f"{commit}:refs/incoming/x")
        old = Repository(self.repository).head("main")
        with self.replica.left_to_git([CommitId(commit)]) as turn:
            await self.replica.accept(old, CommitId(commit))
            turn.is_accepted = True
        packs.move_branch(self.repository, "main", CommitId(commit), old)
        assert await self.replica.settle() == commit


class Site:
    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.cluster = MemoryCluster(*names)
        self.work = Repo(directory)
        self.controllers = [Controller(self, name) for name in names]

    def commit(self, text: str = "x") -> str:
        return self.work.commit({"a.yaml": text})

    async def settle_all(self, *, rounds: int = 3) -> list[str | None]:
        for _ in range(rounds):
            for one in self.controllers:
                await one.replica.settle()
                await one.replica._mind_the_others()
        return [await one.replica.settle() for one in self.controllers]

    async def data_keys(self) -> list[bytes]:
        found = await self.controllers[0].store.range(b"/gitkube/packs/", prefix_end(b"/gitkube/packs/"))
        return [kv.key for kv in found.kvs]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path, "ctl-1", "ctl-2", "ctl-3")
    await made.controllers[0].lead()
    yield made


async def test_an_accepted_push_comes_to_every_repository_and_its_packs_go(site: Site) -> None:
    leader = site.controllers[0]
    for text in ("one", "two", "three"):
        await leader.git_push(site.commit(text))
    tip = leader.head
    assert await site.settle_all() == [tip, tip, tip]
    assert [one.head for one in site.controllers] == [tip, tip, tip]
    assert await site.data_keys() == []
    for one in site.controllers:
        site.work.git("fsck", "--strict", cwd=one.repository)


async def test_a_push_that_was_accepted_is_deployed_by_the_next_leader_though_git_never_moved(
    site: Site,
) -> None:
    first, second, third = site.controllers
    await first.git_push(site.commit("one"))
    await site.settle_all()
    new = site.commit("two")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    await first.replica.accept(CommitId(first.head), CommitId(new))
    # The leader dies here: its repository still has the old head.
    await second.lead()
    assert await second.replica.settle() == new
    assert await third.replica.settle() == new
    first.begin(first.store)
    assert await first.replica.settle() == new


@pytest.mark.parametrize("after", range(6))
async def test_a_leader_may_die_at_any_write_of_a_push(site: Site, after: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("gitkube.gitops.ledger.PIECE_BYTES", 100)  # so that there are several pieces
    first, second, third = site.controllers
    await first.git_push(site.commit("one"))
    old = first.head
    await site.settle_all()
    new = site.commit("two")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    first.replica.lead(Dying(first.store, after))  # type: ignore[arg-type]
    try:
        await first.replica.accept(CommitId(old), CommitId(new))
        accepted = True
    except UnavailableError:
        accepted = False
    await second.lead()
    seen = [await second.replica.settle(), await third.replica.settle()]
    assert seen == ([new, new] if accepted else [old, old])
    later = site.commit("three")
    await second.git_push(later)
    first.begin(first.store)
    assert await site.settle_all() == [later, later, later]
    assert await site.data_keys() == [], "what the dead one left is gone, too"


@pytest.mark.parametrize("after", range(8))
async def test_a_follower_may_die_at_any_write_and_goes_on(site: Site, after: int) -> None:
    first, second, _ = site.controllers
    for text in ("one", "two"):
        await first.git_push(site.commit(text))
    second.begin(Dying(second.store, after))
    await second.replica.settle()
    second.begin(second.store)
    assert set(await site.settle_all()) == {first.head}


async def test_a_deposed_leader_gets_nothing_accepted(site: Site) -> None:
    first, second, _ = site.controllers
    await first.git_push(site.commit("one"))
    old = first.head
    await second.lead()
    new = site.commit("two")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    with pytest.raises(DeposedError):
        await first.replica.accept(CommitId(old), CommitId(new))
    first.replica.follow()
    assert set(await site.settle_all()) == {old}


async def test_a_push_that_was_overtaken_is_refused(site: Site) -> None:
    first = site.controllers[0]
    await first.git_push(site.commit("one"))
    with pytest.raises(PushRefusedError, match="somebody else pushed"):
        await first.replica.accept(None, CommitId(site.commit("two")))


async def test_a_push_that_is_too_large_is_refused_and_says_how_else(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr("gitkube.gitops.packs.MAX_PACK_BYTES", 10)
    first = site.controllers[0]
    new = site.commit("one")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    with pytest.raises(PushRefusedError) as refused:
        await first.replica.accept(None, CommitId(new))
    assert "push in steps" in refused.value.lines[1]
    assert await site.settle_all() == [None, None, None]


async def test_git_gets_the_time_to_move_the_branch_itself(site: Site) -> None:
    first = site.controllers[0]
    new = site.commit("one")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    with first.replica.left_to_git([CommitId(new)]) as turn:
        await first.replica.accept(None, CommitId(new))
        await site.clock.advance(100)
        assert await first.replica.settle() is None and first.head == "", "however long judging takes"
        turn.is_accepted = True
    assert await first.replica.settle() is None and first.head == ""
    await site.clock.advance(11)
    assert await first.replica.settle() == new == first.head


async def test_a_commit_that_is_pushed_again_is_left_to_git_though_it_was_accepted_before(site: Site) -> None:
    first, second, _ = site.controllers
    new = site.commit("one")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/incoming/x")
    await first.replica.accept(None, CommitId(new))
    await second.lead()
    site.work.git("push", "-q", str(second.repository), f"{new}:refs/incoming/x")
    with second.replica.left_to_git([CommitId(new)]) as turn:
        assert await second.replica.settle() is None
        await second.replica.accept(None, CommitId(new))
        assert second.head == "", "git would find its branch moved under its hands"
        turn.is_accepted = True
    packs.move_branch(second.repository, "main", CommitId(new), None)
    assert await second.replica.settle() == new


async def test_a_push_that_was_refused_leaves_the_branch_to_us_again(site: Site) -> None:
    first, second, _ = site.controllers
    new = site.commit("one")
    await first.git_push(new)
    with second.replica.left_to_git([CommitId(new)]):
        assert await second.replica.settle() is None
    assert await second.replica.settle() == new


async def test_a_branch_moved_by_hand_is_taken_from_the_leader_only(site: Site) -> None:
    first, second, _ = site.controllers
    await first.git_push(site.commit("one"))
    await site.settle_all()
    by_hand = site.commit("by hand")
    site.work.git("push", "-q", str(first.repository), "main")
    assert set(await site.settle_all()) == {by_hand}
    astray = site.commit("astray")
    site.work.git("push", "-q", str(second.repository), "main")
    assert second.head == astray
    assert set(await site.settle_all()) == {by_hand}
    kept = site.work.git("rev-parse", f"refs/gitkube/aside/{astray}", cwd=second.repository).strip()
    assert kept == astray, "nothing that somebody committed is thrown away"


async def test_a_new_controller_asks_for_all_that_came_before_it(site: Site) -> None:
    first = site.controllers[0]
    for text in ("one", "two"):
        await first.git_push(site.commit(text))
    await site.settle_all()
    await first.store.member_add("ctl-4", "ctl-4:2380")
    site.controllers.append(Controller(site, "ctl-4"))
    assert await site.settle_all() == [first.head] * 4
    assert await site.data_keys() == []
    assert (await first.store.range(b"/registry/gitkube.dev/branches/main/want/", b"/s")).count == 0


async def test_a_leader_that_lacks_commits_gets_them_from_another(site: Site) -> None:
    first, second, _ = site.controllers
    await first.git_push(site.commit("one"))
    await site.settle_all()
    shutil.rmtree(second.repository)
    make_repository(second.repository, "main")
    second.begin(second.store)
    await second.lead()
    first.replica.follow()
    assert set(await site.settle_all()) == {first.head}


async def test_a_member_that_was_removed_leaves_nothing_behind(site: Site) -> None:
    first = site.controllers[0]
    await first.git_push(site.commit("one"))
    await site.settle_all()
    gone = site.controllers.pop()
    await first.store.member_remove(gone.store.member_id)
    await first.git_push(site.commit("two"))
    await site.settle_all()
    found = await first.store.range(b"/registry/gitkube.dev/", prefix_end(b"/registry/gitkube.dev/"))
    assert not [kv.key for kv in found.kvs if kv.key.endswith(b"%016x" % gone.store.member_id)]
    assert await site.data_keys() == []


async def test_a_pack_that_was_tampered_with_is_not_taken(site: Site) -> None:
    first, second, _ = site.controllers
    await first.git_push(site.commit("one"))
    [key] = await site.data_keys()
    value = (await first.store.range(key)).kvs[0].value
    await first.store.txn([], [Put(key, value[:-1] + bytes([value[-1] ^ 1]))])
    assert await second.replica.settle() is None and second.head == ""


async def test_a_member_that_was_away_too_long_asks_for_what_is_gone(site: Site) -> None:
    first, _, third = site.controllers
    await first.git_push(site.commit("one"))
    await site.settle_all()
    site.controllers.remove(third)
    for text in ("two", "three"):
        await first.git_push(site.commit(text))
    await site.settle_all()
    prefix = b"/registry/gitkube.dev/branches/main/push/"
    await first.store.txn([], [Delete(prefix, prefix_end(prefix))])
    await first.store.txn([], [Delete(b"/gitkube/packs/", prefix_end(b"/gitkube/packs/"))])
    site.controllers.append(third)
    assert set(await site.settle_all()) == {first.head}


@pytest.mark.parametrize("name", [b"head", b"have/zz", b"push/x", b"want/1", b"answer/0000000000000001"])
async def test_a_record_that_somebody_else_wrote_is_named_and_stops_nothing_else(
    site: Site, name: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    first = site.controllers[0]
    await first.git_push(site.commit("one"))
    await first.store.txn([], [Put(b"/registry/gitkube.dev/branches/main/" + name, b"[nonsense")])
    loop = asyncio.ensure_future(first.replica.run())
    for _ in range(1500):
        await site.clock.advance(1)
        await asyncio.sleep(0.02)
        if "delete it" in (said := capsys.readouterr().out):
            break
    assert name.decode() in said and not loop.done()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_without_a_quorum_nothing_is_settled_and_nothing_is_lost(site: Site) -> None:
    first = site.controllers[0]
    await first.git_push(site.commit("one"))
    first.store.is_cut = True
    assert await first.replica.settle() is None
    first.store.is_cut = False
    assert await first.replica.settle() == first.head


async def test_a_repository_whose_disk_is_full_is_tried_again_and_ends_nothing(
    site: Site, monkeypatch: Any
) -> None:
    first, new = site.controllers[0], site.commit("one")
    site.work.git("push", "-q", str(first.repository), "main")
    with monkeypatch.context() as full:

        def no_space(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("gitkube.gitops.note.replace_durably", no_space)
        assert await first.replica.settle() is None
    assert await first.replica.settle() == new


async def test_the_loop_follows_by_itself(site: Site) -> None:
    loops = [asyncio.ensure_future(one.replica.run()) for one in site.controllers]
    await site.clock.advance(1)
    first = site.controllers[0]
    new = site.commit("one")
    site.work.git("push", "-q", str(first.repository), f"{new}:refs/heads/main")
    for _ in range(1500):
        await site.clock.advance(1)
        await asyncio.sleep(0.02)  # git is another process
        if {one.head for one in site.controllers} == {new} and not await site.data_keys():
            break
    assert {one.head for one in site.controllers} == {new}
    assert await site.data_keys() == []
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


# ---------------------------------------------------------------------- one controller


async def test_a_lone_controller_sends_no_packs_and_needs_no_verdict(tmp_path: Path) -> None:
    site = Site(tmp_path, "ctl-1")
    [only] = site.controllers
    await only.lead()
    assert not only.replica.is_replicated
    new = site.commit("one")
    site.work.git("push", "-q", str(only.repository), "main")
    await only.replica.accept(None, CommitId(new))
    assert await only.replica.settle() == new
    assert await site.data_keys() == []


async def test_a_lone_controller_that_was_killed_after_a_push_does_not_take_it_back(tmp_path: Path) -> None:
    site = Site(tmp_path, "ctl-1")
    [only] = site.controllers
    await only.lead()
    site.commit("one")
    site.work.git("push", "-q", str(only.repository), "main")
    await only.replica.settle()
    pushed = site.commit("two")
    site.work.git("push", "-q", str(only.repository), "main")
    only.begin(only.store)
    assert await only.replica.settle() is None, "it does not lead yet, so it can record nothing"
    assert only.head == pushed
    await only.lead()
    assert await only.replica.settle() == pushed


async def test_a_restored_store_does_not_take_back_what_the_repository_has(tmp_path: Path) -> None:
    site = Site(tmp_path, "ctl-1")
    [only] = site.controllers
    await only.lead()
    site.commit("one")
    site.work.git("push", "-q", str(only.repository), "main")
    await only.replica.settle()
    newer = site.commit("two")
    site.work.git("push", "-q", str(only.repository), "main")
    note = only.repository / NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "cluster": "1"}))  # as after a restore
    only.begin(only.store)
    await only.lead()
    assert await only.replica.settle() == newer


async def test_a_restored_store_whose_branch_is_nowhere_takes_what_is_pushed(tmp_path: Path) -> None:
    site = Site(tmp_path, "ctl-1")
    [only] = site.controllers
    await only.lead()
    await Ledger(only.store, "main", 1).publish(None, A, None)
    assert await only.replica.settle() is None
    new = site.commit("one")
    site.work.git("push", "-q", str(only.repository), "main")
    assert await only.replica.settle() == new


# ---------------------------------------------------------------------- packs


def test_a_pack_without_its_base_is_not_taken(tmp_path: Path) -> None:
    work = Repo(tmp_path)
    one, two = work.commit({"a": "1"}), work.commit({"a": "2"})
    pack = make_pack(work.clone / ".git", CommitId(two), CommitId(one))
    assert pack.base == one
    with pytest.raises(PackError, match="not sound"):
        take_pack(work.bare, pack.data)
    take_pack(work.bare, make_pack(work.clone / ".git", CommitId(one), None).data)
    take_pack(work.bare, pack.data)
    assert Repository(work.bare).commit(CommitId(two)).subject == "a change"


@pytest.mark.parametrize("spoil", [lambda data: data[:-5], lambda data: b"", lambda data: b"PACK" + data])
def test_a_damaged_pack_is_not_taken(tmp_path: Path, spoil: Any) -> None:
    work = Repo(tmp_path)
    pack = make_pack(work.clone / ".git", CommitId(work.commit({"a": "1"})), None)
    with pytest.raises(PackError, match="not sound"):
        take_pack(work.bare, spoil(pack.data))


@pytest.mark.parametrize("commit", ["--all", "main", "a" * 39, "a" * 40 + "\nb", ""])
def test_what_is_no_commit_id_never_reaches_git(tmp_path: Path, commit: str) -> None:
    work = Repo(tmp_path)
    with pytest.raises(PackError, match="is no commit id"):
        make_pack(work.bare, CommitId(commit), None)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda at, commit: make_pack(at, commit, None), id="pack"),
        pytest.param(lambda at, commit: take_pack(at, b"PACK"), id="take"),
        pytest.param(lambda at, commit: packs.move_branch(at, "main", commit, None), id="move"),
        pytest.param(lambda at, commit: packs.keep_aside(at, commit), id="keep"),
    ],
)
def test_a_git_that_does_not_end_on_a_slow_disk_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: Any, work: Any
) -> None:
    """Whoever waits for it tries again; nothing else ends."""
    repo = Repo(tmp_path)
    commit = CommitId(repo.commit({"a": "1"}))
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec 1>&- 2>&-\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(packs, "GIT_TIMEOUT_S", 0.1)
    with pytest.raises(PackError, match="git did not end in"):
        work(repo.bare, commit)


def test_the_quarantine_of_a_forwarded_push_is_gone_afterwards(tmp_path: Path) -> None:
    work = Repo(tmp_path)
    commit = CommitId(work.commit({"a": "1"}))
    pack = make_pack(work.clone / ".git", commit, None)
    with packs.quarantine(work.bare, pack.data) as objects:
        assert Repository(work.bare, extra_objects=[objects]).commit(commit).subject == "a change"
    assert not objects.exists()
    with pytest.raises(packs.SourceError):
        Repository(work.bare).commit(commit)
