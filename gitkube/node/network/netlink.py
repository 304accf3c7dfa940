"""The kernel's links, addresses and routes (rtnetlink, RFC 3549 and rtnetlink(7)), as far as we need them.

Our own small codec, because the library for it costs 14 MB of memory and 160 ms at start in every agent.
A `Netlink` is one socket and belongs to the network namespace that the thread was in when it was opened,
which is how a pod's namespace is set up from outside. Calls block for microseconds.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Union

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH = 28
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_IFF_UP = 1
_RT_TABLE_MAIN, _RTN_UNICAST, _SCOPE_UNIVERSE, _SCOPE_LINK, _RTNH_ONLINK = 254, 1, 0, 253, 4
_NESTED = 0x8000

OUR_ROUTES = 107
"""The routing protocol that our routes carry, so that nobody else's is ever touched."""
MAX_MESSAGE_BYTES = 256 * 1024

Network = ipaddress.IPv4Network
Attribute = Union[bytes, int, str]


@dataclass(frozen=True)
class Link:
    """A network interface."""

    index: int
    name: str
    kind: str
    """"veth", "bridge", "tun", "wireguard", … or "" for a real card."""
    is_up: bool
    mtu: int


@dataclass(frozen=True)
class Route:
    destination: Network
    link: int
    source: str


class Netlink:
    """One conversation with the kernel about one network namespace. Not for several threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # ------------------------------------------------------------ links

    def link(self, name: str) -> Link | None:
        try:
            answers = self._ask(_RTM_GETLINK, 0, _link_header() + _attribute(_IFLA_IFNAME, name))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _read_link(answers[0][1])

    def add_link(self, name: str, kind: str, *, mtu: int) -> None:
        """A link that needs no further options.

        Raises:
            OSError: EEXIST; EOPNOTSUPP when the kernel has no such kind.
        """
        info = _attribute(_IFLA_INFO_KIND, kind)
        body = _attribute(_IFLA_IFNAME, name) + _attribute(_IFLA_MTU, mtu) + _nest(_IFLA_LINKINFO, info)
        self._ask(_RTM_NEWLINK, _CREATE | _EXCL | _ACK, _link_header() + body)

    def add_veth(
        self,
        name: str,
        peer: str,
        peer_namespace: int,
        *,
        hardware_address: str,
        peer_hardware_address: str,
        mtu: int,
    ) -> None:
        """A cable: one end here, the other in the namespace behind a descriptor."""
        far = (
            _link_header()
            + _attribute(_IFLA_IFNAME, peer)
            + _attribute(_IFLA_MTU, mtu)
            + _attribute(_IFLA_ADDRESS, _hardware(peer_hardware_address))
            + _attribute(_IFLA_NET_NS_FD, peer_namespace)
        )
        info = _attribute(_IFLA_INFO_KIND, "veth") + _nest(_IFLA_INFO_DATA, _nest(_VETH_INFO_PEER, far))
        body = (
            _attribute(_IFLA_IFNAME, name)
            + _attribute(_IFLA_MTU, mtu)
            + _attribute(_IFLA_ADDRESS, _hardware(hardware_address))
            + _nest(_IFLA_LINKINFO, info)
        )
        self._ask(_RTM_NEWLINK, _CREATE | _EXCL | _ACK, _link_header() + body)

    def add_neighbour(self, index: int, address: str, hardware_address: str) -> None:
        """Who an address is, for good (no ARP)."""
        header = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, index, _NUD_PERMANENT, 0, 0)
        body = _attribute(_NDA_DST, ipaddress.IPv4Address(address).packed)
        body += _attribute(_NDA_LLADDR, _hardware(hardware_address))
        self._ask(_RTM_NEWNEIGH, _CREATE | _REPLACE | _ACK, header + body)

    def set_link(self, index: int, *, mtu: int | None = None) -> None:
        """Set a link up."""
        body = _attribute(_IFLA_MTU, mtu) if mtu is not None else b""
        self._ask(_RTM_NEWLINK, _ACK, _link_header(index, _IFF_UP, _IFF_UP) + body)

    def delete_link(self, name: str) -> None:
        """Remove a link; none of that name is fine."""
        try:
            self._ask(_RTM_DELLINK, _ACK, _link_header() + _attribute(_IFLA_IFNAME, name))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    # ------------------------------------------------------------ addresses

    def addresses(self, index: int) -> list[ipaddress.IPv4Interface]:
        answers = self._ask(_RTM_GETADDR, _DUMP, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0))
        found = []
        for kind, body in answers:
            _, prefix, _, _, link = struct.unpack_from("=BBBBI", body)
            if kind == _RTM_NEWADDR and link == index:
                local = _attributes(body[8:]).get(_IFA_LOCAL, b"")
                found.append(ipaddress.IPv4Interface((local, prefix)))
        return found

    def add_address(self, index: int, address: ipaddress.IPv4Interface) -> None:
        self._ask(_RTM_NEWADDR, _CREATE | _REPLACE | _ACK, _address_body(index, address))

    def delete_address(self, index: int, address: ipaddress.IPv4Interface) -> None:
        self._ask(_RTM_DELADDR, _ACK, _address_body(index, address))

    # ------------------------------------------------------------ routes

    def our_routes(self) -> list[Route]:
        """The routes that `replace_route` made."""
        header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = []
        for kind, body in self._ask(_RTM_GETROUTE, _DUMP, header):
            prefix, protocol = body[1], body[5]
            if kind != _RTM_NEWROUTE or protocol != OUR_ROUTES:
                continue
            values = _attributes(body[12:])
            destination = ipaddress.IPv4Network((values.get(_RTA_DST, bytes(4)), prefix))
            source = values.get(_RTA_PREFSRC)
            link = struct.unpack("=I", values[_RTA_OIF])[0]
            found.append(Route(destination, link, str(ipaddress.IPv4Address(source)) if source else ""))
        return found

    def replace_route(
        self, destination: Network, link: int, *, gateway: str | None = None, source: str | None = None
    ) -> None:
        """Traffic to `destination` leaves by `link`, through a `gateway` on that link if given."""
        body = _route_header(destination, has_gateway=gateway is not None)
        body += _attribute(_RTA_DST, destination.network_address.packed) if destination.prefixlen else b""
        body += _attribute(_RTA_OIF, link)
        if gateway is not None:
            body += _attribute(_RTA_GATEWAY, ipaddress.IPv4Address(gateway).packed)
        if source is not None:
            body += _attribute(_RTA_PREFSRC, ipaddress.IPv4Address(source).packed)
        self._ask(_RTM_NEWROUTE, _CREATE | _REPLACE | _ACK, body)

    def delete_route(self, route: Route) -> None:
        body = _route_header(route.destination, has_gateway=False)
        body += _attribute(_RTA_DST, route.destination.network_address.packed)
        body += _attribute(_RTA_OIF, route.link)
        self._ask(_RTM_DELROUTE, _ACK, body)

    # ------------------------------------------------------------ the conversation

    def _ask(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Send one request, give back what the kernel answers.

        Raises:
            OSError: with the kernel's error number.
        """
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[tuple[int, bytes]] = []
        while True:
            data = self._socket.recv(MAX_MESSAGE_BYTES)
            at = 0
            while at + 16 <= len(data):
                length, answer, answer_flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
                content = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if answer == _NLMSG_DONE:
                    return answers
                if answer == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                answers.append((answer, content))
                if not answer_flags & 2 and not flags & _ACK:  # not one part of several
                    return answers


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, change)


def _route_header(destination: Network, *, has_gateway: bool) -> bytes:
    scope = _SCOPE_UNIVERSE if has_gateway else _SCOPE_LINK
    flags = _RTNH_ONLINK if has_gateway else 0
    return struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET, destination.prefixlen, 0, 0, _RT_TABLE_MAIN, OUR_ROUTES, scope, _RTN_UNICAST, flags,
    )  # fmt: skip


def _address_body(index: int, address: ipaddress.IPv4Interface) -> bytes:
    header = struct.pack("=BBBBI", socket.AF_INET, address.network.prefixlen, 0, 0, index)
    packed = address.ip.packed
    return header + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)


def _hardware(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def _attribute(kind: int, value: Attribute) -> bytes:
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nest(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _read_link(body: bytes) -> Link:
    _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", body)
    values = _attributes(body[16:])
    info = _attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        is_up=bool(flags & _IFF_UP),
        mtu=struct.unpack("=I", values[_IFLA_MTU])[0] if _IFLA_MTU in values else 0,
    )
