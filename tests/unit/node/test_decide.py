"""What a pod's loop decides, told as situations: what is desired, what is seen, what follows."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.node import decide
from gitkube.node.records import EXITED, RUNNING, STARTING, ContainerRecord, Ended, PodRecord

NOW = 1_000_000.0


def pod(*names: str, policy: str = "Always", inits: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    containers = [{"name": name, "image": f"{name}:1"} for name in names or ("web",)]
    return {
        "metadata": {"name": "p", "namespace": "shop", "uid": "u"},
        "spec": {"containers": containers, "initContainers": inits or [], "restartPolicy": policy},
    }


def record(**containers: ContainerRecord) -> PodRecord:
    return PodRecord("u", "shop", "p", NOW - 60, dict(containers), has_sandbox=True)


def running(name: str = "web") -> ContainerRecord:
    return ContainerRecord(name, RUNNING, 0, image=f"{name}:1", started_s=NOW - 50, is_started=True)


def exited(
    code: int, *, name: str = "web", ago_s: float = 1, ran_s: float = 5, crashes: int = 0
) -> ContainerRecord:
    ended = Ended(code, "Error" if code else "Completed", NOW - ago_s - ran_s, NOW - ago_s, "id")
    return ContainerRecord(name, EXITED, 0, image=f"{name}:1", ended=ended, crashes=crashes)


def test_a_new_pod_wants_its_sandbox_before_anything_else() -> None:
    fresh = PodRecord("u", "shop", "p", NOW)
    plan = decide.make_plan(pod(), fresh, NOW)
    assert (plan.wants_sandbox, plan.start, plan.phase) == (True, [], "Pending")


def test_all_containers_start_at_once_when_the_sandbox_stands() -> None:
    plan = decide.make_plan(pod("web", "side"), record(), NOW)
    assert plan.start == ["web", "side"]


def test_a_pod_is_pending_until_each_container_has_been_started() -> None:
    starting = ContainerRecord("side", STARTING, -1)
    assert decide.make_plan(pod("web", "side"), record(web=running(), side=starting), NOW).phase == "Pending"
    assert decide.make_plan(pod("web"), record(web=running()), NOW).phase == "Running"


@pytest.mark.parametrize(
    ("policy", "code", "starts", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 3, False, "Failed"),
    ],
)
def test_the_restart_policy_decides_after_an_exit(policy: str, code: int, starts: bool, phase: str) -> None:
    plan = decide.make_plan(pod(policy=policy), record(web=exited(code)), NOW)
    assert (plan.start == ["web"], plan.phase) == (starts, phase)
    assert plan.is_finished is not starts


def test_the_back_off_doubles_to_five_minutes() -> None:
    delays = [decide.backoff_s(crashes) for crashes in range(9)]
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_container_waits_out_its_back_off_and_then_starts() -> None:
    crashed = record(web=exited(1, crashes=2, ago_s=5))
    plan = decide.make_plan(pod(), crashed, NOW)
    assert (plan.start, plan.backoff, plan.wake_at_s) == ([], {"web": 20.0}, NOW + 15)
    assert decide.make_plan(pod(), crashed, NOW + 15).start == ["web"]


def test_ten_minutes_of_running_forgive_the_crashes_before() -> None:
    plan = decide.make_plan(pod(), record(web=exited(1, crashes=6, ran_s=600)), NOW)
    assert plan.start == ["web"]


def test_init_containers_run_one_after_the_other() -> None:
    wanted = pod(inits=[{"name": "a"}, {"name": "b"}])
    assert decide.make_plan(wanted, record(), NOW).start == ["a"]
    assert decide.make_plan(wanted, record(a=running("a")), NOW).start == []
    assert decide.make_plan(wanted, record(a=exited(0, name="a")), NOW).start == ["b"]
    both = record(a=exited(0, name="a"), b=exited(0, name="b"))
    plan = decide.make_plan(wanted, both, NOW)
    assert plan.start == ["web"] and plan.is_initialized


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    wanted = pod(policy="Never", inits=[{"name": "a"}])
    plan = decide.make_plan(wanted, record(a=exited(1, name="a")), NOW)
    assert plan.phase == "Failed" and plan.is_finished
    assert decide.make_plan(pod(inits=[{"name": "a"}]), record(a=exited(1, name="a")), NOW).start == ["a"]


def test_a_sidecar_goes_before_the_others_and_after_them() -> None:
    wanted = pod(policy="Never", inits=[{"name": "proxy", "restartPolicy": "Always"}])
    assert decide.make_plan(wanted, record(), NOW).start == ["proxy"]
    up = record(proxy=running("proxy"))
    assert decide.make_plan(wanted, up, NOW).start == ["web"]
    up.containers["web"] = running()
    deleted = {**wanted, "metadata": {**wanted["metadata"], "deletionTimestamp": "x"}}
    assert list(decide.make_plan(deleted, up, NOW).stop) == ["web"]
    up.containers["web"] = exited(0)
    plan = decide.make_plan(wanted, up, NOW)
    assert (list(plan.stop), plan.phase, plan.is_finished) == (["proxy"], "Succeeded", False)


def test_a_deleted_pod_stops_everything_and_is_finished_when_nothing_lives() -> None:
    deleted = pod("web", "side")
    deleted["metadata"]["deletionTimestamp"] = "2026-01-31T09:30:00Z"
    plan = decide.make_plan(deleted, record(web=running(), side=running("side")), NOW)
    assert set(plan.stop) == {"web", "side"} and not plan.is_finished and not plan.start
    assert decide.make_plan(deleted, record(web=exited(0), side=exited(0, name="side")), NOW).is_finished


def test_a_pod_that_nobody_names_any_more_is_stopped_as_well() -> None:
    plan = decide.make_plan(pod(), record(web=running()), NOW, is_desired=False)
    assert list(plan.stop) == ["web"]


def test_a_pod_beyond_its_deadline_fails_with_the_reason() -> None:
    wanted = pod()
    wanted["spec"]["activeDeadlineSeconds"] = 30
    plan = decide.make_plan(wanted, record(web=running()), NOW)
    assert (plan.phase, plan.failure_reason, list(plan.stop)) == ("Failed", "DeadlineExceeded", ["web"])


def test_a_changed_image_replaces_the_container_without_any_back_off() -> None:
    wanted = pod()
    wanted["spec"]["containers"][0]["image"] = "web:2"
    assert list(decide.make_plan(wanted, record(web=running()), NOW).stop) == ["web"]
    assert decide.make_plan(wanted, record(web=exited(137, crashes=5)), NOW).start == ["web"]


def test_a_pod_that_has_ended_is_not_run_again() -> None:
    ended = PodRecord("u", "shop", "p", NOW, phase="Succeeded")
    plan = decide.make_plan(pod(), ended, NOW)
    assert plan.is_finished and not plan.start and not plan.wants_sandbox and plan.phase == "Succeeded"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_elsewhere_in_time_is_never_begun(phase: str) -> None:
    told = {**pod(policy="OnFailure"), "status": {"phase": phase}}
    plan = decide.make_plan(told, PodRecord("u", "shop", "p", NOW), NOW)
    assert (plan.phase, plan.wants_sandbox, plan.start, plan.is_finished) == (phase, False, [], True)


def test_a_pod_that_was_given_up_meanwhile_is_stopped_and_keeps_the_phase_it_was_given() -> None:
    told = {**pod(), "status": {"phase": "Failed"}}
    plan = decide.make_plan(told, record(web=running()), NOW)
    assert (plan.phase, list(plan.stop), plan.start, plan.is_finished) == ("Failed", ["web"], [], False)
    plan = decide.make_plan(told, record(web=exited(0)), NOW)
    assert (plan.phase, plan.start, plan.is_finished) == ("Failed", [], True)


def test_a_start_that_must_wait_for_its_next_try_says_when() -> None:
    waiting = ContainerRecord("web", retry_at_s=NOW + 7)
    plan = decide.make_plan(pod(), record(web=waiting), NOW)
    assert plan.start == [] and plan.wake_at_s == NOW + 7


def with_debugger(**container: Any) -> dict[str, Any]:
    wanted = pod("web")
    wanted["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox:1", **container}]
    return wanted


def test_a_container_for_debugging_is_started_beside_the_others() -> None:
    plan = decide.make_plan(with_debugger(), record(web=running()), NOW)
    assert (plan.start, plan.stop, plan.phase) == (["debug"], {}, "Running")


def test_a_container_for_debugging_starts_even_where_nothing_else_does() -> None:
    crashed = exited(1, ago_s=1, crashes=5)
    assert decide.make_plan(with_debugger(), record(web=crashed), NOW).start == ["debug"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_container_for_debugging_is_never_started_again(code: int) -> None:
    ended = exited(code, name="debug", ago_s=3600)
    plan = decide.make_plan(with_debugger(), record(web=running(), debug=ended), NOW)
    assert (plan.start, plan.phase) == ([], "Running")


def test_a_pod_that_is_over_takes_its_debugger_along() -> None:
    wanted = with_debugger()
    wanted["spec"]["restartPolicy"] = "Never"
    plan = decide.make_plan(wanted, record(web=exited(0), debug=running("debug")), NOW)
    assert (plan.phase, list(plan.stop)) == ("Succeeded", ["debug"])


def resizable(policy: str = "", **resources: Any) -> dict[str, Any]:
    wanted = pod("web")
    container = wanted["spec"]["containers"][0]
    container["resources"] = resources
    if policy:
        container["resizePolicy"] = [{"resourceName": "memory", "restartPolicy": policy}]
    return wanted


def having(**resources: Any) -> ContainerRecord:
    entry = running()
    entry.resources = resources
    return entry


@pytest.mark.parametrize(
    ("policy", "before", "after", "way"),
    [
        ("", {"cpu": "100m"}, {"cpu": "0.1"}, decide.NOTHING),
        ("", {"cpu": "100m"}, {"cpu": "200m"}, decide.IN_PLACE),
        ("", {"memory": "64Mi"}, {"memory": "32Mi"}, decide.IN_PLACE),
        ("NotRequired", {"memory": "64Mi"}, {"memory": "32Mi"}, decide.IN_PLACE),
        ("RestartContainer", {"cpu": "100m"}, {"cpu": "200m"}, decide.IN_PLACE),
        ("RestartContainer", {"memory": "64Mi"}, {"memory": "32Mi"}, decide.RESTART),
    ],
)
def test_other_resources_are_given_in_place_unless_the_policy_wants_a_new_start(
    policy: str, before: dict[str, str], after: dict[str, str], way: str
) -> None:
    wanted, entry = resizable(policy, limits=after), having(limits=before)
    assert decide.resize_of(wanted["spec"]["containers"][0], entry) == way
    plan = decide.make_plan(wanted, record(web=entry), NOW)
    assert plan.resize == (["web"] if way == decide.IN_PLACE else [])
    assert list(plan.stop) == (["web"] if way == decide.RESTART else [])


def test_a_container_whose_resources_nobody_wrote_down_is_left_alone() -> None:
    plan = decide.make_plan(resizable(limits={"cpu": "1"}), record(web=running()), NOW)
    assert (plan.resize, plan.stop) == ([], {})


def test_a_resize_beyond_the_host_is_infeasible_and_changes_nothing() -> None:
    wanted, entry = resizable("RestartContainer", requests={"cpu": "5"}), having(requests={"cpu": "1"})
    plan = decide.make_plan(wanted, record(web=entry), NOW, allocatable={"cpu": "4", "memory": "8Gi"})
    assert (plan.resize, plan.stop) == ([], {})
    assert plan.resize_infeasible == "Node didn't have enough capacity: cpu, requested: 5000m, capacity: 4"
