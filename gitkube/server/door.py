"""The door through which every request comes.

`Door.handle` is the way of each: an id, who asks, what the path names, the handler, and at this one place
every error becomes a Status. Handlers are in the modules beside this one, by subject; they raise
`StatusError` and know nothing of each other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import structlog
from aiohttp import web

import gitkube
from gitkube.api.authorization import ANONYMOUS, MASTERS_GROUP, Attributes
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.refusals import refusal
from gitkube.api.streams import PodStreams
from gitkube.api.versions import Versions
from gitkube.clock import Clock
from gitkube.objects import schema as schemas
from gitkube.server import openid, queries
from gitkube.server.access import PodAccess
from gitkube.server.answers import compress, json_answer, should_compress, status_answer
from gitkube.server.attributes import attributes_of
from gitkube.server.audit.trail import REQUEST_ID, Auditor, Trail, audit_id
from gitkube.server.bodies import LARGE_BODY_BYTES, receive_body
from gitkube.server.discovery import Discovery, no_such_page
from gitkube.server.flow_schemas import FlowSchemas
from gitkube.server.forms import Shaper
from gitkube.server.health import ENDPOINTS as HEALTH_ENDPOINTS
from gitkube.server.health import Health
from gitkube.server.identity import Authenticator
from gitkube.server.impersonation import impersonated
from gitkube.server.lifetime import Lifetime
from gitkube.server.metrics import CONTENT_TYPE as METRICS_TYPE
from gitkube.server.metrics import METRICS_PATH, Metrics, StoreMetrics
from gitkube.server.negotiation import check_document
from gitkube.server.openapi import OpenApi
from gitkube.server.paths import GroupVersion, Target, method_not_allowed, parse_path, unknown_path
from gitkube.server.pods import PodEndpoints
from gitkube.server.proxy import ProxyEndpoints
from gitkube.server.relay import Relay
from gitkube.server.resources import Resources
from gitkube.server.sending import is_large, send_large
from gitkube.server.turns import Turns
from gitkube.server.watches import Watches

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 60.0
"""For everything but watches and streams, as Kubernetes."""
_SCHEMA_HEADER = "X-Kubernetes-PF-FlowSchema-UID"
_LEVEL_HEADER = "X-Kubernetes-PF-PriorityLevel-UID"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What is counted by its name; a client can make up others."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(slots=True)
class _Request:
    """What is known of a request when it is counted."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    is_long: bool = False
    trail: Trail | None = None


class Door:
    """See the module's text."""

    def __init__(
        self,
        api: Api,
        streams: PodStreams,
        *,
        clock: Clock,
        rng: random.Random,
        authenticate: Authenticator,
        relay: Relay | None = None,
        store_metrics: StoreMetrics | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        self._api = api
        self._clock = clock
        self._rng = rng
        self._authenticate = authenticate
        self.lifetime = Lifetime()
        shaper = Shaper(clock)
        verbs = Versions(api.verbs, api.authorizer, api.tokens)
        watches = Watches(verbs, shaper, self.lifetime, rng)
        pods = PodEndpoints(PodAccess(api.verbs), streams, self.lifetime, relay)
        proxy = ProxyEndpoints(api.verbs, streams, self.lifetime, rng, relay)
        self._resources = Resources(verbs, watches, pods, proxy, shaper)
        self._discovery = Discovery(api.registry)
        self._openapi = OpenApi(api.registry)
        self._flow_schemas = FlowSchemas(api.cache)
        self._turns = Turns()
        self._metrics = Metrics(self.lifetime, store_metrics)
        self._auditor = auditor
        if auditor is not None:
            auditor.count_in(self._metrics.count_audit_events)
        self._paths: dict[str, Callable[[web.Request], web.Response]] = {
            "/": self._index,
            "/api": lambda request: self._discovery.root(request, "api"),
            "/apis": lambda request: self._discovery.root(request, "apis"),
            "/openapi/v2": self._openapi.v2,
            "/openapi/v3": self._openapi.index,
            "/version": self._version,
            openid.DISCOVERY_PATH: lambda request: openid.discovery(request),
            openid.KEYS_PATH: lambda request: openid.keys(request, api.tokens.key),
        }
        self._health = Health(api, self.lifetime)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, whatever happens."""
        started = self._clock.monotonic()
        request_id = request[REQUEST_ID] = audit_id(request, self._rng)
        seen = _Request(request.method.lower() if request.method in _METHODS else "other")
        if self._auditor is not None:
            seen.trail = self._auditor.begin(request, request_id)
        is_failure = False
        try:
            response = await self._answer(request, seen, request_id)
        except StatusError as error:
            response = status_answer(request, error)
        except TimeoutError:
            text = f"the request took longer than {REQUEST_TIMEOUT_S:.0f} s and was given up"
            response = status_answer(request, StatusError(504, "Timeout", text, retry_after_s=1))
        except (ConnectionError, web.HTTPException, asyncio.CancelledError):
            if seen.trail is not None:
                seen.trail.abandoned()
            raise  # the client went away, or spoke no HTTP: aiohttp knows what to do
        except Exception:
            is_failure = True
            log.exception("request_failed", method=request.method, path=request.path, request=request_id)
            text = f"the server failed on this request; its log says why, under request={request_id}"
            response = status_answer(request, StatusError(500, "InternalError", text))
        if seen.trail is not None:
            await seen.trail.complete(response, is_failure=is_failure)
        if not response.prepared:
            if isinstance(response, web.Response) and should_compress(request, response):
                await asyncio.to_thread(compress, response)
            if isinstance(response, web.Response) and is_large(response):
                response = await send_large(request, response)
        self._count(seen, response.status, self._clock.monotonic() - started)
        return response

    async def _answer(self, request: web.Request, seen: _Request, request_id: str) -> web.StreamResponse:
        raw_path = request.rel_url.raw_path
        path = raw_path.rstrip("/") or "/"
        asker = self._authenticate(request) or ANONYMOUS
        if seen.trail is not None:
            seen.trail.known(asker)
        user = impersonated(asker, request.headers, self._api.authorizer)
        asked = attributes_of(user, request.method, raw_path, request.query)
        self._authorize(asked, seen)
        if raw_path.startswith(("/api/", "/apis/")) and path not in ("/api", "/apis"):
            return await self._api_request(request, raw_path, asked, seen)
        if raw_path != "/" and raw_path.endswith("/") and path not in ("/api", "/apis", "/version"):
            return self._no_such_path(request)
        if path.partition("/")[2].partition("/")[0] in HEALTH_ENDPOINTS:
            _require_read(request)
            return await self._health.answer(request, path) or self._no_such_path(request)
        if path.startswith("/openapi/v3/"):
            _require_read(request)
            return self._openapi.document(request, path.removeprefix("/openapi/v3/"))
        if path == METRICS_PATH:
            _require_read(request)
            return web.Response(body=await self._metrics.text(), headers={"Content-Type": METRICS_TYPE})
        handler = self._paths.get(path)
        if handler is None:
            if path.startswith("/version/"):
                raise unknown_path()
            return self._no_such_path(request)
        _require_read(request)
        return handler(request)

    async def _api_request(
        self, request: web.Request, raw_path: str, asked: Attributes, seen: _Request
    ) -> web.StreamResponse:
        parts = raw_path.rstrip("/").split("/")
        if parts[1] == "apis" and len(parts) == 3:
            _require_read(request)
            return self._discovery.group(request, parts[2])
        try:
            target = parse_path(raw_path, self._api.registry)
        except StatusError as error:
            if parts[1] == "apis" and not error.details and not self._discovery.is_built_in(parts[2]):
                return no_such_page()  # where nobody is known to speak, not even the error is in the dialect
            raise
        if isinstance(target, GroupVersion):
            _require_read(request)
            return self._discovery.resources(request, target.group, target.version)
        asks_to_watch = not target.name and queries.flag(request.query, "watch")
        is_watch = request.method == "GET" and (asks_to_watch or target.is_watch)
        seen.verb = _verb(request.method, target, is_watch=is_watch)
        seen.group, seen.resource = target.kind.group, target.kind.plural
        seen.subresource = target.subresource
        seen.is_long = is_watch or target.subresource in (*PodEndpoints.subresources, "proxy")
        if seen.is_long:
            return await self._resources.handle(request, target, asked.user)
        if request.can_read_body and (request.content_length or LARGE_BODY_BYTES) < LARGE_BODY_BYTES:
            # Before it is its turn, so that a client that sends slowly takes no seat. Large ones are read
            # when it is, so that there are not too many of them at once.
            await receive_body(request)
        place = self._flow_schemas.place(asked)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            turn = await self._turns.take(place.level, self._flow_schemas.flow(place, asked))
            try:
                response = await self._resources.handle(request, target, asked.user)
            finally:
                self._turns.give_back(turn)
        response.headers[_SCHEMA_HEADER] = place.schema_uid
        response.headers[_LEVEL_HEADER] = place.level_uid
        return response

    def _authorize(self, asked: Attributes, seen: _Request) -> None:
        """Refuse what the user may not do, before anything is looked up; the verbs ask again."""
        if MASTERS_GROUP in asked.user.groups and seen.trail is None:
            return
        decision = self._api.authorizer.decide(asked)
        if seen.trail is not None:
            seen.trail.judged(asked.user, decision)
        if not decision.allowed:
            raise refusal(asked, decision)

    def _count(self, seen: _Request, code: int, duration_s: float) -> None:
        self._metrics.observe(
            seen.verb, seen.group, seen.resource, seen.subresource, code, duration_s, is_long=seen.is_long
        )

    # ------------------------------------------------------------------ paths that are no resource

    def _index(self, request: web.Request, *, status: int = 200) -> web.Response:
        own = [path for path in (*self._paths, METRICS_PATH) if path not in ("/", "/api", "/apis")]
        document = {"paths": sorted([*self._discovery.paths(), *own, *self._health.paths()])}
        # People look at it, so it is always written for them.
        return json_answer(request, orjson.dumps(document, option=orjson.OPT_INDENT_2), status=status)

    def _no_such_path(self, request: web.Request) -> web.Response:
        return self._index(request, status=404)

    def _version(self, request: web.Request) -> web.Response:
        check_document(request.headers.get("Accept", ""))
        release = schemas.SCHEMA_RELEASE.removesuffix("-local")
        major, minor, _ = release.removeprefix("v").split(".")
        document = {
            "major": major,
            "minor": minor,
            "gitVersion": f"{release}+gitkube.{gitkube.__version__}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "cpython",
            "platform": "linux/amd64",
        }
        return json_answer(request, document)


def _require_read(request: web.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise method_not_allowed()


def _verb(method: str, target: Target, *, is_watch: bool) -> str:
    if method == "GET":
        return "watch" if is_watch else "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, "other")
