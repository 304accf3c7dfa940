"""The name server's sockets: UDP and TCP on the gateway's address, one question at a time to the zone.

What is not of the zone goes upstream as the bytes that came (only the id is ours), to the name servers of
the host's resolv.conf in turn. Every wait has an end, and the number of questions under way is limited: a
flood from one pod is dropped, never queued for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, cast

from gitkube.node import files
from gitkube.node.network.dns import message, resolv
from gitkube.node.network.dns.message import Answer, MessageError, Query
from gitkube.node.network.dns.zone import Zone

PORT = 53
UPSTREAM_TIMEOUT_S = 2.0
"""For each name server; the C library waits five seconds for all of us."""
TCP_IDLE_TIMEOUT_S = 10.0
MAX_UNDER_WAY = 512
MAX_TCP_CONNECTIONS = 128

Address = tuple[str, int]
_log = logging.getLogger("gitkube.dns")


class DnsServer:
    """Answers for the zone that `zone()` gives at that moment.

    Args:
        zone: the current zone, or None while none is known (then every question of a pod is SERVFAIL).
        resolv_conf: the host's file, read for each question that goes upstream.
        rng: for the ids of upstream questions.
    """

    def __init__(
        self, zone: Callable[[], Zone | None], resolv_conf: Path, *, rng: random.Random, port: int = PORT
    ) -> None:
        self._zone = zone
        self._resolv_conf = resolv_conf
        self._rng = rng
        self._port = port
        self._address = ""
        self._under_way: set[asyncio.Task[None]] = set()
        self._connections = 0

    async def run(self, address: str) -> None:
        """Serve on an address until cancelled.

        Raises:
            OSError: the address or port cannot be had.
        """
        self._address = address
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(address, self._port)
        )
        try:
            server = await asyncio.start_server(self._serve_connection, address, self._port)
            async with server:
                await server.serve_forever()
        finally:
            transport.close()
            for task in list(self._under_way):
                task.cancel()

    async def respond(self, data: bytes, limit_bytes: int | None = None) -> bytes | None:
        """The response to a message, or None when silence is the right one.

        Args:
            limit_bytes: of the response; None takes what the question allows for UDP.
        """
        try:
            query = message.parse_query(data)
        except MessageError:
            return message.format_error(data)
        limit = limit_bytes or query.udp_bytes
        if query.opcode != 0 or query.dns_class not in (message.IN, message.ANY):
            return message.encode_response(query, Answer(message.NOTIMP, is_authoritative=False), limit)
        zone = self._zone()
        if zone is None:
            return message.encode_response(query, Answer(message.SERVFAIL, is_authoritative=False), limit)
        answer = zone.answer(query.name, query.type)
        if answer is None:
            over_tcp = limit_bytes is not None
            answered = await self._ask_upstream(data, over_tcp=over_tcp)
            return answered or message.encode_response(
                query, Answer(message.SERVFAIL, is_authoritative=False), limit
            )
        answer = await self._beyond_alias(query, zone, answer)
        return message.encode_response(query, self._rotated(query, answer), limit)

    async def _beyond_alias(self, query: Query, zone: Zone, answer: Answer) -> Answer:
        """What is found where an alias (ExternalName) leads out of the cluster: clients don't follow it."""
        last = answer.answers[-1] if answer.answers else None
        if last is None or last.type != message.CNAME or query.type not in (message.A, message.AAAA):
            return answer
        target = str(last.data)
        if zone.answer(target, query.type) is not None:
            return answer
        question = message.encode_query(self._rng.randrange(65536), target, query.type, udp_bytes=1232)
        response = await self._ask_upstream(question, over_tcp=False)
        if response is None:
            return Answer(message.SERVFAIL, is_authoritative=False)
        try:
            beyond = message.read_answers(response)
        except MessageError as error:
            _log.info("upstream answered nonsense", extra={"target": target, "error": str(error)})
            return Answer(message.SERVFAIL, is_authoritative=False)
        return Answer(message.NOERROR, (*answer.answers, *beyond), is_authoritative=False)

    def _rotated(self, query: Query, answer: Answer) -> Answer:
        """Addresses in another order each time: many clients take the first."""
        if query.type != message.A or len(answer.answers) < 2:
            return answer
        aliases = [record for record in answer.answers if record.type != message.A]
        addresses = [record for record in answer.answers if record.type == message.A]
        self._rng.shuffle(addresses)
        return Answer(answer.code, (*aliases, *addresses), answer.authority, answer.additional)

    # ------------------------------------------------------------ sockets

    def take_datagram(self, transport: asyncio.DatagramTransport, data: bytes, sender: Address) -> None:
        """Answer one datagram in a task of its own, unless too many are under way."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            return
        task = asyncio.ensure_future(self._answer_datagram(transport, data, sender))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer_datagram(
        self, transport: asyncio.DatagramTransport, data: bytes, sender: Address
    ) -> None:
        response = await self.respond(data)
        if response is not None and not transport.is_closing():
            transport.sendto(response, sender)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 7766: questions in turn on one connection, each with its length before it."""
        if self._connections >= MAX_TCP_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            while True:
                data = await asyncio.wait_for(_read_framed(reader), TCP_IDLE_TIMEOUT_S)
                response = await self.respond(data, message.MAX_TCP_BYTES)
                if response is None:
                    return
                writer.write(struct.pack("!H", len(response)) + response)
                await asyncio.wait_for(writer.drain(), TCP_IDLE_TIMEOUT_S)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            return  # the asker went away or fell silent; nobody is left to tell
        finally:
            self._connections -= 1
            writer.close()

    # ------------------------------------------------------------ upstream

    async def _ask_upstream(self, data: bytes, *, over_tcp: bool) -> bytes | None:
        for server in self._upstreams():
            try:
                ask = self._ask_by_tcp if over_tcp else self._ask_by_udp
                return await asyncio.wait_for(ask(data, server), UPSTREAM_TIMEOUT_S)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                _log.info("upstream did not answer", extra={"server": server, "error": repr(error)})
        return None

    def _upstreams(self) -> Sequence[str]:
        host = resolv.read(files.read_text(self._resolv_conf))
        return [server for server in host.servers[: resolv.MAX_SERVERS] if server != self._address]

    async def _ask_by_udp(self, data: bytes, server: str) -> bytes:
        loop = asyncio.get_running_loop()
        own_id = struct.pack("!H", self._rng.randrange(65536))
        answered: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Upstream(own_id, answered), remote_addr=(server, PORT)
        )
        try:
            transport.sendto(own_id + data[2:])
            response = await answered
        finally:
            transport.close()
        return data[:2] + response[2:]

    async def _ask_by_tcp(self, data: bytes, server: str) -> bytes:
        reader, writer = await asyncio.open_connection(server, PORT)
        try:
            writer.write(struct.pack("!H", len(data)) + data)
            await writer.drain()
            return await _read_framed(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_framed(reader: asyncio.StreamReader) -> bytes:
    length = struct.unpack("!H", await reader.readexactly(2))[0]
    return await reader.readexactly(length)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: before Python 3.12 the loop's own transport is none by its class.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self._transport is not None:
            self._server.take_datagram(self._transport, data, addr)


class _Upstream(asyncio.DatagramProtocol):
    def __init__(self, own_id: bytes, answered: asyncio.Future[bytes]) -> None:
        self._own_id, self._answered = own_id, answered

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if data[:2] == self._own_id and not self._answered.done():
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)
