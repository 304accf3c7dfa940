"""Which parts of the pods' network are free, against a search that looks at everything."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.control.subnets import Subnets

NETWORK = ipaddress.ip_network("10.42.0.0/20")
"""16 parts of /24."""
RANGES = [
    *(f"10.42.{number}.0/24" for number in range(16)),
    *("10.42.0.0/22", "10.42.6.0/23", "10.42.3.128/25", "10.0.0.0/8", "10.43.0.0/24", "fd00::/64"),
]
CHANGES = st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["free", "release", *RANGES])), max_size=60)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "10.42.0.0/24"),
        (["10.42.0.0/24", "10.42.2.0/24"], "10.42.1.0/24"),
        (["10.42.0.0/23"], "10.42.2.0/24"),
        (["10.42.1.128/25", "10.42.0.0/24"], "10.42.2.0/24"),
        ([f"10.42.{number}.0/24" for number in range(16)], None),
    ],
)
def test_the_first_free_part_is_found(taken: list[str], expected: str | None) -> None:
    subnets = Subnets(NETWORK, 24)
    for number, text in enumerate(taken):
        subnets.take(f"host-{number}", text)
    assert subnets.take_free("new") == expected
    assert subnets.of("new") == expected


def test_the_parts_of_an_ipv6_network_are_numbered_alike() -> None:
    subnets = Subnets(ipaddress.ip_network("fd00:42::/48"), 64)
    assert [subnets.take_free(name) for name in "ab"] == ["fd00:42::/64", "fd00:42:0:1::/64"]


@given(changes=CHANGES)
def test_what_is_given_out_is_the_first_that_overlaps_nothing_that_anybody_has(
    changes: list[tuple[int, str]],
) -> None:
    subnets, model = Subnets(NETWORK, 24), dict[str, str]()
    for number, change in changes:
        owner = f"host-{number}"
        if change == "release":
            subnets.release(owner)
            model.pop(owner, None)
        elif change == "free" and owner not in model:
            given_out = subnets.take_free(owner)
            assert given_out == first_free(model)
            if given_out:
                model[owner] = given_out
        elif change != "free":
            subnets.take(owner, change)
            model[owner] = change
    assert {f"host-{number}": subnets.of(f"host-{number}") for number in range(8)} == {
        f"host-{number}": model.get(f"host-{number}") for number in range(8)
    }


def first_free(taken: dict[str, str]) -> str | None:
    ranges = [ipaddress.ip_network(text) for text in taken.values()]
    for part in NETWORK.subnets(new_prefix=24):
        if not any(each.version == 4 and each.overlaps(part) for each in ranges):
            return str(part)
    return None
