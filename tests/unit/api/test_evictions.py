"""Evictions at the API: with the budget's leave, each leave used once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.eviction import budget_after
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import POD, POD_DISRUPTION_BUDGET, SERVICE_ACCOUNT
from gitkube.objects.types import Object
from tests.support.real_api import real_client


async def add_account(client: Client) -> None:
    metadata = {"name": "default", "namespace": "default"}
    await client.create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


async def add_pod(client: Client, name: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "ant", "containers": [{"name": "main", "image": "web:1"}]},
    }
    await client.create(POD, pod)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await client.patch(POD, name, "default", {"status": status}, subresource="status")


async def add_budget(client: Client, allowed: int) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    await client.create(POD_DISRUPTION_BUDGET, budget)
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": allowed,
        "currentHealthy": 5,
        "desiredHealthy": 5 - allowed,
        "expectedPods": 5,
    }
    await client.patch(POD_DISRUPTION_BUDGET, "web", "default", {"status": status}, subresource="status")


async def evict(client: Client, name: str, **options: Any) -> str:
    body: Object = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if options:
        body["deleteOptions"] = options
    try:
        await client.create_subresource(POD, name, "default", "eviction", body)
    except StatusError as error:
        causes = (error.details or {}).get("causes") or [{}]
        return f"{error.code} {causes[0].get('message', error.message)}"
    return ""


async def test_racing_evictions_use_each_leave_once(tmp_path: Path) -> None:
    async with real_client(tmp_path) as client:
        await add_account(client)
        names = [f"web-{number}" for number in range(8)]
        for name in names:
            await add_pod(client, name)
        await add_budget(client, 3)
        answers = await asyncio.gather(*(evict(client, name) for name in names))
        assert answers.count("") == 3
        refusal = "429 The disruption budget web needs 2 healthy pods and has 5 currently"
        assert answers.count(refusal) == 5
        going = {meta.name(pod) for pod in (await client.list(POD, "default")).items if meta.is_deleting(pod)}
        budget = await client.get(POD_DISRUPTION_BUDGET, "web", "default")
        assert set(budget["status"]["disruptedPods"]) == going
        assert len(going) == 3
        assert budget["status"].get("disruptionsAllowed", 0) == 0
        assert conditions.status_of(budget, "DisruptionAllowed") == "False"


async def test_an_evicted_pod_says_why_it_goes(tmp_path: Path) -> None:
    async with real_client(tmp_path) as client:
        await add_account(client)
        await add_pod(client, "web")
        assert await evict(client, "web", gracePeriodSeconds=7) == ""
        pod = await client.get(POD, "web", "default")
        assert pod["metadata"]["deletionGracePeriodSeconds"] == 7
        condition = conditions.get_condition(pod, "DisruptionTarget")
        assert condition is not None
        assert (condition["reason"], condition["message"]) == (
            "EvictionByEvictionAPI",
            "Eviction API: evicting",
        )


async def test_a_trial_is_judged_and_uses_nothing(tmp_path: Path) -> None:
    async with real_client(tmp_path) as client:
        await add_account(client)
        await add_pod(client, "web")
        await add_budget(client, 1)
        assert await evict(client, "web", dryRun=["All"]) == ""
        assert not meta.is_deleting(await client.get(POD, "web", "default"))
        budget = await client.get(POD_DISRUPTION_BUDGET, "web", "default")
        assert budget["status"]["disruptionsAllowed"] == 1


async def test_a_precondition_that_does_not_hold_uses_nothing(tmp_path: Path) -> None:
    async with real_client(tmp_path) as client:
        await add_account(client)
        await add_pod(client, "web")
        await add_budget(client, 1)
        wrong = {"uid": "00000000-0000-0000-0000-000000000009"}
        assert (await evict(client, "web", preconditions=wrong)).startswith("409 ")
        for unreadable in ([], {"uid": 9}):
            assert (await evict(client, "web", preconditions=unreadable)).startswith("400 ")
        budget = await client.get(POD_DISRUPTION_BUDGET, "web", "default")
        assert budget["status"]["disruptionsAllowed"] == 1


def unready(**budget: Any) -> tuple[Object, Object]:
    pod = {
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
    }
    status = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1, "expectedPods": 1}
    spec = {"selector": {"matchLabels": {"app": "web"}}, **budget}
    return pod, {"metadata": {"name": "web"}, "spec": spec, "status": status}


def test_a_pod_that_is_not_ready_is_held_by_a_budget_that_is_not_met() -> None:
    pod, budget = unready()
    with pytest.raises(StatusError, match="Cannot evict pod"):
        budget_after(pod, [budget], 0.0)


def test_a_pod_that_is_not_ready_may_go_when_the_budget_says_always() -> None:
    pod, budget = unready(unhealthyPodEvictionPolicy="AlwaysAllow")
    assert budget_after(pod, [budget], 0.0) is None


def test_a_budget_whose_count_failed_says_why() -> None:
    pod, budget = unready()
    failed = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"}
    budget["status"]["conditions"] = [failed]
    with pytest.raises(StatusError) as refused:
        budget_after(pod, [budget], 0.0)
    assert refused.value.details == {
        "causes": [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget web does not allow evicting pods currently because it "
                "failed sync: no scale",
            }
        ]
    }
