"""When leases run out, by a clock of the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.store.leases import MAX_TTL_S, Lessor, min_ttl_s
from gitkube.store.protocol import InvalidRequestError, LeaseId, LeaseNotFoundError, UnavailableError

A, B, C = LeaseId(1), LeaseId(2), LeaseId(3)


def leader(**ttls_s: int) -> Lessor:
    lessor = Lessor(min_ttl_s=2)
    lessor.promote({LeaseId(int(name[1:])): ttl_s for name, ttl_s in ttls_s.items()}, 100.0)
    return lessor


@pytest.mark.parametrize(("election_timeout_s", "shortest_s"), [(1.0, 2), (0.1, 1), (5.0, 8), (10.0, 15)])
def test_the_shortest_lease_outlives_an_election(election_timeout_s: float, shortest_s: int) -> None:
    assert min_ttl_s(election_timeout_s) == shortest_s
    assert Lessor(shortest_s).ttl_for(0) == shortest_s
    assert Lessor(shortest_s).ttl_for(-5) == shortest_s
    assert Lessor(shortest_s).ttl_for(1000) == 1000


def test_a_lease_cannot_be_longer_than_etcds() -> None:
    assert Lessor(2).ttl_for(MAX_TTL_S) == MAX_TTL_S
    with pytest.raises(InvalidRequestError):
        Lessor(2).ttl_for(MAX_TTL_S + 1)


def test_leases_run_out_in_their_order_at_their_time() -> None:
    lessor = leader(_1=10, _2=5)
    lessor.granted(C, 7, 101.0)
    assert lessor.next_s() == 105.0
    assert lessor.expired(104.9, 10) == []
    assert lessor.expired(109.0, 10) == [B, C]
    assert lessor.expired(110.0, 10) == [A]


def test_one_that_is_kept_alive_starts_anew() -> None:
    lessor = leader(_1=10)
    assert lessor.keep_alive(A, 109.0) == 10
    assert lessor.expired(118.9, 10) == []
    assert lessor.remaining_s(A, 118.0) == 1.0
    assert lessor.expired(119.0, 10) == [A]


def test_a_keep_alive_that_took_its_time_takes_nothing_back() -> None:
    lessor = leader(_1=10)
    lessor.keep_alive(A, 108.0)
    lessor.keep_alive(A, 103.0)
    assert lessor.remaining_s(A, 108.0) == 10.0


def test_one_that_has_run_out_cannot_be_kept_alive_though_it_is_not_revoked_yet() -> None:
    lessor = leader(_1=10)
    with pytest.raises(LeaseNotFoundError):
        lessor.keep_alive(A, 110.0)
    with pytest.raises(LeaseNotFoundError):
        lessor.keep_alive(B, 100.0)


def test_one_whose_end_was_lost_is_given_again_until_it_is_revoked() -> None:
    lessor = leader(_1=10)
    assert lessor.expired(110.0, 10) == [A]
    assert lessor.expired(111.0, 10) == []
    assert lessor.expired(113.0, 10) == [A]
    lessor.revoked(A)
    assert lessor.expired(200.0, 10) == []
    assert lessor.next_s() is None
    assert len(lessor) == 0


def test_at_most_so_many_run_out_at_a_time() -> None:
    lessor = Lessor(2)
    lessor.promote({LeaseId(number): 10 for number in range(1, 8)}, 0.0)
    batches = [lessor.expired(10.0, 3) for _ in range(4)]
    assert [len(batch) for batch in batches] == [3, 3, 1, 0]
    assert len({lease for batch in batches for lease in batch}) == 7


def test_a_new_leader_gives_each_lease_its_full_time_again() -> None:
    lessor = leader(_1=10, _2=20)
    lessor.demote()
    assert lessor.expired(1000.0, 10) == []
    lessor.promote({A: 10, B: 20}, 1000.0)
    assert lessor.expired(1009.9, 10) == []
    assert lessor.expired(1010.0, 10) == [A]


def test_who_does_not_lead_does_not_count() -> None:
    follower = Lessor(2)
    follower.granted(A, 10, 0.0)
    for call in (lambda: follower.keep_alive(A, 1.0), lambda: follower.remaining_s(A, 1.0)):
        with pytest.raises(UnavailableError):
            call()
    assert follower.next_s() is None


def test_an_id_that_is_granted_again_is_another_lease() -> None:
    lessor = leader(_1=10)
    lessor.revoked(A)
    lessor.granted(A, 50, 105.0)
    assert lessor.expired(120.0, 10) == []
    assert lessor.expired(155.0, 10) == [A]
    assert lessor.expired(155.0, 10) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grant", "keep", "revoke", "expire"]), st.integers(1, 4), st.integers(0, 5)
        ),
        max_size=60,
    )
)
def test_the_lessor_agrees_with_a_table_of_deadlines(script: list[tuple[str, int, int]]) -> None:
    lessor, now_s = leader(), 100.0
    deadlines: dict[int, tuple[float, int]] = {}
    for what, number, passed_s in script:
        lease, now_s = LeaseId(number), now_s + passed_s
        if what == "grant" and number not in deadlines:
            deadlines[number] = (now_s + number, number)
            lessor.granted(lease, number, now_s)
        elif what == "keep" and number in deadlines and deadlines[number][0] > now_s:
            deadlines[number] = (now_s + number, number)
            lessor.keep_alive(lease, now_s)
        elif what == "revoke":
            deadlines.pop(number, None)
            lessor.revoked(lease)
        elif what == "expire":
            due = {each for each, (deadline_s, _) in deadlines.items() if deadline_s <= now_s}
            found = lessor.expired(now_s, 100)
            assert len(found) == len(set(found))
            assert set(found) <= due
            now_s += 3  # by now all of them are given again
            due = {each for each, (deadline_s, _) in deadlines.items() if deadline_s <= now_s}
            assert set(lessor.expired(now_s, 100)) == due
