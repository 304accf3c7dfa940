"""The fleet: one link for each host of the inventory, and what passes over them.

It joins the parts and holds no logic of theirs: `NodeSync` writes Nodes, `PodSync` makes sections and writes
statuses, each `HostLink` keeps one host, `LinkStreams` carries logs and exec. What this file itself decides
is which links exist: those of the inventory, re-read whenever its file changes. A file that cannot be read
any more changes nothing; its mistakes are in the log and in `inventory_error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, cast

import structlog

from gitkube import wire
from gitkube.api.client import Client
from gitkube.api.informers import Informers
from gitkube.api.streams import ExecOptions, LogOptions, StreamSession
from gitkube.clock import Clock
from gitkube.fleet import said
from gitkube.fleet.api_bridge import ApiAddress, ApiBridge
from gitkube.fleet.desired import PUBLIC_KEY_ANNOTATION
from gitkube.fleet.dialer import SshDialer
from gitkube.fleet.errors import PrepareError
from gitkube.fleet.hosts import Host, Inventory, InventoryError
from gitkube.fleet.inventory import load_inventory
from gitkube.fleet.link import Dialer, HostLink, LinkState
from gitkube.fleet.nodes import HostFacts, NodeSync
from gitkube.fleet.pods import Copies, PodSync
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.streams import LinkStreams
from gitkube.fleet.watching import watched
from gitkube.objects import meta
from gitkube.objects.types import Object

RELOAD_DELAY_S = 0.2
"""Editors write a file in several steps."""
EMPTY_PODS: dict[str, Any] = {"pods": [], "configMaps": {}, "secrets": {}, "node": {}}

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    """A link and the task that runs it."""

    link: HostLink
    task: asyncio.Task[None]


class Fleet:
    """The machines of the inventory. Implements `api.streams.PodStreams`.

    Args:
        inventory: a file, which is then watched, or an inventory that stays as it is.
        data_dir: where known host keys and the built agent are kept.
        term: of this leader; hosts refuse orders of an older one.
        dialer: another way to hosts than SSH, for tests and simulations.
        api: where our own API listens, for pods that ask it; None keeps it from them.
        informers: those that other loops use, too.
    """

    def __init__(
        self,
        client: Client,
        *,
        inventory: Path | Inventory,
        data_dir: Path,
        term: int,
        clock: Clock,
        rng: Random,
        settings: FleetSettings | None = None,
        dialer: Dialer | None = None,
        api: ApiAddress | None = None,
        informers: Informers | None = None,
    ) -> None:
        self._api = api
        self.inventory_error = ""
        """Why the inventory's file is not in force as it is now; "" when it is."""
        self._settings = settings or FleetSettings()
        self._path = inventory.path if isinstance(inventory, Inventory) else inventory
        self._watches = isinstance(inventory, Path)
        self._inventory = inventory if isinstance(inventory, Inventory) else load_inventory(inventory)
        self._data_dir, self._term, self._clock, self._rng = data_dir, term, clock, rng
        self._dialer = dialer
        self._facts: dict[str, HostFacts] = {}
        self._links: dict[str, HostLink] = {}
        self._kept: dict[str, _Kept] = {}
        self._informers = informers or Informers(client, clock=clock, rng=rng)
        self._copies = Copies(self._informers)
        parts: dict[str, Any] = {"clock": clock, "rng": rng, "settings": self._settings}
        self._nodes = NodeSync(client, self._copies.nodes, self._facts, **parts)
        self._pods = PodSync(client, self._copies, self._links, **parts)
        self._pods.on_network_set = self._network_may_have_changed
        self._streams = LinkStreams(self._links)

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Keep the fleet until cancelled."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        if self._dialer is None:
            self._dialer = await self._make_dialer()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informers.run(), name="fleet-informers")
            self._follow(self._inventory, group)
            group.create_task(self._nodes.run(), name="fleet-nodes")
            group.create_task(self._pods.run(), name="fleet-pods")
            if self._watches and self._path is not None:
                group.create_task(self._watch_files(self._path, group), name="fleet-files")

    async def _make_dialer(self) -> Dialer:
        # Reading and compressing some hundred files: a third of a second that the loop need not wait for.
        return await asyncio.to_thread(SshDialer, self._data_dir, rng=self._rng, settings=self._settings)

    async def _watch_files(self, inventory: Path, group: asyncio.TaskGroup) -> None:
        known_hosts = self._data_dir / "known_hosts"
        with watched([inventory, known_hosts]) as changed:
            inventory_before, known_before = _content(inventory), _content(known_hosts)
            while True:
                await changed.wait()
                await self._clock.sleep(RELOAD_DELAY_S)
                changed.clear()
                inventory_now, known_now = _content(inventory), _content(known_hosts)
                # Lines are added to known_hosts by us; one that went was removed by a person.
                person_acted = inventory_now != inventory_before or not set(known_before) <= set(known_now)
                inventory_before, known_before = inventory_now, known_now
                if person_acted:
                    self.reload(group)

    def reload(self, group: asyncio.TaskGroup) -> None:
        """Read the inventory again, and follow it if it is whole."""
        if self._path is None:
            return
        try:
            inventory = load_inventory(self._path)
        except InventoryError as error:
            self.inventory_error = str(error)
            log.error("inventory_refused", error=self.inventory_error, in_force="the one read before")
            return
        self.inventory_error = ""
        self._follow(inventory, group)
        for link in self._links.values():
            if link.state.phase == "stopped":
                link.wake()  # a person has been at the inventory or at the known hosts

    # ------------------------------------------------------------ which links there are

    def _follow(self, inventory: Inventory, group: asyncio.TaskGroup) -> None:
        self._inventory = inventory
        for note in inventory.notes:
            log.info("inventory_note", note=note)
        for name in [name for name in self._links if name not in inventory.hosts]:
            self._let_go(name, group)
        for host in inventory.hosts.values():
            link = self._links.get(host.name)
            if link is not None and _reached_alike(link.host, host):
                link.host = host
                self._facts[host.name].host = host
            else:
                self._take_up(host, group)
            self._nodes.touch(host.name)

    def _take_up(self, host: Host, group: asyncio.TaskGroup) -> None:
        before = self._kept.pop(host.name, None)
        if before is not None:
            before.task.cancel()
        link = HostLink(
            host,
            dialer=cast(Dialer, self._dialer),
            observer=self,
            term=self._term,
            clock=self._clock,
            rng=Random(self._rng.getrandbits(64)),
            settings=self._settings,
            serve=ApiBridge(host.name, self._api).serve if self._api is not None else None,
        )
        self._links[host.name] = link
        self._facts[host.name] = HostFacts(host, link.state, self._clock.monotonic())
        self._kept[host.name] = _Kept(
            link, group.create_task(self._keep(link), name=f"fleet-link-{host.name}")
        )
        self._pods.touch_host(host.name)
        log.info("host_taken_up", host=host.name, address=host.address)

    def _let_go(self, name: str, group: asyncio.TaskGroup) -> None:
        """A host left the inventory: its pods are stopped while the link lasts, its Node is deleted."""
        link, kept = self._links.pop(name), self._kept.pop(name)
        self._facts.pop(name)
        link.set_desired("pods", EMPTY_PODS, wire.digest_of(EMPTY_PODS), 0)
        group.create_task(self._end_later(kept), name=f"fleet-let-go-{name}")
        self._nodes.touch(name)
        log.info("host_let_go", host=name)

    async def _end_later(self, kept: _Kept) -> None:
        if kept.link.state.is_up:
            await self._clock.sleep(self._settings.let_go_s)
        kept.task.cancel()

    async def _keep(self, link: HostLink) -> None:
        """Run a link; a mistake of ours in it must not end the links of the other hosts."""
        while True:
            try:
                await link.run()
            except Exception as error:
                log.exception("host_link_broke", host=link.host.name, error=str(error))
            await self._clock.sleep(self._settings.backoff_cap_s)

    # ------------------------------------------------------------ what links tell (LinkObserver)

    async def linked(self, link: HostLink, hello: wire.Hello) -> None:
        facts = self._facts_of(link)
        if facts is not None:
            self._check_key_is_its_own(link.host.name, hello["publicKey"])
            facts.hello, facts.address, facts.last_up_s = hello, link.peer_address, link.last_up_s

    def _check_key_is_its_own(self, host: str, key: str) -> None:
        """With another host's key a host could take its place in the overlay, on all the others."""
        for name, facts in self._facts.items():
            kept = meta.annotations(self._copies.nodes.get(name) or {}).get(PUBLIC_KEY_ANNOTATION)
            if name != host and key and key == (facts.hello["publicKey"] if facts.hello else kept):
                raise PrepareError(
                    f"host {host} has the WireGuard key of host {name}; if one's disk was copied from the"
                    " other's, remove /var/lib/gitkube/wireguard.key there and restart the agent"
                )

    async def heard(self, link: HostLink, message: dict[str, Any]) -> None:
        facts = self._facts_of(link)
        if facts is None:
            return
        kind = message.get("type")
        if kind == "pods":
            self._pods.take_reports(link.host.name, said.pods(message))
        elif kind == "node":
            facts.report = said.node(message)
            self._nodes.touch(link.host.name)
        elif kind == "event":
            self._pods.take_event(link.host.name, said.event(message))
        elif kind == "applied":
            self._network_may_have_changed(link.host.name)
        else:
            log.warning("unknown_message_from_host", host=link.host.name, type=str(kind)[:40])

    def state_changed(self, link: HostLink) -> None:
        facts = self._facts_of(link)
        if facts is None:
            return
        before, facts.link = facts.link, link.state
        facts.last_up_s = link.last_up_s
        facts.network_error = link.in_force("network")
        self._nodes.touch(link.host.name)
        state = link.state
        if state.phase in ("stopped", "waiting") and (before.is_up or before.reason != state.reason):
            self._pods.take_event(
                link.host.name,
                {"uid": "", "eventType": "Warning", "reason": state.reason, "message": state.sentence},
            )

    def _facts_of(self, link: HostLink) -> HostFacts | None:
        """None for a link that has been replaced or let go, whose last words no longer count."""
        return self._facts.get(link.host.name) if self._links.get(link.host.name) is link else None

    def _network_may_have_changed(self, host: str) -> None:
        facts, link = self._facts.get(host), self._links.get(host)
        if facts is not None and link is not None:
            facts.network_error = link.in_force("network")
            self._nodes.touch(host)

    # ------------------------------------------------------------ what others ask

    def states(self) -> Mapping[str, LinkState]:
        """How each host's link stands, for status pages."""
        return {name: link.state for name, link in self._links.items()}

    def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        return self._streams.logs(pod, options)

    async def exec(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._streams.exec(pod, options)

    async def attach(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._streams.attach(pod, options)

    async def port_forward(self, pod: Object, port: int) -> StreamSession:
        return await self._streams.port_forward(pod, port)


def _content(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _reached_alike(one: Host, other: Host) -> bool:
    """Whether a link to the one serves for the other: only what concerns the Node differs."""
    same = {"labels": {}, "taints": (), "vars": {}, "pod_cidr": ""}
    return replace(one, **cast(Any, same)) == replace(other, **cast(Any, same))
