"""The door's edge: limits, clients that misbehave or go, certificates, addresses, and how it closes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.store.door import Door, DoorTls, keep_door, serve_door, server
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.member import Member
from gitkube.store.protocol import InvalidRequestError
from tests.support.door_client import DEADLINE_S, Client
from tests.support.real_api import SMALL_STORE
from tests.support.store_certificates import Authority


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    member = await Member.open(tmp_path / "data", rng=random.Random(9), settings=SMALL_STORE)
    yield member
    await member.close()


@pytest.fixture
async def client(member: Member) -> AsyncIterator[Client]:
    door = await serve_door(
        member, member.administration, "127.0.0.1:0", clock=SystemClock(), watch_progress_s=0.05
    )
    client = Client(door.address)
    yield client
    await client.channel.close()
    await door.close()


async def watches_become(member: Member, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while len(member.engine.watches) != count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


# ---------------------------------------------------------------------- what is refused


async def test_a_message_that_is_too_large_is_refused_and_the_connection_goes_on(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("/etcdserverpb.KV/Put", key=b"a", value=b"x" * 3_000_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("/etcdserverpb.KV/Put", key=b"a", value=b"x" * 1_800_000)
    assert caught.value.details() == "etcdserver: request is too large"
    assert (await client.call("/etcdserverpb.KV/Put", key=b"a", value=b"x")).header.revision == 2


async def test_a_watch_request_that_is_too_large_ends_its_stream_with_the_reason(client: Client) -> None:
    watch = client.watch()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.create(b"k" * 3_000_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_few_compressed_bytes_do_not_become_many(client: Client) -> None:
    method = client.channel.unary_unary(
        "/etcdserverpb.KV/Put", request_serializer=rpc.PutRequest.SerializeToString
    )
    request = rpc.PutRequest(key=b"a", value=bytes(20_000_000))
    with pytest.raises(grpc.aio.AioRpcError, match="compressed ones are not read") as caught:
        await method(request, compression=grpc.Compression.Gzip, timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_more_calls_than_the_limit_are_refused_and_its_room_comes_back(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CALLS", 2)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock())
    client = Client(door.address)
    watches = [client.watch() for _ in range(2)]
    for watch in watches:
        await watch.create(b"a")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("/etcdserverpb.KV/Put", key=b"a", value=b"x")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for watch in watches:
        watch.close()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await client.call("/etcdserverpb.KV/Put", key=b"a", value=b"x")
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)
    await client.channel.close()
    await door.close()


async def test_of_a_burst_of_calls_each_is_answered(client: Client) -> None:
    calls = (client.call("/etcdserverpb.KV/Put", key=b"%d" % number, value=b"x") for number in range(2000))
    answers = await asyncio.gather(*calls)
    assert {answer.header.revision for answer in answers} == set(range(2, 2002))


async def test_a_door_that_closes_ends_its_streams_with_a_word(member: Member) -> None:
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock())
    client = Client(door.address)
    watch = client.watch()
    await watch.create(b"a")
    await door.close()
    with pytest.raises(grpc.aio.AioRpcError, match="etcdserver: server stopped") as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await client.channel.close()


async def test_clients_that_go_without_a_word_leave_nothing_behind(member: Member, client: Client) -> None:
    watch = client.watch()
    for number in range(10):
        await watch.create(b"a/%d" % number)
    await watches_become(member, 10)
    await client.channel.close()
    await watches_become(member, 0)


# ---------------------------------------------------------------------- what makes it fall


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:x", ":2379", "192.0.2.1:2379", "no such host:1"])
async def test_an_address_that_cannot_be_had_is_refused_with_the_reason(member: Member, listen: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"cannot be served on '{listen}': .*") as caught:
        await serve_door(member, member.administration, listen, clock=SystemClock())
    assert "GRPC" not in str(caught.value)


async def test_a_door_that_a_client_brings_to_fall_is_opened_again(member: Member) -> None:
    opened: asyncio.Queue[str] = asyncio.Queue()

    async def open_door() -> Door:
        address = "127.0.0.1:0" if opened.empty() else opened.get_nowait()
        door = await serve_door(member, member.administration, address, clock=SystemClock())
        opened.put_nowait(door.address)
        return door

    keeper = asyncio.create_task(keep_door(open_door, SystemClock()))
    async with asyncio.timeout(DEADLINE_S):
        address = await opened.get()
        client = Client(address)
        watch = client.watch()
        await watch.create(b"a")
        # A path that is no UTF-8: grpc.aio's server ends, and would stand there deaf while there is a stream.
        host, port = address.split(":")
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/\xff"), (b":authority", b"a")]
        fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
        headers = b"".join(
            b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value for key, value in fields
        )
        frames = b"\0\0\0\4\0\0\0\0\0" + len(headers).to_bytes(3, "big") + b"\1\5\0\0\0\1" + headers
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        await writer.drain()
        assert await opened.get()
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
        writer.close()
    await client.channel.close()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


async def test_certificates_are_replaced_while_the_door_is_open_and_half_of_a_pair_is_left_aside(
    member: Member, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    first, own = authority.issue("first"), authority.issue("client")
    certificate, key = tmp_path / "door.crt", tmp_path / "door.key"
    certificate.write_bytes(first.certificate.read_bytes())
    key.write_bytes(first.key.read_bytes())
    tls = DoorTls(certificate, key, authority.ca)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock(), tls=tls)

    def presented() -> str:
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(own.certificate, own.key)
        host, port = door.address.split(":")
        with (
            socket.create_connection((host, int(port))) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")

    assert await asyncio.to_thread(presented) == first.certificate.read_text()
    second = authority.issue("second")
    certificate.write_bytes(second.certificate.read_bytes())
    assert await asyncio.to_thread(presented) == first.certificate.read_text()
    key.write_bytes(second.key.read_bytes())
    assert await asyncio.to_thread(presented) == second.certificate.read_text()
    await door.close()


async def test_whoever_says_nothing_at_the_door_is_not_waited_for(
    member: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT_S", 0.3)
    files = Authority(tmp_path / "pki").issue("door")
    tls = DoorTls(files.certificate, files.key, files.ca)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock(), tls=tls)
    host, port = door.address.split(":")
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    await door.close()


async def test_a_certificate_that_cannot_be_used_is_named(member: Member, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    files, other = authority.issue("a"), authority.issue("b")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\n")
    for tls, reason in (
        (DoorTls(tmp_path / "none", files.key, files.ca), "none"),
        (DoorTls(broken, files.key, files.ca), "broken holds no certificate"),
        (DoorTls(files.certificate, broken, files.ca), "broken holds no private key"),
        (DoorTls(files.certificate, files.key, broken), "broken holds no certificate"),
        (DoorTls(files.certificate, other.key, files.ca), "b.key is not the key of"),
    ):
        with pytest.raises(InvalidRequestError, match=reason):
            await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock(), tls=tls)


async def test_a_method_that_nobody_knows_is_refused(client: Client) -> None:
    method = client.channel.unary_unary("/etcdserverpb.KV/Levitate")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
