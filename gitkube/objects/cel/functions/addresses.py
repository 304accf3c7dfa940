"""The IP and CIDR libraries. An address is read strictly: no zones, no leading zeros, no IPv4 mapped into
IPv6."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method

_MAX_TEXT = 64


@dataclass(frozen=True)
class Ip:
    type_name: ClassVar[str] = "net.IP"
    address: ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Cidr:
    type_name: ClassVar[str] = "net.CIDR"
    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _ip_of(text: str) -> Ip | None:
    if "%" in text or len(text) > _MAX_TEXT:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return None
    return Ip(address)


def _cidr_of(text: str) -> Cidr | None:
    head, slash, length = text.partition("/")
    address = _ip_of(head)
    if not slash or address is None or not (length.isascii() and length.isdigit() and len(length) <= 3):
        return None
    if len(length) > 1 and length[0] == "0":
        return None
    try:
        return Cidr(ipaddress.ip_interface(text))
    except ValueError:
        return None


@function("ip", str, result="net.IP")
def _ip(budget: Budget, text: str) -> Ip:
    found = _ip_of(text)
    if found is None:
        raise CelEvaluationError(f'IP Address "{text[:_MAX_TEXT]}" parse error during conversion from string')
    return found


@function("isIP", str, result="bool")
def _is_ip(budget: Budget, text: str) -> bool:
    return _ip_of(text) is not None


@function("ip.isCanonical", str, result="bool")
def _is_canonical(budget: Budget, text: str) -> bool:
    return str(_ip(budget, text).address) == text


@function("string", Ip, result="string")
def _ip_text(budget: Budget, ip: Ip) -> str:
    return str(ip.address)


@method("family", Ip, result="int")
def _family(budget: Budget, ip: Ip) -> int:
    return ip.address.version


@method("isUnspecified", Ip, result="bool")
def _is_unspecified(budget: Budget, ip: Ip) -> bool:
    return ip.address.is_unspecified


@method("isLoopback", Ip, result="bool")
def _is_loopback(budget: Budget, ip: Ip) -> bool:
    return ip.address.is_loopback


@method("isLinkLocalMulticast", Ip, result="bool")
def _is_link_local_multicast(budget: Budget, ip: Ip) -> bool:
    packed = ip.address.packed
    if ip.address.version == 4:
        return packed[:3] == bytes((224, 0, 0))
    return packed[0] == 0xFF and packed[1] & 0x0F == 0x02


@method("isLinkLocalUnicast", Ip, result="bool")
def _is_link_local(budget: Budget, ip: Ip) -> bool:
    return ip.address.is_link_local


@method("isGlobalUnicast", Ip, result="bool")
def _is_global(budget: Budget, ip: Ip) -> bool:
    address = ip.address
    is_broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not (special or is_broadcast)


@function("cidr", str, result="net.CIDR")
def _cidr(budget: Budget, text: str) -> Cidr:
    found = _cidr_of(text)
    if found is None:
        raise CelEvaluationError(f'CIDR "{text[:_MAX_TEXT]}" parse error during conversion from string')
    return found


@function("isCIDR", str, result="bool")
def _is_cidr(budget: Budget, text: str) -> bool:
    return _cidr_of(text) is not None


@function("string", Cidr, result="string")
def _cidr_text(budget: Budget, cidr: Cidr) -> str:
    return str(cidr.interface)


@method("containsIP", Cidr, Ip, result="bool")
def _contains_ip(budget: Budget, cidr: Cidr, ip: Ip) -> bool:
    return ip.address in cidr.interface.network


@method("containsIP", Cidr, str, result="bool")
def _contains_ip_text(budget: Budget, cidr: Cidr, text: str) -> bool:
    return _contains_ip(budget, cidr, _ip(budget, text))


@method("containsCIDR", Cidr, Cidr, result="bool")
def _contains_cidr(budget: Budget, outer: Cidr, inner: Cidr) -> bool:
    network, other = outer.interface.network, inner.interface.network
    return network.prefixlen <= other.prefixlen and inner.interface.ip in network


@method("containsCIDR", Cidr, str, result="bool")
def _contains_cidr_text(budget: Budget, outer: Cidr, text: str) -> bool:
    return _contains_cidr(budget, outer, _cidr(budget, text))


@method("ip", Cidr, result="net.IP")
def _ip_of_cidr(budget: Budget, cidr: Cidr) -> Ip:
    return Ip(cidr.interface.ip)


@method("masked", Cidr, result="net.CIDR")
def _masked(budget: Budget, cidr: Cidr) -> Cidr:
    return Cidr(ipaddress.ip_interface(str(cidr.interface.network)))


@method("prefixLength", Cidr, result="int")
def _prefix_length(budget: Budget, cidr: Cidr) -> int:
    return cidr.interface.network.prefixlen
