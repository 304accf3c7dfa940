"""A bare repository to push to, a real API in memory of its own, and the sync that joins them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gitkube.api.authorization import system_user
from gitkube.api.client import Client
from gitkube.clock import SystemClock
from gitkube.gitops.check import CheckResult, check
from gitkube.gitops.problem import Problem
from gitkube.gitops.render import Renderer
from gitkube.gitops.source import BlobId, Tree
from gitkube.gitops.sync import Sync
from gitkube.objects.registry import Registry
from tests.support.real_api import real_client

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


class Repo:
    """A bare repository and a clone of it."""

    def __init__(self, directory: Path) -> None:
        self.bare = directory / "repo.git"
        self.clone = directory / "clone"
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=directory)
        self.git("init", "-q", "-b", "main", str(self.clone), cwd=directory)
        self.git("remote", "add", "lab", str(self.bare))

    def git(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.clone, env=ENVIRONMENT, capture_output=True, text=True
        )
        if check and done.returncode:
            raise AssertionError(f"git {arguments}: {done.stderr}")
        return done.stdout

    def write(self, files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = self.clone / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def commit(self, files: dict[str, str | None], message: str = "a change") -> str:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    async def push(self, ref: str = "main", *options: str, said: list[str] | None = None) -> tuple[int, str]:
        """A real `git push`: its exit code and what the pusher reads.

        Args:
            said: gets the lines as they come.
        """
        lines: list[str] = [] if said is None else said
        process = await asyncio.create_subprocess_exec(
            "git", "push", *options, "lab", ref,
            cwd=self.clone, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(120):
                async for line in process.stdout:
                    lines.append(line.decode())
                await process.wait()
        finally:
            if process.returncode is None:
                await _interrupt(process)
        text = "\n".join(line.rstrip() for line in "".join(lines).splitlines())
        return process.returncode or 0, text

    def head(self) -> str:
        return self.git("rev-parse", "--verify", "-q", "refs/heads/main", cwd=self.bare, check=False).strip()


async def _interrupt(process: asyncio.subprocess.Process) -> None:
    os.killpg(process.pid, signal.SIGINT)  # the terminal's Ctrl-C goes to the whole group
    try:
        await asyncio.wait_for(process.wait(), 30)
    except TimeoutError:
        # Seen once under load: git was between two of its children. What is tested is not git.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def stop(task: asyncio.Task[tuple[int, str]]) -> None:
    """Interrupt a push, as Ctrl-C does."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


@pytest.fixture(scope="session")
def renderer() -> Iterator[Renderer]:
    made = Renderer()
    yield made
    made.close()


class Judge:
    """Renders and checks files given as texts."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def __call__(self, files: dict[str, str | bytes]) -> CheckResult:
        import hashlib

        blobs = {}
        tree = {}
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            blob = BlobId(hashlib.sha1(data).hexdigest())
            blobs[blob] = data
            tree[path] = blob
        return check(self.renderer.render(Tree(tree, blobs.__getitem__)))

    def errors(self, files: dict[str, str | bytes]) -> list[str]:
        """Each error as `path:line:column message (hint)`."""
        return sorted(str(problem) for problem in self(files).problems if problem.is_error)

    def problem(self, files: dict[str, str | bytes]) -> Problem:
        """The one problem that the files have."""
        problems = self(files).problems
        assert len(problems) == 1, "\n".join(map(str, problems))
        return problems[0]


@pytest.fixture
def judge(renderer: Renderer) -> Judge:
    return Judge(renderer)


@pytest.fixture
async def api_client(tmp_path: Path) -> AsyncIterator[Client]:
    async with real_client(tmp_path / "store", user=system_user("gitops")) as client:
        yield client


@contextlib.asynccontextmanager
async def running_sync(
    client: Client, repo: Repo, directory: Path, *, registry: Registry | None = None
) -> AsyncIterator[Sync]:
    """A sync over the repository, for as long as the block lasts."""
    socket = directory / "gitops.sock"
    sync = Sync(
        client,
        repo=repo.bare,
        branch="main",
        socket=socket,
        clock=SystemClock(),
        rng=random.Random(2),
        registry=registry,
    )
    task = asyncio.ensure_future(sync.run())
    try:
        async with asyncio.timeout(60):
            while not socket.exists():
                await asyncio.sleep(0.01)
                if task.done():
                    task.result()
        yield sync
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        socket.unlink(missing_ok=True)


@pytest.fixture
async def sync(api_client: Client, repo: Repo, tmp_path: Path) -> AsyncIterator[Sync]:
    async with running_sync(api_client, repo, tmp_path) as running:
        yield running
