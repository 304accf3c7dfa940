"""Doors of three members that really run: one cluster, whichever of them a client of etcd's comes to."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcdctl import Etcdctl, needs_etcdctl
from tests.support.store_certificates import Authority, PeerFiles
from tests.support.store_cluster import StoreCluster, reserve_port

pytestmark = [needs_etcdctl, pytest.mark.slow]
DEADLINE_S = 90.0


class Doors:
    """Addresses and certificates of doors, by the number of their member."""

    def __init__(self, directory: Path) -> None:
        self._authority = Authority(directory)
        self.server, self.client = self._authority.issue("door"), self._authority.issue("client")
        self._reserved: dict[int, socket.socket] = {}
        self.addresses: dict[int, str] = {}

    def settings_of(self, number: int) -> Mapping[str, Any]:
        self._reserved[number], port = reserve_port()
        self.addresses[number] = f"127.0.0.1:{port}"
        return {
            "door_listen": self.addresses[number],
            "door_ca": str(self.server.ca),
            "door_certificate": str(self.server.certificate),
            "door_key": str(self.server.key),
        }

    def close(self) -> None:
        for each in self._reserved.values():
            each.close()

    def etcdctl(self, *numbers: int, client: PeerFiles | None = None) -> Etcdctl:
        files = client or self.client
        addresses = ",".join(f"https://{self.addresses[number]}" for number in numbers)
        return Etcdctl(
            addresses, [f"--cacert={files.ca}", f"--cert={files.certificate}", f"--key={files.key}"]
        )


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gk") as name:  # short, for unix sockets
        yield Path(name)


@pytest.fixture
async def doors(directory: Path) -> AsyncIterator[Doors]:
    doors = Doors(directory / "doors")
    yield doors
    doors.close()


async def logged(cluster: StoreCluster, number: int, event: str) -> dict[str, Any]:
    """The first line of a member's log with that event."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for line in cluster.members[number].log.read_text().splitlines():
                if f'"{event}"' in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
            await asyncio.sleep(0.05)


async def test_what_is_put_through_one_door_is_got_through_another(directory: Path, doors: Doors) -> None:
    async with StoreCluster(directory, settings_of=doors.settings_of, is_linked=False) as cluster:
        for number in cluster.members:
            await logged(cluster, number, "door_opened")
        everyone = doors.etcdctl(0, 1, 2)
        statuses = [each["Status"] for each in await everyone.json("endpoint", "status")]
        assert [each["header"]["member_id"] for each in statuses] == [
            member.member_id for member in cluster.members.values()
        ]
        assert {each["leader"] for each in statuses} == {cluster.members[await cluster.leader()].member_id}
        listed = await doors.etcdctl(1).json("member", "list")
        assert [(each["ID"], each["name"]) for each in listed["members"]] == [
            (member.member_id, member.name) for member in cluster.members.values()
        ]
        assert await doors.etcdctl(1).lines("put", "a", "1") == ["OK"]
        assert await doors.etcdctl(2).lines("get", "a") == ["a", "1"]
        for number in cluster.members:
            await cluster.end(number)
        assert cluster.deaths == []


async def test_a_door_that_cannot_be_opened_does_not_stop_the_member(directory: Path, doors: Doors) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        def settings_of(number: int) -> Mapping[str, Any]:
            return {**doors.settings_of(number), "door_listen": f"127.0.0.1:{port}"}

        async with StoreCluster(directory, members=1, settings_of=settings_of, is_linked=False) as cluster:
            said = await logged(cluster, 0, "door_not_opened")
            assert said["level"] == "error"
            assert f"cannot be served on '127.0.0.1:{port}': " in said["error"]
            assert "Address already in use" in said["error"]
            assert (await cluster.status(0)).is_leader
            taken.close()
            await logged(cluster, 0, "door_opened")
            doors.addresses[0] = f"127.0.0.1:{port}"
            assert await doors.etcdctl(0).lines("put", "a", "1") == ["OK"]
