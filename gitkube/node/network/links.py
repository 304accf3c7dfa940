"""The host's own links: the one that holds the gateway's address, the routes, and each pod's cable.

A pod's cable ends on the host as a link of its own with a route to that one address (/32); nothing is
bridged. So every packet of a pod is routed and passes the host's rules in both directions, and a Service's
answer finds its way back through the rewriting even from a neighbour on the same host. A bridge between the
pods would be in the way of that: where br_netfilter is loaded (as Docker does) it rewrites inside the bridge
and sends the packet on without routing it. The pod's neighbour table holds its gateway for good, so no
setting of the host about ARP can keep the two apart.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gitkube.node import mounts
from gitkube.node.network.errors import NetworkError
from gitkube.node.network.netlink import Netlink, Route
from gitkube.node.network.wireguard import MTU

GATEWAY_LINK = "gitkube0"
"""Holds the gateway's address and is the way to the Services' network. A bridge without ports, because that
is the one kind of virtual link that every kernel that can run containers has."""
POD_LINK = "eth0"
_POD_SYSCTLS = {
    # The gateway would tell pods of a shorter way to their neighbours, past the rules.
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/default/accept_redirects": "0",
    # As container runtimes do: neither ping nor port 80 needs a privilege in a namespace of one's own.
    "ipv4/ping_group_range": "0 2147483647",
    "ipv4/ip_unprivileged_port_start": "0",
}

_log = logging.getLogger("gitkube.network")


def ensure_gateway(gateway: str) -> int:
    """The link with the gateway's address and no other.

    Returns:
        Its index.

    Raises:
        OSError: the kernel refused.
        NetworkError: the host does not let packets be forwarded.
    """
    wanted = ipaddress.IPv4Interface(f"{gateway}/32")
    with Netlink() as netlink:
        link = netlink.link(GATEWAY_LINK)
        if link is None:
            netlink.add_link(GATEWAY_LINK, "bridge", mtu=MTU)
            link = netlink.link(GATEWAY_LINK)
            if link is None:
                raise OSError(errno.ENODEV, "vanished while it was set up", GATEWAY_LINK)
        present = netlink.addresses(link.index)
        if wanted not in present:
            netlink.add_address(link.index, wanted)
        for other in present:
            if other != wanted:
                netlink.delete_address(link.index, other)
        if not link.is_up:
            netlink.set_link(link.index)
    _write_sysctl("ipv4/ip_forward", "1")
    return link.index


def ensure_routes(routes: Mapping[str, int], pod_cidr: str, gateway: str) -> None:
    """Exactly these networks are reached over these links, with the gateway's address as the sender.

    Only routes that carry our mark are compared and removed; those to this host's pods belong to `plug`.

    Raises:
        OSError: the kernel refused.
    """
    desired = {ipaddress.IPv4Network(cidr): link for cidr, link in routes.items()}
    here = ipaddress.IPv4Network(pod_cidr)
    with Netlink() as netlink:
        present = [route for route in netlink.our_routes() if not route.destination.subnet_of(here)]
        for route in present:
            if route.destination not in desired:
                netlink.delete_route(route)
        right = {
            route.destination
            for route in present
            if desired.get(route.destination) == route.link and route.source == gateway
        }
        for destination, link in desired.items():
            if destination not in right:
                netlink.replace_route(destination, link, source=gateway)


def has_gateway() -> bool:
    with Netlink() as netlink:
        return netlink.link(GATEWAY_LINK) is not None


# ---------------------------------------------------------------- pods


def cable_name(uid: str) -> str:
    """The host's end of a pod's cable; the kernel allows 15 characters."""
    return f"gk{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


def is_plugged(uid: str, namespace: Path, address: str, gateway: str) -> bool:
    """Whether a pod's cable was set up to the last step, which is its route."""
    with Netlink() as netlink:
        cable = netlink.link(cable_name(uid))
        if cable is None or not cable.is_up or not mounts.is_mounted(namespace):
            return False
        wanted = Route(ipaddress.IPv4Network(address), cable.index, gateway)
        return wanted in netlink.our_routes()


def plug(uid: str, namespace: Path, address: str, gateway: str) -> None:
    """A network namespace for a pod, held by a file, with a cable to it. Replaces what was half done.

    Raises:
        OSError: the kernel refused.
    """
    unplug(uid, namespace)
    namespace.parent.mkdir(parents=True, exist_ok=True)
    namespace.touch(mode=0o600)
    cable = cable_name(uid)
    with Netlink() as host:
        mounts.in_thread(lambda: _build_namespace(namespace, cable, host, address, gateway))
        link = host.link(cable)
        if link is None:
            raise OSError(errno.ENODEV, "the pod's link vanished while it was set up", cable)
        _write_sysctl(f"ipv4/conf/{cable}/send_redirects", "0")
        host.set_link(link.index)
        host.replace_route(ipaddress.IPv4Network(address), link.index, source=gateway)


def unplug(uid: str, namespace: Path) -> None:
    """Take a pod's cable and namespace away; none is fine.

    Raises:
        OSError: the kernel refused.
    """
    with Netlink() as netlink:
        netlink.delete_link(cable_name(uid))
    mounts.unmount(namespace)
    namespace.unlink(missing_ok=True)


def hardware_address(address: str) -> str:
    """Of the end of a cable that has this address: derived, so that no neighbour ever holds a stale one."""
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *ipaddress.IPv4Address(address).packed))


def attached_uids(namespaces: Path) -> Sequence[str]:
    return sorted(path.name for path in namespaces.iterdir()) if namespaces.is_dir() else []


def _build_namespace(namespace: Path, cable: str, host: Netlink, address: str, gateway: str) -> None:
    """In a thread of its own, whose namespace becomes the pod's."""
    mounts.unshare(mounts.CLONE_NEWNET)
    own = "/proc/thread-self/ns/net"
    mounts.bind(own, str(namespace))
    for name, value in _POD_SYSCTLS.items():
        _write_sysctl(name, value)
    descriptor = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    try:
        host.add_veth(
            cable,
            POD_LINK,
            descriptor,
            hardware_address=hardware_address(gateway),
            peer_hardware_address=hardware_address(address),
            mtu=MTU,
        )
    finally:
        os.close(descriptor)
    with Netlink() as inside:
        for name in ("lo", POD_LINK):
            link = inside.link(name)
            if link is None:
                raise OSError(errno.ENODEV, "the pod's link vanished while it was set up", name)
            inside.set_link(link.index)
            if name == POD_LINK:
                inside.add_address(link.index, ipaddress.IPv4Interface(f"{address}/32"))
                inside.add_neighbour(link.index, gateway, hardware_address(gateway))
                inside.replace_route(ipaddress.IPv4Network("0.0.0.0/0"), link.index, gateway=gateway)


def _write_sysctl(name: str, value: str) -> None:
    """Set a value of the calling thread's network namespace, unless it is so already."""
    path = Path("/proc/sys/net") / name
    try:
        if path.read_text().split() != value.split():
            path.write_text(value)
    except OSError as error:
        if name.endswith("ip_forward"):
            raise NetworkError(
                f"this host does not let packets be forwarded ({path}: {error.strerror})"
            ) from error
        _log.warning("sysctl not set", extra={"sysctl": name, "error": str(error)})
