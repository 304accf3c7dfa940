"""Between the API's pods and the hosts: desired sections go down, reports come up and become status.

Downwards (`PodSync.flush`): a change of a pod, of what it refers to, of a Service or of a Node marks hosts;
a few milliseconds later their sections are computed whole and handed to the links, which send what differs.
Upwards: the newest report of each pod waits in a queue; a worker merges it into the pod's status and patches
only a difference. The patch carries the resourceVersion it was computed from, so it can neither undo what
another wrote nor reach another pod of the same name; on a conflict the pod is read again.

Invariant: a report or an event never touches a pod with another uid, or one bound to another host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import structlog

from gitkube import wire
from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.events import EventRecorder
from gitkube.api.informers import BY_NODE, Informers
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.clock import Clock
from gitkube.fleet import desired
from gitkube.fleet.link import HostLink
from gitkube.fleet.pod_status import merged_status
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.tokens import PodTokens
from gitkube.objects import meta, pods
from gitkube.objects.kinds import CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SECRET, SERVICE
from gitkube.objects.patch.merge_patch import create_merge_patch
from gitkube.objects.types import Object

FIELD_MANAGER = "gitkube-fleet"
MAX_CONFLICTS = 5
MAX_EVENTS_WAITING = 2000
"""From all hosts together; more are dropped and counted in the log."""
_STATUS_WORKERS = 8
_BY_CONFIG_MAP, _BY_SECRET = "configMap", "secret"

log = structlog.get_logger(__name__)


class Copies:
    """The informers that the fleet reads."""

    def __init__(self, informers: Informers) -> None:
        informer = informers.of
        self.pods, self.nodes = informers.pods_by_node(), informer(NODE)
        self.config_maps, self.secrets = informer(CONFIG_MAP), informer(SECRET)
        self.services, self.slices = informer(SERVICE), informer(ENDPOINT_SLICE)
        self.all = (
            self.pods, self.nodes, self.config_maps, self.secrets, self.services, self.slices,
        )  # fmt: skip
        self.pods.add_index(_BY_CONFIG_MAP, lambda pod: _keys(pod, pods.referenced_config_maps))
        self.pods.add_index(_BY_SECRET, lambda pod: _keys(pod, pods.referenced_secrets))

    async def wait_synced(self) -> None:
        for informer in self.all:
            await informer.wait_synced()


class PodSync:
    """See the module's text."""

    def __init__(
        self,
        client: Client,
        copies: Copies,
        links: Mapping[str, HostLink],
        *,
        clock: Clock,
        rng: Random,
        settings: FleetSettings,
    ) -> None:
        self._client, self._copies, self._links = client, copies, links
        self._clock, self._settings = clock, settings
        self.on_network_set: Callable[[str], None] = lambda host: None
        """Called with each host whose network section was handed to its link."""
        self._tokens = PodTokens(
            client,
            lambda host: copies.pods.by_index(BY_NODE, host),
            clock=clock,
            rng=rng,
            on_change=lambda host: self._mark("tokens", [host]),
        )
        self._had_tokens: set[str] = set()
        """Hosts that were sent a token since we lead; the others need no section for them."""
        self._dirty: set[tuple[str, str]] = set()
        """(section, host) to compute again."""
        self._services_dirty = True
        self._something = asyncio.Event()
        self._services: tuple[wire.ServicesDesired, str] | None = None
        self._reports: dict[tuple[str, str], wire.PodReport] = {}
        """(host, pod uid) -> newest report that is not in the API yet. By host, so that none can push
        another's word aside."""
        self._written: dict[str, Object] = {}
        """Pod uid -> the object of our last write, for as long as the informer lags behind it."""
        self._queue: WorkQueue[tuple[str, str]] = WorkQueue(clock, rng)
        self._events: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue(MAX_EVENTS_WAITING)
        self._recorders: dict[str, EventRecorder] = {}
        copies.pods.add_handler(self._pod_changed)
        copies.nodes.add_handler(self._node_changed)
        copies.config_maps.add_handler(self._referenced(_BY_CONFIG_MAP))
        copies.secrets.add_handler(self._referenced(_BY_SECRET))
        for informer in (copies.services, copies.slices):
            informer.add_handler(self._service_changed)

    async def run(self) -> None:
        """Push and write for ever."""
        await self._copies.wait_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._push())
            group.create_task(self._tokens.run(lambda: self._links))
            group.create_task(
                run_workers(self._queue, self._write_report, workers=_STATUS_WORKERS, name="fleet-pods")
            )
            group.create_task(self._write_events())

    # ------------------------------------------------------------ downwards

    def touch_host(self, host: str) -> None:
        """Compute every section of a host again."""
        self._dirty |= {("pods", host), ("network", host), ("services", host)}
        self._something.set()

    async def _push(self) -> None:
        while True:
            await self._something.wait()
            await self._clock.sleep(self._settings.push_delay_s)
            self._something.clear()
            await self._tokens.prepare({host for section, host in self._dirty if section == "pods"})
            self.flush()

    def flush(self) -> None:
        """Compute what is marked, and hand it to the links."""
        if self._services_dirty or self._services is None:
            self._services_dirty = False
            section = desired.services_section(self._copies.services.list(), self._copies.slices.list())
            self._services = (section, wire.digest_of(section))
            self._dirty |= {("services", host) for host in self._links}
        marked, self._dirty = self._dirty, set()
        peers = desired.peers_of(self._copies.nodes.list())
        for section_name, host in sorted(marked):
            link, node = self._links.get(host), self._copies.nodes.get(host)
            if link is None or node is None:
                continue
            revision = _revision(node)
            if section_name in ("pods", "tokens"):
                self._send_tokens(host, link, revision)  # before the pods, who would wait for them
            if section_name == "tokens":
                continue
            if section_name == "services":
                link.set_desired("services", self._services[0], self._services[1], revision)
                continue
            data = self._section(section_name, node, peers)
            if data is not None:
                link.set_desired(section_name, data, wire.digest_of(data), revision)
            if section_name == "network":
                self.on_network_set(host)

    def _send_tokens(self, host: str, link: HostLink, revision: int) -> None:
        section = self._tokens.section(host)
        if section["tokens"] or host in self._had_tokens:
            self._had_tokens.add(host)
            link.set_desired("tokens", section, wire.digest_of(section), revision)

    def _section(self, name: str, node: Object, peers: list[wire.Peer]) -> Any:
        copies = self._copies
        if name == "network":
            return desired.network_section(node, peers, self._settings)
        bound = copies.pods.by_index(BY_NODE, meta.name(node))
        return desired.pods_section(node, bound, copies.config_maps.get, copies.secrets.get)

    def _mark(self, section: str, hosts: Iterable[str]) -> None:
        self._dirty |= {(section, host) for host in hosts if host in self._links}
        if self._dirty:
            self._something.set()

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        for pod in (before, after):
            if pod is not None and pods.node_name(pod) and _is_news_to_host(before, after):
                self._mark("pods", [pods.node_name(pod)])
        if after is None and before is not None:
            self._written.pop(meta.uid(before), None)
            self._reports.pop((pods.node_name(before), meta.uid(before)), None)
        elif after is not None:
            written = self._written.get(meta.uid(after))
            if written is not None and _revision(after) >= _revision(written):
                del self._written[meta.uid(after)]

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if _peer(before) != _peer(after):
            self._mark("network", list(self._links))
        elif after is not None and (
            before is None or desired.pod_cidr_of(before) != desired.pod_cidr_of(after)
        ):
            self._mark("network", [meta.name(after)])
        if after is not None and (
            before is None or desired.node_for_host(before) != desired.node_for_host(after)
        ):
            self._mark("pods", [meta.name(after)])
        if after is not None and before is None:
            self._mark("services", [meta.name(after)])

    def _referenced(self, index: str) -> Callable[[Object | None, Object | None], None]:
        def changed(before: Object | None, after: Object | None) -> None:
            using = self._copies.pods.by_index(index, meta.key(after or before or {}))
            self._mark("pods", {pods.node_name(pod) for pod in using})

        return changed

    def _service_changed(self, before: Object | None, after: Object | None) -> None:
        self._services_dirty = True
        self._something.set()

    # ------------------------------------------------------------ upwards

    def take_reports(self, host: str, reports: Iterable[wire.PodReport]) -> None:
        """Reports of a host; only the newest of each pod matters."""
        for report in reports:
            key = (host, report["uid"])
            self._reports[key] = report
            self._queue.add(key)

    def take_event(self, host: str, event: Mapping[str, Any]) -> None:
        """What a host wants a person to know."""
        try:
            self._events.put_nowait((host, event))
        except asyncio.QueueFull:
            log.warning("event_dropped", host=host, reason=event.get("reason"), name=event.get("name"))

    async def _write_report(self, key: tuple[str, str]) -> float | None:
        host, uid = key
        report = self._reports.get(key)
        if report is None:
            return None
        name, namespace = report["name"], report["namespace"]
        pod = self._newest(self._copies.pods.get(name, namespace), uid)
        for _ in range(MAX_CONFLICTS):
            if pod is None:
                pod = await self._fetch(name, namespace)
            if pod is None or meta.uid(pod) != uid or pods.node_name(pod) != host:
                break
            try:
                await self._write(pod, report)
                break
            except StatusError as error:
                if is_not_found(error):
                    break
                if not is_conflict(error):
                    raise
                pod = None
        else:
            raise StatusError(409, "Conflict", f"the status of pod {namespace}/{name} changed at every try")
        if self._reports.get(key) is report:
            del self._reports[key]
        return None

    async def _write(self, pod: Object, report: wire.PodReport) -> None:
        uid = meta.uid(pod)
        if report.get("gone"):
            await self._client.delete(POD, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=uid)
            self._written.pop(uid, None)
            return
        current = pod.get("status") or {}
        patch = create_merge_patch(current, merged_status(current, report["status"]))
        if patch:
            body = {"metadata": {"resourceVersion": meta.resource_version(pod)}, "status": patch}
            self._written[uid] = await self._client.patch(
                POD, meta.name(pod), meta.namespace(pod), body,
                subresource="status", field_manager=FIELD_MANAGER,
            )  # fmt: skip

    def _newest(self, cached: Object | None, uid: str) -> Object | None:
        """The informer's copy, or our own last write when the informer has not seen it yet."""
        written = self._written.get(uid)
        if written is None or cached is None or meta.uid(cached) != uid:
            return cached
        if _revision(cached) >= _revision(written):
            del self._written[uid]
            return cached
        return written

    async def _fetch(self, name: str, namespace: str) -> Object | None:
        try:
            return await self._client.get(POD, name, namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    async def _write_events(self) -> None:
        while True:
            host, event = await self._events.get()
            recorder = self._recorders.setdefault(
                host, EventRecorder(self._client, "gitkube-node", clock=self._clock, host=host)
            )
            about = self._about(host, event)
            if about is None:
                log.info("event_refused", host=host, reason=event.get("reason"), name=event.get("name"))
                continue
            await recorder.event(
                about,
                "Warning" if event.get("eventType") == "Warning" else "Normal",
                str(event.get("reason") or "Unknown"),
                str(event.get("message") or ""),
                field_path=str(event.get("fieldPath") or ""),
            )

    def _about(self, host: str, event: Mapping[str, Any]) -> Object | None:
        """The host's own Node, or a pod that is bound to it; None for what it may not speak of."""
        if not event.get("uid"):
            node = self._copies.nodes.get(host)
            return node or {"apiVersion": "v1", "kind": "Node", "metadata": {"name": host}}
        name, namespace, uid = str(event.get("name")), str(event.get("namespace")), str(event["uid"])
        pod = self._copies.pods.get(name, namespace)
        if pod is None or meta.uid(pod) != uid or pods.node_name(pod) != host:
            return None
        return {"apiVersion": "v1", "kind": "Pod", **pod}


def _is_news_to_host(before: Object | None, after: Object | None) -> bool:
    if before is None or after is None:
        return True
    return desired.pod_for_host(before) != desired.pod_for_host(after)


def _peer(node: Object | None) -> wire.Peer | None:
    """What the other hosts are told of a host: nothing before it has all that they need."""
    return desired.peer_of(node) if node is not None else None


def _keys(pod: Object, names: Callable[[Mapping[str, Any]], list[str]]) -> list[str]:
    return [meta.key_of(meta.namespace(pod), name) for name in names(pods.spec(pod))]


def _revision(obj: Object) -> int:
    text = meta.resource_version(obj)
    return int(text) if text.isdigit() else 0
