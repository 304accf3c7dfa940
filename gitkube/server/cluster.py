"""What controllers ask of one another, beside the Kubernetes API and on the same port.

`POST /gitkube/join` redeems a join file; `GET /gitkube/store` says how this controller's member of the store
is, with the hash of its state at a revision, so that the members can be compared; `POST /gitkube/push` hands
the leader a push that arrived elsewhere; `GET /gitkube/forward` reaches a pod through it
(`pod_forwards.py`). All are for `system:masters` only, which every controller's certificate is in.
`ClusterClient` is the other end. How a push travels is in `pushes.py`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import orjson
from aiohttp import web

from gitkube.api.authorization import MASTERS_GROUP, User
from gitkube.api.streams import PodStreams
from gitkube.clock import Clock
from gitkube.server.authority import PkiError
from gitkube.server.joining import JoinError, JoinFile, redeem
from gitkube.server.pod_forwards import FORWARD_PATH, serve_forward
from gitkube.store.protocol import Revision, Store, StoreAdmin, StoreError

if TYPE_CHECKING:
    from gitkube.gitops.hook_socket import Answer, PushRequest
    from gitkube.server.pushes import PushAnswerer

NOW = Revision(0)
JOIN_PATH, STORE_PATH, PUSH_PATH = "/gitkube/join", "/gitkube/store", "/gitkube/push"
MAX_BODY_BYTES = 4096
TIMEOUT_S = 10.0


class ManagedStore(Store, StoreAdmin, Protocol):
    """A store whose members can be managed."""

    async def metrics(self) -> str:
        """In Prometheus' text format."""
        ...


class ClusterEndpoints:
    """Adds its routes to an application."""

    def __init__(
        self,
        store: ManagedStore,
        *,
        authenticate: Callable[[web.Request], User | None],
        clock: Clock,
        pushes: Callable[[], PushAnswerer | None] = lambda: None,
        streams: Callable[[], PodStreams | None] = lambda: None,
    ) -> None:
        """
        Args:
            pushes: who judges pushes, while we lead; None while we don't.
            streams: reaches running pods, while we lead; None while we don't.
        """
        self._pushes = pushes
        self._streams = streams
        self._store = store
        self._authenticate = authenticate
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        """Before any route that takes all paths."""
        app.router.add_post(JOIN_PATH, self._join)
        app.router.add_get(STORE_PATH, self._status)
        app.router.add_post(PUSH_PATH, self._push)
        app.router.add_get(FORWARD_PATH, self._forward)

    async def _join(self, request: web.Request) -> web.Response:
        self._check(request)
        body = b""
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
        try:
            asked = orjson.loads(body)
            member, token, by = int(asked["member"], 16), str(asked["token"]), str(asked["by"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="this is no request to join") from error
        try:
            await redeem(self._store, member, token, by, clock=self._clock)
        except JoinError as error:
            raise web.HTTPForbidden(text=str(error)) from error
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.Response(text="ok")

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        revision = request.query.get("revision", "0")
        if not revision.isdigit():
            raise web.HTTPBadRequest(text="revision is a number")
        try:
            status = await self._store.status()
            found = await self._store.hash(Revision(int(revision)))
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.Response(
            body=orjson.dumps({"status": asdict(status), "hash": asdict(found)}),
            content_type="application/json",
        )

    async def _push(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        answerer = self._pushes()
        if answerer is None:
            raise web.HTTPServiceUnavailable(text="this controller does not lead")
        # Git's library is loaded by whoever leads, and not by every start.
        from gitkube.server.pushes import answer_push

        return await answer_push(request, answerer, self._clock)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        streams = self._streams()
        if streams is None:
            raise web.HTTPServiceUnavailable(text="this controller does not lead")
        return await serve_forward(request, streams)

    def _check(self, request: web.Request) -> None:
        user = self._authenticate(request)
        if user is None:
            raise web.HTTPUnauthorized(text="a client certificate is needed")
        if not user.name or MASTERS_GROUP not in user.groups:
            raise web.HTTPForbidden(text=f"only {MASTERS_GROUP} may ask this")


class ClusterError(Exception):
    """Another controller did not answer, or refused; the text says which and why."""


class ClusterClient:
    """Asks other controllers.

    Args:
        context: makes the TLS context of a controller; called for each request, since certificates change.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context

    async def redeem(self, join: JoinFile, by: str) -> None:
        """Redeem a join file at the first of its controllers that answers.

        Raises:
            JoinError: it is refused, or none answers.
        """
        body = orjson.dumps({"member": f"{join.member_id:016x}", "token": join.token, "by": by})
        failures = []
        for url in join.apis:
            try:
                code, text = await self._ask("POST", url + JOIN_PATH, body)
            except ClusterError as error:
                failures.append(str(error))
                continue
            if code == 200:
                return
            if code == 403:
                raise JoinError(text)
            failures.append(f"{url} answered {code}: {text}")
        why = "; ".join(failures) or "the file names none (start them with --listen and --advertise)"
        raise JoinError(f"no controller of the cluster could be asked to let this one in: {why}")

    async def store(self, urls: Sequence[str], revision: Revision = NOW) -> dict[str, Any]:
        """Status and state hash of the member behind the first URL that answers.

        Raises:
            ClusterError: none does.
        """
        failures = []
        for url in urls:
            try:
                code, text = await self._ask("GET", f"{url}{STORE_PATH}?revision={revision}")
            except ClusterError as error:
                failures.append(str(error))
                continue
            if code == 200:
                found: dict[str, Any] = orjson.loads(text)
                return found
            failures.append(f"{url} answered {code}: {text}")
        raise ClusterError("; ".join(failures) or "it has told no address of its API")

    async def is_alive(self, url: str, timeout_s: float) -> bool:
        """Whether the API there answers."""
        try:
            code, _ = await self._ask("GET", f"{url}/livez", timeout_s=timeout_s)
        except ClusterError:
            return False
        return code == 200

    def push(self, url: str, request: PushRequest, pack: bytes) -> AsyncGenerator[Answer]:
        """Hand a push to the leader; what it answers.

        Raises:
            LeaderUnreachableError: it does not answer, or broke off.
        """
        from gitkube.server.pushes import hand_on

        return hand_on(url + PUSH_PATH, self._context(), request, pack)

    async def _ask(
        self, method: str, url: str, body: bytes | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            connector = aiohttp.TCPConnector(ssl=self._context())
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, url, data=body) as answer,
            ):
                return answer.status, await answer.text(errors="replace")
        except (TimeoutError, aiohttp.ClientError, OSError, PkiError) as error:
            raise ClusterError(
                f"{url.rsplit('/gitkube', 1)[0]} does not answer: {error or 'in time'}"
            ) from error
