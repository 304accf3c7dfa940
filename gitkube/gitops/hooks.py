"""The conversation with the person who pushes.

`install_hooks` puts two small scripts into the bare repository. Each hands its push to the `HookServer` in
the daemon over a unix socket and prints the lines that come back. pre-receive judges the commit while its
objects are still in git's quarantine: problems with their lines and a refusal, or the plan. post-receive
tells the rollout until it is healthy or failed; whoever stops watching stops nothing else.

The other end of the socket is checked by its credentials: this user, root, and the owner of the repository
may push; what they send is still not trusted further than a push needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket as sockets
import stat
import struct
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.clock import Clock
from gitkube.files import replace_durably
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired
from gitkube.gitops.evaluate import Evaluation, Evaluator
from gitkube.gitops.plan import Entry, format_plan, make_plan
from gitkube.gitops.problem import Place, Problem, count, errors, format_problems, printable, summary_of
from gitkube.gitops.rollout import Rollout
from gitkube.gitops.source import CommitId, Repository, SourceError

HOOKS = ("pre-receive", "post-receive")
MARKER = "gitkube-hook-v"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""A push of some ten thousand refs."""
REQUEST_DEADLINE_S = 30.0
JUDGE_DEADLINE_S = 120.0
WATCH_LIMIT_S = 3_600.0
"""A rollout that is told for an hour is no longer read."""
MAX_WATCHERS = 64

_ID = re.compile(r"[0-9a-f]{40}\Z")
_ZERO = "0" * 40

log = structlog.get_logger(__name__)


class HookError(Exception):
    """The hooks cannot be installed, or a request is none. The text is for people."""


class Host(Protocol):
    """What the server needs of the sync it belongs to."""

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

    def notify(self, commit: CommitId | None = None) -> None: ...

    async def rollout_of(self, commit: CommitId) -> Rollout: ...


def install_hooks(repo: Path, socket: Path) -> None:
    """Write pre-receive and post-receive into a bare repository. Again and again is once.

    Raises:
        HookError: the repository has hooks that are not gitkube's.
    """
    directory = repo / "hooks"
    directory.mkdir(exist_ok=True)
    text = Path(__file__).with_name("hook_client.py").read_text("utf-8")
    text = text.replace('SOCKET = ""', f"SOCKET = {str(socket.resolve())!r}", 1)
    for name in HOOKS:
        path = directory / name
        if path.exists():
            present = path.read_text("utf-8", "replace")
            if present == text:
                continue
            if MARKER not in present:
                raise HookError(
                    f"{path} is a hook of your own; gitkube needs its place. Move it away, or into a script "
                    "that runs it and then gitkube's"
                )
        replace_durably(path, text.encode(), 0o755)


class HookServer:
    """Answers the hooks of one repository."""

    def __init__(self, host: Host, *, repo: Path, branch: str, socket: Path) -> None:
        self._host = host
        self._repo = repo
        self._branch = branch
        self._socket = socket
        self._watchers = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(self._socket.lstat().st_mode):
                self._socket.unlink()  # left by a process that was killed
        directory = os.open(self._socket.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            # Through /proc, because the path of a socket may have 107 bytes at most.
            listener.bind(f"/proc/self/fd/{directory}/{self._socket.name}")
            self._socket.chmod(0o666)  # who is served is decided by the peer's user id, see _check_peer
            listener.setblocking(False)
            async with asyncio.TaskGroup() as tasks:

                def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    tasks.create_task(self._serve(reader, writer), name="gitops-hook")

                server = await asyncio.start_unix_server(accept, sock=listener, limit=MAX_REQUEST_BYTES)
                async with server:
                    await server.serve_forever()
        finally:
            listener.close()
            os.close(directory)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                asked = await reader.readline()
            self._check_peer(writer)  # after reading: closing on unread bytes would take the answer along
            request = _parse(asked)
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(self._answer(request, writer))
                gone = tasks.create_task(reader.read())  # ends when the other side goes away
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
                answer.cancel()
                gone.cancel()
        except* HookError as errors:
            error = errors.exceptions[0]
            log.warning("hook_request_refused", error=str(error))
            await _send(writer, {"line": f"refused  {printable(str(error))}"}, {"exit": 1})
        except* (OSError, TimeoutError) as lost:
            log.info("hook_connection_lost", error=str(lost.exceptions[0]))
        except* Exception:
            log.exception("hook_failed")
            line = "refused  gitkube could not look at the push; its log says why (hook_failed)"
            await _send(writer, {"line": line}, {"exit": 1})
        finally:
            writer.close()

    def _check_peer(self, writer: asyncio.StreamWriter) -> None:
        connection: sockets.socket = writer.get_extra_info("socket")
        raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", raw)
        if uid not in (0, os.geteuid(), self._repo.stat().st_uid):
            raise HookError(
                f"user {uid} may not push here: only the owner of {self._repo} and of gitkube serve"
            )

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        lines = self._judge(request) if request.hook == "pre-receive" else self._watch(request)
        code = 0
        async with contextlib.aclosing(lines) as told:
            async for line in told:
                if isinstance(line, int):
                    code = line
                else:
                    await _send(writer, {"line": printable(line)})
        await _send(writer, {"exit": code})

    # ------------------------------------------------------------------ pre-receive

    async def _judge(self, request: _Request) -> AsyncGenerator[str | int]:
        """Lines for the pusher, and 1 to refuse."""
        for old, new, ref in request.updates:
            if ref != f"refs/heads/{self._branch}":
                yield f"note     {ref.removeprefix('refs/heads/')} is stored; only {self._branch} deploys"
                continue
            try:
                async with asyncio.timeout(JUDGE_DEADLINE_S):
                    refused, lines = await self._judge_branch(old, new, request.quarantine)
            except TimeoutError:
                refused, lines = True, ["refused  nothing was changed: judging took too long; try again"]
            except SourceError as error:
                refused, lines = True, [f"refused  nothing was changed: {error}"]
            except StatusError as error:
                text = f"refused  nothing was changed: the cluster cannot be asked now ({error.message})"
                refused, lines = True, [text, "         push again in a moment"]
            for line in lines:
                yield line
            if refused:
                yield 1
                return

    async def _judge_branch(self, old: str, new: str, quarantine: str) -> tuple[bool, list[str]]:
        if new == _ZERO:
            return True, [f"refused  {self._branch} is what the cluster follows; it cannot be deleted"]
        extra = self._quarantine(quarantine)
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
        )
        problems = [*evaluation.problems, *plan.problems]
        if errors(problems):
            return True, [header, *_refusal(problems)]
        return False, [header, *_warnings(evaluation), *_labelled("plan", format_plan(plan))]

    def _quarantine(self, path: str) -> list[Path]:
        """The push's object directory; only one that git makes inside this repository is believed.

        Raises:
            HookError: it lies anywhere else.
        """
        if not path:
            return []
        objects = Repository(self._repo).objects_directory.resolve()
        found = Path(path).resolve()
        if found.parent != objects or not found.name.startswith(("incoming-", "tmp_objdir-incoming-")):
            raise HookError("the quarantine directory is not one of this repository")
        return [found]

    def _header(self, old: CommitId, new: CommitId, extra: Sequence[Path]) -> tuple[str, str]:
        """The first line, and the commit to revert to when the push is no fast-forward."""
        repository = Repository(self._repo, extra_objects=extra)
        commit = repository.commit(new)
        base = None if old == _ZERO else old
        if base is not None and not repository.is_ancestor(base, new):
            return "", base[:7]
        return f"gitkube  {commit} · {count(repository.count_commits(base, new), 'commit')}", ""

    # ------------------------------------------------------------------ post-receive

    async def _watch(self, request: _Request) -> AsyncGenerator[str | int]:
        for _, new, ref in request.updates:
            if ref != f"refs/heads/{self._branch}" or new == _ZERO:
                continue
            self._host.notify(CommitId(new))
            if self._watchers >= MAX_WATCHERS:
                yield f"note     {MAX_WATCHERS} pushes are watched already; see: gitkube status"
                continue
            self._watchers += 1
            try:
                async with asyncio.timeout(WATCH_LIMIT_S):
                    rollout = await self._host.rollout_of(CommitId(new))
                    async for line in rollout.follow():
                        yield line
            except TimeoutError:
                yield "stopped  watching ends after an hour; the deployment goes on: gitkube status"
            finally:
                self._watchers -= 1


class _Request:
    """A hook's request, checked."""

    def __init__(self, data: Any) -> None:
        if not isinstance(data, dict) or data.get("hook") not in HOOKS:
            raise HookError("this is no request of gitkube's hooks")
        self.hook: str = data["hook"]
        self.quarantine = str(data.get("quarantine") or "")
        self.updates: list[tuple[str, str, str]] = []
        for update in data.get("updates") or ():
            if (
                not isinstance(update, list)
                or len(update) != 3
                or not all(isinstance(x, str) for x in update)
            ):
                raise HookError("an update is not old, new and ref")
            old, new, ref = update
            if not _ID.match(old) or not _ID.match(new):
                raise HookError("an update has no commit ids")
            self.updates.append((old, new, ref))


def _parse(line: bytes) -> _Request:
    try:
        return _Request(json.loads(line))
    except ValueError as error:
        raise HookError("this is no request of gitkube's hooks") from error


async def _send(writer: asyncio.StreamWriter, *messages: dict[str, Any]) -> None:
    for message in messages:
        writer.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    with contextlib.suppress(ConnectionError):
        await writer.drain()


def _refusal(problems: Sequence[Problem]) -> list[str]:
    lines = ["refused  nothing was changed", ""]
    lines += [f"  {line}" for line in format_problems(problems)]
    return [*lines, "", f"{summary_of(problems)} · try it without pushing: gitkube plan"]


def _warnings(evaluation: Evaluation) -> list[str]:
    warnings = [problem for problem in evaluation.problems if not problem.is_error]
    return [f"  {line}" for line in format_problems(warnings)]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{label if index == 0 else '':<8} {line}" for index, line in enumerate(lines)]
