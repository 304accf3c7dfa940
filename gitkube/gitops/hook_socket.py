"""The socket that git's hooks speak to: who may, what they ask, and how they are answered.

`install_hooks` puts two small scripts into the bare repository (`hook_client.py`). Each hands its push to
this socket as one line of JSON and prints the lines that come back. What is answered is decided elsewhere:
by the leader's judge (`hooks.py`), or by whoever passes the push on to the leader (`forwarding.py`).

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
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gitkube.files import replace_durably
from gitkube.gitops.packs import QUARANTINE_PREFIX
from gitkube.gitops.problem import printable
from gitkube.gitops.source import HOOK_SOCKET, CommitId

HOOKS = ("pre-receive", "post-receive")
MARKER = "gitkube-hook-v"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""A push of some ten thousand refs."""
REQUEST_DEADLINE_S = 30.0

_ID = re.compile(r"[0-9a-f]{40}\Z")
ZERO = "0" * 40
"""The id that git gives for "there is none"."""

log = structlog.get_logger(__name__)


class HookError(Exception):
    """The hooks cannot be installed, or a request is none. The text is for people."""


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What a hook asks, checked."""

    hook: str
    updates: tuple[tuple[str, str, str], ...]
    """Old commit, new commit, name of the ref."""
    quarantine: str = ""
    """Where git keeps the objects of a push until it is judged."""

    @classmethod
    def parse(cls, line: bytes) -> PushRequest:
        """Raises:
        HookError: this is no request.
        """
        try:
            data = json.loads(line)
        except ValueError as error:
            raise HookError("this is no request of gitkube's hooks") from error
        if not isinstance(data, dict) or data.get("hook") not in HOOKS:
            raise HookError("this is no request of gitkube's hooks")
        updates = []
        for update in data.get("updates") or ():
            is_three = isinstance(update, list) and len(update) == 3
            if not is_three or not all(isinstance(each, str) for each in update):
                raise HookError("an update is not old, new and ref")
            old, new, ref = update
            if not _ID.match(old) or not _ID.match(new):
                raise HookError("an update has no commit ids")
            updates.append((old, new, ref))
        return cls(data["hook"], tuple(updates), str(data.get("quarantine") or ""))

    def to_json(self) -> bytes:
        """As `parse` reads it, without the quarantine, which means something on this machine only."""
        return json.dumps({"hook": self.hook, "updates": [list(update) for update in self.updates]}).encode()


@dataclass(frozen=True, slots=True)
class Line:
    """To be printed on the pusher's terminal."""

    text: str


@dataclass(frozen=True, slots=True)
class Storing:
    """From here on a lost connection does not mean that nothing was changed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end. 0 accepts a push."""

    code: int


Answer = Line | Storing | Verdict
Answerer = Callable[[PushRequest], AsyncGenerator[Answer]]


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """As the hooks, and other controllers, are told."""
    match answer:
        case Line(text):
            return {"line": printable(text)}
        case Storing():
            return {"stage": "storing"}
        case Verdict(code):
            return {"exit": code}


def answer_from_json(data: Mapping[str, Any]) -> Answer:
    """What `answer_to_json` has said; a stage that this version does not know changes nothing."""
    if "exit" in data:
        return Verdict(int(data["exit"]))
    return Storing() if "stage" in data else Line(str(data.get("line", "")))


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


def commits_for(request: PushRequest, branch: str) -> list[CommitId]:
    """To which commits a request would move a branch: one, or none."""
    ref = f"refs/heads/{branch}"
    return [CommitId(new) for _, new, name in request.updates if name == ref and new != ZERO]


def checked_quarantine(repo: Path, path: str) -> list[Path]:
    """The object directory of a push; only one that git makes inside this repository is believed.

    Raises:
        HookError: it lies anywhere else.
    """
    if not path:
        return []
    objects = (repo / "objects").resolve()
    found = Path(path).resolve()
    is_gits = found.name.startswith(("incoming-", "tmp_objdir-incoming-"))
    if found.parent != objects or not is_gits or found.name.startswith(QUARANTINE_PREFIX):
        raise HookError("the quarantine directory is not one of this repository")
    return [found]


def hook_socket(repo: Path) -> Path:
    """Where the hooks of a repository reach the control plane."""
    return repo / HOOK_SOCKET


class HookSocket:
    """Answers the hooks of one repository.

    Args:
        answer: what to say to a request.
    """

    def __init__(self, answer: Answerer, *, repo: Path, socket: Path) -> None:
        self._answer_to = answer
        self._repo = repo
        self._socket = socket

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
            request = PushRequest.parse(asked)
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(self._answer(request, writer))
                gone = tasks.create_task(reader.read())  # ends when the other side goes away
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
                answer.cancel()
                gone.cancel()
        except* HookError as errors:
            error = errors.exceptions[0]
            log.warning("hook_request_refused", error=str(error))
            await _send(writer, Line(f"refused  {error}"), Verdict(1))
        except* (OSError, TimeoutError) as lost:
            log.info("hook_connection_lost", error=str(lost.exceptions[0]))
        except* Exception:
            log.exception("hook_failed")
            text = "refused  gitkube could not look at the push; its log says why (hook_failed)"
            await _send(writer, Line(text), Verdict(1))
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

    async def _answer(self, request: PushRequest, writer: asyncio.StreamWriter) -> None:
        async with contextlib.aclosing(self._answer_to(request)) as answers:
            async for answer in answers:
                await _send(writer, answer)


async def _send(writer: asyncio.StreamWriter, *answers: Answer) -> None:
    for answer in answers:
        message = json.dumps(answer_to_json(answer), ensure_ascii=False)
        writer.write(message.encode("utf-8", "replace") + b"\n")
    with contextlib.suppress(ConnectionError):
        await writer.drain()
