"""The keys of an identity provider: fetched at the start, kept, fetched again when they change.

`/.well-known/openid-configuration` below the issuer's URL says where the keys are (OpenID Connect Discovery
1.0, section 4). They are fetched each quarter of an hour, and at once, but not more than every few seconds,
when a token names a key that is not among them: a provider that changes keys is followed within a request or
two. While the provider is away the last keys hold. Nobody's request ever waits for the provider.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from gitkube.api.authorization import User
from gitkube.clock import Clock, set_within
from gitkube.server.oidc.tokens import Key, OidcSettings, issuer_of, keys_of, read_header, user_of, verified

DISCOVERY = "/.well-known/openid-configuration"
REFRESH_S = 900.0
RETRY_S = 10.0
"""After a failure, and between two fetches for keys that are not known."""
TIMEOUT_S = 10.0
MAX_DOCUMENT_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


class OidcError(Exception):
    """The provider cannot be used like this; the text says why."""


class Provider:
    """Knows the bearers of one issuer's tokens. `run` must be running for keys to come."""

    def __init__(self, settings: OidcSettings, *, clock: Clock, ca_file: Path | None = None) -> None:
        """
        Args:
            ca_file: PEM of the authorities to trust for the provider's own certificate; None: the system's.

        Raises:
            OidcError: the URL is of no use, or the file cannot be read.
        """
        check_url(settings.issuer_url, "--oidc-issuer-url")
        self._settings = settings
        self._clock = clock
        try:
            self._context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise OidcError(f"--oidc-ca-file {ca_file} cannot be read as certificates: {error}") from error
        self._keys: tuple[Key, ...] = ()
        self._wanted = asyncio.Event()

    def user(self, token: str) -> User | None:
        """The user that a token makes of its bearer; None when it is of no use here."""
        header = read_header(token)
        if header is None or issuer_of(token) != self._settings.issuer_url:
            return None
        claims = verified(token, self._keys)
        if claims is None:
            if not any(key.id == header[1] for key in self._keys):
                self._wanted.set()
            return None
        return user_of(claims, self._settings, self._clock.now())

    async def run(self) -> None:
        """Fetch keys for ever."""
        while True:
            pause_s = REFRESH_S
            self._wanted.clear()
            try:
                keys = await self._fetch()
                if [key.id for key in keys] != [key.id for key in self._keys]:
                    log.info("oidc_keys", issuer=self._settings.issuer_url, keys=[key.id for key in keys])
                self._keys = keys
            except OidcError as error:
                pause_s = RETRY_S
                log.warning(
                    "oidc_keys_not_fetched",
                    issuer=self._settings.issuer_url, error=str(error), kept=len(self._keys),
                    next_try_in_s=pause_s,
                )  # fmt: skip
            await self._clock.sleep(RETRY_S)
            if pause_s > RETRY_S:
                # Less if somebody shows a key that is not known.
                await set_within(self._clock, self._wanted, pause_s - RETRY_S)

    async def _fetch(self) -> tuple[Key, ...]:
        issuer = self._settings.issuer_url
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._context)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            found = await _document(session, issuer.rstrip("/") + DISCOVERY)
            if not isinstance(found, dict) or found.get("issuer") != issuer:
                told = found.get("issuer") if isinstance(found, dict) else None
                raise OidcError(f"the provider calls itself {told!r}; --oidc-issuer-url must be just that")
            url = str(found.get("jwks_uri") or "")
            check_url(url, "jwks_uri of the provider")
            try:
                keys = keys_of(await _document(session, url))
            except ValueError as error:
                raise OidcError(f"{url}: {error}") from error
        if not keys:
            raise OidcError(f"{url} has no key for RS256 or ES256")
        return keys


async def _document(session: aiohttp.ClientSession, url: str) -> Any:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise OidcError(f"{url} answered {answer.status}")
            body = await answer.content.read(MAX_DOCUMENT_BYTES + 1)
            while len(body) <= MAX_DOCUMENT_BYTES and (more := await answer.content.read(MAX_DOCUMENT_BYTES)):
                body += more
        if len(body) > MAX_DOCUMENT_BYTES:
            raise OidcError(f"{url} answered more than {MAX_DOCUMENT_BYTES} bytes")
        return orjson.loads(body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise OidcError(f"{url} does not answer: {error or 'in time'}") from error
    except ValueError as error:
        raise OidcError(f"{url} answered what is no JSON: {error}") from error


def check_url(url: str, what: str) -> None:
    """
    Raises:
        OidcError: it is no https URL without user, query and fragment.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise OidcError(f"{what}: {url!r} must be https://HOST/… and nothing behind the path")
