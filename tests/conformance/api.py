"""A client for checks: plain HTTP over TLS, nothing retried, nothing hidden, nothing of gitkube's own client.

A check wants to see what the server says, so answers keep their code and headers; the short forms (`create`,
`get` …) fail the check with the server's words when the answer is not a success.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from gitkube.api.kubeconfig import Connection

Object = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
WATCH_TIMEOUT_S = 60
_CALL_TIMEOUT_S = 90


class CheckError(Exception):
    """The server did not do what the check asks for."""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    body: Any
    """Parsed when it is JSON, else text."""
    headers: Mapping[str, str]

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)[:300]

    @property
    def warnings(self) -> str:
        return self.headers.get("Warning", "")


def at(resource: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a resource, such as `apps/v1/deployments` or `v1/pods`, or of one object of it."""
    prefix, _, plural = resource.rpartition("/")
    parts = [f"/api/{prefix}" if "/" not in prefix else f"/apis/{prefix}"]
    parts += ["namespaces", namespace] if namespace else []
    parts += [part for part in (plural, name, subresource) if part]
    return "/".join(parts)


class Watch:
    """The events of a watch, one after the other."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, *, timeout_s: float = WATCH_TIMEOUT_S) -> Object:
        """The next event that is no bookmark."""
        while True:
            async with asyncio.timeout(timeout_s):
                line = await self._response.content.readline()
            if not line:
                raise CheckError("the watch ended")
            event: Object = json.loads(line)
            if event["type"] != "BOOKMARK":
                return event

    async def expect(self, *types: str, name: str = "") -> list[Object]:
        """Objects of the next events, which must be of these types (and of this name)."""
        found = []
        for wanted in types:
            try:
                event = await self.next()
            except TimeoutError as error:
                raise CheckError(f"a watch waited for {wanted} {name} in vain") from error
            about = event["object"].get("metadata", {}).get("name", "")
            if event["type"] != wanted or (name and about != name):
                raise CheckError(f"a watch saw {event['type']} {about}, not {wanted} {name}")
            found.append(event["object"])
        return found

    async def until(self, wanted: str, name: str = "") -> Object:
        """Skip to the event of a type (and an object's name)."""
        while True:
            try:
                event = await self.next()
            except TimeoutError as error:
                raise CheckError(f"a watch waited for {wanted} {name} in vain") from error
            if event["type"] == wanted and (not name or event["object"]["metadata"]["name"] == name):
                found: Object = event["object"]
                return found

    async def is_silent(self, seconds: float) -> bool:
        try:
            await self.next(timeout_s=seconds)
        except TimeoutError:
            return True
        return False


class Api:
    """One user's way to the server."""

    def __init__(self, connection: Connection, session: aiohttp.ClientSession, **headers: str) -> None:
        self._connection = connection
        self._session = session
        self._headers = headers

    def acting_as(self, **headers: str) -> Api:
        """The same server with other headers, such as Impersonate-User (underscores become dashes)."""
        return Api(
            self._connection,
            self._session,
            **{**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
        )

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {**self._headers, **headers}
        if self._connection.token and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self._connection.token}"
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        async with self._session.request(
            method,
            self._connection.server + path,
            data=data,
            params=query,
            headers=sent,
            ssl=self._connection.context if self._connection.context is not None else True,
        ) as response:
            yield response

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request, whatever the answer."""
        headers = {"Accept": accept, **({"Content-Type": content_type} if body is not None else {})}
        async with (
            asyncio.timeout(_CALL_TIMEOUT_S),
            self._request(method, path, body, query, headers) as response,
        ):
            text = (await response.read()).decode("utf-8", "replace")
            try:
                parsed: Any = json.loads(text)
            except ValueError:
                parsed = text
            given = {name: ", ".join(response.headers.getall(name)) for name in response.headers}
            return Answer(response.status, parsed, given)

    async def done(self, method: str, path: str, body: Any = None, **options: Any) -> Object:
        """One request that must succeed."""
        answer = await self.call(method, path, body, **options)
        if answer.code >= 300:
            raise CheckError(f"{method} {path}: {answer.code} {answer.message}")
        return answer.body if isinstance(answer.body, dict) else {"text": answer.body}

    async def refused(self, code: int, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One request that must fail with this code."""
        answer = await self.call(method, path, body, **options)
        if answer.code != code:
            raise CheckError(f"{method} {path}: {answer.code}, not {code}: {answer.message}")
        return answer

    async def create(self, path: str, obj: Object, **query: str) -> Object:
        return await self.done("POST", path, obj, query=query or None)

    async def get(self, path: str, **query: str) -> Object:
        return await self.done("GET", path, query=query or None)

    async def items(self, path: str, **query: str) -> list[Object]:
        listed = await self.get(path, **query)
        found: list[Object] = listed.get("items") or []
        return found

    async def put(self, path: str, obj: Object, **query: str) -> Object:
        return await self.done("PUT", path, obj, query=query or None)

    async def patch(self, path: str, patch: Any, kind: str = MERGE_PATCH, **query: str) -> Object:
        return await self.done("PATCH", path, patch, content_type=kind, query=query or None)

    async def apply(self, path: str, obj: Object, manager: str = "conformance", **query: str) -> Object:
        return await self.patch(path, obj, APPLY_PATCH, fieldManager=manager, **query)

    async def delete(self, path: str, options: Object | None = None, **query: str) -> Object:
        return await self.done("DELETE", path, options, query=query or None)

    async def is_gone(self, path: str) -> bool:
        return (await self.call("GET", path)).code == 404

    @contextlib.asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[Watch]:
        """A watch that is open already when the block begins."""
        asked = {"watch": "true", **query}
        async with self._request("GET", path, None, asked, {"Accept": "application/json"}) as response:
            if response.status >= 300:
                raise CheckError(f"WATCH {path}: {response.status} {(await response.text())[:300]}")
            yield Watch(response)
