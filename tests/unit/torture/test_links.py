"""The network in a test's hands does to bytes what the test says, and to nobody else's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from tests.support.store_links import Links, LinkState, owner_of_connection

DIALLER, TARGET = 0, 1


class Ends:
    """A connection through `Links`: dialled by this process, which plays member 0; member 1 listens."""

    def __init__(self) -> None:
        self.links = Links(lambda: {os.getpid(): DIALLER})
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.address = ""
        self._server: asyncio.Server

    async def start(self) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.accepted.put((reader, writer))

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = await self.links.add(TARGET, "127.0.0.1", port)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.address.split(":")
        return await asyncio.open_connection(host, int(port))

    async def close(self) -> None:
        await self.links.close()
        self._server.close()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    await made.start()
    yield made
    await made.close()


async def test_bytes_pass_both_ways_while_the_links_are_open(ends: Ends) -> None:
    reader, writer = await ends.connect()
    far_reader, far_writer = await ends.accepted.get()
    writer.write(b"there")
    assert await far_reader.readexactly(5) == b"there"
    far_writer.write(b"back")
    assert await reader.readexactly(4) == b"back"


async def test_what_a_held_link_got_arrives_when_it_opens_while_the_other_way_goes_on(ends: Ends) -> None:
    reader, writer = await ends.connect()
    far_reader, far_writer = await ends.accepted.get()
    ends.links.set(DIALLER, TARGET, LinkState.HELD)
    assert ends.links.faults() == ["0->1 held"]
    writer.write(b"later")
    arriving = asyncio.create_task(far_reader.readexactly(5))
    far_writer.write(b"back")
    assert await reader.readexactly(4) == b"back"
    assert not arriving.done()
    ends.links.heal()
    assert await arriving == b"later"
    assert ends.links.faults() == []


async def test_a_cut_link_resets_connections_and_refuses_new_ones_until_it_is_healed(ends: Ends) -> None:
    reader, _ = await ends.connect()
    await ends.accepted.get()
    ends.links.set(TARGET, DIALLER, LinkState.CUT)
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    again, _ = await ends.connect()
    with pytest.raises(ConnectionResetError):
        await again.read(1)
    ends.links.heal()
    _, writer = await ends.connect()
    far_reader, _ = await ends.accepted.get()
    writer.write(b"x")
    assert await far_reader.readexactly(1) == b"x"


async def test_the_kernel_tells_which_process_has_a_connection(ends: Ends) -> None:
    _, writer = await ends.connect()
    ports = writer.get_extra_info("sockname")[1], writer.get_extra_info("peername")[1]
    assert owner_of_connection(*ports, [1, os.getpid()]) == os.getpid()
    assert owner_of_connection(*ports, [1]) is None
    assert owner_of_connection(1, ports[1], [os.getpid()]) is None
