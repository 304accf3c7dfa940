"""A real `git push` to a controller that does not lead: what the pusher reads, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.gitops.agreement import Membership
from gitkube.gitops.forwarding import Forwarding, LeaderUnreachableError
from gitkube.gitops.hook_socket import Answer, Line, PushRequest, Storing, Verdict, hook_socket, install_hooks
from gitkube.gitops.packs import take_pack
from gitkube.gitops.replication import Replica
from gitkube.gitops.source import CommitId, Repository, make_repository
from tests.support.memory_cluster import CLUSTER_ID, MemoryCluster
from tests.support.waiting import eventually
from tests.unit.gitops.conftest import Repo

GONE = LeaderUnreachableError("connection refused")


class FakeLeader:
    """Answers as it was told, and takes in what it is sent."""

    def __init__(self, directory: Path) -> None:
        self.repository = directory / "leader.git"
        make_repository(self.repository, "main")
        self.says: dict[str, list[Answer | Exception]] = {}
        self.asked: list[PushRequest] = []

    async def push(self, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        self.asked.append(request)
        if pack:
            await asyncio.to_thread(take_pack, self.repository, pack)
        for one in self.says[request.hook]:
            if isinstance(one, Exception):
                raise one
            yield one


class Follower:
    def __init__(self, repo: Repo, directory: Path) -> None:
        self.repo = repo
        self.leader: FakeLeader | None = FakeLeader(directory)
        cluster = MemoryCluster("ctl-1", "ctl-2")
        self.replica = Replica(
            cluster.member("ctl-2"),
            repository=repo.bare,
            branch="main",
            clock=SystemClock(),
            membership=lambda: Membership(2, [1, 2], CLUSTER_ID),
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        forwarding = Forwarding(
            lambda: self.leader, self.replica, repo=self.repo.bare, branch="main", clock=SystemClock()
        )
        task = asyncio.ensure_future(forwarding.run())

        async def is_served() -> bool:
            return hook_socket(self.repo.bare).exists()

        await eventually(is_served)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def follower(repo: Repo, tmp_path: Path) -> AsyncIterator[Follower]:
    made = Follower(repo, tmp_path)
    async with made.serving():
        yield made


def say(follower: Follower, before: list[Answer | Exception], after: list[Answer | Exception]) -> FakeLeader:
    assert follower.leader is not None
    follower.leader.says = {"pre-receive": before, "post-receive": after}
    return follower.leader


ACCEPTED: list[Answer | Exception] = [Line("plan     + ConfigMap"), Storing(), Verdict(0)]


async def test_the_leaders_lines_are_told_and_the_branch_moves_here_too(
    repo: Repo, follower: Follower
) -> None:
    leader = say(follower, ACCEPTED, [Line("healthy  everywhere"), Verdict(0)])
    commit = repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 0 and repo.head() == commit
    assert "plan     + ConfigMap" in text and "healthy  everywhere" in text
    assert Repository(leader.repository).commit(CommitId(commit)).subject == "a change"
    assert [(one.hook, one.updates[0][1]) for one in leader.asked] == [
        ("pre-receive", commit),
        ("post-receive", commit),
    ]


async def test_what_the_leader_refuses_is_refused(repo: Repo, follower: Follower) -> None:
    say(follower, [Line("refused  a.yaml:1"), Verdict(1)], [])
    repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 1 and repo.head() == ""
    assert "refused  a.yaml:1" in text


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ([GONE], "refused  nothing was changed: the leader went away"),
        ([Line("plan"), GONE], "refused  nothing was changed: the leader went away"),
        ([Line("plan"), Storing(), GONE], "unknown  the leader went away while it stored the push"),
        ([Line("plan")], "it stopped without a verdict"),
    ],
)
async def test_a_leader_that_goes_away_before_its_verdict_is_told_for_what_it_means(
    repo: Repo, follower: Follower, says: list[Answer | Exception], told: str
) -> None:
    say(follower, says, [])
    repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 1 and repo.head() == "" and told in text


async def test_a_leader_that_goes_away_after_its_verdict_takes_nothing_back(
    repo: Repo, follower: Follower
) -> None:
    say(follower, ACCEPTED, [GONE])
    commit = repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 0 and repo.head() == commit
    assert "waiting  the push is accepted" in text and "the next leader deploys it" in text


async def test_a_push_in_the_middle_of_an_election_waits_for_its_end(repo: Repo, follower: Follower) -> None:
    leader = say(follower, ACCEPTED, [Line("healthy"), Verdict(0)])
    follower.leader = None
    commit = repo.commit({"a.yaml": "x"})
    push = asyncio.ensure_future(repo.push())
    await asyncio.sleep(0.5)
    follower.leader = leader
    code, text = await push
    assert code == 0 and repo.head() == commit and "healthy" in text


async def test_without_a_leader_nothing_is_taken(
    repo: Repo, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitkube.gitops.forwarding.LEADER_S", 0.3)
    follower.leader = None
    repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 1 and "no controller leads at the moment" in text


async def test_a_push_that_is_too_large_is_refused_before_it_travels(
    repo: Repo, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitkube.gitops.packs.MAX_PACK_BYTES", 10)
    leader = say(follower, ACCEPTED, [])
    repo.commit({"a.yaml": "x"})
    code, text = await repo.push()
    assert code == 1 and "push at most" in text and leader.asked == []


async def test_another_branch_is_passed_on_without_its_commits(repo: Repo, follower: Follower) -> None:
    leader = say(follower, [Line("note     try is stored"), Verdict(0)], [Verdict(0)])
    repo.commit({"a.yaml": "x"})
    repo.git("checkout", "-q", "-b", "try")
    code, text = await repo.push("try")
    assert code == 0 and "try is stored" in text
    assert not list((leader.repository / "objects" / "pack").glob("*.pack"))


# ---------------------------------------------------------------------- a control plane that is restarted


@pytest.mark.parametrize("was_storing", [False, True])
async def test_a_push_outlives_a_control_plane_that_is_killed_and_comes_back(
    repo: Repo, tmp_path: Path, was_storing: bool
) -> None:
    made = Follower(repo, tmp_path)
    asked = asyncio.Event()
    leader = made.leader
    assert leader is not None
    original: Callable[..., AsyncGenerator[Answer]] = leader.push

    async def hangs(request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        if was_storing:
            yield Storing()
        asked.set()
        await asyncio.Event().wait()
        yield Verdict(0)

    leader.push = hangs  # type: ignore[method-assign]
    commit = repo.commit({"a.yaml": "x"})
    async with made.serving():
        push = asyncio.ensure_future(repo.push())
        await asyncio.wait_for(asked.wait(), 60)
    leader.push = original  # type: ignore[method-assign]
    say(made, ACCEPTED, [Line("healthy"), Verdict(0)])
    async with made.serving():
        code, text = await push
    assert code == 0 and repo.head() == commit
    assert "healthy" in text and "refused" not in text


async def test_a_full_disk_does_not_end_what_passes_pushes_on(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up takes the lead away, and then this begins; reads of the API go on meanwhile."""
    tries = 0

    def full_at_first(bare: Path, socket: Path) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        install_hooks(bare, socket)

    monkeypatch.setattr("gitkube.gitops.forwarding.install_hooks", full_at_first)
    monkeypatch.setattr("gitkube.gitops.forwarding.FULL_DISK_RETRY_S", 0.01)
    async with Follower(repo, tmp_path).serving():
        assert tries == 3
