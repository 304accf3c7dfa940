"""Each rule in a table: where a pod may go, and which host is best. Masks and explanations must agree."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.objects.types import Object
from gitkube.scheduler.cycle import SchedulingCycle
from gitkube.scheduler.diagnosis import message
from gitkube.scheduler.framework import CycleState
from gitkube.scheduler.pod_info import pod_info
from gitkube.scheduler.profile import default_profile
from gitkube.scheduler.snapshot import Snapshot
from tests.support.cluster import node, pod

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


def snapshot(nodes: list[Object], placed: list[tuple[str, Object]] = ()) -> Snapshot:  # type: ignore[assignment]
    found = Snapshot()
    for one in nodes:
        found.set_node(one)
    for host, one in placed:
        one["spec"]["nodeName"] = host
        found.set_pod(pod_info(one))
    return found


def feasible(found: Snapshot, wanted: Object) -> list[str]:
    """Hosts that all filters allow; checks on the way that each explanation agrees with its mask."""
    info, state, profile = pod_info(wanted), CycleState(), default_profile()
    for _, pre_filter in profile.pre_filters:
        assert pre_filter.pre_filter(state, info, found).is_success
    allowed = {one.name for one in found.nodes()}
    for name, plugin in profile.filters:
        mask = plugin.filter(state, info, found)
        for one in found.nodes():
            is_allowed = mask is None or bool(mask[one.slot])
            status = plugin.explain(state, info, found, one)
            assert status.is_success == is_allowed, (name, one.name, status)
            if not is_allowed:
                assert status.reasons and status.detail and status.plugin == name
                allowed.discard(one.name)
    return sorted(allowed)


def choice(found: Snapshot, wanted: Object) -> str:
    cycle = SchedulingCycle(default_profile(), found, random.Random(1))
    return cycle.decide(pod_info(wanted)).node_name


def why(found: Snapshot, wanted: Object) -> str:
    decision = SchedulingCycle(default_profile(), found, random.Random(1)).decide(pod_info(wanted))
    return message(decision, len(found))


def required_affinity(kind: str, selector: dict[str, str], key: str = HOST) -> Object:
    term = {"labelSelector": {"matchLabels": selector}, "topologyKey": key}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def preferred_affinity(kind: str, selector: dict[str, str], key: str = HOST) -> Object:
    term = {"labelSelector": {"matchLabels": selector}, "topologyKey": key}
    return {
        kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    }


GPU = {"key": "gpu", "value": "only", "effect": "NoSchedule"}
SOFT = {"key": "slow", "effect": "PreferNoSchedule"}
WEB = {"app": "web"}
ZONES = [node("ant", labels={ZONE: "a"}), node("bee", labels={ZONE: "a"}), node("cow", labels={ZONE: "b"})]

CASES: list[tuple[str, list[Object], list[tuple[str, Object]], Object, list[str]]] = [
    ("nothing asked for", [node("ant"), node("bee")], [], pod("p"), ["ant", "bee"]),
    ("too much cpu", [node("ant", cpu="1"), node("bee", cpu="2")], [], pod("p", cpu="1500m"), ["bee"]),
    (
        "what pods have is taken",
        [node("ant"), node("bee")],
        [("ant", pod("x", cpu="3500m"))],
        pod("p", cpu="1"),
        ["bee"],
    ),
    (
        "too many pods",
        [node("ant", pods="1"), node("bee")],
        [("ant", pod("x"))],
        pod("p"),
        ["bee"],
    ),
    (
        "extended resources",
        [node("ant"), node("bee", resources={"example.com/gpu": "2"})],
        [("bee", pod("x", resources={"example.com/gpu": "1"}))],
        pod("p", resources={"example.com/gpu": "1"}),
        ["bee"],
    ),
    ("cordoned", [node("ant", unschedulable=True), node("bee")], [], pod("p"), ["bee"]),
    ("tainted", [node("ant", taints=[GPU]), node("bee")], [], pod("p"), ["bee"]),
    (
        "tolerated",
        [node("ant", taints=[GPU]), node("bee")],
        [],
        pod("p", tolerations=[{"key": "gpu", "operator": "Exists"}]),
        ["ant", "bee"],
    ),
    (
        "tolerated with the wrong value",
        [node("ant", taints=[GPU]), node("bee")],
        [],
        pod("p", tolerations=[{"key": "gpu", "value": "other"}]),
        ["bee"],
    ),
    (
        "node selector",
        [node("ant", labels={"disk": "ssd"}), node("bee")],
        [],
        pod("p", nodeSelector={"disk": "ssd"}),
        ["ant"],
    ),
    (
        "node affinity by Gt",
        [node("ant", labels={"cores": "8"}), node("bee", labels={"cores": "64"}), node("cow")],
        [],
        pod(
            "p",
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["16"]}]}
                        ]
                    }
                }
            },
        ),
        ["bee"],
    ),
    (
        "node affinity by name",
        [node("ant"), node("bee")],
        [],
        pod(
            "p",
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["ant"]}]}
                        ]
                    }
                }
            },
        ),
        ["ant"],
    ),
    (
        "host ports",
        [node("ant"), node("bee")],
        [("ant", pod("x", ports=[{"containerPort": 80, "hostPort": 80}]))],
        pod("p", ports=[{"containerPort": 8080, "hostPort": 80, "hostIP": "127.0.0.1"}]),
        ["bee"],
    ),
    (
        "host ports of another protocol",
        [node("ant")],
        [("ant", pod("x", ports=[{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]))],
        pod("p", ports=[{"containerPort": 53, "hostPort": 53}]),
        ["ant"],
    ),
    (
        "anti-affinity on hosts",
        [node("ant"), node("bee")],
        [("ant", pod("x", labels=WEB))],
        pod("p", affinity=required_affinity("podAntiAffinity", WEB)),
        ["bee"],
    ),
    (
        "anti-affinity on zones",
        ZONES,
        [("ant", pod("x", labels=WEB))],
        pod("p", affinity=required_affinity("podAntiAffinity", WEB, ZONE)),
        ["cow"],
    ),
    (
        "anti-affinity of the pods that are there",
        ZONES,
        [("ant", pod("x", affinity=required_affinity("podAntiAffinity", WEB, ZONE)))],
        pod("p", labels=WEB),
        ["cow"],
    ),
    (
        "anti-affinity means its own namespace",
        [node("ant"), node("bee")],
        [("ant", pod("x", labels=WEB, namespace="other"))],
        pod("p", affinity=required_affinity("podAntiAffinity", WEB)),
        ["ant", "bee"],
    ),
    (
        "affinity to a zone",
        ZONES,
        [("ant", pod("x", labels=WEB))],
        pod("p", affinity=required_affinity("podAffinity", WEB, ZONE)),
        ["ant", "bee"],
    ),
    (
        "affinity to nobody",
        ZONES,
        [],
        pod("p", affinity=required_affinity("podAffinity", WEB, ZONE)),
        [],
    ),
    (
        "the first of a group that wants its own kind",
        [*ZONES, node("dog")],
        [],
        pod("p", labels=WEB, affinity=required_affinity("podAffinity", WEB, ZONE)),
        ["ant", "bee", "cow"],
    ),
    (
        "the second of it",
        ZONES,
        [("cow", pod("x", labels=WEB))],
        pod("p", labels=WEB, affinity=required_affinity("podAffinity", WEB, ZONE)),
        ["cow"],
    ),
]


@pytest.mark.parametrize(
    ("nodes", "placed", "wanted", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_where_a_pod_may_go(
    nodes: list[Object], placed: list[tuple[str, Object]], wanted: Object, expected: list[str]
) -> None:
    assert feasible(snapshot(nodes, placed), wanted) == expected


def spread(max_skew: int = 1, key: str = ZONE, when: str = "DoNotSchedule", **fields: Any) -> Object:
    return {
        "maxSkew": max_skew,
        "topologyKey": key,
        "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": WEB},
        **fields,
    }


@pytest.mark.parametrize(
    ("placed", "constraint", "expected"),
    [
        ([], spread(), ["ant", "bee", "cow"]),
        (["ant"], spread(), ["cow"]),
        (["ant", "cow"], spread(), ["ant", "bee", "cow"]),
        (["ant", "bee"], spread(2), ["cow"]),
        (["ant"], spread(2), ["ant", "bee", "cow"]),
        (["ant"], spread(key=HOST), ["bee", "cow"]),
        ([], spread(minDomains=3), ["ant", "bee", "cow"]),
        (["ant", "cow"], spread(minDomains=3), []),
        (["ant"], spread(when="ScheduleAnyway"), ["ant", "bee", "cow", "dog"]),
    ],
)
def test_spreading_keeps_the_skew(placed: list[str], constraint: Object, expected: list[str]) -> None:
    found = snapshot(
        [*ZONES, node("dog")],
        [(host, pod(f"x{number}", labels=WEB)) for number, host in enumerate(placed)],
    )
    if constraint["topologyKey"] == HOST:
        expected = sorted([*expected, "dog"])
    assert feasible(found, pod("p", labels=WEB, topologySpreadConstraints=[constraint])) == expected


def test_the_emptier_host_is_better() -> None:
    found = snapshot([node("ant"), node("bee")], [("ant", pod("x", cpu="1", memory="1Gi"))])
    assert choice(found, pod("p", cpu="1", memory="1Gi")) == "bee"


def test_pods_without_requests_still_count_when_hosts_are_compared() -> None:
    found = snapshot([node("ant"), node("bee")], [("ant", pod("x"))])
    assert choice(found, pod("p")) == "bee"


def test_discouraging_taints_are_avoided_but_not_forbidden() -> None:
    found = snapshot([node("ant", taints=[SOFT]), node("bee")], [("bee", pod("x", cpu="2"))])
    assert choice(found, pod("p", cpu="1")) == "bee"
    assert choice(snapshot([node("ant", taints=[SOFT])]), pod("p")) == "ant"


def test_preferred_nodes_are_preferred() -> None:
    preference = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "preference": preference}]
        }
    }
    found = snapshot(
        [node("ant", labels={"disk": "ssd"}), node("bee")], [("ant", pod("x", cpu="500m", memory="1Gi"))]
    )
    assert choice(found, pod("p", cpu="100m", affinity=affinity)) == "ant"


@pytest.mark.parametrize(("kind", "expected"), [("podAffinity", "ant"), ("podAntiAffinity", "bee")])
def test_preferred_company_is_sought_or_avoided(kind: str, expected: str) -> None:
    placed = [("ant", pod("x", labels=WEB)), ("bee", pod("y"))]
    assert (
        choice(snapshot([node("ant"), node("bee")], placed), pod("p", affinity=preferred_affinity(kind, WEB)))
        == expected
    )


def test_pods_that_are_there_may_want_company_too() -> None:
    for kind, expected in (("podAffinity", "ant"), ("podAntiAffinity", "bee")):
        placed = [("ant", pod("x", affinity=preferred_affinity(kind, WEB))), ("bee", pod("y"))]
        found = snapshot([node("ant"), node("bee")], placed)
        assert choice(found, pod("p", labels=WEB)) == expected


def test_pods_of_one_owner_spread_over_hosts_and_zones() -> None:
    found = snapshot(ZONES)
    hosts = []
    for number in range(6):
        wanted = pod(f"p{number}", cpu="100m", owner="web")
        hosts.append(choice(found, wanted))
        found.assume(pod_info(wanted), hosts[-1])
    assert sorted(hosts) == ["ant", "ant", "bee", "bee", "cow", "cow"]
    assert "cow" in hosts[:2], "the second goes to the other zone"


def test_a_host_with_the_image_is_better() -> None:
    image = {"names": ["app:1"], "sizeBytes": 900 * 1024 * 1024}
    assert choice(snapshot([node("ant", images=[image]), node("bee")]), pod("p")) == "ant"


def test_the_reasons_name_hosts_and_numbers() -> None:
    found = snapshot(
        [node("ant", taints=[GPU]), node("bee", cpu="8"), node("cow", memory="1Gi", cpu="16")],
        [
            ("bee", pod("hog", cpu="6800m")),
            ("cow", pod("near", labels=WEB)),
        ],
    )
    wanted = pod("p", cpu="4", affinity=required_affinity("podAntiAffinity", WEB))
    assert why(found, wanted) == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod anti-affinity rules, "
        "1 node(s) had untolerated taint {gpu: only}. ant: has taint gpu=only:NoSchedule, not tolerated; "
        "bee: needs 4 cores, 1.2 of 8 free; cow: anti-affinity with default/near on the same host"
    )
    big = pod("big", memory="3Gi", nodeSelector={"disk": "ssd"})
    assert "ant: has taint" in why(found, big) and "bee: lacks label disk=ssd" in why(found, big)
    assert why(Snapshot(), wanted) == "no nodes available to schedule pods"


# ---------------------------------------------------------------------- invariants


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=60),
    hosts=st.lists(
        st.tuples(st.integers(1, 80), st.integers(1, 80), st.integers(1, 12)), min_size=1, max_size=5
    ),
    seed=st.integers(0, 100),
)
def test_no_host_is_ever_overcommitted_and_no_pod_waits_that_fits(
    sizes: list[tuple[int, int]], hosts: list[tuple[int, int, int]], seed: int
) -> None:
    found = Snapshot()
    for number, (cpu, memory, pods) in enumerate(hosts):
        found.set_node(node(f"h{number}", cpu=f"{cpu * 100}m", memory=f"{memory}Mi", pods=str(pods)))
    cycle = SchedulingCycle(default_profile(), found, random.Random(seed))
    rng = random.Random(seed)
    used = {f"h{number}": [0, 0, 0] for number in range(len(hosts))}
    room = {f"h{number}": [cpu * 100, memory, pods] for number, (cpu, memory, pods) in enumerate(hosts)}
    placed: list[tuple[str, Object, tuple[int, int]]] = []
    for number, (cpu, memory) in enumerate(sizes):
        wanted = pod(f"p{number}", cpu=f"{cpu * 100}m", memory=f"{memory}Mi")
        host = cycle.decide(pod_info(wanted)).node_name
        need = [cpu * 100, memory, 1]
        fits = [
            name
            for name in room
            if all(used[name][at] + need[at] <= room[name][at] or not need[at] for at in range(3))
        ]
        assert bool(host) == bool(fits)
        if host:
            assert host in fits
            found.assume(pod_info(wanted), host)
            used[host] = [used[host][at] + need[at] for at in range(3)]
            placed.append((host, wanted, (cpu, memory)))
        if placed and rng.random() < 0.2:
            gone, leaving, (cpu_back, memory_back) = placed.pop(rng.randrange(len(placed)))
            found.remove_pod(pod_info(leaving).key)
            used[gone] = [used[gone][0] - cpu_back * 100, used[gone][1] - memory_back, used[gone][2] - 1]
    for name, amounts in used.items():
        slot = found.node(name).slot  # type: ignore[union-attr]
        assert [found.requested(one)[slot] for one in ("cpu", "pods")] == [amounts[0], amounts[2]]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["place", "remove", "node", "lose", "relabel"]),
            st.integers(0, 9),
            st.integers(0, 24),
            st.sampled_from(["web", "db"]),
        ),
        max_size=60,
    )
)
def test_what_is_kept_equals_what_counting_anew_gives(steps: list[tuple[str, int, int, str]]) -> None:
    kept = Snapshot()
    nodes: dict[str, Object] = {}
    pods: dict[str, tuple[str, Object]] = {}
    selector = pod_info(
        pod("q", affinity=required_affinity("podAntiAffinity", {"app": "web"}))
    ).anti_affinity[0]
    home = frozenset(("default",))
    for verb, pod_number, host_number, app in steps:
        host, name = f"h{host_number}", f"p{pod_number}"
        if verb in ("node", "relabel"):
            zone = "a" if verb == "node" else app
            nodes[host] = node(host, labels={ZONE: zone})
            kept.set_node(nodes[host])
        elif verb == "lose":
            nodes.pop(host, None)
            kept.remove_node(host)
        elif verb == "place":
            affinity = required_affinity("podAntiAffinity", {"app": app})
            one = pod(name, cpu="100m", labels={"app": app}, affinity=affinity, nodeName=host)
            pods[name] = (host, one)
            kept.set_pod(pod_info(one))
        else:
            pods.pop(name, None)
            kept.remove_pod(("default", name))
        kept.counts.matching(home, selector.selector)
        kept.domains(ZONE)
    fresh = Snapshot()
    for one in nodes.values():
        fresh.set_node(one)
    for _, one in pods.values():
        fresh.set_pod(pod_info(one))

    def by_host(found: Snapshot, values: Any) -> dict[str, int]:
        return {one.name: int(values[one.slot]) for one in found.nodes()}

    for name in ("cpu", "pods"):
        assert by_host(kept, kept.requested(name)) == by_host(fresh, fresh.requested(name))
    assert by_host(kept, kept.counts.matching(home, selector.selector)) == by_host(
        fresh, fresh.counts.matching(home, selector.selector)
    )
    assert {term for term, counts in kept.counts.repelling.items() if counts.any()} == set(
        fresh.counts.repelling
    )
    for key in (ZONE, HOST):
        ids, _ = kept.domains(key)
        again, _ = fresh.domains(key)
        for one in kept.nodes():
            for other in kept.nodes():
                same = ids[one.slot] == ids[other.slot]
                slots = [fresh.node(name).slot for name in (one.name, other.name)]  # type: ignore[union-attr]
                assert same == (again[slots[0]] == again[slots[1]])
    assert int(np.count_nonzero(kept.valid)) == len(nodes)
