"""Who is served when there is more to do than can be done: nobody starves, nothing waits without bound."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.api.authorization import Attributes, User
from gitkube.api.errors import StatusError
from gitkube.objects.kinds import FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION
from gitkube.server.fairness import FLOW_WAITING, Fairness, Level, RefusedError, Turn
from gitkube.server.flow_schemas import FlowSchemas
from gitkube.server.turns import Turns
from tests.support.real_api import ADMIN, real_api

LOW, HIGH = Level("low", shares=1), Level("high", shares=3)
EXEMPT = Level("exempt", is_exempt=True)
REJECT = Level("reject", may_queue=False)


def test_while_there_are_seats_nobody_waits() -> None:
    fairness = Fairness(seats=4, flow_seats=4)
    assert all(fairness.arrive(LOW, "ada").is_served for _ in range(4))
    assert not fairness.arrive(LOW, "ada").is_served


def test_a_flood_does_not_take_the_seats_of_another_user() -> None:
    fairness = Fairness(seats=10, flow_seats=5)
    for _ in range(100):
        fairness.arrive(LOW, "flood")
    assert fairness.served == {"low": 5}
    assert fairness.arrive(LOW, "ada").is_served


def test_users_take_turns_when_all_seats_are_taken() -> None:
    fairness = Fairness(seats=2, flow_seats=2)
    flood = [fairness.arrive(LOW, "flood") for _ in range(50)]
    ada = [fairness.arrive(LOW, "ada") for _ in range(2)]
    served: list[Turn] = []
    for turn in flood[:2]:
        served += fairness.leave(turn)
    assert [turn.flow for turn in served] == ["flood", "ada"]
    assert fairness.leave(served[0]) == [flood[3]]
    assert fairness.leave(served[1]) == [ada[1]]


def test_a_free_seat_goes_to_the_level_with_the_least_of_its_share() -> None:
    fairness = Fairness(seats=4, flow_seats=4)
    holders = [fairness.arrive(LOW, "a") for _ in range(4)]
    for _ in range(9):
        fairness.arrive(LOW, "b")
        fairness.arrive(HIGH, "c")
    for turn in holders:
        fairness.leave(turn)
    assert fairness.served == {"low": 1, "high": 3}


def test_exempt_requests_take_no_seats_and_are_never_refused() -> None:
    fairness = Fairness(seats=1, flow_seats=2)
    fairness.arrive(LOW, "ada")
    turns = [fairness.arrive(EXEMPT, "root") for _ in range(FLOW_WAITING * 20)]
    assert [turn.is_served for turn in turns[:3]] == [True, True, False]
    assert fairness.leave(turns[0]) == [turns[2]]


def test_what_waits_is_bounded() -> None:
    fairness = Fairness(seats=1, flow_seats=1)
    for _ in range(FLOW_WAITING + 1):
        fairness.arrive(LOW, "flood")
    with pytest.raises(RefusedError):
        fairness.arrive(LOW, "flood")
    assert not fairness.arrive(LOW, "ada").is_served  # another one may still wait
    with pytest.raises(RefusedError):
        fairness.arrive(REJECT, "ada")


@given(
    st.lists(
        st.tuples(st.sampled_from([LOW, HIGH, EXEMPT]), st.sampled_from("abc"), st.integers(0, 30)),
        max_size=120,
    )
)
def test_seats_are_neither_lost_nor_given_twice(steps: list[tuple[Level, str, int]]) -> None:
    fairness = Fairness(seats=3, flow_seats=2)
    open_turns: list[Turn] = []
    for level, flow, number in steps:
        if number % 2 and open_turns:
            fairness.leave(open_turns.pop(number % len(open_turns)))
        else:
            open_turns.append(fairness.arrive(level, flow))
        served = [turn for turn in open_turns if turn.is_served]
        seated = [turn for turn in served if not turn.level.is_exempt]
        assert len(seated) <= 3
        assert sum(fairness.served.values()) == len(served)
        assert sum(fairness.waiting.values()) == len(open_turns) - len(served)
        for turn in open_turns:
            of_flow = sum((one.level, one.flow) == (turn.level, turn.flow) for one in served)
            assert of_flow <= 2
            if not turn.is_served:  # it waits only because it must
                assert of_flow == 2 or (len(seated) == 3 and not turn.level.is_exempt)
    for turn in list(open_turns):
        fairness.leave(turn)
    assert not any(fairness.served.values())


async def test_a_client_that_goes_away_leaves_the_queue() -> None:
    turns = Turns(Fairness(seats=1, flow_seats=1))
    order: list[str] = []

    async def request(name: str) -> None:
        turn = await turns.take(LOW, name)
        order.append(name)
        turns.give_back(turn)

    first = await turns.take(LOW, "first")
    waiting = [asyncio.create_task(request(name)) for name in ("gone", "second")]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert order == []
    turns.give_back(first)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["second"]
    assert turns.fairness.served == {"low": 0}


async def test_too_many_are_told_when_to_come_again() -> None:
    turns = Turns(Fairness(seats=1, flow_seats=1))
    await turns.take(REJECT, "a")
    with pytest.raises(StatusError) as refused:
        await turns.take(REJECT, "b")
    assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
    assert refused.value.retry_after_s == 1


def question(name: str, *groups: str, **attributes: str) -> Attributes:
    asked: dict[str, Any] = {"verb": "list", "version": "v1", "resource": "pods", "namespace": "shop"}
    return Attributes(User(name, (*groups, "system:authenticated")), **(asked | attributes))


async def test_the_schemas_that_every_cluster_has_sort_requests_as_in_kubernetes(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        schemas = FlowSchemas(api.cache)
        accounts = "system:serviceaccounts"
        lease = {"group": "coordination.k8s.io", "resource": "leases", "verb": "update"}
        for asked, schema, level in [
            (question("root", "system:masters"), "exempt", "exempt"),
            (question("ada"), "global-default", "global-default"),
            (question("system:node:ant", "system:nodes"), "system-nodes", "system"),
            (question("system:node:ant", "system:nodes", **lease), "system-node-high", "node-high"),
            (question("system:serviceaccount:shop:web", accounts), "service-accounts", "workload-low"),
            (
                question("system:serviceaccount:kube-system:dns", accounts),
                "kube-system-service-accounts",
                "workload-high",
            ),
            (
                question("system:serviceaccount:kube-system:x", accounts, **lease),
                "workload-leader-election",
                "leader-election",
            ),
        ]:
            place = schemas.place(asked)
            assert (place.schema, place.level.name) == (schema, level), asked
        assert schemas.flow(schemas.place(question("ada")), question("ada")) == "global-default/ada"


async def test_a_schema_that_is_made_counts_at_once(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        schemas = FlowSchemas(api.cache)
        client = api.client(ADMIN)
        level = {
            "apiVersion": PRIORITY_LEVEL_CONFIGURATION.api_version,
            "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "batch"},
            "spec": {
                "type": "Limited",
                "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}},
            },
        }
        rule = {
            "subjects": [{"kind": "User", "user": {"name": "ada"}}],
            "resourceRules": [
                {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["shop"]}
            ],
        }
        schema = {
            "apiVersion": FLOW_SCHEMA.api_version,
            "kind": "FlowSchema",
            "metadata": {"name": "ada"},
            "spec": {
                "priorityLevelConfiguration": {"name": "batch"},
                "matchingPrecedence": 50,
                "rules": [rule],
            },
        }
        assert schemas.place(question("ada")).schema == "global-default"
        await client.create(PRIORITY_LEVEL_CONFIGURATION, level)
        await client.create(FLOW_SCHEMA, schema)
        place = schemas.place(question("ada"))
        assert (place.schema, place.level) == ("ada", Level("batch", 2, may_queue=False))
        assert schemas.place(question("ada", namespace="other")).schema == "global-default"
        assert schemas.place(question("bob")).schema == "global-default"
