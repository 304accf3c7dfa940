"""ResourceQuotas at the API: charged once, never overrun, whoever races."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import User
from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.keys import object_key
from gitkube.api.lanes import MAX_ROUND, Charge, Lanes, Newest, Touch
from gitkube.api.machinery import Api
from gitkube.api.stored import encode
from gitkube.api.transactions import Transactor, Write, put
from gitkube.clock import SystemClock
from gitkube.objects import meta, quota
from gitkube.objects.kinds import CONFIG_MAP, POD, RESOURCE_QUOTA, SERVICE, SERVICE_ACCOUNT
from gitkube.objects.types import Object
from gitkube.store.protocol import Revision, TxnResult
from tests.support.real_api import ADMIN, real_api


def pod(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "web:1"}], **spec},
    }


def service(name: str, type_: str, *ports: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": type_, "ports": [{"name": f"p{port}", "port": port} for port in ports]},
    }


async def with_quota(client: Client, hard: dict[str, str], **spec: Any) -> None:
    """A quota as its controller leaves it in an empty namespace, and the account that pods need."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    account["metadata"] = {"name": "default", "namespace": "default"}
    await client.create(SERVICE_ACCOUNT, account)
    metadata = {"name": "q", "namespace": "default"}
    wanted = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}
    await client.create(RESOURCE_QUOTA, {**wanted, "spec": {"hard": hard, **spec}})
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    await client.patch(RESOURCE_QUOTA, "q", "default", {"status": status}, subresource="status")


async def used(client: Client) -> Object:
    found: Object = (await client.get(RESOURCE_QUOTA, "q", "default"))["status"]["used"]
    return found


async def attempt(client: Client, name: str) -> str:
    try:
        await client.create(POD, pod(name))
    except StatusError as error:
        return error.message
    return ""


async def test_racing_writers_of_two_servers_never_overrun_a_quota(tmp_path: Path) -> None:
    async with real_api(tmp_path) as first:
        second = Api(first.store, clock=SystemClock(), rng=random.Random(3))
        running = asyncio.create_task(second.run())
        await second.wait_ready()
        clients = [first.client(ADMIN), second.client(ADMIN)]
        await with_quota(clients[0], {"pods": "20"})
        answers = await asyncio.gather(
            *(attempt(clients[number % 2], f"pod-{number}") for number in range(60))
        )
        refused = [answer for answer in answers if answer]
        stored = (await clients[0].list(POD, "default")).items
        assert len(stored) == 20
        assert await used(clients[0]) == {"pods": "20"}
        assert len(refused) == 40
        assert all("requested: pods=1, used: pods=20, limited: pods=20" in answer for answer in refused)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_trial_is_checked_and_charges_nothing(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"pods": "1"})
        await client.create(POD, pod("trial"), dry_run=True)
        assert await used(client) == {"pods": "0"}
        await client.create(POD, pod("real"))
        with pytest.raises(StatusError, match="exceeded quota: q, requested: pods=1, used: pods=1"):
            await client.create(POD, pod("trial"), dry_run=True)


async def test_a_refused_write_and_one_that_fails_otherwise_charge_nothing(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"pods": "5"})
        await client.create(POD, pod("there"))
        for wrong in (pod("there"), pod("invalid", containers=[])):
            with pytest.raises(StatusError):
                await client.create(POD, wrong)
        assert await used(client) == {"pods": "1"}


async def test_an_update_costs_what_it_adds(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"services": "1", "services.nodeports": "2"})
        created = await client.create(SERVICE, service("web", "NodePort", 80))
        assert await used(client) == {"services": "1", "services.nodeports": "1"}
        wanted = {**created, "spec": {**created["spec"], "ports": [*created["spec"]["ports"]]}}
        wanted["spec"]["ports"].append({"name": "more", "port": 81, "protocol": "TCP"})
        await client.update(SERVICE, wanted)
        assert await used(client) == {"services": "1", "services.nodeports": "2"}
        current = await client.get(SERVICE, "web", "default")
        ports = [*current["spec"]["ports"], {"name": "third", "port": 82, "protocol": "TCP"}]
        with pytest.raises(StatusError, match=r"requested: services\.nodeports=1, used"):
            await client.update(SERVICE, {**current, "spec": {**current["spec"], "ports": ports}})


async def test_a_quota_whose_use_is_not_counted_yet_refuses(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"count/configmaps": "5"})
        await client.patch(RESOURCE_QUOTA, "q", "default", {"status": {"used": None}}, subresource="status")
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}}
        with pytest.raises(StatusError) as refused:
            await client.create(CONFIG_MAP, config)
        assert refused.value.message == (
            'configmaps "c" is forbidden: status unknown for quota: q, resources: count/configmaps'
        )


async def test_a_write_before_the_limits_are_in_force_spoils_the_count_that_began_before_it(
    tmp_path: Path,
) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"services": "5"})
        read = await client.patch(RESOURCE_QUOTA, "q", "default", {"spec": {"hard": {"pods": "5"}}})
        await client.create(POD, pod("meanwhile"))
        counted = {"hard": {"services": "5", "pods": "5"}, "used": {"services": "0", "pods": "0"}}
        with pytest.raises(StatusError, match="the object has been modified"):
            await client.update(RESOURCE_QUOTA, {**read, "status": counted}, subresource="status")


async def test_a_quota_that_others_change_meanwhile_is_charged_anew_without_another_decision(
    tmp_path: Path,
) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"count/configmaps": "5"})
        transactor = Transactor(api.store, api.cache, api.settings)
        current = await client.get(RESOURCE_QUOTA, "q", "default")
        key = object_key(RESOURCE_QUOTA, "default", "q")
        revision = int(current["metadata"]["resourceVersion"])
        seen = iter((revision - 1, revision))
        decisions = 0

        def take(newest: Newest) -> list[Touch]:
            return [Touch(key, next(seen), current, encode(current))]

        async def decide() -> Write:
            nonlocal decisions
            decisions += 1
            metadata = {"name": "c", "namespace": "default"}
            config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            write = put(CONFIG_MAP, "default", config, None)
            write.charge = Charge("default", take)
            return write

        await transactor.run(decide)
        assert decisions == 1
        await client.get(CONFIG_MAP, "c", "default")


async def test_a_turn_that_does_not_come_is_a_request_to_try_again() -> None:
    lanes = Lanes(timeout_s=0.05)
    answers = asyncio.Event()

    async def silent(*transaction: object) -> TxnResult:
        await answers.wait()
        return TxnResult(True, Revision(1), [])

    async def write(namespace: str) -> object:
        return await lanes.commit(Charge(namespace, lambda newest: []), [], [], silent)

    first = [asyncio.ensure_future(write("shop")) for _ in range(MAX_ROUND)]
    await asyncio.sleep(0)
    with pytest.raises(StatusError, match="wait for its quota") as refused:
        await write("shop")
    assert (refused.value.code, refused.value.retry_after_s) == (503, 1)
    other = asyncio.ensure_future(write("other"))
    answers.set()
    await asyncio.gather(other, *first)
    assert await write("shop") == TxnResult(True, Revision(1), [])


async def test_writes_are_charged_on_top_of_those_that_are_still_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"pods": "100"})
        store_txn = api.store.txn
        under_way, most = 0, 0

        async def counted(*transaction: Any) -> TxnResult:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await store_txn(*transaction)
            finally:
                under_way -= 1

        monkeypatch.setattr(api.store, "txn", counted)
        answers = await asyncio.gather(*(attempt(client, f"pod-{number}") for number in range(40)))
        assert set(answers) == {""}
        assert await used(client) == {"pods": "40"}
        assert most > 1


async def test_a_write_that_fails_takes_no_other_along_and_is_not_charged(tmp_path: Path) -> None:
    async with real_api(tmp_path) as first:
        second = Api(first.store, clock=SystemClock(), rng=random.Random(3))
        running = asyncio.create_task(second.run())
        await second.wait_ready()
        clients = [first.client(ADMIN), second.client(ADMIN)]
        await with_quota(clients[0], {"pods": "100"})
        names = [f"pod-{number}" for number in range(30)]
        answers = await asyncio.gather(*(attempt(client, name) for name in names for client in clients))
        pairs = list(zip(answers[::2], answers[1::2], strict=True))
        assert all("" in pair and any("already exists" in answer for answer in pair) for pair in pairs)
        assert await used(clients[0]) == {"pods": "30"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_count_is_right_whoever_counts_deletes_and_gives_up_meanwhile(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"count/configmaps": "12"})
        chance = random.Random(5)

        async def count() -> bool:
            """As the controller does: read the quota, then list, then write if nobody has charged since."""
            quota = await client.get(RESOURCE_QUOTA, "q", "default")
            found = (await client.list(CONFIG_MAP, "default")).items
            assert len(found) <= 12
            status = {"hard": quota["status"]["hard"], "used": {"count/configmaps": str(len(found))}}
            try:
                await client.update(RESOURCE_QUOTA, {**quota, "status": status}, subresource="status")
            except StatusError as error:
                assert error.code == 409
                return False
            return True

        async def live(number: int) -> None:
            metadata = {"name": f"c-{number}", "namespace": "default"}
            try:
                await client.create(
                    CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
                )
                await asyncio.sleep(chance.random() / 50)
                await client.delete(CONFIG_MAP, f"c-{number}", "default")
            except StatusError as error:
                assert error.code == 403, error

        lives = [asyncio.ensure_future(live(number)) for number in range(150)]
        for number, each in enumerate(lives):
            if number % 7 == 3:
                await asyncio.sleep(0.001)
                each.cancel()
            if number % 5 == 0:
                await count()
        await asyncio.gather(*lives, return_exceptions=True)
        assert all(each.cancelled() or each.exception() is None for each in lives)
        while not await count():
            pass
        left = [meta.name(one) for one in (await client.list(CONFIG_MAP, "default")).items]
        for name in left:
            await client.delete(CONFIG_MAP, name, "default")
        assert await count()
        answers = await asyncio.gather(*(live(number) for number in range(200, 212)))
        assert answers == [None] * 12
        assert await used(client) == {"count/configmaps": "12"}


async def test_whoever_may_write_pods_need_no_right_to_the_quota(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await with_quota(client, {"pods": "1"})
        masters = api.client(User("somebody", groups=("system:masters",)))
        await masters.create(POD, pod("one"))
        assert await used(client) == {"pods": "1"}


def container(name: str, **resources: Any) -> Object:
    return {"name": name, "image": "i", "resources": resources}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("a")]}, {"pods": "1", "count/pods": "1"}),
        (
            {"containers": [container("a", requests={"cpu": "1", "example.org/gpu": "2"})]},
            {"cpu": "1", "requests.cpu": "1", "requests.example.org/gpu": "2"},
        ),
        (
            {"containers": [container("a", requests={"hugepages-2Mi": "4Mi"}, limits={"memory": "1Gi"})]},
            {"hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi", "limits.memory": "1Gi"},
        ),
        (
            {
                "containers": [container("a", limits={"cpu": "1"})],
                "overhead": {"cpu": "250m", "memory": "10Mi"},
            },
            {"requests.cpu": "1250m", "limits.cpu": "1250m", "requests.memory": "10Mi"},
        ),
        (
            {
                "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}},
                "containers": [container("a", limits={"cpu": "1"})],
            },
            {"requests.cpu": "2", "limits.cpu": "3"},
        ),
        (
            {
                "initContainers": [{**container("s", requests={"cpu": "1"}), "restartPolicy": "Always"}],
                "containers": [container("a", requests={"ephemeral-storage": "1Gi", "cpu": "1"})],
            },
            {"requests.cpu": "2", "requests.ephemeral-storage": "1Gi", "ephemeral-storage": "1Gi"},
        ),
    ],
)
def test_what_a_pod_costs(spec: Object, expected: dict[str, str]) -> None:
    found = quota.texts(quota.usage(POD, {"metadata": {}, "spec": spec}, 0.0))
    assert {name: found[name] for name in expected} == expected


def test_a_pod_that_ended_is_only_there() -> None:
    ended = {"metadata": {}, "spec": {"containers": [container("a")]}, "status": {"phase": "Succeeded"}}
    assert quota.texts(quota.usage(POD, ended, 0.0)) == {"count/pods": "1"}


@pytest.mark.parametrize(
    ("scopes", "spec", "is_meant"),
    [
        ([{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}], {}, False),
        (
            [{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}],
            {
                "affinity": {
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "z", "namespaceSelector": {}}
                        ]
                    }
                }
            },
            True,
        ),
        ([{"scopeName": "PriorityClass", "operator": "DoesNotExist"}], {}, True),
        (
            [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["low"]}],
            {"priorityClassName": "low"},
            False,
        ),
        (
            [{"scopeName": "PriorityClass", "operator": "Exists"}, {"scopeName": "BestEffort"}],
            {"priorityClassName": "low"},
            True,
        ),
    ],
)
def test_a_quota_counts_the_pods_that_all_its_scopes_mean(
    scopes: list[Object], spec: Object, is_meant: bool
) -> None:
    wanted = {"spec": {"scopeSelector": {"matchExpressions": scopes}}}
    found = quota.counts(wanted, POD, pod("x", **spec), {"pods": "1"})
    assert found is is_meant
    assert not quota.counts(wanted, CONFIG_MAP, {}, {"configmaps": "1"})
