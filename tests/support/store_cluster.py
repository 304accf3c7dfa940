"""Store members as they really run: a process each, mutual TLS between them, on loopback.

`StoreCluster` makes certificates, starts the first member, lets the others join as learners and promotes
them, as an operator would. A test may then kill, stop and continue them by pid, start them again, and with
`links` cut the connections between them one direction at a time (`store_links.py`). Each member's log is kept
beside its data. A process that ends without having been told to is remembered in `deaths`: it is a bug, or a
proof that a member stopped itself rather than lie, and the test must say which it expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gitkube.clock import SystemClock
from gitkube.store.protocol import MembershipError, StoreStatus, UnavailableError
from gitkube.store.remote import RemoteStore
from tests.support.store_certificates import Authority
from tests.support.store_links import Links

T = TypeVar("T")
START_TIMEOUT_S = 60.0
"""Generous: two cores may be busy with everything else."""
_POLL_S = 0.05


@dataclass(slots=True)
class ClusterMember:
    number: int
    directory: Path
    port: int = 0
    reserved: socket.socket | None = None
    """Keeps the port ours while the member is down, see `reserve_port`."""
    address: str = ""
    """Where the others dial it."""
    member_id: int = 0
    process: asyncio.subprocess.Process | None = None
    waiting: asyncio.Task[None] | None = None
    is_stopped: bool = False
    is_told_to_end: bool = False
    stores: list[RemoteStore] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"store-{self.number}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def socket(self) -> Path:
        return self.directory / "s"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self.process.pid if self.process is not None else 0


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended though nobody had told it to."""

    member: int
    code: int
    last_words: str


class StoreCluster:
    """`async with StoreCluster(directory, members=3) as cluster: …`

    Args:
        directory: for everything; its path must be short (unix sockets have 108 bytes).
        settings: fields of `MemberConfig` that every member gets.
        settings_of: further ones of one member, by its number.
        is_linked: let all bytes between members pass through `links`; costs CPU here.
        environment: what the processes get beside this one's environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: int = 3,
        settings: Mapping[str, Any] | None = None,
        settings_of: Callable[[int], Mapping[str, Any]] | None = None,
        is_linked: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.members: dict[int, ClusterMember] = {}
        self.deaths: list[Death] = []
        self.links = Links(self._pids)
        self._count = members
        self._settings = dict(settings or {})
        self._settings_of = settings_of
        self._is_linked = is_linked
        self._environment = dict(environment or {})
        self._authority = Authority(directory / "pki")
        self._clock = SystemClock()
        self._next_number = 0

    async def __aenter__(self) -> StoreCluster:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------ life of the cluster

    async def start(self) -> None:
        """All members run, and each can be written through."""
        first = await self._new_member()
        self._write_config(first, join=None)
        await self._spawn(first)
        first.member_id = (await self.status(first.number)).member_id
        for _ in range(1, self._count):
            await self.add_member()

    async def close(self) -> None:
        """End all processes and connections; files stay."""
        for member in self.members.values():
            for store in member.stores:
                await store.close()
            member.stores.clear()
        for member in list(self.members.values()):
            await self.kill(member.number)
            if member.reserved is not None:
                member.reserved.close()
        await self.links.close()

    async def add_member(self) -> ClusterMember:
        """One more member: recorded as a learner, started, promoted when it has caught up."""
        member = await self._new_member()
        through = self.store(self._alive_number())
        try:
            member.member_id = await _retried(lambda: self._record(member, through))
            await self._join(member, through)
            await self._retried_while_it_lives(member, lambda: through.member_promote(member.member_id))
        finally:
            await through.close()
        return member

    async def remove_member(self, number: int) -> None:
        """Remove it from the cluster, end its process, and forget it."""
        other = next(each for each in self.members if each != number and self.members[each].process)
        through = self.store(other)
        try:
            await _retried(lambda: through.member_remove(self.members[number].member_id))
        finally:
            await through.close()
        await self.forget(number)

    async def forget(self, number: int) -> None:
        """End the process of a member that has no place in the cluster any more."""
        await self.kill(number)
        member = self.members.pop(number)
        for store in member.stores:
            await store.close()
        if member.reserved is not None:
            member.reserved.close()

    # ------------------------------------------------------------------ clients

    def store(self, number: int) -> RemoteStore:
        """A client of one member, over its unix socket; closed with the cluster."""
        store = RemoteStore(self.members[number].socket, clock=self._clock)
        self.members[number].stores.append(store)
        return store

    async def status(self, number: int) -> StoreStatus:
        """Of one member, as soon as it answers.

        Raises:
            TimeoutError: it hangs.
        """
        store = RemoteStore(self.members[number].socket, clock=self._clock)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                return await _retried(store.status)
        finally:
            await store.close()

    async def leader(self, *, timeout_s: float = START_TIMEOUT_S) -> int:
        """The number of the member that leads, as soon as one does."""
        async with asyncio.timeout(timeout_s):
            while True:
                for number in self.running():
                    store = RemoteStore(self.members[number].socket, clock=self._clock)
                    try:
                        async with asyncio.timeout(1):
                            if (await store.status()).is_leader:
                                return number
                    except (TimeoutError, UnavailableError):
                        continue  # it is down or stopped: the next one may know
                    finally:
                        await store.close()
                await asyncio.sleep(_POLL_S)

    # ------------------------------------------------------------------ faults

    def running(self) -> list[int]:
        """Members whose process lives and is not stopped."""
        return [each.number for each in self.members.values() if each.pid and not each.is_stopped]

    async def kill(self, number: int) -> None:
        """SIGKILL; returns when the process is gone."""
        member = self.members[number]
        if member.process is None:
            return
        member.is_told_to_end = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.process.pid, signal.SIGKILL)
        assert member.waiting is not None
        await member.waiting

    async def abort(self, number: int) -> str:
        """SIGABRT, upon which Python says where each thread of the process was; the end of its log."""
        member = self.members[number]
        if member.process is None:
            return "it does not run"
        member.is_told_to_end = True
        os.kill(member.process.pid, signal.SIGABRT)
        assert member.waiting is not None
        await member.waiting
        return last_lines(member.log, 40)

    async def end(self, number: int) -> None:
        """Tell it to end in its own time, as `serve` does, and wait for that."""
        member = self.members[number]
        if member.process is None:
            return
        member.is_told_to_end = True
        assert member.process.stdin is not None and member.waiting is not None
        member.process.stdin.close()
        await member.waiting

    async def restart(self, number: int) -> None:
        """Start the process of a member that has ended; does not wait until it answers."""
        member = self.members[number]
        if member.process is None:
            await self._spawn(member)

    def stop(self, number: int) -> None:
        """SIGSTOP: it does nothing any more, and knows nothing of that when it goes on."""
        member = self.members[number]
        if member.process is not None:
            member.is_stopped = True
            os.kill(member.process.pid, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        member = self.members[number]
        if member.process is not None and member.is_stopped:
            os.kill(member.process.pid, signal.SIGCONT)
        member.is_stopped = False

    # ------------------------------------------------------------------ processes

    async def _new_member(self) -> ClusterMember:
        number = self._next_number
        self._next_number += 1
        member = ClusterMember(number, self.directory / str(number))
        member.directory.mkdir(parents=True)
        member.reserved, member.port = reserve_port()
        member.address = f"127.0.0.1:{member.port}"
        if self._is_linked:
            member.address = await self.links.add(number, "127.0.0.1", member.port)
        self.members[number] = member
        return member

    async def _retried_while_it_lives(self, member: ClusterMember, call: Callable[[], Awaitable[T]]) -> T:
        assert member.waiting is not None
        calling = asyncio.create_task(_retried(call))
        await asyncio.wait({calling, member.waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done() and not member.is_told_to_end:
            calling.cancel()
            raise RuntimeError(f"member {member.number} ended as it joined: {last_lines(member.log)}")
        return await calling

    async def _record(self, member: ClusterMember, through: RemoteStore) -> int:
        """Its id; an earlier try may have done it though its answer was lost."""
        for info in await through.members():
            if info.name == member.name:
                return info.id
        return (await through.member_add(member.name, member.address, is_learner=True)).id

    async def _join(self, member: ClusterMember, through: RemoteStore) -> None:
        status = await _retried(through.status)
        known = await _retried(through.members)
        peers = {str(info.id): info.peer_address for info in known if info.id != member.member_id}
        self._write_config(
            member, join={"cluster_id": status.cluster_id, "member_id": member.member_id, "peers": peers}
        )
        await self._spawn(member)

    def _write_config(self, member: ClusterMember, *, join: Mapping[str, Any] | None) -> None:
        files = self._authority.issue(member.name)
        config = {
            "data_dir": str(member.data_dir),
            "socket": str(member.socket),
            "name": member.name,
            "peer_listen": f"127.0.0.1:{member.port}",
            "peer_advertise": member.address,
            "peer_ca": str(files.ca),
            "peer_certificate": str(files.certificate),
            "peer_key": str(files.key),
            "join": join,
            **self._settings,
            **(self._settings_of(member.number) if self._settings_of is not None else {}),
        }
        (member.directory / "config.json").write_text(json.dumps(config, indent=2))

    async def _spawn(self, member: ClusterMember) -> None:
        with member.log.open("ab") as log:
            member.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gitkube.store.process",
                "--config", str(member.directory / "config.json"),
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **self._environment},
            )  # fmt: skip
        member.is_stopped = member.is_told_to_end = False
        member.waiting = asyncio.create_task(self._wait(member, member.process))

    async def _wait(self, member: ClusterMember, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        member.process, member.is_stopped = None, False
        if not member.is_told_to_end:
            self.deaths.append(Death(member.number, code, last_lines(member.log)))

    def _pids(self) -> Mapping[int, int]:
        return {member.pid: member.number for member in self.members.values() if member.pid}

    def _alive_number(self) -> int:
        return next(number for number in self.running() if self.members[number].member_id)


def last_lines(path: Path, count: int = 3) -> str:
    """The end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])


def reserve_port() -> tuple[socket.socket, int]:
    """A port of loopback that stays ours while nobody listens on it.

    A socket that is bound and does not listen shares its port with a later listener (both say SO_REUSEADDR,
    as asyncio and Go do), but not with the kernel's choice for somebody's outgoing connection, which
    otherwise sometimes takes the port of a member that is down.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved, reserved.getsockname()[1]


async def _retried(call: Callable[[], Awaitable[T]]) -> T:
    """The answer, as soon as the cluster is able to give one."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        try:
            return await call()
        except (UnavailableError, MembershipError):
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(_POLL_S)
