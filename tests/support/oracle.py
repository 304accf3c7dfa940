"""Plays what a real API server 1.20 was asked to our server, and tells where ours answers otherwise.

A case is a list of requests with the recorded answers (`tests/oracle/README.md` has the form). Each file is
played to one fresh server, over HTTP on a unix socket, in the order of the file: cases that need an empty
server first, those that would disturb others last.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from gitkube.api.authorization import User
from gitkube.api.settings import ApiSettings
from gitkube.api.streams import PodStreams
from gitkube.clock import SystemClock
from gitkube.server.app import create_app
from gitkube.store.protocol import Revision
from tests.support.oracle_comparison import Bindings, Comparison
from tests.support.oracle_newer import in_newer_versions
from tests.support.oracle_webhook import asked_since, in_the_old_form, recorded_of, set_up
from tests.support.real_api import real_api
from tests.support.webhook_server import WebhookServer

ROOT = Path(__file__).parents[1] / "oracle"
ADMIN_TOKEN = "admin-token-of-the-replay"
_ADMIN = User("admin", ("system:masters", "system:authenticated"), "admin")
_SETTINGS = ApiSettings(service_cidr="10.96.0.0/16", mounts_tokens=False)
_ANSWER_WITHIN_S = 60.0
_MAX_RETRY_S = 2.0

Compact = Callable[[], Awaitable[None]]
Case = dict[str, Any]
Step = dict[str, Any]


def cases(name: str) -> list[Case]:
    """The cases of a file in the order in which they are to be played."""
    with gzip.open(ROOT / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        found: list[Case] = [json.loads(in_newer_versions(line)) for line in lines]
    return sorted(found, key=_phase)


def known_differences(name: str) -> dict[str, str]:
    """Cases of a file in which ours answers differently on purpose, with the reason."""
    known: dict[str, str] = {}
    reason = ""
    for line in (ROOT / "differences" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            reason = line.removeprefix("## ")
        elif line and not line.startswith("#"):
            assert reason, f"{name}: {line} has no reason above it"
            assert line not in known, f"{name}: {line} is listed twice"
            known[line] = reason
    return known


def _phase(case: Case) -> int:
    needs = case.get("needs", [])
    if "empty server" in needs:
        return 1 if case.get("namespace") else 0
    return 4 if "compaction" in needs else 3 if "alone" in needs or "webhook" in needs else 2


class SteppingClock(SystemClock):
    """Each look at it is a second later, as the recording's requests were apart."""

    def __init__(self) -> None:
        self._now_s = 1_700_000_000.0

    def now(self) -> float:
        self._now_s += 1
        return self._now_s


@contextlib.asynccontextmanager
async def server(directory: Path) -> AsyncIterator[tuple[Path, Compact]]:
    """A fresh API server; the path of its socket, and what makes its store forget the past."""
    fixed = {ADMIN_TOKEN: _ADMIN}
    async with real_api(
        directory / "store", clock=SteppingClock(), settings=_SETTINGS, fixed_tokens=fixed
    ) as api:
        streams = cast(PodStreams, None)  # nothing runs here, so no case gets as far as to a pod's stream
        app = create_app(
            api,
            streams,
            clock=SteppingClock(),
            rng=random.Random(3),
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, max_field_size=2**20)
        await runner.setup()
        path = directory / "api.sock"
        await web.UnixSite(runner, str(path)).start()
        try:
            yield path, lambda: api.store.compact(Revision(api.cache.revision))
        finally:
            await runner.cleanup()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case; several values joined by ", "."""
    text: str


class Connection:
    """One kept HTTP/1.1 connection. By hand, for requests must go out exactly as they are recorded."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> Answer:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_unix_connection(self._socket, limit=2**20)
        lines = [f"{method} {target} HTTP/1.1", "Host: api.test"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        head = "\r\n".join([*lines, "", ""]).encode()
        with contextlib.suppress(ConnectionError):  # it may answer before it has read all
            self._writer.write(head + (body or b""))
            await self._writer.drain()
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            answer = await self._read(method)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _read(self, method: str) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("utf-8", "replace")
        first, *rest = head.split("\r\n")
        headers: dict[str, str] = {}
        for line in filter(None, rest):
            name, _, value = line.partition(":")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        status = int(first.split()[1])
        body = b""
        if method != "HEAD" and status not in (204, 304):
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self._reader.readline(), 16):
                    body += await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
                await self._reader.readline()
            else:
                body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("content-encoding") == "gzip" and body:
            body = gzip.decompress(body)
        return Answer(status, headers, body.decode("utf-8", "replace"))


class Replay:
    """One case on one server."""

    def __init__(self, connection: Connection, case: Case, webhook: WebhookServer, compact: Compact) -> None:
        self._connection = connection
        self._compact = compact
        self._case = case
        self._webhook = webhook
        known = {
            "server": "api.test",
            "admin-token": ADMIN_TOKEN,
            "webhook": f"127.0.0.1:{webhook.port}",
            "webhook-ca": webhook.ca_bundle,
        }
        self._bindings = Bindings(known)

    async def difference(self, *, may_retry: bool) -> str:
        """The first difference, or "" when every answer is the recorded one."""
        set_up(self._webhook, self._case, self._bindings.fill)
        if found := await self._prepare():
            return found
        for number, step in enumerate(self._case["steps"]):
            request = f"step {number} {step['method']} {step['path']}"
            request += f"?{step['query']}" if step.get("query") else ""
            if found := await self._play(step, min(step.get("retry_s", 0), _MAX_RETRY_S) * may_retry):
                await self._clean_up(self._case["steps"][number + 1 :])
                return f"{request} | {found}"
        return ""

    async def _clean_up(self, steps: list[Step]) -> None:
        """Take away what a case has made that is over too soon, so that others do not see it."""
        for step in steps:
            if step["method"] == "DELETE":
                await self._once(step, self._bindings.copy())

    async def _prepare(self) -> str:
        namespace = self._case.get("namespace")
        if not namespace:
            return ""
        path = "/api/v1/namespaces"
        things = [(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})]
        if not self._case.get("no_default_account"):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            things.append((f"{path}/{namespace}/serviceaccounts", account))
        for path, thing in things:
            answer = await self._send("POST", path, {"Content-Type": "application/json"}, _json(thing))
            if answer.status != 201:
                return f"preparing {path}: {answer.status} {answer.text[:300]}"
        return ""

    async def _play(self, step: Step, retry_s: float) -> str:
        if step.get("compact"):
            await self._compact()
        await asyncio.sleep(step.get("pause_s", 0))
        end_s = asyncio.get_running_loop().time() + retry_s
        while True:
            trial = self._bindings.copy()
            found = await self._once(step, trial)
            if not found or asyncio.get_running_loop().time() >= end_s:
                self._bindings = trial
                return found
            await asyncio.sleep(0.05)

    async def _once(self, step: Step, bindings: Bindings) -> str:
        headers: dict[str, str] = {}
        body: bytes | None = None
        if "body" in step:
            body = _json(bindings.fill(step["body"]))
        elif "body_text" in step:
            text = str(bindings.fill(step["body_text"]))
            body = (text.replace("@", "x" * step["body_fill"]) if "body_fill" in step else text).encode()
        content_type = step.get("content_type", "application/json")
        if body is not None and content_type:
            headers["Content-Type"] = content_type
        if "accept" in step:
            headers["Accept"] = step["accept"]
        headers |= bindings.fill(step.get("headers", {}))
        target = bindings.fill(step["path"])
        target += f"?{bindings.fill(step['query'])}" if step.get("query") else ""
        auth = str(bindings.fill(step.get("auth", "admin")))
        answer = await self._send(step["method"], target, headers, body, auth)
        return self._judge(step, answer, bindings) or self._judge_asked(step, bindings)

    def _judge_asked(self, step: Step, bindings: Bindings) -> str:
        """How what the webhooks were asked differs from what they were."""
        recorded, given = recorded_of(step), asked_since(self._webhook)
        if "webhook_requests" not in step:
            return ""
        if len(recorded) != len(given):
            paths = [each["path"] for each in given]
            return f"webhooks: {[each['path'] for each in recorded]} were asked, {paths} are"
        comparison = Comparison(bindings, (), True, "")
        given = in_the_old_form(recorded, given)
        difference = comparison.first_difference(recorded, given)
        return f"asked of a webhook: {difference[:700]}" if difference else ""

    async def _send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None, auth: str = "admin"
    ) -> Answer:
        token = {"admin": ADMIN_TOKEN, "none": ""}.get(auth, auth)
        sent = {"User-Agent": "oracle/1.0", "Accept": "application/json"}
        sent |= {"Authorization": f"Bearer {token}"} if token else {}
        target = urllib.parse.quote(target, safe="/?&=%:;,+!*'()@$[]~#")
        try:
            return await self._connection.send(method, target, sent | headers, body)
        except (OSError, asyncio.IncompleteReadError):
            self._connection.close()  # the server closed a connection that was kept: once more, on a new one
            return await self._connection.send(method, target, sent | headers, body)

    def _judge(self, step: Step, answer: Answer, bindings: Bindings) -> str:
        if step["status"] == 500 and 400 <= answer.status < 500:
            return ""  # what 1.20 calls its own failure is the client's mistake
        if answer.status != step["status"]:
            recorded = step.get("answer")
            words = str(recorded.get("message", ""))[:200] if isinstance(recorded, dict) else ""
            return f"status {step['status']} {words!r} recorded, {answer.status} given: {answer.text[:300]}"
        for word, header in (
            ("warnings", "warning"), ("www_authenticate", "www-authenticate"), ("retry_after", "retry-after"),
        ):  # fmt: skip
            given = answer.headers.get(header)
            if word == "warnings" and step.get(word) is None and given and _is_newer(given):
                continue
            if given != step.get(word):
                return f"header {header}: {step.get(word)!r} recorded, {answer.headers.get(header)!r} given"
        for header, value in step.get("answer_headers", {}).items():
            given = answer.headers.get(header.lower())
            if not (given is None if value is None else bindings.fits(value, given)):
                return f"header {header}: {value!r} recorded, {given!r} given"
        type = answer.headers.get("content-type")
        if (
            type
            and not step.get("stream")
            and not _is_type(step.get("answer_type", "application/json"), type)
        ):
            return f"type {step.get('answer_type', 'application/json')} recorded, {type} given"
        if "answer_text" in step and not bindings.fits(step["answer_text"], answer.text):
            return f"text {step['answer_text'][:300]!r} recorded, {answer.text[:300]!r} given"
        if "answer" not in step and "bind_token" not in step:
            return ""
        try:
            if step.get("stream") and answer.status == 200:
                document: Any = [json.loads(line) for line in answer.text.splitlines() if line.strip()]
            else:
                document = json.loads(answer.text)
        except ValueError:
            return f"no JSON: {answer.text[:300]!r}"
        if "bind_token" in step and not bindings.fits(step["bind_token"], document["status"]["token"]):
            return f"another token than {step['bind_token']}"
        if "answer" not in step:
            return ""
        comparison = Comparison(
            bindings,
            tuple(step.get("any_order", ())),
            step.get("answer_part", False),
            self._case.get("managed_fields", ""),
        )
        return comparison.first_difference(step["answer"], document)[:700]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _is_newer(warnings: str) -> bool:
    """Whether all that is warned of is what later releases warn of by themselves."""
    newer = (
        ' field \\"',
        "child pods are preserved by default",
        "a null labelSelector results in matching no pod",
        "v1 Endpoints is deprecated in v1.33+",
        "prefer a domain-qualified finalizer name",
        "deprecated in v1.",
        "deprecated since v1.",
        "The Recycle reclaim policy is deprecated",
        "please use 'spec.ingressClassName' instead",
        "spec.externalIPs is deprecated",
        "duplicate port definition with",
        "negative values are invalid and will be treated as 1",
    )
    return all(any(text in warning for text in newer) for warning in warnings.split("299 - ")[1:])


def _is_type(recorded: str, given: str) -> bool:
    return recorded.replace(" ", "") == given.replace(" ", "")
