"""TLS connections to webhooks, kept for the next call.

A connection belongs to a place, a server name and a bundle of authorities: one that was verified by one
bundle is never used for another. The other side may close a kept connection at any time, so a call that
finds it closed before a byte of the answer came is made once more on a new one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache

from gitkube.api.webhooks.exchange import (
    MAX_HEAD_BYTES,
    Answer,
    ConnectionEnded,
    ExchangeError,
    post,
)

MAX_IDLE = 8
"""Kept for one place; more calls at once than that open connections that are closed after them."""
IDLE_S = 60.0
"""A connection that was not used for so long is closed rather than used: the other side may have gone."""
_CACHED_CONTEXTS = 128

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[ssl.SSLContext, str], Awaitable[Streams]]
"""Connects, with TLS for the given server name."""


class TlsError(Exception):
    """The authorities cannot be read, or did not sign what the webhook shows."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a webhook is."""

    key: str
    """The same for the same place: connections are kept by it."""
    server_name: str
    """Which the certificate must be for."""
    host: str
    """For the header `Host`."""
    dial: Dial


class Connections:
    """`close` closes what is kept."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str, str], list[tuple[Streams, float]]] = {}

    async def post(self, place: Place, ca_bundle: str, target: str, body: bytes) -> Answer:
        """
        Args:
            ca_bundle: base64 of PEM; "" for the authorities that this machine trusts.
            target: path and query.

        Raises:
            TlsError, ExchangeError, OSError: see there.
        """
        key = (place.key, place.server_name, ca_bundle)
        if (kept := self._take(key)) is not None:
            try:
                return await self._exchange(key, kept, place.host, target, body)
            except (ConnectionEnded, ConnectionError):
                pass  # it was closed while nobody looked
        try:
            streams = await place.dial(_context(ca_bundle), place.server_name)
        except ssl.SSLCertVerificationError as error:
            raise TlsError(_verification_text(error, place.server_name)) from error
        except ssl.SSLError as error:
            raise TlsError(f"tls: {error.reason or 'handshake failure'}".lower().replace("_", " ")) from error
        return await self._exchange(key, streams, place.host, target, body)

    async def _exchange(
        self, key: tuple[str, str, str], streams: Streams, host: str, target: str, body: bytes
    ) -> Answer:
        is_reusable = False
        try:
            answer = await post(*streams, host, target, body)
            is_reusable = answer.is_reusable
            return answer
        finally:
            if is_reusable:
                self._keep(key, streams)
            else:
                streams[1].transport.abort()

    def _take(self, key: tuple[str, str, str]) -> Streams | None:
        now_s = asyncio.get_running_loop().time()
        kept = self._idle.get(key, [])
        while kept:
            streams, since_s = kept.pop()
            if now_s - since_s < IDLE_S and not streams[0].at_eof() and not streams[1].is_closing():
                return streams
            streams[1].transport.abort()
        return None

    def _keep(self, key: tuple[str, str, str], streams: Streams) -> None:
        now_s = asyncio.get_running_loop().time()
        self._sweep(now_s)
        kept = self._idle.setdefault(key, [])
        if len(kept) >= MAX_IDLE:
            streams[1].close()
        else:
            kept.append((streams, now_s))

    def _sweep(self, now_s: float) -> None:
        """Close what nobody has used for long: places go, as pods do."""
        for key, kept in list(self._idle.items()):
            for streams, since_s in kept:
                if now_s - since_s >= IDLE_S:
                    streams[1].transport.abort()
            self._idle[key] = [one for one in kept if now_s - one[1] < IDLE_S]
            if not self._idle[key]:
                del self._idle[key]

    def close(self) -> None:
        for kept in self._idle.values():
            for streams, _ in kept:
                with contextlib.suppress(RuntimeError):  # its loop may have been closed
                    streams[1].transport.abort()
        self._idle.clear()


async def dial_tcp(host: str, port: int, context: ssl.SSLContext, server_name: str) -> Streams:
    """A connection to an address that this machine reaches.

    Raises:
        OSError: in Go's words, which people look for in the message.
    """
    try:
        return await asyncio.open_connection(
            host, port, ssl=context, server_hostname=server_name, limit=MAX_HEAD_BYTES
        )
    except ssl.SSLError:
        raise
    except socket.gaierror as error:
        raise OSError(f"dial tcp: lookup {host}: no such host") from error
    except ConnectionRefusedError as error:
        raise OSError(f"dial tcp {host}:{port}: connect: connection refused") from error
    except OSError as error:
        why = (error.strerror or str(error) or "failed").lower()
        raise OSError(f"dial tcp {host}:{port}: connect: {why}") from error


@lru_cache(maxsize=_CACHED_CONTEXTS)
def _context(ca_bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    if not ca_bundle:
        context.load_default_certs()
        return context
    try:
        pem = base64.b64decode(ca_bundle, validate=True).decode("ascii")
        context.load_verify_locations(cadata=pem)
    except (binascii.Error, ValueError, ssl.SSLError) as error:
        raise TlsError("unable to load root certificates: unable to parse bytes as PEM block") from error
    return context


def _verification_text(error: ssl.SSLCertVerificationError, server_name: str) -> str:
    why = str(error.verify_message or "")
    if "Hostname mismatch" in why or "IP address mismatch" in why:
        text = f"certificate is not valid for {server_name}"
    elif "expired" in why:
        text = "certificate has expired or is not yet valid"
    else:
        text = "certificate signed by unknown authority"
    return f"tls: failed to verify certificate: x509: {text}"


__all__ = ["Answer", "Connections", "Dial", "ExchangeError", "Place", "Streams", "TlsError", "dial_tcp"]
