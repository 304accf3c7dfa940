"""Tokens for the pods of each host: asked for at the API, sent down the link, and renewed before they end.

A pod that projects a token of its ServiceAccount gets one that is bound to the pod, so it ends with it. The
host holds tokens in memory and in the pods' own tmpfs; none is ever written to its disk, so a host that was
started anew gets them again with its link. Tokens are renewed as the kubelet does: after 80 % of their life,
or after a day.

Invariant: a host is sent tokens of pods that are bound to it, and no others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from gitkube import wire
from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.clock import Clock, parse_rfc3339
from gitkube.objects import meta, pods
from gitkube.objects.kinds import SERVICE_ACCOUNT
from gitkube.objects.types import Object

RENEW_AFTER_SHARE = 0.8
RENEW_AFTER_S = 24 * 3600.0
JITTER_S = 10.0
"""So that the tokens of pods that began together are not renewed together."""
CHECK_S = 10.0
RETRY_S = 1.0
WAIT_S = 0.5
"""How long a host's pods wait for their tokens, so that both reach it at once; the rest come later."""
MAX_AT_ONCE = 16

log = structlog.get_logger(__name__)

Slot = tuple[str, str]
"""Uid of the pod, and `wire.token_key` of what it asks for."""


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    renew_at_s: float


@dataclass(frozen=True, slots=True)
class _Turn:
    """A token to ask for."""

    slot: Slot
    host: str
    pod: Object
    source: dict[str, Any]


class PodTokens:
    """See the module's text."""

    def __init__(
        self,
        client: Client,
        bound: Callable[[str], Iterable[Object]],
        *,
        clock: Clock,
        rng: Random,
        on_change: Callable[[str], None],
    ) -> None:
        """
        Args:
            bound: the pods of a host.
            on_change: called with a host for which there is something new to send.
        """
        self._client = client
        self._bound = bound
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._held: dict[Slot, _Held] = {}
        self._asking: dict[Slot, asyncio.Future[None]] = {}
        """What is under way or waits for its turn, and its end."""
        self._turns: deque[_Turn] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._refused: set[str] = set()
        """Hosts with a pod whose token was refused, because its account is not there yet, say."""

    async def run(self, hosts: Callable[[], Iterable[str]]) -> None:
        """Renew for ever.

        Args:
            hosts: those that have a link now.
        """
        try:
            checked_s = self._clock.monotonic()
            while True:
                await self._clock.sleep(RETRY_S)
                if self._clock.monotonic() - checked_s >= CHECK_S:
                    checked_s = self._clock.monotonic()
                    await self._check(list(hosts()))
                else:
                    refused, self._refused = self._refused, set()
                    for host in refused:
                        self._begin(host)
        finally:
            workers = list(self._workers)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _check(self, hosts: Iterable[str]) -> None:
        before, present = set(self._held), set[Slot]()
        for host in hosts:
            present |= self._begin(host)
            await asyncio.sleep(0)  # thousands of hosts must not hold up everybody else
        # What belongs to no pod of ours any more is forgotten: its pod is gone, or another's.
        for slot in before - present:
            self._held.pop(slot, None)

    async def prepare(self, hosts: Iterable[str]) -> None:
        """Have the tokens of these hosts' pods, or go on getting them beside what follows."""
        wanted = set[Slot]()
        for host in hosts:
            wanted |= self._begin(host)
        ends = [self._asking[slot] for slot in wanted if slot in self._asking and slot not in self._held]
        if not ends:
            return
        alarm = asyncio.ensure_future(self._clock.sleep(WAIT_S))
        everything = asyncio.ensure_future(asyncio.wait(ends))
        try:
            await asyncio.wait([alarm, everything], return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            everything.cancel()

    def section(self, host: str) -> wire.TokensDesired:
        """Section "tokens" of a host, as far as it is known."""
        tokens: dict[str, dict[str, str]] = {}
        for pod, source in self._sources(host):
            held = self._held.get(_slot(pod, source))
            if held is not None:
                tokens.setdefault(meta.uid(pod), {})[wire.token_key(source)] = held.token
        return wire.TokensDesired(tokens=dict(sorted(tokens.items())))

    # ------------------------------------------------------------ parts

    def _sources(self, host: str) -> Iterator[tuple[Object, Mapping[str, Any]]]:
        for pod in self._bound(host):
            if not pods.is_terminal(pod):
                for source in token_sources(pods.spec(pod)):
                    yield pod, source

    def _begin(self, host: str) -> set[Slot]:
        """Ask for what is missing or due, and say what there should be."""
        wanted, now_s = set[Slot](), self._clock.now()
        for pod, source in self._sources(host):
            slot = _slot(pod, source)
            wanted.add(slot)
            held = self._held.get(slot)
            is_due = held is None or now_s >= held.renew_at_s
            if is_due and slot not in self._asking:
                self._asking[slot] = asyncio.get_running_loop().create_future()
                self._turns.append(_Turn(slot, host, pod, dict(source)))
        while self._turns and len(self._workers) < min(MAX_AT_ONCE, len(self._turns)):
            worker = asyncio.ensure_future(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return wanted

    async def _work(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            try:
                await self._ask(turn)
            finally:
                end = self._asking.pop(turn.slot)
                if not end.done():
                    end.set_result(None)

    async def _ask(self, turn: _Turn) -> None:
        try:
            self._held[turn.slot] = await self._request(turn.pod, turn.source)
        except StatusError as error:
            self._refused.add(turn.host)
            log.warning(
                "pod_token_refused",
                namespace=meta.namespace(turn.pod), name=meta.name(turn.pod), error=str(error),
                retry_s=RETRY_S,
            )  # fmt: skip
            return
        self._on_change(turn.host)

    async def _request(self, pod: Object, source: Mapping[str, Any]) -> _Held:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": meta.name(pod), "uid": meta.uid(pod)}
        spec: dict[str, Any] = {"boundObjectRef": bound, "expirationSeconds": wire.token_lifetime_s(source)}
        if source.get("audience"):
            spec["audiences"] = [str(source["audience"])]
        account = str(pods.spec(pod).get("serviceAccountName") or "default")
        body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        begun_s = self._clock.now()
        answer = await self._client.create_subresource(
            SERVICE_ACCOUNT, account, meta.namespace(pod), "token", body
        )
        status = answer["status"]
        lifetime_s = parse_rfc3339(str(status["expirationTimestamp"])) - begun_s
        renew_at_s = begun_s + min(lifetime_s * RENEW_AFTER_SHARE, RENEW_AFTER_S)
        return _Held(str(status["token"]), renew_at_s - self._rng.random() * JITTER_S)


def token_sources(pod_spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Each `serviceAccountToken` that a pod projects."""
    for volume in pod_spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                yield source["serviceAccountToken"]


def _slot(pod: Object, source: Mapping[str, Any]) -> Slot:
    return meta.uid(pod), wire.token_key(source)
