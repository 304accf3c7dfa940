"""Members that do not trust each other say what is the matter with the certificate, and what to do."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gitkube.store.peer_tls import PeerTls, words_of
from tests.support.store_certificates import Authority


def member_of(authority: Authority, name: str = "one", *, days: int = 1) -> PeerTls:
    files = authority.issue(name, days=days)
    return PeerTls(files.ca, files.certificate, files.key)


async def refusal_of(server: PeerTls, client: PeerTls) -> str:
    listener = await asyncio.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server.server_context()
    )
    host, port = listener.sockets[0].getsockname()
    async with listener:
        with pytest.raises(ssl.SSLError) as refused:
            await asyncio.open_connection(host, port, ssl=client.client_context(), server_hostname="")
    return words_of(refused.value)


async def test_a_member_of_another_authority_is_told_of_with_the_files_that_must_be_the_same(
    tmp_path: Path,
) -> None:
    one, another = (member_of(Authority(tmp_path / name)) for name in ("one", "another"))
    assert "pki/store-ca.crt and store-ca.key must be the same" in await refusal_of(one, another)


async def test_a_certificate_that_has_ended_is_told_of_as_such(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ended, good = member_of(authority, "ended", days=-1), member_of(authority)
    assert "has expired: start its gitkube serve again" in await refusal_of(ended, good)


def test_a_certificate_that_is_not_valid_yet_is_a_matter_of_clocks() -> None:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = 9
    assert words_of(error) == "its certificate is not valid yet: set the clocks"


def test_all_else_is_told_in_its_own_words() -> None:
    refused = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 2380)")
    assert words_of(refused) == "Connection refused"
    assert words_of(socket.gaierror(-2, "Name or service not known")).endswith("Name or service not known")
    assert words_of(TimeoutError()) == "TimeoutError"
