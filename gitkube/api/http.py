"""The client for any Kubernetes-speaking server: the verbs of `Client`, over HTTPS.

A request is one path, one query, one JSON body; an answer that is no success becomes the `StatusError` that
it carries, so a caller cannot tell this client from the local one. A server that cannot be reached, or that
answers nothing in time, is a `StatusError` 503: for a write it means that nobody knows whether it was done.

A watch outlives the connections that carry it: when the server ends one in good order, it is resumed from
the last version seen. aiohttp is imported when the first request is made, so that a command line that asks
nothing of a server starts without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import orjson

import gitkube
from gitkube.api.client import Client, ObjectList, PatchType, Propagation, WatchEvent
from gitkube.api.errors import StatusError, bad_request, unavailable
from gitkube.api.kubeconfig import Connection, read_connection
from gitkube.clock import Clock, SystemClock
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 70.0
"""A little more than servers give a request, so that it is they who say what took so long."""
WATCH_TIMEOUT_S = 290
"""Asked of the server for each connection of a watch; it is resumed then."""
WATCH_SILENCE_S = 300.0
"""A watch that is silent for longer has lost its server without a word."""
MIN_WATCH_S = 1.0
"""A watch that ends sooner, without an event, is refused rather than ended."""
MAX_CONNECTIONS = 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024
APPLY_PATCH = "application/apply-patch+yaml"

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class HttpClient:
    """A `Client` over HTTPS. Close it, or use it in `async with`."""

    def __init__(self, connection: Connection, *, clock: Clock | None = None) -> None:
        self._connection = connection
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(
        cls, path: Path | str | None = None, *, context: str = "", clock: Clock | None = None
    ) -> HttpClient:
        """A client for the server and user of a kubeconfig.

        Args:
            path: None is $KUBECONFIG, or else ~/.kube/config.
            context: of the file; "" is its current one.

        Raises:
            KubeconfigError: the file cannot be used.
        """
        return cls(read_connection(path, context=context), clock=clock)

    @property
    def server(self) -> str:
        return self._connection.server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ------------------------------------------------------------------ reading

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return complete(await self._json("GET", path_of(kind, namespace, name)), kind)

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ObjectList:
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit) if limit else "",
            "continue": continue_token,
            "resourceVersion": resource_version,
        }
        answer = await self._json("GET", path_of(kind, namespace), query)
        metadata = answer.get("metadata") or {}
        return ObjectList(
            [complete(item, kind) for item in answer.get("items") or []],
            str(metadata.get("resourceVersion") or ""),
            str(metadata.get("continue") or ""),
            metadata.get("remainingItemCount"),
        )

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        query = {
            "watch": "true",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        }
        version = resource_version
        while True:
            started, has_seen = self._clock.monotonic(), False
            async for event in self._watch_once(kind, namespace, {**query, "resourceVersion": version}):
                has_seen = True
                version = str(event.object["metadata"].get("resourceVersion") or version)
                if event.type != "BOOKMARK" or bookmarks:
                    yield event
            if not has_seen and self._clock.monotonic() - started < MIN_WATCH_S:
                raise unavailable(f"{self.server} ended a watch of {kind.plural} as soon as it began")

    async def _watch_once(
        self, kind: Kind, namespace: str, query: Mapping[str, str]
    ) -> AsyncIterator[WatchEvent]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=WATCH_SILENCE_S)
        try:
            async with self._open().get(
                self._url(path_of(kind, namespace), query), timeout=timeout, **self._extra()
            ) as response:
                if response.status >= 400:
                    raise _error_of(response.status, await response.read())
                async for line in _lines(response.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise StatusError.from_status(event["object"])
                    yield WatchEvent(event["type"], complete(event["object"], kind))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(error) from error

    # ------------------------------------------------------------------ writing

    async def create(
        self, kind: Kind, obj: Object, *, field_manager: str = "", dry_run: bool = False
    ) -> Object:
        path = path_of(kind, _namespace_of(kind, obj))
        return complete(await self._json("POST", path, _write_query(field_manager, dry_run), obj), kind)

    async def update(
        self,
        kind: Kind,
        obj: Object,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        path = path_of(kind, _namespace_of(kind, obj), _name_of(obj), subresource)
        answer = await self._json("PUT", path, _write_query(field_manager, dry_run), obj)
        return answer if subresource == "scale" else complete(answer, kind)

    async def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Any,
        *,
        type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        path = path_of(kind, namespace, name, subresource)
        query = _write_query(field_manager, dry_run)
        answer = await self._json("PATCH", path, query, patch, content_type=type.value)
        return answer if subresource == "scale" else complete(answer, kind)

    async def apply(
        self,
        kind: Kind,
        obj: Object,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        path = path_of(kind, _namespace_of(kind, obj), _name_of(obj), subresource)
        query = {**_write_query(field_manager, dry_run), "force": "true" if force else ""}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        return complete(await self._json("PATCH", path, query, body, content_type=APPLY_PATCH), kind)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        propagation: Propagation | None = None,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object:
        """See `Client`. Servers answer a deletion that is finished with a Status instead of the object."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if propagation is not None:
            options["propagationPolicy"] = propagation.value
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {key: value for key, value in preconditions.items() if value}:
            options["preconditions"] = preconditions
        if dry_run:
            options["dryRun"] = ["All"]
        return await self._json("DELETE", path_of(kind, namespace, name), {}, options)

    async def create_subresource(
        self, kind: Kind, name: str, namespace: str, subresource: str, body: Object
    ) -> Object:
        return await self._json("POST", path_of(kind, namespace, name, subresource), {}, body)

    # ------------------------------------------------------------------ requests

    async def raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """GET of any path, such as `/readyz` or a pod's log.

        Raises:
            StatusError: it was refused, or the server is out of reach.
        """
        return await self._request("GET", path, query or {}, None, "")

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
    ) -> Object:
        answer = await self._request(method, path, query or {}, body, content_type)
        try:
            value = orjson.loads(answer)
        except ValueError as error:
            raise unavailable(f"{self.server} answered something that is not JSON to {path}") from error
        if not isinstance(value, dict):
            raise unavailable(f"{self.server} answered something that is no object to {path}")
        return value

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> bytes:
        import aiohttp

        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        try:
            async with self._open().request(
                method, self._url(path, query), data=data, headers=headers, **self._extra()
            ) as response:
                answer: bytes = await response.read()
                if response.status >= 400:
                    raise _error_of(response.status, answer)
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            headers = {"Accept": "application/json", "User-Agent": f"gitkube/{gitkube.__version__}"}
            if self._connection.token:
                headers["Authorization"] = f"Bearer {self._connection.token}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, ssl=self._connection.context or True, keepalive_timeout=60
                ),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
                skip_auto_headers=("Content-Type",),
            )
        return self._session

    def _extra(self) -> dict[str, Any]:
        name = self._connection.server_name
        return {"server_hostname": name} if name else {}

    def _url(self, path: str, query: Mapping[str, str]) -> Any:
        from yarl import URL

        parts = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items() if value)
        url = self._connection.server.rstrip("/") + path + (f"?{parts}" if parts else "")
        return URL(url, encoded=True)

    def _unreachable(self, error: BaseException) -> StatusError:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return unavailable(f"{self.server} cannot be reached: {why}")


def path_of(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or a subresource."""
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace and kind.namespaced:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{kind.plural}"
    if name:
        path += f"/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


def complete(obj: Object, kind: Kind) -> Object:
    """The object with apiVersion and kind, which servers leave out in lists."""
    if "kind" in obj and "apiVersion" in obj:
        return obj
    return {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


def _write_query(field_manager: str, dry_run: bool) -> dict[str, str]:
    return {
        "fieldManager": field_manager,
        "dryRun": "All" if dry_run else "",
        # As the local client: a field that nobody knows is a mistake of the one who writes it.
        "fieldValidation": "Strict",
    }


def _namespace_of(kind: Kind, obj: Object) -> str:
    namespace = str((obj.get("metadata") or {}).get("namespace") or "")
    if kind.namespaced and not namespace:
        raise bad_request(f"a {kind.kind} lives in a namespace: metadata.namespace must say which")
    return namespace


def _name_of(obj: Object) -> str:
    name = str((obj.get("metadata") or {}).get("name") or "")
    if not name:
        raise bad_request("metadata.name is missing")
    return name


def _error_of(code: int, body: bytes) -> StatusError:
    try:
        status = orjson.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return StatusError.from_status({"code": code, **status})
    text = body[:300].decode(errors="replace").strip() or "the server gave no reason"
    return StatusError(code, _REASONS.get(code, "Unknown"), text)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for chunk in content.iter_any():
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)
        buffer = rest
        if len(buffer) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of the watch is over {MAX_EVENT_BYTES} bytes")


def _keeps_the_protocol(client: HttpClient) -> Client:
    return client
