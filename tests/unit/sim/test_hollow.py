"""Hollow hosts on a clock that stands still, behind the fleet's own links and behind the real API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.files import replace_durably
from gitkube.fleet.hosts import Host
from gitkube.fleet.link import HostLink, LinkState
from gitkube.fleet.settings import FleetSettings
from gitkube.sim.hollow import HollowHosts, HollowSettings
from gitkube.sim.hollow.addresses import AddressPool
from gitkube.sim.hollow.ended import EndedPods
from gitkube.sim.hollow.fate import container_fate, pod_fate
from gitkube.sim.hollow.pod import HollowPod
from tests.support.fake_clock import FakeClock, settle

SETTINGS = HollowSettings(pull_s=2.0, start_s=1.0, stop_s=1.0, run_s=5.0)


def pod(name: str = "web", *, notes: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if notes:
        metadata["annotations"] = {f"hollow.gitkube.dev/{key}": value for key, value in notes.items()}
    command = spec.pop("command", [])
    containers = [{"name": "main", "image": spec.pop("image", "web:1"), "command": command}]
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}


def deleted(one: dict[str, Any], grace_s: int = 30) -> dict[str, Any]:
    when = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
    return {**one, "metadata": {**one["metadata"], **when}}


class Stage:
    """One hollow host behind a real link; what it says is kept by pod."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hosts = HollowHosts(1, settings=SETTINGS, clock=self.clock)
        self.host = self.hosts.hosts["hollow-1"]
        self.states: list[LinkState] = []
        self.reports: list[wire.PodReport] = []
        self.messages: list[dict[str, Any]] = []
        self.tasks = [asyncio.ensure_future(self.hosts.run())]
        self.link = self.dial(3)

    def dial(self, term: int) -> HostLink:
        link = HostLink(
            Host("hollow-1", "198.18.0.1"), dialer=self.hosts, observer=self, term=term,
            clock=self.clock, rng=Random(1), settings=FleetSettings(),
        )  # fmt: skip
        self.tasks.append(asyncio.ensure_future(link.run()))
        return link

    async def linked(self, link: HostLink, hello: wire.Hello) -> None:
        self.messages.append(dict(hello))

    async def heard(self, link: HostLink, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "pods":
            self.reports += message["pods"]

    def state_changed(self, link: HostLink) -> None:
        self.states.append(link.state)

    async def want(self, *pods: dict[str, Any], cidr: str = "10.42.7.0/24") -> None:
        for section, data in (("network", {"podCIDR": cidr}), ("pods", {"pods": list(pods)})):
            self.link.set_desired(section, data, wire.digest_of(data), 1)
        await settle()

    def status(self, name: str = "web") -> dict[str, Any]:
        return [one for one in self.reports if one["name"] == name][-1]["status"]

    def gone(self) -> list[str]:
        return [one["name"] for one in self.reports if one.get("gone")]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    await settle()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


def ready(status: dict[str, Any]) -> str:
    return next(one["status"] for one in status["conditions"] if one["type"] == "Ready")


async def test_a_pod_is_pulled_started_and_ready_with_an_address_of_the_hosts_share(stage: Stage) -> None:
    await stage.want(pod())
    assert stage.status()["phase"] == "Pending"
    assert stage.status()["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    await stage.clock.advance(2.9)
    assert stage.status()["phase"] == "Pending"
    await stage.clock.advance(0.2)
    status = stage.status()
    assert (status["phase"], ready(status)) == ("Running", "True")
    assert (status["podIP"], status["hostIP"]) == ("10.42.7.2", "198.18.0.1")


async def test_an_image_is_pulled_once_on_each_host(stage: Stage) -> None:
    await stage.want(pod("one"))
    await stage.clock.advance(4)
    await stage.want(pod("one"), pod("two"))
    await stage.clock.advance(1.1)
    assert stage.status("two")["phase"] == "Running"


async def test_a_deleted_pod_stops_with_grace_and_is_then_gone(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    await stage.want(deleted(pod()))
    assert ready(stage.status()) == "False"
    assert stage.gone() == []
    await stage.clock.advance(1.1)
    assert stage.gone() == ["web"]


async def test_a_deleted_pod_takes_no_longer_than_its_grace_period(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    await stage.want(deleted(pod(), grace_s=0))
    await stage.clock.advance(0.01)
    assert stage.gone() == ["web"]


async def test_a_pod_that_never_started_is_gone_at_once(stage: Stage) -> None:
    await stage.want(pod())
    await stage.want(deleted(pod()))
    await stage.clock.advance(0.01)
    assert stage.gone() == ["web"]


@pytest.mark.parametrize(
    ("spec", "after_s", "phase", "code"),
    [
        ({"restartPolicy": "Never"}, 8.1, "Succeeded", 0),
        ({"restartPolicy": "OnFailure"}, 8.1, "Succeeded", 0),
        ({"restartPolicy": "Never", "command": ["sh", "-c", "sleep 2; exit 3"]}, 5.1, "Failed", 3),
        ({"restartPolicy": "Never", "command": ["false"]}, 8.1, "Failed", 1),
        ({"restartPolicy": "Never", "notes": {"exit-code": "7", "run-ms": "500"}}, 3.6, "Failed", 7),
    ],
)
async def test_a_pod_that_is_meant_to_end_does(
    stage: Stage, spec: dict[str, Any], after_s: float, phase: str, code: int
) -> None:
    await stage.want(pod(**spec))
    await stage.clock.advance(after_s - 0.2)
    assert stage.status()["phase"] == "Running"
    await stage.clock.advance(0.2)
    assert stage.status()["phase"] == phase
    assert stage.status()["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"command": ["sleep", "1"]},
        {"restartPolicy": "Never", "command": ["sleep", "1000000"]},
        {"restartPolicy": "OnFailure", "command": ["sleep", "infinity"]},
    ],
)
async def test_a_pod_that_is_meant_to_stay_does(stage: Stage, spec: dict[str, Any]) -> None:
    await stage.want(pod(**spec))
    await stage.clock.advance(3600)
    assert (stage.status()["phase"], ready(stage.status())) == ("Running", "True")


async def test_a_container_that_fails_is_started_again_after_a_growing_pause(stage: Stage) -> None:
    await stage.want(pod(restartPolicy="OnFailure", notes={"exit-code": "1", "run-ms": "1000"}))
    await stage.clock.advance(4.1)
    status = stage.status()["containerStatuses"][0]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 1
    await stage.clock.advance(10)
    assert stage.status()["containerStatuses"][0]["restartCount"] == 1
    assert stage.status()["phase"] == "Running"
    await stage.clock.advance(11)
    assert "waiting" in stage.status()["containerStatuses"][0]["state"]
    await stage.clock.advance(10)
    assert stage.status()["containerStatuses"][0]["restartCount"] == 2


async def test_annotations_keep_a_pod_unready_or_its_image_away(stage: Stage) -> None:
    await stage.want(pod("unready", notes={"ready": "false"}), pod("lost", notes={"pull": "fail"}))
    await stage.clock.advance(60)
    assert (stage.status("unready")["phase"], ready(stage.status("unready"))) == ("Running", "False")
    lost = stage.status("lost")
    assert lost["phase"] == "Pending"
    assert lost["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


async def test_a_pod_past_its_deadline_has_failed(stage: Stage) -> None:
    await stage.want(pod(activeDeadlineSeconds=30))
    await stage.clock.advance(29)
    assert stage.status()["phase"] == "Running"
    await stage.clock.advance(1.1)
    assert (stage.status()["phase"], stage.status()["reason"]) == ("Failed", "DeadlineExceeded")


async def test_init_containers_have_ended_and_sidecars_run_when_the_pod_starts(stage: Stage) -> None:
    inits = [{"name": "setup", "image": "a"}, {"name": "proxy", "image": "b", "restartPolicy": "Always"}]
    await stage.want(pod(initContainers=inits))
    assert "waiting" in stage.status()["initContainerStatuses"][0]["state"]
    await stage.clock.advance(4)
    setup, proxy = stage.status()["initContainerStatuses"]
    assert setup["state"]["terminated"]["exitCode"] == 0
    assert "running" in proxy["state"]


async def test_a_pod_is_ready_once_its_readiness_gates_are_open(stage: Stage) -> None:
    gated = pod(readinessGates=[{"conditionType": "example.com/gate"}])
    await stage.want(gated)
    await stage.clock.advance(4)
    (why,) = [one for one in stage.status()["conditions"] if one["type"] == "Ready"]
    assert (why["status"], why["reason"]) == ("False", "ReadinessGatesNotReady")
    for value in ("True", "False"):
        told = {"conditions": [{"type": "example.com/gate", "status": value}]}
        await stage.want({**gated, "status": told})
        assert ready(stage.status()) == value


async def test_an_ephemeral_container_runs_as_soon_as_the_host_is_told_of_it(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    assert "ephemeralContainerStatuses" not in stage.status()
    await stage.want(pod(ephemeralContainers=[{"name": "debugger", "image": "tools:1"}]))
    (debugger,) = stage.status()["ephemeralContainerStatuses"]
    assert (debugger["name"], debugger["image"], debugger["ready"]) == ("debugger", "tools:1", False)
    since = debugger["state"]["running"]["startedAt"]
    await stage.clock.advance(60)
    await stage.want(
        pod(ephemeralContainers=[{"name": name, "image": "tools:1"} for name in ("debugger", "b")])
    )
    starts = [one["state"]["running"]["startedAt"] for one in stage.status()["ephemeralContainerStatuses"]]
    assert starts[0] == since < starts[1]
    assert ready(stage.status()) == "True"


async def test_an_ephemeral_container_ends_with_its_pod(stage: Stage) -> None:
    debugger = [{"name": "debugger", "image": "tools:1"}]
    await stage.want(pod(restartPolicy="Never", ephemeralContainers=debugger))
    (waiting,) = stage.status()["ephemeralContainerStatuses"]
    assert "waiting" in waiting["state"]
    await stage.clock.advance(9)
    (ended,) = stage.status()["ephemeralContainerStatuses"]
    main = stage.status()["containerStatuses"][0]
    assert ended["state"]["terminated"]["finishedAt"] == main["state"]["terminated"]["finishedAt"]


@pytest.mark.parametrize(("policy", "restarts"), [("NotRequired", 0), ("RestartContainer", 1)])
async def test_a_resize_is_in_force_at_once_and_restarts_where_the_policy_asks_for_it(
    stage: Stage, policy: str, restarts: int
) -> None:
    def sized(cpu: str) -> dict[str, Any]:
        one = pod()
        one["spec"]["containers"][0] |= {
            "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
        }
        return one

    await stage.want(sized("1"))
    assert "resources" not in stage.status()["containerStatuses"][0]
    await stage.clock.advance(4)
    for cpu, restart_count in (("1", 0), ("1500m", restarts)):
        await stage.want(sized(cpu))
        status = stage.status()["containerStatuses"][0]
        assert status["resources"] == {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}
        assert status["allocatedResources"] == {"cpu": cpu}
        assert (status["restartCount"], "running" in status["state"]) == (restart_count, True)


async def test_a_new_image_restarts_the_container(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    await stage.want(pod(image="web:2"))
    status = stage.status()["containerStatuses"][0]
    assert (status["image"], status["restartCount"]) == ("web:2", 1)


async def test_after_a_lost_link_the_pods_go_on_and_all_are_reported_again(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    await stage.host.set_state("cut")
    await stage.clock.advance(20)
    assert not stage.link.state.is_up
    await stage.host.set_state("on")
    stage.messages.clear()
    await stage.clock.advance(40)
    assert stage.link.state.is_up
    hello = next(one for one in stage.messages if one["type"] == "hello")
    assert set(hello["digests"]) == {"network", "pods"}
    full = next(one for one in stage.messages if one["type"] == "pods")
    assert full["full"]
    assert full["pods"][0]["status"]["podIP"] == "10.42.7.2"


async def test_a_power_cut_ends_containers_and_keeps_what_had_ended(stage: Stage) -> None:
    await stage.want(pod(), pod("job", restartPolicy="Never"))
    await stage.clock.advance(9)
    await stage.host.set_state("off")
    await stage.clock.advance(5)
    assert not stage.link.state.is_up
    await stage.host.set_state("on")
    stage.reports.clear()
    await stage.clock.advance(40)
    assert (stage.status()["phase"], stage.status("job")["phase"]) == ("Running", "Succeeded")
    assert [one["status"]["phase"] for one in stage.reports if one["name"] == "web"] == ["Pending", "Running"]


async def test_a_pod_that_the_control_side_knows_to_have_ended_is_not_run(stage: Stage) -> None:
    job = pod("job", restartPolicy="Never")
    await stage.want({**job, "status": {"phase": "Succeeded"}}, pod())
    await stage.clock.advance(9)
    assert (stage.status()["phase"], stage.status("job")["phase"]) == ("Running", "Succeeded")
    assert "podIP" not in stage.status("job")
    await stage.want({**deleted(job), "status": {"phase": "Succeeded"}}, pod())
    await stage.clock.advance(2)
    assert stage.gone() == ["job"]


async def test_a_running_pod_that_is_given_up_is_stopped(stage: Stage) -> None:
    await stage.want(pod())
    await stage.clock.advance(4)
    assert stage.status()["phase"] == "Running"
    await stage.want({**pod(), "status": {"phase": "Failed"}})
    status = stage.status()
    assert (status["phase"], ready(status)) == ("Failed", "False")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


async def test_what_had_ended_stays_so_over_a_restart(
    tmp_path: Path,
) -> None:
    first = EndedPods(tmp_path / "ended")
    first.keep("one", {"phase": "Succeeded"})
    first.keep("two", {"phase": "Failed"})
    first.forget("two")
    (tmp_path / "ended").open("a").write('{"uid": "torn')
    second = EndedPods(tmp_path / "ended")
    assert (second.get("one"), second.get("two")) == ({"phase": "Succeeded"}, None)
    done = HollowPod(pod("one"), SETTINGS, 0.0, 0.0, 0.0, ended_status=second.get("one"))
    assert (done.due_s, done.advance(100.0, 100.0), done.phase) == (None, False, "Succeeded")


def test_the_memory_of_what_has_ended_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "ended"
    kept = EndedPods(path, most=10)
    for number in range(100):
        kept.keep(str(number), {"phase": "Succeeded"})
    assert len(path.read_text().splitlines()) <= 20
    again = EndedPods(path, most=10)
    assert (again.get("99"), again.get("1")) == ({"phase": "Succeeded"}, None)


def ask_for_faults(path: Path, faults: dict[str, str]) -> None:
    replace_durably(path, json.dumps(faults).encode(), 0o644)


async def test_faults_are_asked_for_by_a_file_that_may_be_wrong(tmp_path: Path) -> None:
    file, clock = tmp_path / "faults.json", FakeClock()
    hosts = HollowHosts(2, settings=SETTINGS, clock=clock, faults=file)
    running = asyncio.ensure_future(hosts.run())

    async def states() -> list[str]:
        await clock.advance(1)
        return [host.state for host in hosts.hosts.values()]

    assert await states() == ["on", "on"]
    ask_for_faults(file, {"hollow-2": "cut"})
    assert await states() == ["on", "cut"]
    file.write_text('{"hollow-2": "burning"}')
    assert await states() == ["on", "cut"]
    ask_for_faults(file, {"hollow-1": "off"})
    assert await states() == ["off", "on"]
    file.unlink()
    assert await states() == ["on", "on"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_leader_of_an_older_term_is_refused(stage: Stage) -> None:
    older = stage.dial(2)
    await settle()
    assert not older.state.is_up
    assert older.state.reason == "OlderTerm"


async def test_logs_say_that_the_host_is_hollow_and_exec_that_it_cannot(stage: Stage) -> None:
    await stage.want(pod())
    logs = await stage.link.open({"kind": "logs", "pod": "uid-web", "container": "main"})
    item = await logs.read()
    assert item is not None
    assert b"hollow-1 is a hollow host" in item[1]
    exec_ = await stage.link.open({"kind": "exec", "pod": "uid-web", "command": ["sh"]})
    assert await exec_.read() is None
    assert exec_.result is not None
    assert "runs no containers" in exec_.result["error"]


def test_addresses_are_given_to_one_pod_at_a_time_and_run_out() -> None:
    pool = AddressPool("10.42.7.0/29")
    taken = [pool.take() for _ in range(6)]
    assert taken == ["10.42.7.2", "10.42.7.3", "10.42.7.4", "10.42.7.5", "10.42.7.6", ""]
    pool.give_back("10.42.7.4")
    assert pool.take() == "10.42.7.4"


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "9" * 400, "١"])
def test_an_annotation_that_cannot_be_read_counts_as_not_given(value: str) -> None:
    told = pod(restartPolicy="Never", notes={"run-ms": value, "exit-code": value, "start-ms": value})
    container = told["spec"]["containers"][0]
    if value != "9" * 400:
        assert container_fate(told, container, SETTINGS).run_s == SETTINGS.run_s
        assert container_fate(told, container, SETTINGS).exit_code == 0
        assert pod_fate(told, SETTINGS).start_s == SETTINGS.start_s


@pytest.mark.parametrize("count", [0, 10_001])
def test_there_can_be_as_many_hosts_as_an_inventory_holds(count: int) -> None:
    with pytest.raises(ValueError, match="hollow hosts"):
        HollowHosts(count, settings=SETTINGS, clock=FakeClock())


def test_a_deadline_that_is_set_later_counts_from_the_pods_arrival() -> None:
    one = HollowPod(pod("one"), SETTINGS, 0.0, 10.0, 10.0)
    one.advance(11.0, 11.0)
    one.update(pod("one", activeDeadlineSeconds=5), 12.0)
    assert one.due_s == 15.0
    assert one.advance(15.0, 15.0) and one.phase == "Failed"
