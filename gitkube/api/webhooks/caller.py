"""Calling a webhook: a JSON document is posted to what a `clientConfig` names, and one comes back.

Used for admission and for the conversion of custom resources alike. TLS always; the answer's size and the
whole call's time are bounded, so a webhook that hangs, lies or floods costs its own callers that time and
nobody else anything. Messages are those of Kubernetes' API server, since people search for them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from gitkube.api.cache import WatchCache
from gitkube.api.webhooks.connections import Connections, ExchangeError, Place, Streams, TlsError, dial_tcp
from gitkube.api.webhooks.services import NoEndpointError, Services

HTTPS_PORT = 443
MAX_TIMEOUT_S = 30
_MAX_SHOWN = 256
_SAFE = "/%:@!$&'()*+,;=~-._"


class WebhookCallError(Exception):
    """The webhook gave no document; the message begins as Kubernetes' does."""


class WebhookCaller:
    """Keeps connections between calls; `close` ends them."""

    def __init__(self, cache: WatchCache, rng: random.Random) -> None:
        self._connections = Connections()
        self.services = Services(cache, rng)

    async def call(self, client_config: Mapping[str, Any], body: Any, timeout_s: float) -> dict[str, Any]:
        """The document that the webhook answers.

        Args:
            client_config: of a webhook: `url` or `service`, and `caBundle`.
            body: the document to send.
            timeout_s: for all of it, and told to the webhook in the query, in whole seconds.

        Raises:
            WebhookCallError: it could not be reached, is not who it should be, or answered no document.
        """
        try:
            place, path = self._place(client_config)
        except (NoEndpointError, ValueError) as error:
            raise WebhookCallError(f"failed to call webhook: {error}") from error
        target = f"{path}?timeout={max(1, round(timeout_s))}s"
        url = f"https://{place.host}{target}"
        document = orjson.dumps(body)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._connections.post(
                    place, str(client_config.get("caBundle") or ""), target, document
                )
        except TimeoutError as error:
            why = f'failed to call webhook: Post "{url}": context deadline exceeded'
            raise WebhookCallError(why) from error
        except (TlsError, ExchangeError, OSError) as error:
            raise WebhookCallError(f'failed to call webhook: Post "{url}": {error}') from error
        return _document(answer.status, answer.body)

    def _place(self, client_config: Mapping[str, Any]) -> tuple[Place, str]:
        """Where it is, and the path to post to.

        Raises:
            NoEndpointError: nothing is behind the Service.
            ValueError: the URL is none.
        """
        service = client_config.get("service")
        if service:
            path = str(service.get("path") or "")
            port = int(service.get("port") or HTTPS_PORT)
            place = self.services.place(
                str(service.get("namespace")),
                str(service.get("name")),
                int(service.get("port") or HTTPS_PORT),
            )
            return place, quote(path if path.startswith("/") else f"/{path}", safe=_SAFE)
        parts = urlsplit(str(client_config.get("url") or ""))
        name = parts.hostname
        if parts.scheme != "https" or not name:
            raise ValueError("the url must be https://host[/path]")
        port = parts.port or HTTPS_PORT

        async def dial(context: Any, server_name: str) -> Streams:
            return await dial_tcp(name, port, context, server_name)

        host = f"[{name}]" if ":" in name else name
        shown = f"{host}:{parts.port}" if parts.port else host
        return Place(f"{host}:{port}", name, shown, dial), quote(parts.path or "/", safe=_SAFE)

    async def close(self) -> None:
        self._connections.close()
        await self.services.close()


def _document(status: int, body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if status >= 400:
            raise WebhookCallError(f"failed to call webhook: {_refusal(status, body)}") from error
        why = "failed to call webhook: couldn't get version/kind; json parse error: the answer is no JSON"
        raise WebhookCallError(why) from error
    if status >= 400:
        message = document.get("message") if isinstance(document, dict) else None
        shown = str(message)[:_MAX_SHOWN] if message else _refusal(status, body)
        raise WebhookCallError(f"failed to call webhook: {shown}")
    if not isinstance(document, dict):
        why = "failed to call webhook: couldn't get version/kind; json parse error: the answer is no object"
        raise WebhookCallError(why)
    return document


def _refusal(status: int, body: bytes) -> str:
    text = body[:_MAX_SHOWN].decode(errors="replace")
    shown = "".join(each if each.isprintable() else " " for each in text).strip() or "unknown"
    if status >= 500:
        return f'an error on the server ("{shown}") has prevented the request from succeeding'
    if status == 404:
        return "the server could not find the requested resource"
    return f'the server rejected our request for an unknown reason ("{shown}", code {status})'
