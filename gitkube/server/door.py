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

import structlog
from aiohttp import web

import gitkube
from gitkube.api.authorization import ANONYMOUS, MASTERS_GROUP, User
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.refusals import refusal
from gitkube.api.streams import PodStreams
from gitkube.api.versions import Versions
from gitkube.clock import Clock
from gitkube.objects import schema as schemas
from gitkube.server import openid, queries
from gitkube.server.access import PodAccess
from gitkube.server.answers import json_answer, status_answer, text_answer
from gitkube.server.attributes import attributes_of
from gitkube.server.discovery import Discovery
from gitkube.server.forms import Shaper
from gitkube.server.identity import Authenticator
from gitkube.server.impersonation import impersonated
from gitkube.server.lifetime import Lifetime
from gitkube.server.metrics import CONTENT_TYPE as METRICS_TYPE
from gitkube.server.metrics import METRICS_PATH, Metrics, StoreMetrics
from gitkube.server.openapi import OpenApi
from gitkube.server.paths import GroupVersion, Target, method_not_allowed, parse_path, unknown_path
from gitkube.server.pods import PodEndpoints
from gitkube.server.proxy import ProxyEndpoints
from gitkube.server.relay import Relay
from gitkube.server.resources import Resources
from gitkube.server.watches import Watches

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 60.0
"""For everything but watches and streams, as Kubernetes."""
_ID_HEADER = "Audit-Id"
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
        self._metrics = Metrics(self.lifetime, store_metrics)
        self._paths: dict[str, Callable[[web.Request], web.Response]] = {
            "/": self._index,
            "/api": lambda request: self._discovery.root(request, "api"),
            "/apis": lambda request: self._discovery.root(request, "apis"),
            "/openapi/v2": self._openapi.v2,
            "/openapi/v3": self._openapi.index,
            "/version": self._version,
            openid.DISCOVERY_PATH: lambda request: openid.discovery(request),
            openid.KEYS_PATH: lambda request: openid.keys(request, api.tokens.key),
            "/healthz": self._health,
            "/livez": self._health,
            "/readyz": self._readiness,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, whatever happens."""
        started = self._clock.monotonic()
        request_id = f"{self._rng.getrandbits(128):032x}"
        seen = _Request(request.method.lower() if request.method in _METHODS else "other")
        try:
            response = await self._answer(request, seen, request_id)
        except StatusError as error:
            response = status_answer(request, error)
        except TimeoutError:
            text = f"the request took longer than {REQUEST_TIMEOUT_S:.0f} s and was given up"
            response = status_answer(request, StatusError(504, "Timeout", text, retry_after_s=1))
        except (ConnectionError, web.HTTPException):
            raise  # the client went away, or spoke no HTTP: aiohttp knows what to do
        except Exception:
            log.exception("request_failed", method=request.method, path=request.path, request=request_id)
            text = f"the server failed on this request; its log says why, under request={request_id}"
            response = status_answer(request, StatusError(500, "InternalError", text))
        if not response.prepared:
            response.headers[_ID_HEADER] = request_id
        self._count(seen, response.status, self._clock.monotonic() - started)
        return response

    async def _answer(self, request: web.Request, seen: _Request, request_id: str) -> web.StreamResponse:
        raw_path = request.rel_url.raw_path
        path = raw_path.rstrip("/") or "/"
        user = impersonated(self._authenticate(request) or ANONYMOUS, request.headers, self._api.authorizer)
        self._authorize(request, raw_path, user)
        if raw_path.startswith(("/api/", "/apis/")) and path not in ("/api", "/apis"):
            return await self._api_request(request, raw_path, user, seen)
        handler = self._paths.get(path)
        if path.startswith("/openapi/v3/"):
            document_path = path.removeprefix("/openapi/v3/")
            _require_read(request)
            return self._openapi.document(request, document_path)
        if path == METRICS_PATH:
            _require_read(request)
            return web.Response(body=await self._metrics.text(), headers={"Content-Type": METRICS_TYPE})
        if handler is None:
            raise unknown_path()
        _require_read(request)
        return handler(request)

    async def _api_request(
        self, request: web.Request, raw_path: str, user: User, seen: _Request
    ) -> web.StreamResponse:
        parts = raw_path.rstrip("/").split("/")
        if parts[1] == "apis" and len(parts) == 3:
            _require_read(request)
            return self._discovery.group(request, parts[2])
        target = parse_path(raw_path, self._api.registry)
        if isinstance(target, GroupVersion):
            _require_read(request)
            return self._discovery.resources(request, target.group, target.version)
        is_watch = request.method == "GET" and queries.flag(request.query, "watch")
        seen.verb = _verb(request.method, target, is_watch=is_watch)
        seen.group, seen.resource = target.kind.group, target.kind.plural
        seen.subresource = target.subresource
        seen.is_long = is_watch or target.subresource in (*PodEndpoints.subresources, "proxy")
        if seen.is_long:
            return await self._resources.handle(request, target, user)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            return await self._resources.handle(request, target, user)

    def _authorize(self, request: web.Request, raw_path: str, user: User) -> None:
        """Refuse what the user may not do, before anything is looked up; the verbs ask again."""
        if MASTERS_GROUP in user.groups:
            return
        asked = attributes_of(user, request.method, raw_path, request.query)
        decision = self._api.authorizer.decide(asked)
        if not decision.allowed:
            raise refusal(asked, decision)

    def _count(self, seen: _Request, code: int, duration_s: float) -> None:
        self._metrics.observe(
            seen.verb, seen.group, seen.resource, seen.subresource, code, duration_s, is_long=seen.is_long
        )

    # ------------------------------------------------------------------ paths that are no resource

    def _index(self, request: web.Request) -> web.Response:
        paths = [path for path in (*self._paths, METRICS_PATH) if path not in ("/", "/api", "/apis")]
        return json_answer(request, {"paths": sorted([*self._discovery.paths(), *paths])})

    def _version(self, request: web.Request) -> web.Response:
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

    def _health(self, request: web.Request) -> web.Response:
        return text_answer("[+]ping ok\nlivez check passed\n" if "verbose" in request.query else "ok")

    def _readiness(self, request: web.Request) -> web.Response:
        if self._api.is_ready:
            return text_answer("[+]cache ok\nreadyz check passed\n" if "verbose" in request.query else "ok")
        return text_answer(
            "[-]cache failed: the store has not been read yet\nreadyz check failed\n", status=500
        )


def _require_read(request: web.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise method_not_allowed()


def _verb(method: str, target: Target, *, is_watch: bool) -> str:
    if method == "GET":
        return "watch" if is_watch else "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, "other")
