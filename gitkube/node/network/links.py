"""The host's own links: the bridge that its pods hang on, the routes to the other hosts' pods, and each
pod's cable.

A pod has its address alone (/32) and sends everything to the gateway, also what is meant for its neighbour
on the bridge. So every packet passes the host's rules in both directions: a Service's answer finds its way
back through the rewriting. Bridge ports are isolated from each other, which makes this a wall and not only
a habit.
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
from gitkube.node.network.netlink import Netlink
from gitkube.node.network.wireguard import MTU

BRIDGE = "gitkube-br"
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


def ensure_bridge(gateway: str, pod_cidr: str) -> int:
    """The bridge with the gateway's address, and no other address of ours.

    Returns:
        Its index.

    Raises:
        OSError: the kernel refused.
    """
    wanted = ipaddress.IPv4Interface(f"{gateway}/{ipaddress.IPv4Network(pod_cidr).prefixlen}")
    with Netlink() as netlink:
        link = netlink.link(BRIDGE)
        if link is None:
            netlink.add_link(BRIDGE, "bridge", mtu=MTU)
            link = netlink.link(BRIDGE)
            if link is None:
                raise OSError(errno.ENODEV, "the bridge vanished while it was set up", BRIDGE)
        present = netlink.addresses(link.index)
        if wanted not in present:
            netlink.add_address(link.index, wanted)
        for other in present:
            if other != wanted:
                netlink.delete_address(link.index, other)
        if not link.is_up:
            netlink.set_link(link.index)
    _write_sysctl(f"ipv4/conf/{BRIDGE}/send_redirects", "0")
    _write_sysctl("ipv4/ip_forward", "1")
    return link.index


def ensure_routes(routes: Mapping[str, int], gateway: str) -> None:
    """Exactly these networks are reached over these links, with the gateway's address as the sender.

    Only routes that carry our mark are compared and removed.

    Raises:
        OSError: the kernel refused.
    """
    desired = {ipaddress.IPv4Network(cidr): link for cidr, link in routes.items()}
    with Netlink() as netlink:
        present = netlink.our_routes()
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


def has_bridge() -> bool:
    with Netlink() as netlink:
        return netlink.link(BRIDGE) is not None


def remove_bridge() -> None:
    """Take the bridge away; its routes go with it."""
    with Netlink() as netlink:
        netlink.delete_link(BRIDGE)


# ---------------------------------------------------------------- pods


def cable_name(uid: str) -> str:
    """The host's end of a pod's cable; the kernel allows 15 characters."""
    return f"gk{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


def is_plugged(uid: str, namespace: Path) -> bool:
    """Whether a pod's cable was set up to the last step."""
    with Netlink() as netlink:
        cable, bridge = netlink.link(cable_name(uid)), netlink.link(BRIDGE)
    is_whole = cable is not None and bridge is not None and cable.master == bridge.index and cable.is_up
    return is_whole and mounts.is_mounted(namespace)


def plug(uid: str, namespace: Path, address: str, gateway: str) -> None:
    """A network namespace for a pod, held by a file, with a cable to the bridge. Replaces what was half done.

    Raises:
        OSError: the kernel refused.
    """
    unplug(uid, namespace)
    namespace.parent.mkdir(parents=True, exist_ok=True)
    namespace.touch(mode=0o600)
    cable = cable_name(uid)
    with Netlink() as host:
        mounts.in_thread(lambda: _build_namespace(namespace, cable, host, address, gateway))
        bridge, link = host.link(BRIDGE), host.link(cable)
        if bridge is None or link is None:
            raise NetworkError(f"{BRIDGE} is missing on this host; it is made again within seconds")
        host.set_link(link.index, is_up=False, master=bridge.index)
        _isolate(cable)
        host.set_link(link.index)  # last: a cable that is up says that all before it was done


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
    """A pod's card, derived from its address, so that neighbours' tables never hold a stale one."""
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
        host.add_veth(cable, POD_LINK, descriptor, hardware_address=hardware_address(address), mtu=MTU)
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
                inside.replace_route(ipaddress.IPv4Network("0.0.0.0/0"), link.index, gateway=gateway)


def _isolate(cable: str) -> None:
    path = Path("/sys/class/net") / cable / "brport" / "isolated"
    try:
        path.write_text("1")
    except OSError as error:  # before Linux 4.18; pods still send everything to the gateway
        _log.warning("bridge port not isolated", extra={"link": cable, "error": str(error)})


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
