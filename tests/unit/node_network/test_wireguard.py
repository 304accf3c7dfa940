"""Peers are brought to the desired set by differences; who is unchanged is not mentioned."""

from __future__ import annotations

import base64

import pytest

from gitkube.node.network import NetworkError
from gitkube.node.network.wireguard import CurrentPeer, check_peer, plan_peers, read_dump
from gitkube.wire import Peer

ANT, BEE = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


def peer(key: str = ANT, endpoint: str = "192.0.2.1:51820", cidr: str = "10.42.1.0/24") -> Peer:
    return {"name": "ant", "publicKey": key, "endpoint": endpoint, "podCIDR": cidr}


def test_a_dump_is_read() -> None:
    dump = (
        "private\tpublic\t51820\toff\n"
        f"{ANT}\t(none)\t192.0.2.1:51820\t10.42.1.0/24\t0\t0\t0\t25\n"
        f"{BEE}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
    )
    assert read_dump(dump) == {
        ANT: CurrentPeer("192.0.2.1:51820", frozenset({"10.42.1.0/24"})),
        BEE: CurrentPeer("", frozenset()),
    }


def test_a_new_peer_is_told_everything_and_an_old_one_is_removed() -> None:
    current = {BEE: CurrentPeer("192.0.2.2:51820", frozenset({"10.42.2.0/24"}))}
    assert plan_peers(current, [peer()], {}) == [
        ["peer", BEE, "remove"],
        [
            "peer",
            ANT,
            "persistent-keepalive",
            "25",
            "endpoint",
            "192.0.2.1:51820",
            "allowed-ips",
            "10.42.1.0/24",
        ],
    ]


def test_an_unchanged_peer_is_not_mentioned_even_when_it_roams() -> None:
    current = {ANT: CurrentPeer("198.51.100.7:4242", frozenset({"10.42.1.0/24"}))}
    assert plan_peers(current, [peer()], {ANT: "192.0.2.1:51820"}) == []


def test_a_changed_wish_for_an_endpoint_is_told() -> None:
    current = {ANT: CurrentPeer("192.0.2.1:51820", frozenset({"10.42.1.0/24"}))}
    moved = peer(endpoint="192.0.2.9:51820")
    assert plan_peers(current, [moved], {ANT: "192.0.2.1:51820"}) == [
        ["peer", ANT, "endpoint", "192.0.2.9:51820"]
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (peer(key="short"), "no WireGuard key"),
        (peer(key="--help"), "no WireGuard key"),
        (peer(cidr="10.42.1.0/33"), "no pod network"),
        (peer(cidr="0.0.0.0/0"), "more than a host's share"),
        (peer(endpoint="192.0.2.1"), "not address:port"),
        (peer(endpoint="example.org:51820"), "not address:port"),
        (peer(endpoint="192.0.2.1:0"), "not address:port"),
    ],
)
def test_a_peer_that_cannot_be_right_is_refused_by_name(wrong: Peer, sentence: str) -> None:
    with pytest.raises(NetworkError, match=sentence) as caught:
        check_peer(wrong)
    assert "host ant" in str(caught.value)


def test_an_ipv6_endpoint_is_fine() -> None:
    check_peer(peer(endpoint="[2001:db8::1]:51820"))
