"""Events: what a loop wants a person to know about an object.

An event is a convenience and never carries the work: the recorder never raises into its caller, what it
could not write is logged. The same words about the same object are one Event whose `count` goes up; its name
is derived from what it says, so that a restarted process goes on counting instead of starting a second one.
An object that causes very many different events is cut off by a token bucket (client-go's spam filter).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_not_found
from gitkube.clock import Clock, rfc3339
from gitkube.objects.kinds import EVENT
from gitkube.objects.types import Object

MAX_REMEMBERED = 4096
"""Events and buckets kept in memory; the one unused for longest goes first."""
MAX_MESSAGE_CHARS = 1024
"""Kubernetes' own limit for an Event's message."""
MAX_NAME_CHARS = 253
BURST = 25
REFILL_S = 300.0
"""One more event each five minutes once an object has spent its burst, as client-go does."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    refilled_at: float


class EventRecorder:
    """Writes Events for one component.

    Args:
        component: who speaks, such as "deployment-controller".
        host: on which host, when it is one's.
    """

    def __init__(self, client: Client, component: str, *, clock: Clock, host: str = "") -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._host = host
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Say something about an object; never raises.

        Args:
            type: "Normal" or "Warning".
            reason: one CamelCase word for machines.
            message: a sentence for people.
            field_path: which part of the object, such as `spec.containers{web}`.
        """
        reference = _reference(obj, field_path)
        if not self._may_speak(reference):
            log.debug("event_suppressed", reason=reason, message=message, **_names(reference))
            return
        message = message[:MAX_MESSAGE_CHARS]
        try:
            await self._write(reference, type, reason, message)
        except (StatusError, OSError, TimeoutError) as error:
            log.warning(
                "event_not_written", reason=reason, message=message, error=str(error), **_names(reference)
            )

    async def _write(self, reference: Object, type: str, reason: str, message: str) -> None:
        namespace = reference.get("namespace") or "default"
        name = self._event_name(reference, type, reason, message)
        now = rfc3339(self._clock.now())
        count = self._counts.get((namespace, name))
        if count is None:
            try:
                await self._client.create(EVENT, self._new(reference, type, reason, message, now))
                self._remember(namespace, name, 1)
                return
            except StatusError as error:
                if not is_already_exists(error):
                    raise
            existing = await self._client.get(EVENT, name, namespace)
            count = int(existing.get("count") or 1)
        try:
            patch = {"count": count + 1, "lastTimestamp": now}
            await self._client.patch(EVENT, name, namespace, patch)
            self._remember(namespace, name, count + 1)
        except StatusError as error:
            if not is_not_found(error):
                raise
            # It expired in the store since we last counted it: start again.
            await self._client.create(EVENT, self._new(reference, type, reason, message, now))
            self._remember(namespace, name, 1)

    def _new(self, reference: Object, type: str, reason: str, message: str, now: str) -> Object:
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self._event_name(reference, type, reason, message),
                "namespace": reference.get("namespace") or "default",
            },
            "involvedObject": reference,
            "type": type,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _event_name(self, reference: Object, type: str, reason: str, message: str) -> str:
        said = (
            reference.get("kind", ""), reference.get("uid", ""), reference.get("fieldPath", ""),
            type, reason, message, self._component, self._host,
        )  # fmt: skip
        digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
        return f"{reference['name'][: MAX_NAME_CHARS - 17]}.{digest}"

    def _remember(self, namespace: str, name: str, count: int) -> None:
        self._counts[namespace, name] = count
        self._counts.move_to_end((namespace, name))
        if len(self._counts) > MAX_REMEMBERED:
            self._counts.popitem(last=False)

    def _may_speak(self, reference: Object) -> bool:
        who = "\0".join(reference.get(key, "") for key in ("kind", "namespace", "name", "uid"))
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(who, _Bucket(BURST, now))
        self._buckets.move_to_end(who)
        if len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.refilled_at) / REFILL_S)
        bucket.refilled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _reference(obj: Object, field_path: str) -> Object:
    metadata = obj["metadata"]
    reference = {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
        "fieldPath": field_path,
    }
    return {key: value for key, value in reference.items() if value}


def _names(reference: Object) -> dict[str, str]:
    return {"kind": reference["kind"], "namespace": reference.get("namespace", ""), "name": reference["name"]}
