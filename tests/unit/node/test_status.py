"""The status a person and a controller read, out of records."""

from __future__ import annotations

from typing import Any

from gitkube.node.decide import make_plan
from gitkube.node.records import EXITED, RUNNING, ContainerRecord, Ended, PodRecord
from gitkube.node.status import pod_status

NOW = 1_769_851_800.0
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u"},
    "spec": {"containers": [{"name": "web", "image": "web:1"}], "restartPolicy": "Always"},
}


def status_of(pod: dict[str, Any], *containers: ContainerRecord, **changes: Any) -> dict[str, Any]:
    record = PodRecord("u", "shop", "p", NOW - 60, {entry.name: entry for entry in containers})
    record.has_sandbox, record.pod_ip = True, "10.42.1.2"
    for key, value in changes.items():
        setattr(record, key, value)
    return pod_status(pod, record, make_plan(pod, record, NOW), host_ip="192.0.2.7", now_s=NOW)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(entry for entry in status["conditions"] if entry["type"] == kind)


def running(**changes: Any) -> ContainerRecord:
    entry = ContainerRecord("web", RUNNING, 0, "u_web_0", "web:1", "web@sha256:0", started_s=NOW - 5)
    entry.is_started = entry.is_ready = True
    for key, value in changes.items():
        setattr(entry, key, value)
    return entry


def test_a_running_pod_is_ready_with_addresses() -> None:
    status = status_of(POD, running())
    assert status["phase"] == "Running" and status["podIPs"] == [{"ip": "10.42.1.2"}]
    assert status["hostIP"] == "192.0.2.7" and status["qosClass"] == "BestEffort"
    assert condition(status, "Ready")["status"] == "True"
    assert status["containerStatuses"][0]["state"] == {"running": {"startedAt": "2026-01-31T09:29:55Z"}}


def test_a_readiness_gate_holds_ready_back_until_it_is_open_and_is_not_the_hosts_to_report() -> None:
    gated = {**POD, "spec": {**POD["spec"], "readinessGates": [{"conditionType": "example.com/gate"}]}}
    closed = condition(status_of(gated, running()), "Ready")
    assert (closed["status"], closed["reason"]) == ("False", "ReadinessGatesNotReady")
    for value in ("True", "False"):
        told = {**gated, "status": {"conditions": [{"type": "example.com/gate", "status": value}]}}
        status = status_of(told, running())
        assert condition(status, "Ready")["status"] == value
        assert condition(status, "ContainersReady")["status"] == "True"
        assert "example.com/gate" not in [one["type"] for one in status["conditions"]]


def test_an_unready_container_is_named_in_the_condition() -> None:
    status = status_of(POD, running(is_ready=False))
    assert condition(status, "Ready")["message"] == "containers with unready status: [web]"
    assert status["phase"] == "Running"


def test_a_crash_loop_shows_the_back_off_and_how_it_ended_last() -> None:
    ended = Ended(1, "Error", NOW - 3, NOW - 2, "u_web_1", "boom")
    entry = ContainerRecord("web", EXITED, 1, "u_web_1", "web:1", ended=ended, crashes=1)
    container = status_of(POD, entry)["containerStatuses"][0]
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (
        "back-off 10s restarting failed container=web pod=p_shop(u)"
        in container["state"]["waiting"]["message"]
    )
    assert container["lastState"]["terminated"]["message"] == "boom" and container["restartCount"] == 1


def test_a_container_that_has_not_begun_is_being_created() -> None:
    container = status_of(POD, is_initialized=True)["containerStatuses"][0]
    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert container["ready"] is False and container["restartCount"] == 0


def test_the_cause_of_a_wait_is_in_the_status() -> None:
    entry = ContainerRecord(
        "web", waiting_reason="ErrImagePull", waiting_message="no such tag", retry_at_s=NOW + 9
    )
    container = status_of(POD, entry)["containerStatuses"][0]
    assert container["state"]["waiting"] == {"reason": "ErrImagePull", "message": "no such tag"}


def test_a_finished_pod_says_completed_and_keeps_its_address() -> None:
    ended = Ended(0, "Completed", NOW - 3, NOW - 2, "u_web_0")
    entry = ContainerRecord("web", EXITED, 0, "u_web_0", "web:1", ended=ended)
    pod = {**POD, "spec": {**POD["spec"], "restartPolicy": "Never"}}
    status = status_of(pod, entry)
    assert status["phase"] == "Succeeded" and condition(status, "Ready")["reason"] == "PodCompleted"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_pod_that_is_stopping_takes_no_more_work() -> None:
    pod = {**POD, "metadata": {**POD["metadata"], "deletionTimestamp": "2026-01-31T09:30:00Z"}}
    assert condition(status_of(pod, running()), "Ready")["status"] == "False"


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    record = PodRecord("u", "shop", "p", NOW - 60, {"web": running()}, has_sandbox=True)
    plan = make_plan(POD, record, NOW)
    first = pod_status(POD, record, plan, host_ip="", now_s=NOW)
    later = pod_status(POD, record, plan, host_ip="", now_s=NOW + 100)
    assert first == later


def test_a_record_survives_the_disk() -> None:
    ended = Ended(1, "Error", 1.0, 2.0, "id", "m")
    record = PodRecord("u", "n", "p", 3.0, {"web": running(ended=ended, last=ended)}, has_sandbox=True)
    assert PodRecord.from_json({**record.to_json(), "of-a-later-version": 1}) == record


def test_a_container_for_debugging_is_told_apart_and_keeps_nobody_from_being_ready() -> None:
    pod = {**POD, "spec": {**POD["spec"], "ephemeralContainers": [{"name": "debug", "image": "busybox:1"}]}}
    status = status_of(pod, running())
    (debug,) = status["ephemeralContainerStatuses"]
    assert debug["state"]["waiting"]["reason"] == "ContainerCreating"
    assert condition(status, "Ready")["status"] == "True"
    assert [entry["name"] for entry in status["containerStatuses"]] == ["web"]


def test_a_container_says_which_resources_it_has() -> None:
    given = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
    (container,) = status_of(POD, running(resources=given))["containerStatuses"]
    assert (container["resources"], container["allocatedResources"]) == (given, {"cpu": "100m"})


def test_a_resize_shows_while_it_is_under_way_and_what_stops_it() -> None:
    wanted = {"name": "web", "image": "web:1", "resources": {"limits": {"memory": "32Mi"}}}
    pod = {**POD, "spec": {**POD["spec"], "containers": [wanted]}}
    entry = running(resources={"limits": {"memory": "64Mi"}}, resize_error="device or resource busy")
    progress = condition(status_of(pod, entry), "PodResizeInProgress")
    assert (progress["reason"], progress["message"]) == ("Error", "device or resource busy")
    entry.resources = wanted["resources"]
    assert not [one for one in status_of(pod, entry)["conditions"] if "Resize" in one["type"]]
