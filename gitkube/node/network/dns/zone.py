"""The answers: Kubernetes' DNS specification 1.1.0 over Services and EndpointSlices. No IO.

A `Zone` is built anew from each desired state and then only read. Names are compared in lower case. It knows
which names exist without records of the asked type (NOERROR, empty: "no data"), which don't exist at all
(NXDOMAIN), and which are none of its business (None: the caller asks upstream).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from gitkube.node.network.dns import message
from gitkube.node.network.dns.message import Answer, Record, RecordData, Soa, Srv
from gitkube.node.network.services import (
    PROTOCOLS,
    Endpoint,
    cluster_ip,
    endpoints_by_service,
    key_of,
    usable,
)
from gitkube.wire import ServicesDesired

Object = dict[str, Any]

TTL_S = 5
"""Short, because endpoints change; the specification asks for at most 30."""
MAX_RECORDS = 200_000
MAX_CNAME_STEPS = 8
SCHEMA_VERSION = "1.1.0"


class Zone:
    """All names of the cluster, as they are now."""

    def __init__(
        self, domain: str, services: ServicesDesired, *, cluster_cidr: str, service_cidr: str
    ) -> None:
        self.domain = domain.lower().strip(".")
        self._records: dict[str, dict[int, list[RecordData]]] = {}
        self._names: set[str] = set()
        self._count = 0
        self._reverse = [reverse_zone_of(cidr) for cidr in (cluster_cidr, service_cidr)]
        self._pods = ipaddress.IPv4Network(cluster_cidr)
        for name in ("", "svc", "pod"):
            self._exists(self._full(name))
        self._add(self._full("dns-version"), message.TXT, SCHEMA_VERSION)
        endpoints = endpoints_by_service(services["endpointSlices"])
        for service in services["services"]:
            self._add_service(service, endpoints.get(key_of(service), []))

    def answer(self, name: str, kind: int) -> Answer | None:
        """What there is to say of a name; None when it is not of this zone."""
        asked = name.lower().rstrip(".")
        if not self._is_ours(asked):
            return None
        found = self._find(asked)
        answers: list[Record] = []
        for _ in range(MAX_CNAME_STEPS):
            alias = found.get(message.CNAME, []) if found else []
            if not alias or kind in (message.CNAME, message.ANY):
                break
            target = str(alias[0])
            answers.append(Record(asked, message.CNAME, TTL_S, target))
            asked = target.lower().rstrip(".")
            if not self._is_ours(asked):
                return Answer(message.NOERROR, tuple(answers))  # the server goes on upstream from here
            found = self._find(asked)
        if found is None:
            is_known = asked in self._names
            code = message.NOERROR if is_known or answers else message.NXDOMAIN
            return Answer(code, tuple(answers), self._authority())
        kinds = sorted(found) if kind == message.ANY else [kind]
        answers += [Record(asked, each, TTL_S, data) for each in kinds for data in found.get(each, [])]
        if not answers:
            return Answer(message.NOERROR, (), self._authority())
        return Answer(message.NOERROR, tuple(answers), (), self._additional(answers))

    # ------------------------------------------------------------ building

    def _add_service(self, service: Object, endpoints: Sequence[Endpoint]) -> None:
        metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
        if not metadata.get("name") or not metadata.get("namespace"):
            return
        name = self._full(f"{metadata['name']}.{metadata['namespace']}.svc")
        if spec.get("type") == "ExternalName":
            if spec.get("externalName"):
                self._add(name, message.CNAME, str(spec["externalName"]).rstrip("."))
        elif spec.get("clusterIP") == "None":
            self._add_headless(name, usable(endpoints))
        else:
            address = cluster_ip(service)
            if address:
                self._add_cluster_ip(name, address, spec.get("ports") or [])

    def _add_cluster_ip(self, name: str, address: str, ports: Iterable[Object]) -> None:
        """Specification, 2.3."""
        self._add(name, message.A, ipaddress.IPv4Address(address))
        self._add(_reverse_name(address), message.PTR, name)
        for port in ports:
            protocol, port_name = PROTOCOLS.get(port.get("protocol", "TCP")), port.get("name")
            if protocol and port_name and isinstance(port.get("port"), int):
                self._add(f"_{port_name}._{protocol}.{name}", message.SRV, Srv(0, 100, port["port"], name))

    def _add_headless(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Specification, 2.4."""
        self._exists(name)
        for endpoint in endpoints:
            label = (endpoint.hostname or endpoint.address.replace(".", "-")).lower()
            own = f"{label}.{name}"
            address = ipaddress.IPv4Address(endpoint.address)
            self._add(name, message.A, address)
            self._add(own, message.A, address)
            if endpoint.hostname:
                self._add(_reverse_name(endpoint.address), message.PTR, own)
            for port_name, protocol, number in endpoint.ports:
                if port_name:
                    self._add(f"_{port_name}._{protocol}.{name}", message.SRV, Srv(0, 100, number, own))

    def _add(self, name: str, kind: int, data: RecordData) -> None:
        name = name.lower()
        try:
            message.split_name(name)
            if kind in (message.CNAME, message.PTR):
                message.split_name(str(data))
        except message.MessageError:
            return  # a name that DNS can't carry can't be asked for either
        entries = self._records.setdefault(name, {}).setdefault(kind, [])
        if data not in entries and self._count < MAX_RECORDS:
            entries.append(data)
            self._count += 1
            self._exists(name)

    def _exists(self, name: str) -> None:
        """A name exists, and so do all above it within the zone (RFC 8020)."""
        while name and name not in self._names:
            self._names.add(name)
            _, dot, rest = name.partition(".")
            if name == self.domain or not dot:
                return
            name = rest

    # ------------------------------------------------------------ reading

    def _is_ours(self, name: str) -> bool:
        zones = (self.domain, *self._reverse)
        return any(name == zone or name.endswith("." + zone) for zone in zones)

    def _find(self, name: str) -> dict[int, list[RecordData]] | None:
        found = self._records.get(name)
        return found if found is not None else self._pod(name)

    def _pod(self, name: str) -> dict[int, list[RecordData]] | None:
        """`a-b-c-d.namespace.pod.domain`: the address is in the name (specification, 2.5)."""
        suffix = f".pod.{self.domain}"
        labels = name[: -len(suffix)].split(".") if name.endswith(suffix) else []
        if len(labels) != 2 or not labels[1]:
            return None
        try:
            address = ipaddress.IPv4Address(labels[0].replace("-", "."))
        except ValueError:
            return None
        return {message.A: [address]} if address in self._pods else None

    def _additional(self, answers: Iterable[Record]) -> tuple[Record, ...]:
        """The addresses behind SRV records, so that nobody has to ask twice."""
        targets = dict.fromkeys(record.data.target for record in answers if isinstance(record.data, Srv))
        return tuple(
            Record(target, message.A, TTL_S, data)
            for target in targets
            for data in self._records.get(target, {}).get(message.A, [])
        )

    def _authority(self) -> tuple[Record, ...]:
        """With a negative answer: how long it may be kept (RFC 2308)."""
        soa = Soa(f"ns.dns.{self.domain}", f"hostmaster.{self.domain}", 1, 7200, 1800, 86400, TTL_S)
        return (Record(self.domain, message.SOA, TTL_S, soa),)

    def _full(self, name: str) -> str:
        return f"{name}.{self.domain}" if name else self.domain


def reverse_zone_of(cidr: str) -> str:
    """The in-addr.arpa zone that holds a network, cut at whole bytes (10.42.0.0/16: 42.10.in-addr.arpa)."""
    network = ipaddress.IPv4Network(cidr)
    labels = str(network.network_address).split(".")[: max(1, network.prefixlen // 8)]
    return ".".join([*reversed(labels), "in-addr.arpa"])


def _reverse_name(address: str) -> str:
    return ".".join([*reversed(address.split(".")), "in-addr.arpa"])
