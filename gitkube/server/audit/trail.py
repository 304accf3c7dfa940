"""One request on its way through the server, as events of audit.k8s.io/v1.

The server tells the trail what it learns: who asks, as whom, what was decided, what is answered. At each
stage that the policy wants, an event is made of what is known by then. Bodies are read again from what the
request and the answer hold; one that cannot be understood is left out. Invariant: whatever goes wrong with
an event, the request goes on.
"""

from __future__ import annotations

import gzip
import ipaddress
import random
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web

from gitkube.api.authorization import Attributes, Decision, User, user_info
from gitkube.api.errors import StatusError
from gitkube.clock import Clock, rfc3339_micro
from gitkube.objects.uids import new_uid
from gitkube.server.attributes import attributes_of
from gitkube.server.audit.log import Counts
from gitkube.server.audit.policy import API_VERSION, Level, Policy, Stage, Verdict
from gitkube.server.bodies import PROTOBUF, content_type, parse_protobuf, parse_yaml, unpacked

ID_HEADER = "Audit-Id"
MAX_ID_CHARS = 64
MAX_SOURCES = 16
ABANDONED = 499
"""The code of an answer that nobody waited for, as nginx has it: HTTP has none."""
_NOBODY = User("")


class Sink(Protocol):
    """Where events go."""

    count: Counts

    def add(self, event: dict[str, object]) -> None: ...


def audit_id(request: web.Request, rng: random.Random) -> str:
    """The id of a request: its client's, if that is one, or else a new one."""
    given = request.headers.get(ID_HEADER, "")
    is_plain = given.isascii() and all(one.isalnum() or one in "-_." for one in given)
    if 0 < len(given) <= MAX_ID_CHARS and is_plain:
        return given
    return new_uid(rng)


async def show_id(request: web.Request, response: web.StreamResponse) -> None:
    """A signal of aiohttp: the head of an answer leaves, and shows the request's id."""
    if (id := request.get(REQUEST_ID)) is not None:
        response.headers[ID_HEADER] = id


def note_admission(request: web.Request, annotations: Mapping[str, str]) -> None:
    """Show in a request's events what admission notes there."""
    if (trail := request.get(_TRAIL)) is not None:
        trail.noting(annotations)


class Auditor:
    """Makes a trail for each request."""

    def __init__(self, policy: Policy, sink: Sink, *, clock: Clock) -> None:
        self._policy = policy
        self._sink = sink
        self._clock = clock

    def count_in(self, count: Counts) -> None:
        """Tell there what becomes of events."""
        self._sink.count = count

    def begin(self, request: web.Request, id: str) -> Trail:
        trail = request[_TRAIL] = Trail(request, id, self._policy, self._sink, self._clock)
        return trail

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal of aiohttp: the head of an answer leaves."""
        if (trail := request.get(_TRAIL)) is not None:
            trail.started(response)


class Trail:
    """See the module's text."""

    def __init__(self, request: web.Request, id: str, policy: Policy, sink: Sink, clock: Clock) -> None:
        self._request = request
        self._id = id
        self._policy = policy
        self._sink = sink
        self._clock = clock
        self._received_s = clock.now()
        self._asker = _NOBODY
        self._as_whom: User | None = None
        self._asked = attributes_of(_NOBODY, request.method, request.rel_url.raw_path, request.query)
        self._verdict = Verdict(Level.NONE)
        self._annotations: dict[str, str] = {}
        self._admission: Mapping[str, str] = {}
        self._begun: web.StreamResponse | None = None

    def known(self, asker: User) -> None:
        """Who asks is known."""
        self._asker = asker
        self._asked = self._asked._replace(user=asker)
        self._verdict = self._policy.verdict(self._asked)
        self._add(Stage.REQUEST_RECEIVED, None)

    def judged(self, user: User, decision: Decision) -> None:
        """As whom is known, and whether it may."""
        if user != self._asker:
            self._as_whom = user
        self._annotations["authorization.k8s.io/decision"] = "allow" if decision.allowed else "forbid"
        self._annotations["authorization.k8s.io/reason"] = decision.reason

    def noting(self, annotations: Mapping[str, str]) -> None:
        """Where admission will note what webhooks and policies have to say."""
        self._admission = annotations

    def abandoned(self) -> None:
        """The client went away, which is how most watches end; what it asked for may have been done."""
        self._add(Stage.RESPONSE_COMPLETE, self._begun or web.Response(status=ABANDONED))

    def started(self, response: web.StreamResponse) -> None:
        """The head of the answer leaves, and more is to come: a watch, a log, a stream."""
        if not isinstance(response, web.Response):
            self._begun = response
            self._add(Stage.RESPONSE_STARTED, response)

    async def complete(self, response: web.StreamResponse, *, is_failure: bool = False) -> None:
        """The answer is known whole.

        Args:
            is_failure: the server itself has failed on the request.
        """
        if self._asker is _NOBODY:  # nobody that we know: the refusal is kept as the policy has it for nobody
            self._verdict = self._policy.verdict(self._asked)
        documents: dict[str, Any] = {}
        if self._verdict.level >= Level.REQUEST and self._asked.resource:
            documents["requestObject"] = await self._request_object()
        if self._verdict.level >= Level.REQUEST_RESPONSE and self._asked.resource:
            documents["responseObject"] = _response_object(response)
        kept = {name: self._bare(value) for name, value in documents.items() if value is not None}
        self._add(Stage.PANIC if is_failure else Stage.RESPONSE_COMPLETE, response, kept)

    # ------------------------------------------------------------------ events

    def _add(
        self, stage: Stage, response: web.StreamResponse | None, documents: Mapping[str, Any] | None = None
    ) -> None:
        if self._verdict.level is Level.NONE or stage in self._verdict.omitted:
            return
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": API_VERSION,
            "level": self._verdict.level.word,
            "auditID": self._id,
            "stage": stage.value,
            "requestURI": self._request.rel_url.raw_path_qs,
            "verb": self._asked.verb,
            "user": _user(self._asker),
        }
        if self._as_whom is not None:
            event["impersonatedUser"] = _user(self._as_whom)
        event["sourceIPs"] = sources_of(self._request)
        if agent := self._request.headers.get("User-Agent"):
            event["userAgent"] = agent
        documents = documents or {}
        if self._asked.resource:
            event["objectRef"] = _reference(self._asked, documents.get("requestObject"))
        if response is not None:
            event["responseStatus"] = _status(response)
        event.update(documents)
        event["requestReceivedTimestamp"] = rfc3339_micro(self._received_s)
        event["stageTimestamp"] = rfc3339_micro(self._clock.now())
        annotations = {**self._admission, **self._annotations}
        if annotations and response is not None:
            event["annotations"] = annotations
        self._sink.add(event)

    async def _request_object(self) -> Any:
        if self._request.method not in ("POST", "PUT", "PATCH", "DELETE") or not self._request.body_exists:
            return None
        if not self._request.content.at_eof():
            return None  # it was refused unread, and its client may be slow to send it
        try:
            coding = self._request.headers.get("Content-Encoding", "")
            body = unpacked(await self._request.read(), coding)
            type = content_type(self._request)
            if not body:
                return None
            if type == PROTOBUF:
                return parse_protobuf(body)
            return parse_yaml(body) if "yaml" in type else orjson.loads(body)
        except (StatusError, ValueError, OSError, web.HTTPException):
            return None  # what cannot be read was refused for that, which the answer says

    def _bare(self, document: Any) -> Any:
        if not self._verdict.without_managed_fields or not isinstance(document, dict):
            return document
        bare = dict(document)
        metadata = bare.get("metadata")
        if isinstance(metadata, dict):
            bare["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
        if isinstance(bare.get("items"), list):
            bare["items"] = [self._bare(item) for item in bare["items"]]
        return bare


def _user(user: User) -> dict[str, Any]:
    return {key: value for key, value in user_info(user).items() if value}


def _reference(asked: Attributes, document: Any) -> dict[str, str]:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    found = {
        "resource": asked.resource,
        "namespace": asked.namespace,
        "name": asked.name or str(metadata.get("name") or ""),
        "uid": str(metadata.get("uid") or ""),
        "apiGroup": asked.group,
        "apiVersion": asked.version,
        "resourceVersion": str(metadata.get("resourceVersion") or ""),
        "subresource": asked.subresource,
    }
    return {key: value for key, value in found.items() if value}


def _status(response: web.StreamResponse) -> dict[str, Any]:
    status: dict[str, Any] = {"metadata": {}, "code": response.status}
    if response.status >= 400:
        found = _response_object(response)
        if isinstance(found, dict) and found.get("kind") == "Status":
            status |= {key: found[key] for key in ("status", "message", "reason", "details") if key in found}
    return status


def _response_object(response: web.StreamResponse) -> Any:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return None
    try:
        body = response.body
        if response.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return orjson.loads(body)
    except (ValueError, OSError, EOFError):
        return None  # a text, such as a log


def sources_of(request: web.Request) -> list[str]:
    """Addresses that the request came by; only the last of them is proven, the others are what it says."""
    told = [*request.headers.get("X-Forwarded-For", "").split(","), request.headers.get("X-Real-Ip", "")]
    found = []
    for text in [*told[:MAX_SOURCES], request.remote or ""]:
        try:
            found.append(str(ipaddress.ip_address(text.strip())))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


REQUEST_ID: web.RequestKey[str] = web.RequestKey("request-id", str)
_TRAIL: web.RequestKey[Trail] = web.RequestKey("audit-trail", Trail)
