"""Connections between members: what the world does to them, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitkube.clock import SystemClock
from gitkube.store.directory import Identity
from gitkube.store.peer_local import StateReceiver
from gitkube.store.peer_tls import PeerTls
from gitkube.store.protocol import IdentityError, UnavailableError
from gitkube.store.raft.types import MemberId, Message
from gitkube.store.transport import Transport
from tests.support.ports import free_port
from tests.support.store_certificates import Authority

CLUSTER = 9
ONE, TWO = MemberId(1), MemberId(2)


@dataclass
class Member:
    """A member that knows addresses and answers with what it was asked."""

    others: dict[int, str] = field(default_factory=dict)

    def addresses(self) -> Mapping[int, str]:
        return self.others

    def is_removed(self, member: int) -> bool:
        return False

    def on_messages(self, messages: Iterable[Message]) -> None:
        pass

    def on_unreachable(self, member: MemberId) -> None:
        pass

    def on_state_sent(self, member: MemberId, *, ok: bool) -> None:
        pass

    def on_refused(self, error: IdentityError) -> None:
        pass

    def state_pieces(self, message: Message, piece_bytes: int) -> AsyncIterator[bytes]:
        raise AssertionError("nobody sends a state here")

    def receiver_of(self, message: Message) -> StateReceiver:
        raise AssertionError("nobody sends a state here")

    async def on_state(self, message: Message) -> None:
        raise AssertionError("nobody sends a state here")

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        if method == "fail":
            raise RuntimeError("a mistake of ours")
        return [method, list(arguments)]


@asynccontextmanager
async def transport(
    member: MemberId, others: Mapping[int, str], tls: PeerTls, *, port: int = 0
) -> AsyncIterator[Transport]:
    made = Transport(
        Member(dict(others)),
        Identity(CLUSTER, member, f"member-{member}"),
        listen=f"127.0.0.1:{port}",
        tls=tls,
        clock=SystemClock(),
        rng=random.Random(member),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def tls_of(authority: Authority, name: str, *, days: int = 1) -> PeerTls:
    files = authority.issue(name, days=days)
    return PeerTls(files.ca, files.certificate, files.key)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.02)


async def test_a_member_whose_certificate_ran_out_is_reached_again_once_it_was_renewed(
    tmp_path: Path,
) -> None:
    """Members stay connected for months: the first who calls after that must not find the old certificate."""
    authority, port = Authority(tmp_path), free_port()
    expired = tls_of(authority, "two", days=-1)
    async with (
        transport(TWO, {}, expired, port=port),
        transport(ONE, {TWO: f"127.0.0.1:{port}"}, tls_of(authority, "one")) as one,
    ):
        await until(lambda: "expired" in one.last_error.get(TWO, ""))
        authority.issue("two")
        await until(lambda: one.is_open(TWO))


def test_files_that_do_not_fit_together_leave_the_certificate_that_was_there(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good = tls_of(authority, "one")
    other = tls_of(authority, "two")
    context = good.server_context()
    with pytest.raises(IdentityError, match="of no use"):
        PeerTls(good.ca, other.certificate, good.key).refresh(context)
    assert name_shown(context, good) == "gitkube-member:one"


async def test_a_stranger_who_knocks_does_not_make_a_member_read_its_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them takes a millisecond of the loop, and knocking costs a stranger nothing."""
    authority, port, read = Authority(tmp_path), free_port(), []
    refresh = PeerTls.refresh
    async with transport(TWO, {}, tls_of(authority, "two"), port=port):
        monkeypatch.setattr(
            PeerTls, "refresh", lambda tls, context: (read.append(tls), refresh(tls, context))[1]
        )
        for expected in (0, 0, 1, 1):
            if expected and not read:
                authority.issue("two")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"no greeting in TLS")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await reader.read()  # until it is hung up on
            assert len(read) == expected


def name_shown(server: ssl.SSLContext, client: PeerTls) -> str:
    """The common name that a server shows in a handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.client_context().wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    subject = dict(pair[0] for pair in (ends[0].getpeercert() or {})["subject"])
    return str(subject["commonName"])


async def test_a_peer_that_vanished_without_a_word_does_not_keep_its_connection(tmp_path: Path) -> None:
    """The end that only listens never sends anything that could stay unacknowledged: it has to ask."""
    authority, port = Authority(tmp_path), free_port()
    async with (
        transport(TWO, {}, tls_of(authority, "two"), port=port) as two,
        transport(ONE, {TWO: f"127.0.0.1:{port}"}, tls_of(authority, "one")) as one,
    ):
        await until(lambda: one.is_open(TWO) and bool(two._listener.callers))
        for frames in (*two._listener.callers, one._open[TWO].frames):
            connected = frames.extra("socket")
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 30
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


async def test_a_question_is_answered_even_when_its_answer_fails(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    async with (
        transport(TWO, {}, tls_of(authority, "two"), port=port),
        transport(ONE, {TWO: f"127.0.0.1:{port}"}, tls_of(authority, "one")) as one,
    ):
        await until(lambda: one.is_open(TWO))
        assert await one.ask(TWO, "hash", [3], timeout_s=30) == ["hash", [3]]
        with pytest.raises(UnavailableError, match="a mistake of ours"):
            await one.ask(TWO, "fail", [], timeout_s=30)
        assert one.is_open(TWO)


async def test_an_address_that_can_be_no_host_is_tried_again_like_one_that_does_not_answer(
    tmp_path: Path,
) -> None:
    """Somebody may correct it, and the member must not have given up by then."""
    authority, port = Authority(tmp_path), free_port()
    no_host = f"{'long' * 20}.test:{port}"
    async with (
        transport(TWO, {}, tls_of(authority, "two"), port=port),
        transport(ONE, {TWO: no_host}, tls_of(authority, "one")) as one,
    ):
        await until(lambda: bool(one.last_error.get(TWO)))
        one._local.addresses()[TWO] = f"127.0.0.1:{port}"  # type: ignore[index]
        await until(lambda: one.is_open(TWO))


async def test_a_member_that_is_back_and_dials_is_dialled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be silent to the others for a second more, and answer no linearizable read."""
    monkeypatch.setattr("gitkube.store.transport.BACKOFF_S", (600.0, 600.0))
    authority, (port_one, port_two) = Authority(tmp_path), (free_port(), free_port())
    async with transport(ONE, {TWO: f"127.0.0.1:{port_two}"}, tls_of(authority, "one"), port=port_one) as one:
        await until(lambda: TWO in one.last_error)
        async with transport(
            TWO, {ONE: f"127.0.0.1:{port_one}"}, tls_of(authority, "two"), port=port_two
        ) as two:
            await until(lambda: one.is_open(TWO) and two.is_open(ONE))


async def test_the_log_is_told_once_for_each_reason_why_a_member_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    quiet = SimpleNamespace(
        info=lambda event, **facts: None, warning=lambda event, **facts: told.append(facts["error"])
    )
    monkeypatch.setattr("gitkube.store.transport.log", quiet)
    authority, port = Authority(tmp_path), free_port()
    async with transport(ONE, {TWO: f"127.0.0.1:{port}"}, tls_of(authority, "one")) as one:
        await until(lambda: TWO in one.last_error)
        await asyncio.sleep(0.3)  # it is dialled some times more
        async with transport(TWO, {}, tls_of(authority, "two"), port=port):
            await until(lambda: one.is_open(TWO))
        await until(lambda: not one.is_open(TWO))
    assert told[0] == "Connection refused"
    assert all(before != after for before, after in pairwise(told))
