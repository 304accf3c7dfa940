"""Pod addresses: one pod each, kept while it lives, and not given again at once."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.node.network import NetworkError
from gitkube.node.network.addresses import Addresses, choose_address, gateway_of

CIDR = "10.42.3.0/24"


def test_a_pod_keeps_its_address_over_restarts_of_the_agent(tmp_path: Path) -> None:
    first = Addresses(tmp_path / "book.json").take(CIDR, "uid-1")
    again = Addresses(tmp_path / "book.json")
    assert again.take(CIDR, "uid-1") == first
    assert again.take(CIDR, "uid-2") != first


def test_an_address_given_back_rests_before_it_is_taken_again(tmp_path: Path) -> None:
    book = Addresses(tmp_path / "book.json")
    first = book.take(CIDR, "uid-1")
    book.release("uid-1")
    book.release("uid-1")
    assert book.take(CIDR, "uid-2") != first


def test_a_full_share_is_said_with_what_to_do(tmp_path: Path) -> None:
    book = Addresses(tmp_path / "book.json")
    taken = {book.take("10.42.3.0/29", f"uid-{n}") for n in range(5)}
    assert len(taken) == 5
    with pytest.raises(NetworkError, match=r"all 5 pod addresses of 10\.42\.3\.0/29 are taken"):
        book.take("10.42.3.0/29", "one-more")


def test_a_pod_moves_when_the_host_gets_another_share(tmp_path: Path) -> None:
    book = Addresses(tmp_path / "book.json")
    book.take(CIDR, "uid-1")
    assert ipaddress.ip_address(book.take("10.42.9.0/24", "uid-1")) in ipaddress.ip_network("10.42.9.0/24")


def test_a_damaged_book_is_not_begun_anew_silently(tmp_path: Path) -> None:
    (tmp_path / "book.json").write_text("{")
    with pytest.raises(NetworkError, match="damaged"):
        Addresses(tmp_path / "book.json").take(CIDR, "uid-1")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_no_two_pods_ever_share_an_address(steps: list[tuple[bool, int]]) -> None:
    taken: dict[str, str] = {}
    last = ""
    for takes, number in steps:
        uid = f"uid-{number}"
        if takes and (len(taken) < 13 or uid in taken):
            address = choose_address("10.42.0.0/28", taken, uid, last)
            last = address if uid not in taken else last
            taken[uid] = address
        else:
            taken.pop(uid, None)
        assert len(set(taken.values())) == len(taken)
        assert gateway_of("10.42.0.0/28") not in taken.values()
