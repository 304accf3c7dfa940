"""Hosts that come, fall silent and go: subnets, taints, evictions and what is left behind."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.api.errors import unavailable
from gitkube.control.node_lifecycle import wanted_taints
from gitkube.control.settings import ControlSettings
from gitkube.control.taint_eviction import NEVER, eviction_time_s
from gitkube.objects import conditions, meta, pods
from gitkube.objects.kinds import DEPLOYMENT, EVENT, NODE, POD, Kind
from gitkube.objects.types import Object
from tests.support.cluster import deployment, node
from tests.unit.control.conftest import Cluster

TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{word}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 10,
    }
    for word in ("not-ready", "unreachable")
]


async def set_ready(cluster: Cluster, host: str, status: str) -> None:
    patch = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
    await cluster.client.patch(NODE, host, "", patch, subresource="status")


async def with_pods(cluster: Cluster) -> None:
    await cluster.start_all()
    wanted = deployment(replicas=3)
    wanted["spec"]["template"]["spec"]["tolerations"] = TOLERATIONS
    await cluster.client.create(DEPLOYMENT, wanted)
    await cluster.clock.advance(5)


async def test_each_host_gets_a_subnet_of_its_own_and_keeps_it_over_restarts(cluster: Cluster) -> None:
    await cluster.start_all(hosts=3)
    await cluster.clock.advance(1)
    before = {meta.name(one): one["spec"]["podCIDR"] for one in await cluster.all(NODE)}
    assert sorted(before.values()) == ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]
    await cluster.stop_manager()
    cluster.start_manager()
    await cluster.client.create(NODE, node("dog"))
    await cluster.client.create(NODE, node("eel"))
    await cluster.clock.advance(1)
    after = {meta.name(one): one["spec"]["podCIDR"] for one in await cluster.all(NODE)}
    assert after | before == after and len(set(after.values())) == 5


async def test_a_removed_hosts_subnet_is_given_again(cluster: Cluster) -> None:
    await cluster.start_all(hosts=2)
    await cluster.clock.advance(1)
    freed = (await cluster.client.get(NODE, "ant"))["spec"]["podCIDR"]
    await cluster.client.delete(NODE, "ant")
    await cluster.clock.advance(1)
    await cluster.client.create(NODE, node("dog"))
    await cluster.clock.advance(1)
    assert (await cluster.client.get(NODE, "dog"))["spec"]["podCIDR"] == freed


async def test_hosts_without_a_subnet_say_so_once_and_get_what_is_given_back(cluster: Cluster) -> None:
    cluster.settings = ControlSettings(cluster_cidr="10.42.0.0/23")
    await cluster.start_all(hosts=4)
    await cluster.clock.advance(1)
    have = {meta.name(one): one["spec"].get("podCIDR") for one in await cluster.all(NODE)}
    assert have == {"ant": "10.42.0.0/24", "bee": "10.42.1.0/24", "cow": None, "dog": None}
    for number in range(3):
        await cluster.patch(NODE, "cow", {"metadata": {"labels": {"seen": str(number)}}}, "")
        await cluster.clock.advance(60)
    said = [one for one in await cluster.all(EVENT) if one["reason"] == "CIDRNotAvailable"]
    assert sorted((one["involvedObject"]["name"], one["count"]) for one in said) == [("cow", 1), ("dog", 1)]
    await cluster.client.delete(NODE, "bee")
    await cluster.clock.advance(1)
    have = {meta.name(one): one["spec"].get("podCIDR") for one in await cluster.all(NODE)}
    assert sorted(map(str, have.values())) == ["10.42.0.0/24", "10.42.1.0/24", "None"]


async def test_a_host_with_addresses_outside_the_network_is_told_of(cluster: Cluster) -> None:
    cluster.settings = ControlSettings(cluster_cidr="10.60.0.0/16")
    await cluster.client.create(NODE, node("ant") | {"spec": {"podCIDR": "10.42.0.0/24"}})
    await cluster.start_all(hosts=0)
    await cluster.client.create(NODE, node("bee") | {"spec": {"podCIDR": "10.60.7.0/24"}})
    await cluster.clock.advance(2)
    said = [one for one in await cluster.all(EVENT) if one["reason"] == "CIDRNotInCluster"]
    assert [one["involvedObject"]["name"] for one in said] == ["ant"]
    assert "10.42.0.0/24" in said[0]["message"] and "--cluster-cidr" in said[0]["message"]


async def test_a_subnet_whose_write_failed_is_given_to_nobody_else(cluster: Cluster) -> None:
    await cluster.start_all(hosts=0)
    failures = [unavailable("the store has no leader")] * 4

    def fail_at_first(verb: str, kind: Kind, obj: Object) -> None:
        if (verb, kind, meta.name(obj)) == ("patch", NODE, "ant") and failures:
            raise failures.pop()

    cluster.client.reactions.append(fail_at_first)
    await cluster.client.create(NODE, node("ant"))
    await cluster.client.create(NODE, node("bee"))
    await cluster.clock.advance(2)
    have = {meta.name(one): one["spec"]["podCIDR"] for one in await cluster.all(NODE)}
    assert not failures and have == {"ant": "10.42.0.0/24", "bee": "10.42.1.0/24"}


async def test_pods_of_a_lost_host_are_not_ready_at_once_and_replaced_after_their_toleration(
    cluster: Cluster,
) -> None:
    await with_pods(cluster)
    cluster.kubelet.dead_hosts.add("bee")
    await set_ready(cluster, "bee", "Unknown")
    await cluster.clock.advance(1)
    (lost,) = [pod for pod in await cluster.pods() if pods.node_name(pod) == "bee"]
    assert not pods.is_ready(lost), "a Service must not send anybody there"
    await cluster.clock.advance(6)
    assert not meta.is_deleting(await cluster.client.get(POD, meta.name(lost), "default"))
    await cluster.clock.advance(8)
    ready = await cluster.ready_pods()
    assert len(ready) == 3 and {pods.node_name(pod) for pod in ready} == {"ant", "cow"}
    target = conditions.get_condition(
        await cluster.client.get(POD, meta.name(lost), "default"), "DisruptionTarget"
    )
    assert target is not None and target["reason"] == "DeletionByTaintManager"


async def test_a_host_back_in_time_keeps_its_pods(cluster: Cluster) -> None:
    await with_pods(cluster)
    names = {meta.name(pod) for pod in await cluster.pods()}
    await set_ready(cluster, "bee", "Unknown")
    await cluster.clock.advance(8)
    await set_ready(cluster, "bee", "True")
    await cluster.clock.advance(60)
    assert {meta.name(pod) for pod in await cluster.pods()} == names
    assert "taints" not in (await cluster.client.get(NODE, "bee"))["spec"]


async def test_a_restart_gives_nobody_more_time(cluster: Cluster) -> None:
    await with_pods(cluster)
    cluster.kubelet.dead_hosts.add("bee")
    await set_ready(cluster, "bee", "Unknown")
    for _ in range(6):
        await cluster.clock.advance(2)
        await cluster.stop_manager()
        cluster.start_manager()
    await cluster.clock.advance(2)
    assert len([pod for pod in await cluster.pods() if pods.node_name(pod) == "bee"]) == 0


async def test_a_taint_of_a_persons_own_evicts_after_the_toleration_too(cluster: Cluster) -> None:
    """`kubectl taint` says no time; the time of the toleration counts from when the taint was seen."""
    await cluster.start_all()
    wanted = deployment(replicas=3)
    tolerated = {"key": "repair", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
    wanted["spec"]["template"]["spec"]["tolerations"] = [tolerated]
    await cluster.client.create(DEPLOYMENT, wanted)
    await cluster.clock.advance(5)
    taint = {"key": "repair", "value": "by-hand", "effect": "NoExecute"}
    await cluster.client.patch(NODE, "bee", "", {"spec": {"taints": [taint]}})
    await cluster.clock.advance(4)
    assert len([pod for pod in await cluster.pods() if pods.node_name(pod) == "bee"]) == 1
    before = {meta.name(pod) for pod in await cluster.pods()}
    await cluster.clock.advance(12)
    after = {meta.name(pod) for pod in await cluster.pods()}
    assert len(before - after) >= 1, "nobody had to go"


async def test_pods_of_a_host_that_is_no_more_are_collected(cluster: Cluster) -> None:
    await with_pods(cluster)
    cluster.kubelet.dead_hosts.add("bee")
    await cluster.client.delete(NODE, "bee")
    await cluster.clock.advance(30)
    assert [pod for pod in await cluster.all(POD) if pods.node_name(pod) == "bee"]
    await cluster.clock.advance(60)
    assert [pod for pod in await cluster.all(POD) if pods.node_name(pod) == "bee"] == []
    assert len(await cluster.ready_pods()) == 3


UNREACHABLE = "node.kubernetes.io/unreachable"


def test_taints_follow_the_conditions_and_leave_others_alone() -> None:
    mine = {"key": "gpu", "value": "only", "effect": "NoSchedule"}
    silent = node("ant", taints=[mine], ready="Unknown")
    taints = wanted_taints(silent, 1_700_000_000)
    assert taints == [
        mine,
        {"key": UNREACHABLE, "effect": "NoSchedule"},
        {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2023-11-14T22:13:20Z"},
    ]
    assert wanted_taints(node("ant", taints=taints, ready="Unknown"), 1_800_000_000) == taints
    assert wanted_taints(node("ant", taints=taints, ready="True"), 1_800_000_000) == [mine]
    cordoned = node("ant", unschedulable=True)
    assert [taint["key"] for taint in wanted_taints(cordoned, 0)] == ["node.kubernetes.io/unschedulable"]


def toleration(seconds: int | None = None, **fields: Any) -> dict[str, Any]:
    found = {"key": UNREACHABLE, "operator": "Exists", **fields}
    return found if seconds is None else {**found, "tolerationSeconds": seconds}


@pytest.mark.parametrize(
    ("tolerations", "expected_s"),
    [
        ([], 500.0),
        ([toleration()], NEVER),
        ([toleration(300)], 400.0),
        ([toleration(300), toleration(20, effect="NoExecute")], 120.0),
        ([toleration(300), toleration()], 400.0),
        ([toleration(-5)], 100.0),
        ([toleration(effect="NoSchedule")], 500.0),
        ([{"operator": "Exists"}], NEVER),
    ],
)
def test_when_a_pod_must_go(tolerations: list[dict[str, Any]], expected_s: float) -> None:
    taint = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z"}
    assert eviction_time_s([taint], tolerations, 500.0) == expected_s
