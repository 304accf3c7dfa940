"""The two sides of the store's benchmark, with one face: clusters that can be killed, and clients of a
member.

Ours is reached over its unix socket (`RemoteStore`, what the API server uses) and through its etcd door; etcd
over gRPC with the generated stubs and nothing around them, which is the fastest client of it in Python: on
one channel as many writes a second as etcd's own client in Go, twice as many as over its JSON gateway.
Members of both speak mutual TLS with each other, with certificates of one authority, and sync each write to
the disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # members are started beside it, by exec: nothing is shared

import grpc
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from gitkube.store.protocol import Get, Put, Revision, UnavailableError, prefix_end
from gitkube.store.remote import RemoteStore

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.store_certificates import Authority, PeerFiles
from tests.support.store_cluster import StoreCluster, reserve_port

READY_TIMEOUT_S = 60.0
_POLL_S = 0.005


class Client(Protocol):
    """Of one member."""

    async def put(self, key: bytes, value: bytes) -> None: ...

    async def get(self, key: bytes, *, serializable: bool) -> None: ...

    async def watch(self, prefix: bytes, watchers: int, delivered: Callable[[int], None]) -> None:
        """So many watchers of a prefix; `delivered` is called with the number of each that got an event.

        Never returns; `delivered(-1)` says that one more watcher is in force.
        """
        ...

    async def close(self) -> None: ...


class Cluster(Protocol):
    name: str

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def leader(self) -> int: ...

    def client(self, number: int) -> Client: ...

    def door(self, number: int) -> GrpcClient:
        """With mutual TLS."""
        ...

    def pids(self) -> list[int]: ...

    async def kill(self, number: int) -> None: ...

    async def restart(self, number: int) -> None: ...


Failures = (UnavailableError, grpc.aio.AioRpcError)
"""What a client says while there is no leader, or no member."""


async def answers(client: Client) -> None:
    """Return when the member behind this client answers a linearizable read."""
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while True:
        try:
            async with asyncio.timeout(1):
                await client.get(b"ready", serializable=False)
            return
        except (*Failures, TimeoutError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_POLL_S)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in 10^6 bytes (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no memory")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that these processes have used so far (proc(5), stat: utime and stime)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------- ours


class SocketClient:
    """Of our member, over its unix socket."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store

    async def put(self, key: bytes, value: bytes) -> None:
        await self._store.txn([], [Put(key, value)])

    async def get(self, key: bytes, *, serializable: bool) -> None:
        await self._store.read(Get(key), serializable=serializable)

    async def watch(self, prefix: bytes, watchers: int, delivered: Callable[[int], None]) -> None:
        async def one(number: int) -> None:
            is_first = True
            async for batch in self._store.watch(prefix, prefix_end(prefix), start_revision=Revision(0)):
                if is_first:
                    delivered(-1)
                    is_first = False
                for _ in batch.events:
                    delivered(number)

        async with asyncio.TaskGroup() as group:
            for number in range(watchers):
                group.create_task(one(number))

    async def close(self) -> None:
        await self._store.close()


class OurCluster:
    name = "gitkube"

    def __init__(
        self, directory: Path, members: int, *, settings: dict[str, Any] | None = None, has_door: bool = False
    ) -> None:
        self._authority = Authority(directory / "clients")
        self._doors: dict[int, str] = {}
        self._reserved: list[Any] = []
        self.cluster = StoreCluster(
            directory, members=members, settings=settings, is_linked=False,
            settings_of=self._door_settings if has_door else None,
        )  # fmt: skip

    def _door_settings(self, number: int) -> dict[str, Any]:
        files = self._authority.issue(f"door-{number}", organization="gitkube:door")
        reserved, port = reserve_port()
        self._reserved.append(reserved)
        self._doors[number] = f"127.0.0.1:{port}"
        return {
            "door_listen": self._doors[number], "door_ca": str(files.ca),
            "door_certificate": str(files.certificate), "door_key": str(files.key),
        }  # fmt: skip

    async def start(self) -> None:
        await self.cluster.start()

    async def close(self) -> None:
        await self.cluster.close()
        for reserved in self._reserved:
            reserved.close()

    async def leader(self) -> int:
        return await self.cluster.leader()

    def client(self, number: int) -> Client:
        return SocketClient(self.cluster.store(number))

    def door(self, number: int) -> GrpcClient:
        return GrpcClient(self._doors[number], self._authority.issue("bench", organization="system:masters"))

    def pids(self) -> list[int]:
        return [member.pid for member in self.cluster.members.values()]

    async def kill(self, number: int) -> None:
        await self.cluster.kill(number)

    async def restart(self, number: int) -> None:
        await self.cluster.restart(number)


# ---------------------------------------------------------------------- etcd


_QUICK_RECONNECTS = [
    (f"grpc.{name}_reconnect_backoff_ms", value)
    for name, value in (("initial", 100), ("min", 100), ("max", 200))
]
"""So that a member's way back is measured, and not the patience of gRPC."""


class GrpcClient:
    """Of whatever speaks etcd's gRPC, over one channel of its own; with files it is mutual TLS."""

    def __init__(self, address: str, files: PeerFiles | None = None) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), *_QUICK_RECONNECTS]
        if files is None:
            self.channel = grpc.aio.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(
                files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
            )
            self.channel = grpc.aio.secure_channel(address, credentials, options)
        self._keys = rpc_pb2_grpc.KVStub(self.channel)
        self._watches = rpc_pb2_grpc.WatchStub(self.channel)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._keys.Put(rpc_pb2.PutRequest(key=key, value=value))

    async def get(self, key: bytes, *, serializable: bool) -> None:
        await self._keys.Range(rpc_pb2.RangeRequest(key=key, serializable=serializable))

    async def watch(self, prefix: bytes, watchers: int, delivered: Callable[[int], None]) -> None:
        stream = self._watches.Watch()
        create = rpc_pb2.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix))
        for _ in range(watchers):
            await stream.write(rpc_pb2.WatchRequest(create_request=create))
        async for answer in stream:
            if answer.created:
                delivered(-1)
            for _ in answer.events:
                delivered(answer.watch_id)

    async def close(self) -> None:
        await self.channel.close()


class EtcdCluster:
    """Debian's etcd; peers speak mutual TLS as ours do, clients have a door without and one with it."""

    name = "etcd"

    def __init__(self, directory: Path, members: int) -> None:
        self._directory = directory
        self._authority = Authority(directory / "pki")
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._reserved: list[Any] = []
        self._ports: dict[int, tuple[int, int, int]] = {}
        for number in range(members):
            sockets = [reserve_port() for _ in range(3)]
            self._reserved += [reserved for reserved, _ in sockets]
            self._ports[number] = (sockets[0][1], sockets[1][1], sockets[2][1])

    async def start(self) -> None:
        for number in self._ports:
            await self.restart(number)
        for number in self._ports:
            client = self.client(number)
            await answers(client)
            await client.close()

    async def close(self) -> None:
        for number in list(self._processes):
            await self.kill(number)
        for reserved in self._reserved:
            reserved.close()

    async def leader(self) -> int:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while True:
            for number in self._processes:
                client = GrpcClient(f"127.0.0.1:{self._ports[number][1]}")
                try:
                    maintenance = rpc_pb2_grpc.MaintenanceStub(client.channel)
                    status = await maintenance.Status(rpc_pb2.StatusRequest(), timeout=1)
                    if status.leader and status.leader == status.header.member_id:
                        return number
                except grpc.aio.AioRpcError:
                    continue  # down: another one may know
                finally:
                    await client.close()
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("etcd has no leader")
            await asyncio.sleep(0.05)

    def client(self, number: int) -> Client:
        return GrpcClient(f"127.0.0.1:{self._ports[number][1]}")

    def door(self, number: int) -> GrpcClient:
        return GrpcClient(
            f"127.0.0.1:{self._ports[number][2]}",
            self._authority.issue("bench", organization="system:masters"),
        )

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    async def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()

    async def restart(self, number: int) -> None:
        peer, plain, secure = self._ports[number]
        files = self._authority.issue(f"m{number}")
        clients = f"http://127.0.0.1:{plain},https://127.0.0.1:{secure}"
        cluster = ",".join(f"m{each}=https://127.0.0.1:{ports[0]}" for each, ports in self._ports.items())
        with (self._directory / f"etcd-{number}.log").open("ab") as log:
            self._processes[number] = await asyncio.create_subprocess_exec(
                "etcd", "--name", f"m{number}", "--data-dir", str(self._directory / f"etcd-{number}"),
                "--listen-client-urls", clients, "--advertise-client-urls", clients,
                "--listen-peer-urls", f"https://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"https://127.0.0.1:{peer}",
                "--initial-cluster", cluster,
                "--peer-client-cert-auth", "--peer-trusted-ca-file", str(files.ca),
                "--peer-cert-file", str(files.certificate), "--peer-key-file", str(files.key),
                "--client-cert-auth", "--trusted-ca-file", str(files.ca),
                "--cert-file", str(files.certificate), "--key-file", str(files.key),
                "--quota-backend-bytes", str(8 << 30),
                stdout=log, stderr=log,
            )  # fmt: skip
