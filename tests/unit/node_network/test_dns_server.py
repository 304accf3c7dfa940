"""The name server over real sockets on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gitkube.node.network.dns import message
from gitkube.node.network.dns import server as dns_server
from gitkube.node.network.dns.server import DnsServer
from gitkube.node.network.dns.zone import Zone
from gitkube.wire import ServicesDesired
from tests.support.ports import free_port


def zone_of(*services: dict[str, Any], endpoints: int = 0) -> Zone:
    desired: ServicesDesired = {
        "services": list(services),
        "endpointSlices": [
            {
                "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "many"}},
                "endpoints": [{"addresses": [f"10.42.1.{n + 2}"]} for n in range(endpoints)],
            }
        ],
    }
    return Zone("cluster.local", desired, cluster_cidr="10.42.0.0/16", service_cidr="10.43.0.0/16")


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": spec}


@asynccontextmanager
async def serving(zone: Zone | None, resolv_conf: Path) -> AsyncIterator[int]:
    port = free_port()
    task = asyncio.ensure_future(
        DnsServer(lambda: zone, resolv_conf, rng=random.Random(1), port=port).run("127.0.0.1")
    )
    try:
        for _ in range(3000):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.01)
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask_udp(port: int, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, query)
        return await asyncio.wait_for(loop.sock_recv(sock, 65535), 60)


async def ask_tcp(port: int, *queries: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    responses = []
    for query in queries:
        writer.write(struct.pack("!H", len(query)) + query)
        length = struct.unpack("!H", await reader.readexactly(2))[0]
        responses.append(await reader.readexactly(length))
    writer.close()
    return responses


def code_of(response: bytes) -> int:
    return int(response[3] & 15)


async def test_many_addresses_are_cut_over_udp_and_whole_over_tcp(tmp_path: Path) -> None:
    zone = zone_of(service("many", clusterIP="None"), endpoints=100)
    query = message.encode_query(7, "many.default.svc.cluster.local", message.A)
    async with serving(zone, tmp_path / "none") as port:
        cut = await ask_udp(port, query)
        (whole, again) = await ask_tcp(port, query, query)
    assert cut[2] & 2
    assert len(cut) <= 512
    assert not whole[2] & 2
    assert struct.unpack_from("!H", whole, 6)[0] == 100
    assert whole != again  # another order each time


async def test_before_anything_is_known_the_answer_is_try_later(tmp_path: Path) -> None:
    async with serving(None, tmp_path / "none") as port:
        response = await ask_udp(port, message.encode_query(7, "web.default.svc.cluster.local", message.A))
    assert code_of(response) == message.SERVFAIL


async def test_without_a_way_upstream_the_world_outside_fails_at_once(tmp_path: Path) -> None:
    async with serving(zone_of(), tmp_path / "none") as port:
        response = await ask_udp(port, message.encode_query(7, "example.org", message.A))
    assert code_of(response) == message.SERVFAIL


async def test_an_alias_out_of_the_cluster_is_followed_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = zone_of(service("target", clusterIP="10.43.0.77"))
    away = service("away", type="ExternalName", externalName="target.default.svc.cluster.local")
    inside = Zone(
        "inside.local",
        {"services": [away], "endpointSlices": []},
        cluster_cidr="10.42.0.0/16",
        service_cidr="10.43.0.0/16",
    )
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\n")
    async with serving(outside, tmp_path / "none") as upstream:
        monkeypatch.setattr(dns_server, "PORT", upstream)
        server = DnsServer(lambda: inside, conf, rng=random.Random(1))
        alias = message.encode_query(9, "away.default.svc.inside.local", message.A)
        response = await server.respond(alias)
        direct = await server.respond(message.encode_query(8, "target.default.svc.cluster.local", message.A))
    assert response is not None
    assert direct is not None
    assert [str(record.data) for record in message.read_answers(response)] == [
        "target.default.svc.cluster.local",
        "10.43.0.77",
    ]
    assert struct.unpack_from("!H", direct)[0] == 8
    assert [str(record.data) for record in message.read_answers(direct)] == ["10.43.0.77"]


async def test_nonsense_is_answered_as_such_and_serving_goes_on(tmp_path: Path) -> None:
    zone = zone_of(service("web", clusterIP="10.43.0.5"))
    async with serving(zone, tmp_path / "none") as port:
        assert code_of(await ask_udp(port, bytes(12))) == message.FORMERR
        good = await ask_udp(port, message.encode_query(7, "web.default.svc.cluster.local", message.A))
    assert [str(record.data) for record in message.read_answers(good)] == ["10.43.0.5"]
