"""`Network`: what the agent asks for, turned into links, rules and names.

Deciding is elsewhere and pure (`addresses`, `wireguard.plan_peers`, `services`, `ruleset.build`, `dns.zone`);
here is the order of things. What blocks runs in threads: one at a time for the host's own links and rules,
several at once for pods.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.node import files
from gitkube.node.network import links, ruleset, services
from gitkube.node.network.addresses import Addresses, gateway_of
from gitkube.node.network.dns import resolv
from gitkube.node.network.dns.server import DnsServer
from gitkube.node.network.dns.zone import Zone
from gitkube.node.network.errors import NetworkError
from gitkube.node.network.wireguard import INTERFACE, WireGuard, check_peer
from gitkube.wire import NetworkDesired, Peer, ServicesDesired, digest_of

WATCH_INTERVAL_S = 1.0
"""How soon a dead wireguard-go is noticed."""
RECHECK_INTERVAL_S = 15.0
"""How soon rules or links that somebody removed are put back."""
RETRY_MIN_S, RETRY_MAX_S = 1.0, 30.0
HOST_RESOLV_CONF = Path("/etc/resolv.conf")
_EMPTY: ServicesDesired = {"services": [], "endpointSlices": []}
_log = logging.getLogger("gitkube.network")


@dataclass(frozen=True)
class Attachment:
    """A pod's place in the network."""

    netns: str
    """Path of its network namespace; "" for the host's own."""
    address: str


class Network:
    """The network of one host. Made where the event loop runs.

    Args:
        root: survives a reboot; the key and the book of addresses are below it.
        run_dir: does not; the pods' namespaces are below it.
    """

    def __init__(
        self,
        root: Path,
        run_dir: Path,
        *,
        resolv_conf: Path = HOST_RESOLV_CONF,
        rng: random.Random | None = None,
    ) -> None:
        self._run = run_dir / "network"
        self._namespaces = run_dir / "netns"
        self._resolv_conf = resolv_conf
        self._wireguard = WireGuard(root / "network", self._run)
        self._addresses = Addresses(root / "network" / "addresses.json")
        self._desired: NetworkDesired | None = None
        self._services: ServicesDesired = _EMPTY
        self._zone: Zone | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._pod_locks: dict[str, asyncio.Lock] = {}
        self._dns = DnsServer(lambda: self._zone, resolv_conf, rng=rng or random.SystemRandom())

    # ------------------------------------------------------------ desired state

    def public_key(self) -> str:
        """This host's WireGuard public key; the pair is made on first use.

        Raises:
            NetworkError: wireguard-tools is missing, or the key cannot be kept.
        """
        try:
            return self._wireguard.public_key()
        except OSError as error:
            raise _sentence("this host's WireGuard key cannot be kept", error) from error

    @property
    def gateway(self) -> str:
        """The pods' gateway and name server on this host.

        Raises:
            NetworkError: nobody has told the host its share of the pod network yet.
        """
        return gateway_of(self._known()["podCIDR"])

    async def apply(self, desired: NetworkDesired) -> None:
        """Bring gateway, overlay, routes and rules to what is desired. Idempotent.

        Raises:
            NetworkError: something is not in force; all that could be done is done.
        """
        _check_networks(desired)
        async with self._lock:
            self._desired = desired
            self._services = self._services if self._services is not _EMPTY else self._remembered_services()
            self._build_zone()
            self._changed.set()
            await asyncio.to_thread(self._bring_up, desired)

    async def apply_services(self, desired: ServicesDesired) -> None:
        """Put Services and endpoints in force: one nftables transaction, and the names. Idempotent.

        Raises:
            NetworkError: the rules were refused; those before are still in force.
        """
        async with self._lock:
            self._services = desired
            self._build_zone()
            if self._desired is not None:
                await asyncio.to_thread(self._apply_rules, self._desired, desired)

    # ------------------------------------------------------------ pods

    async def attach(self, pod_uid: str, *, host_network: bool = False) -> Attachment:
        """Give a pod its namespace and address; the same ones each time.

        Raises:
            NetworkError: no share of the pod network, no free address, or the kernel refused.
        """
        if host_network:
            return Attachment("", await asyncio.to_thread(self._own_address))
        desired = self._known()
        async with self._lock_of(pod_uid):
            return await asyncio.to_thread(self._attach, desired, pod_uid)

    async def detach(self, pod_uid: str) -> None:
        """Take the pod's namespace away and give its address back; a pod that has none is fine.

        Raises:
            NetworkError: the kernel refused; the address is still the pod's.
        """
        async with self._lock_of(pod_uid):
            await asyncio.to_thread(self._detach, pod_uid)
        self._pod_locks.pop(pod_uid, None)

    async def prune(self, keep: set[str]) -> None:
        """Detach every pod that is not among `keep`: what a crash left behind."""
        known = self._addresses.uids() | set(links.attached_uids(self._namespaces))
        for uid in sorted(known - keep):
            await self.detach(uid)

    def resolv_conf(self, pod: dict[str, Any]) -> str:
        """The text of the pod's /etc/resolv.conf, by its dnsPolicy and dnsConfig.

        Raises:
            NetworkError: nobody has told the host its share of the pod network yet.
        """
        desired = self._known()
        host = resolv.read(files.read_text(self._resolv_conf))
        made = resolv.for_pod(pod, host, gateway=self.gateway, domain=desired["clusterDomain"])
        return made.text()

    # ------------------------------------------------------------ keeping it so

    async def run(self) -> None:
        """Serve DNS and keep the network in force, until cancelled."""
        tasks = [asyncio.ensure_future(self._serve_dns()), asyncio.ensure_future(self._watch())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_dns(self) -> None:
        """The server sits on the gateway's address, and moves when that changes."""
        delay_s = RETRY_MIN_S
        while True:
            await self._changed.wait()
            self._changed.clear()
            serving: asyncio.Future[None] = asyncio.ensure_future(self._dns.run(self.gateway))
            address = self.gateway
            moved = asyncio.ensure_future(self._wait_for_another(address))
            try:
                await asyncio.wait({serving, moved}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done() and serving.exception() is not None:
                    _log.warning(
                        "dns not served", extra={"address": address, "error": str(serving.exception())}
                    )
                    await asyncio.sleep(delay_s)
                    delay_s = min(delay_s * 2, RETRY_MAX_S)
                else:
                    delay_s = RETRY_MIN_S
            finally:
                for task in (serving, moved):
                    task.cancel()
                await asyncio.gather(serving, moved, return_exceptions=True)
            self._changed.set()

    async def _wait_for_another(self, address: str) -> None:
        while self.gateway == address:
            await self._changed.wait()
            self._changed.clear()

    async def _watch(self) -> None:
        checked_s = 0.0
        delay_s = WATCH_INTERVAL_S
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(delay_s)
            desired = self._desired
            if desired is None:
                continue
            is_due = loop.time() - checked_s >= RECHECK_INTERVAL_S
            try:
                async with self._lock:
                    is_broken = await asyncio.to_thread(self._is_broken, thorough=is_due)
                    if is_broken:
                        _log.warning("network restored", extra={"reason": is_broken})
                        await asyncio.to_thread(self._bring_up, self._desired or desired)
                delay_s = WATCH_INTERVAL_S
            except (NetworkError, OSError) as error:
                _log.warning("network not restored", extra={"error": str(error), "retry_s": delay_s * 2})
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            if is_due:
                checked_s = loop.time()

    # ------------------------------------------------------------ in threads

    def _bring_up(self, desired: NetworkDesired) -> None:
        """In the order of need: pods' gateway, rules, then the way to the others."""
        problems: list[str] = []
        gateway = gateway_of(desired["podCIDR"])
        try:
            link = links.ensure_gateway(gateway)
        except OSError as error:
            raise _sentence(f"the pods' gateway {links.GATEWAY_LINK} cannot be made", error) from error
        try:
            self._apply_rules(desired, self._services, is_forced=not ruleset.is_in_force())
        except NetworkError as error:
            problems.append(str(error))
        peers = _usable_peers(desired["peers"], problems)
        routes = {desired["serviceCIDR"]: link}
        try:
            overlay = self._wireguard.apply(desired["listenPort"], peers)
            routes.update({peer["podCIDR"]: overlay for peer in peers})
        except (NetworkError, OSError, ValueError) as error:
            problems.append(str(error))
        try:
            links.ensure_routes(routes, desired["podCIDR"], gateway)
        except OSError as error:
            problems.append(str(_sentence("routes to the other hosts' pods cannot be set", error)))
        if problems:
            raise NetworkError("; ".join(problems))

    def _apply_rules(
        self, desired: NetworkDesired, wanted: ServicesDesired, *, is_forced: bool = False
    ) -> None:
        api = services.Backend(gateway_of(desired["podCIDR"]), services.API_DOOR_PORT)
        document = ruleset.build(
            services.frontends(wanted, api),
            pod_cidr=desired["podCIDR"],
            cluster_cidr=desired["clusterCIDR"],
            service_cidr=desired["serviceCIDR"],
            gateway=gateway_of(desired["podCIDR"]),
            overlay=INTERFACE,
        )
        digest, mark = digest_of(document), self._run / "ruleset.digest"
        if is_forced or files.read_text(mark) != digest:
            ruleset.put_in_force(document)
            self._run.mkdir(parents=True, exist_ok=True)
            files.write_atomically(mark, digest.encode(), durable=False)
        files.write_json(self._run / "services.json", wanted, durable=False)

    def _remembered_services(self) -> ServicesDesired:
        """What was in force before the agent restarted, so that it stays so until it is told anew."""
        try:
            remembered = files.read_json(self._run / "services.json")
        except ValueError as error:
            _log.warning("services not remembered", extra={"error": str(error)})
            remembered = None
        if not isinstance(remembered, dict):
            return _EMPTY
        return {"services": remembered["services"], "endpointSlices": remembered["endpointSlices"]}

    def _is_broken(self, *, thorough: bool) -> str:
        """What is missing, "" when nothing is."""
        if not self._wireguard.is_alive():
            return f"{INTERFACE} is gone"
        if not thorough:
            return ""
        if not ruleset.is_in_force():
            return "the rules are gone"
        return "" if links.has_gateway() else f"{links.GATEWAY_LINK} is gone"

    def _attach(self, desired: NetworkDesired, uid: str) -> Attachment:
        namespace = self._namespace(uid)
        try:
            address = self._addresses.take(desired["podCIDR"], uid)
            gateway = gateway_of(desired["podCIDR"])
            if not links.is_plugged(uid, namespace, address, gateway):
                links.plug(uid, namespace, address, gateway)
        except OSError as error:
            raise _sentence("the pod cannot be attached to the network", error) from error
        return Attachment(str(namespace), address)

    def _detach(self, uid: str) -> None:
        try:
            links.unplug(uid, self._namespace(uid))
            self._addresses.release(uid)
        except OSError as error:
            raise _sentence("the pod cannot be taken off the network", error) from error

    # ------------------------------------------------------------ helpers

    def _build_zone(self) -> None:
        desired = self._desired
        if desired is not None:
            self._zone = Zone(
                desired["clusterDomain"],
                self._services,
                cluster_cidr=desired["clusterCIDR"],
                service_cidr=desired["serviceCIDR"],
            )

    def _known(self) -> NetworkDesired:
        if self._desired is None:
            raise NetworkError(
                "this host has no share of the pod network yet; it gets one with its Node object"
            )
        return self._desired

    def _own_address(self) -> str:
        """The address by which others reach this host: the one it would send from."""
        peers = self._desired["peers"] if self._desired else []
        targets = [peer["endpoint"].rpartition(":")[0].strip("[]") for peer in peers if peer["endpoint"]]
        for target in (*targets, "198.51.100.1"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((target, 9))  # sends nothing; the kernel only chooses a source
                    return str(probe.getsockname()[0])
                except OSError:
                    continue
        return "127.0.0.1"

    def _namespace(self, uid: str) -> Path:
        if not uid or uid.startswith(".") or "/" in uid:
            raise NetworkError(f"{uid!r} cannot be a pod's uid")
        return self._namespaces / uid

    def _lock_of(self, uid: str) -> asyncio.Lock:
        return self._pod_locks.setdefault(uid, asyncio.Lock())


def _check_networks(desired: NetworkDesired) -> None:
    try:
        share = ipaddress.IPv4Network(desired["podCIDR"])
        cluster = ipaddress.IPv4Network(desired["clusterCIDR"])
        service = ipaddress.IPv4Network(desired["serviceCIDR"])
    except ValueError as error:
        raise NetworkError(f"the pod network of this host is not one: {error}") from error
    if not share.subnet_of(cluster) or share.num_addresses < 8:
        raise NetworkError(f"this host's share {share} is no usable part of the pod network {cluster}")
    if service.overlaps(cluster):
        raise NetworkError(f"the service network {service} overlaps the pod network {cluster}")


def _usable_peers(peers: Sequence[Peer], problems: list[str]) -> list[Peer]:
    """Those that WireGuard will take; one that is wrong must not keep the others away."""
    usable = []
    for peer in peers:
        try:
            check_peer(peer)
            usable.append(peer)
        except NetworkError as error:
            problems.append(str(error))
    return usable


def _sentence(what: str, error: OSError) -> NetworkError:
    return NetworkError(f"{what}: {error.strerror or error}")
