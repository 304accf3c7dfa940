"""What is read of a pod: requests, references, readiness, the words of its row."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects import conditions, kinds, meta, pods, tables
from gitkube.objects.quantity import Quantity
from gitkube.objects.tables import human_duration, status_word


def container(name: str = "c", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "app:1", **fields}


def asks(cpu: str, memory: str = "0") -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}}


def test_containers_add_up_and_init_containers_run_one_after_another() -> None:
    spec = {
        "containers": [container("a", **asks("100m", "64Mi")), container("b", **asks("200m", "64Mi"))],
        "initContainers": [container("i", **asks("50m", "1Gi")), container("j", **asks("250m", "10Mi"))],
        "overhead": {"cpu": "10m"},
    }
    wanted = pods.pod_requests(spec)
    assert pods.cpu_milli(wanted) == 310
    assert pods.memory_bytes(wanted) == 2**30


def test_a_sidecar_runs_beside_all_that_come_after_it() -> None:
    sidecar = container("s", restartPolicy="Always", **asks("100m"))
    spec = {
        "containers": [container("a", **asks("100m"))],
        "initContainers": [container("before", **asks("150m")), sidecar, container("after", **asks("500m"))],
    }
    assert pods.cpu_milli(pods.pod_requests(spec)) == 600


def test_requests_of_the_whole_pod_replace_the_sum() -> None:
    spec = {"containers": [container(**asks("100m", "1Mi"))], "resources": {"requests": {"cpu": "1"}}}
    assert pods.pod_requests(spec) == {"cpu": Quantity.parse("1"), "memory": Quantity.parse("1Mi")}


def test_a_template_that_was_never_stored_asks_for_its_limits() -> None:
    spec = {"containers": [container(resources={"limits": {"cpu": "2"}})]}
    assert pods.cpu_milli(pods.pod_requests(spec)) == 2000


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)  # fmt: skip
def test_quality_of_service_follows_from_the_resources(resources: dict[str, Any], expected: str) -> None:
    assert pods.qos_class({"containers": [container(resources=resources)]}) == expected


def test_every_config_map_and_secret_a_pod_reads_is_found() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "v", "configMap": {"name": "volume-map", "optional": True}},
            {"name": "w", "secret": {"secretName": "volume-secret"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "projected-map"}}]}},
        ],
        "initContainers": [container("i", envFrom=[{"secretRef": {"name": "init-secret"}}])],
        "containers": [
            container(
                env=[
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env-map", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "volume-map", "key": "a"}}},
                ]
            )
        ],
    }
    found = pods.references(spec)
    assert pods.referenced_config_maps(spec) == ["env-map", "projected-map", "volume-map"]
    assert pods.referenced_secrets(spec) == ["init-secret", "pull", "volume-secret"]
    assert found.config_maps["volume-map"] is False, "one use of it cannot do without"
    assert found.secrets["pull"] is True


def test_host_ports_are_those_that_are_asked_for() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]
    spec = {"containers": [container(ports=ports)]}
    assert pods.host_ports(spec) == [pods.HostPort("UDP", "0.0.0.0", 53)]


def test_a_pod_is_available_when_it_has_been_ready_for_long_enough() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    pod = {"status": {"phase": "Running", "conditions": [ready]}}
    since_s = meta.time_s("2026-01-01T00:00:00Z")
    assert pods.is_ready(pod) and not pods.is_terminal(pod)
    assert pods.is_available(pod, 0, since_s)
    assert not pods.is_available(pod, 10, since_s + 9)
    assert pods.is_available(pod, 10, since_s + 10)


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = conditions.with_condition([], conditions.make("Ready", False, "Starting"), 0.0)
    assert first[0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    same = conditions.with_condition(first, conditions.make("Ready", False, "Pulling"), 60.0)
    assert same[0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    assert same[0]["reason"] == "Pulling"
    changed = conditions.with_condition(same, conditions.make("Ready", True), 120.0)
    assert changed == [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:02:00Z"}]
    assert first[0]["reason"] == "Starting", "what was given is not changed"


def test_a_sidecar_counts_as_a_container_in_the_row() -> None:
    pod = {
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "initContainers": [container("proxy", restartPolicy="Always")],
            "containers": [container("web")],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [
                {"name": "proxy", "started": True, "ready": True, "restartCount": 2, "state": {"running": {}}}
            ],
            "containerStatuses": [
                {
                    "name": "web", "ready": True, "restartCount": 3, "state": {"running": {}},
                    "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:30Z"}},
                }
            ],
        },
    }  # fmt: skip
    cells = tables.row(kinds.POD, pod, meta.time_s("2026-01-01T00:01:30Z"))
    assert cells[:5] == ["a", "2/2", "Running", "5 (60s ago)", "90s"]
    assert len(cells) == len(tables.columns(kinds.POD))


def test_a_pod_that_came_to_its_end_is_not_terminating() -> None:
    pod = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Succeeded"}}
    assert status_word(pod) == "Succeeded"
    assert status_word({**pod, "status": {"phase": "Running"}}) == "Terminating"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (599, "9m59s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (3 * 3600 + 300, "3h5m"), (8 * 3600, "8h"), (47 * 3600, "47h"),
        (48 * 3600, "2d"), (50 * 3600, "2d2h"), (8 * 86400, "8d"), (700 * 86400, "700d"),
        (730 * 86400, "2y"), (800 * 86400, "2y70d"), (9 * 365 * 86400, "9y"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_every_kind_has_as_many_cells_as_columns_even_when_it_is_empty() -> None:
    for kind in kinds.BUILT_IN:
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a"}}
        assert len(tables.row(kind, obj, 0.0)) == len(tables.columns(kind))


def test_a_kind_is_found_by_what_people_call_it() -> None:
    for word in ("po", "pod", "Pods", "POD"):
        assert kinds.by_name(word) is kinds.POD
    assert kinds.by_name("deployments.apps") is kinds.DEPLOYMENT
    assert kinds.by_name("nonsense") is None
