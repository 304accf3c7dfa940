"""The `proxy` subresource of pods, services and nodes: HTTP through the API to what runs on the hosts.

The name is read (`proxy_rules.py`), a pod and a port are found for it, and the request goes there over the
host's link, as a forwarded port does (`tunnel.py`): method, path, query, headers and body as they came, the
answer as it comes. WebSockets pass too. A node has no HTTP server of its own here: what clients ask of a
kubelet is answered from what the API knows, or refused by name.
"""

from __future__ import annotations

import dataclasses
import random

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from gitkube.api.authorization import system_user
from gitkube.api.errors import StatusError, is_not_found
from gitkube.api.requests import Context, ListOptions
from gitkube.api.streams import PodStreams, StreamSession
from gitkube.objects.kinds import ENDPOINT_SLICE, NODE, POD, SERVICE, Kind
from gitkube.objects.types import Object
from gitkube.server.access import Authorizing
from gitkube.server.answers import json_answer, text_answer
from gitkube.server.lifetime import Lifetime
from gitkube.server.paths import Target, method_not_allowed
from gitkube.server.proxy_rules import (
    Backend,
    backward_headers,
    onward_headers,
    pod_backend,
    service_backend,
    split_name,
)
from gitkube.server.relay import Relay, carry_websocket
from gitkube.server.tunnel import StreamConnector
from gitkube.server.upgrade import wants_websocket

log = structlog.get_logger()

CHUNK_BYTES = 64 * 1024
VERBS = {
    "GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete",
    "OPTIONS": "options",
}  # fmt: skip
"""By method, which right it needs. To OPTIONS only those have one who may do all with proxies."""
_KUBELET_PORT = "10250"
_WORDS: dict[Kind, str] = {POD: "pod", SERVICE: "service", NODE: "node"}


class ProxyEndpoints:
    def __init__(
        self,
        verbs: Authorizing,
        streams: PodStreams,
        lifetime: Lifetime,
        rng: random.Random,
        relay: Relay | None = None,
    ) -> None:
        self._verbs = verbs
        self._streams = streams
        self._lifetime = lifetime
        self._rng = rng
        self._relay = relay
        self._reader = system_user("apiserver")

    async def handle(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        """Pass a request on.

        Raises:
            StatusError: it is refused before the answer has begun.
        """
        verb = VERBS.get(request.method)
        if verb is None:
            raise method_not_allowed()
        # Asked for the name as it is written: a rule by resourceNames names scheme and port, too.
        self._verbs.authorize(context, verb, target.kind, target.namespace, target.name, "proxy")
        options = {"apiVersion": "v1", "kind": f"{target.kind.kind}ProxyOptions", "path": target.rest}
        await self._verbs.admit_connect(context, target.kind, target.namespace, target.name, "proxy", options)
        context = dataclasses.replace(context, user=self._reader)
        named = split_name(target.name, _WORDS[target.kind])
        if target.kind is NODE:
            return await self._node(request, target, named.name, named.port, context)
        if target.kind is POD:
            pod = await self._verbs.get(context, POD, target.namespace, named.name)
            backend = pod_backend(pod, named)
        else:
            backend = await self._behind_service(context, target.namespace, target.name)
            pod = await self._pod_of(context, backend, named.name)
        if not target.rest and request.method in ("GET", "HEAD"):
            return _with_slash(request)
        with self._lifetime.long_request():
            if self._relay is not None and self._relay.is_needed(request):
                return await self._relay.pass_on(request)
            return await self._forward(request, target, pod, backend, named.scheme)

    async def _behind_service(self, context: Context, namespace: str, name: str) -> Backend:
        named = split_name(name, "service")
        service = await self._verbs.get(context, SERVICE, namespace, named.name)
        selector = f"kubernetes.io/service-name={named.name}"
        slices = await self._verbs.list(context, ENDPOINT_SLICE, namespace, ListOptions(selector))
        return service_backend(service, list(slices.items), named, self._rng)

    async def _pod_of(self, context: Context, backend: Backend, service: str) -> Object:
        try:
            return await self._verbs.get(context, POD, backend.namespace, backend.pod)
        except StatusError as error:
            if not is_not_found(error):
                raise
            text = f'pod "{backend.pod}" behind service "{service}" has just gone; try again'
            raise StatusError(503, "ServiceUnavailable", text, retry_after_s=1) from error

    # ------------------------------------------------------------------ to a pod

    async def _forward(
        self, request: web.Request, target: Target, pod: Object, backend: Backend, scheme: str
    ) -> web.StreamResponse:
        async def dial() -> StreamSession:
            return await self._streams.port_forward(pod, backend.port)

        address = str((pod.get("status") or {}).get("podIP") or "")
        host = f"[{address}]:{backend.port}" if ":" in address else f"{address}:{backend.port}"
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = URL(f"{scheme}://{host}{target.rest or '/'}{query}", encoded=True)
        connector = StreamConnector(dial)
        session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )
        try:
            async with session:
                if wants_websocket(request):
                    return await carry_websocket(request, session, url)
                return await _carry(request, session, url, host, _prefix(request, target))
        except aiohttp.ClientError as error:
            if connector.failure is not None:
                raise connector.failure from error
            text = f"error trying to reach service: {host}: {error}"
            raise StatusError(503, "ServiceUnavailable", text) from error
        finally:
            await connector.end()

    # ------------------------------------------------------------------ to a node

    async def _node(
        self, request: web.Request, target: Target, name: str, port: str, context: Context
    ) -> web.StreamResponse:
        await self._verbs.get(context, NODE, "", name)
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        path = target.rest.rstrip("/")
        if port in ("", _KUBELET_PORT) and path == "/healthz":
            return text_answer("ok")
        if port in ("", _KUBELET_PORT) and path == "/pods":
            chosen = ListOptions(field_selector=f"spec.nodeName={name}")
            found = await self._verbs.list(context, POD, "", chosen)
            return json_answer(request, {"kind": "PodList", "apiVersion": "v1", "items": list(found.items)})
        text = f'node "{name}" serves no {path or "/"} through its proxy: hosts run no HTTP server; '
        raise StatusError(501, "NotImplemented", text + "served are /healthz and /pods")


async def _carry(
    request: web.Request, session: aiohttp.ClientSession, url: URL, host: str, prefix: str
) -> web.StreamResponse:
    headers = onward_headers(
        request.headers,
        host=request.host,
        uri=request.rel_url.raw_path,
        scheme=request.scheme,
        client=request.remote or "",
    )
    answer = await session.request(
        request.method,
        url,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
    async with answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in backward_headers(answer.headers, prefix=prefix, backend_host=host).items():
            response.headers.add(name, value)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                await response.write(chunk)
            await response.write_eof()
        except aiohttp.ClientPayloadError as error:
            # The answer has begun: the only honest end is none, so that the client sees that it was cut.
            log.warning("proxy_broke", path=request.path, error=str(error))
            if request.transport is not None:
                request.transport.abort()
        return response


def _prefix(request: web.Request, target: Target) -> str:
    path = request.rel_url.raw_path
    return path[: len(path) - len(target.rest)] if target.rest else path


def _with_slash(request: web.Request) -> web.Response:
    """Without the slash at its end, relative links of the page behind it would lead out of the proxy."""
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    return web.Response(status=301, headers={"Location": f"{request.rel_url.raw_path}/{query}"})
