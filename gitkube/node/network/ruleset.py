"""Services as one nftables table, `gitkube`, built as a JSON document and put in force in one transaction.

The way of a packet: `prerouting` (from pods and from outside) and `output` (from the host itself) look its
destination up in the map `services` (address, protocol, port) or, when it is addressed to this host, in
`nodeports`; both lead to the Service port's own chain, which picks an endpoint. `postrouting` gives a
sender's address that the way back can find. What is addressed to a Service and found no endpoint is refused
at once in `forward` and `local`: a caller shall not wait for nothing.

The table is ours alone and is replaced as a whole; no rule of anybody else is read or touched. Connections
that are under way keep their endpoint, because the kernel remembers it per connection and not per rule.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Sequence
from typing import Any

from gitkube.node.network.commands import run
from gitkube.node.network.errors import NetworkError
from gitkube.node.network.services import Frontend

FAMILY, TABLE = "ip", "gitkube"
FROM_NODE_PORT = 0x40000
"""Packet mark on what came in by a NodePort, so that only our own detours are masqueraded."""
MAX_COMMENT_CHARACTERS = 100
Json = dict[str, Any]

_L4_PROTOCOL = {"meta": {"key": "l4proto"}}
_DESTINATION_PORT = {"payload": {"protocol": "th", "field": "dport"}}
_SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}
_DESTINATION = {"payload": {"protocol": "ip", "field": "daddr"}}
_OUT_LINK = {"meta": {"key": "oifname"}}
_MARK = {"meta": {"key": "mark"}}


def build(
    frontends: Sequence[Frontend],
    *,
    pod_cidr: str,
    cluster_cidr: str,
    service_cidr: str,
    gateway: str,
    overlay: str,
) -> Json:
    """The whole table as `nft -j` takes it. Pure.

    Args:
        pod_cidr: this host's share of `cluster_cidr`; `gateway` is its first address.
        overlay: the link to the other hosts.
    """
    head = [
        {"add": {"table": {"family": FAMILY, "name": TABLE}}},
        {"delete": {"table": {"family": FAMILY, "name": TABLE}}},
        {"add": {"table": {"family": FAMILY, "name": TABLE}}},
    ]
    maps = [
        _named("map", "services", {"type": ["ipv4_addr", "inet_proto", "inet_service"], "map": "verdict"}),
        _named("map", "nodeports", {"type": ["inet_proto", "inet_service"], "map": "verdict"}),
        _named("set", "hairpin", {"type": ["ipv4_addr", "ipv4_addr"]}),
    ]
    chains = [
        _base_chain("prerouting", "nat", "prerouting", -100),
        _base_chain("output", "nat", "output", -100),
        _base_chain("postrouting", "nat", "postrouting", 100),
        _base_chain("forward", "filter", "forward", 0),
        _base_chain("local", "filter", "output", 0),
    ]
    served = [front for front in frontends if front.backends]
    return {
        "nftables": [
            *head,
            *maps,
            *chains,
            *(command for front in served for command in _service_chains(front)),
            *_elements("services", [_cluster_ip_element(front) for front in served]),
            *_elements("nodeports", [_node_port_element(front) for front in served if front.node_port]),
            *_elements("hairpin", _hairpin_elements(served, pod_cidr)),
            *_dispatch("prerouting"),
            *_dispatch("output"),
            *_source_rules(pod_cidr, cluster_cidr, gateway, overlay),
            *_refusals("forward", service_cidr),
            *_refusals("local", service_cidr),
        ]
    }


def put_in_force(document: Json) -> None:
    """Apply a document: all of it or nothing.

    Raises:
        NetworkError: nft refused; what was in force still is.
    """
    run(["nft", "-j", "-f", "-"], stdin=json.dumps(document), package="nftables")


def is_in_force() -> bool:
    """Whether our table exists (somebody may have flushed the ruleset)."""
    return {"family": FAMILY, "name": TABLE} in [
        {"family": each["table"]["family"], "name": each["table"]["name"]}
        for each in _listed(["nft", "-j", "list", "tables"])
        if "table" in each
    ]


def _listed(argv: list[str]) -> list[Json]:
    try:
        listed = json.loads(run(argv, package="nftables"))["nftables"]
    except (ValueError, LookupError, TypeError) as error:
        raise NetworkError(f"`nft` printed what is not its JSON form: {error}") from error
    return [each for each in listed if isinstance(each, dict)]


# ---------------------------------------------------------------- the parts


def _service_chains(front: Frontend) -> Iterable[Json]:
    """The chain that picks an endpoint and, with a NodePort, the one before it that marks the packet."""
    name = _chain_name(front)
    yield _named("chain", name, {})
    yield _rule(name, [_equals(_L4_PROTOCOL, front.protocol), _choose(front)], front.name)
    if front.node_port:
        entry = f"np-{name}"
        yield _named("chain", entry, {})
        marked = {"|": [_MARK, FROM_NODE_PORT]}
        mark = {"mangle": {"key": _MARK, "value": marked}}
        yield _rule(entry, [mark, {"goto": {"target": name}}], front.name)


def _choose(front: Frontend) -> Json:
    count = len(front.backends)
    targets = [{"concat": [one.address, one.port]} for one in front.backends]
    if count == 1:
        only = front.backends[0]
        return {"dnat": {"addr": only.address, "port": only.port}}
    if front.sticky:
        key: Json = {"jhash": {"mod": count, "offset": 0, "expr": _SOURCE, "seed": 1}}
    else:
        key = {"numgen": {"mode": "random", "mod": count, "offset": 0}}
    choice = {"map": {"key": key, "data": {"set": [[at, target] for at, target in enumerate(targets)]}}}
    return {"dnat": {"addr": choice, "type_flags": "concat"}}


def _dispatch(chain: str) -> list[Json]:
    by_address = {"concat": [_DESTINATION, _L4_PROTOCOL, _DESTINATION_PORT]}
    by_port = {"concat": [_L4_PROTOCOL, _DESTINATION_PORT]}
    is_local = _equals({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    # The loopback's own addresses can't be rewritten towards a pod: the kernel drops such packets.
    beyond_loopback = _differs(_DESTINATION, _prefix("127.0.0.0/8"))
    return [
        _rule(chain, [{"vmap": {"key": by_address, "data": "@services"}}]),
        _rule(chain, [is_local, beyond_loopback, {"vmap": {"key": by_port, "data": "@nodeports"}}]),
    ]


def _source_rules(pod_cidr: str, cluster_cidr: str, gateway: str, overlay: str) -> list[Json]:
    pods, cluster = _prefix(pod_cidr), _prefix(cluster_cidr)
    as_gateway = {"snat": {"addr": gateway}}
    marked = _equals({"&": [_MARK, FROM_NODE_PORT]}, FROM_NODE_PORT)
    return [
        # A pod that reaches itself through a Service would answer itself past the rewriting.
        _rule(
            "postrouting",
            [
                {"match": {"op": "==", "left": {"concat": [_SOURCE, _DESTINATION]}, "right": "@hairpin"}},
                as_gateway,
            ],
        ),
        # Other hosts take from this one only what comes from its share.
        _rule("postrouting", [_equals(_OUT_LINK, overlay), _differs(_SOURCE, cluster), as_gateway]),
        _rule(
            "postrouting",
            [
                _equals(_SOURCE, pods),
                _differs(_DESTINATION, cluster),
                _differs(_OUT_LINK, "lo"),
                _masquerade(),
            ],
        ),
        # What came in by a NodePort and leaves for another machine must come back this way.
        _rule(
            "postrouting",
            [
                marked,
                _differs(_DESTINATION, pods),
                _differs(_OUT_LINK, overlay),
                _differs(_OUT_LINK, "lo"),
                _masquerade(),
            ],
        ),
    ]


def _refusals(chain: str, service_cidr: str) -> list[Json]:
    to_services = _equals(_DESTINATION, _prefix(service_cidr))
    return [
        _rule(chain, [to_services, _equals(_L4_PROTOCOL, "tcp"), {"reject": {"type": "tcp reset"}}]),
        _rule(chain, [to_services, {"reject": {"type": "icmp", "expr": "port-unreachable"}}]),
    ]


def _hairpin_elements(frontends: Sequence[Frontend], pod_cidr: str) -> list[Json]:
    here = ipaddress.IPv4Network(pod_cidr)
    local = {
        one.address
        for front in frontends
        for one in front.backends
        if ipaddress.IPv4Address(one.address) in here
    }
    return [{"concat": [address, address]} for address in sorted(local)]


def _cluster_ip_element(front: Frontend) -> list[Json]:
    key = {"concat": [front.cluster_ip, front.protocol, front.port]}
    return [key, {"goto": {"target": _chain_name(front)}}]


def _node_port_element(front: Frontend) -> list[Json]:
    key = {"concat": [front.protocol, front.node_port]}
    return [key, {"goto": {"target": f"np-{_chain_name(front)}"}}]


def _chain_name(front: Frontend) -> str:
    key = f"{front.cluster_ip} {front.protocol} {front.port}"
    return f"svc-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


# ---------------------------------------------------------------- nft's JSON vocabulary (libnftables-json(5))


def _named(kind: str, name: str, extra: Json) -> Json:
    return {"add": {kind: {"family": FAMILY, "table": TABLE, "name": name, **extra}}}


def _base_chain(name: str, kind: str, hook: str, priority: int) -> Json:
    return _named("chain", name, {"type": kind, "hook": hook, "prio": priority, "policy": "accept"})


def _rule(chain: str, statements: Sequence[Json], comment: str = "") -> Json:
    rule: Json = {"family": FAMILY, "table": TABLE, "chain": chain, "expr": list(statements)}
    if comment:
        rule["comment"] = comment[:MAX_COMMENT_CHARACTERS]
    return {"add": {"rule": rule}}


def _elements(name: str, elements: Sequence[Any]) -> list[Json]:
    return [_named("element", name, {"elem": list(elements)})] if elements else []


def _equals(left: Json, right: Any) -> Json:
    return {"match": {"op": "==", "left": left, "right": right}}


def _differs(left: Json, right: Any) -> Json:
    return {"match": {"op": "!=", "left": left, "right": right}}


def _prefix(cidr: str) -> Json:
    network = ipaddress.IPv4Network(cidr)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def _masquerade() -> Json:
    return {"masquerade": None}
