"""What changes of a pod while it runs, with the real agent, crun and cgroups: debuggers and resources."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gitkube.wire import STDIN
from tests.support.node_host import IMAGE, Control, make_pod, shell

pytestmark = pytest.mark.lab

SLEEP = "trap 'exit 0' TERM; while :; do busybox sleep 0.1; done"


def debugger(control: Control, uid: str) -> dict[str, Any]:
    entries = control.statuses.get(uid, {}).get("ephemeralContainerStatuses") or [{}]
    return dict(entries[0])


async def changed(control: Control, pod: dict[str, Any], **spec: Any) -> None:
    wanted = copy.deepcopy(pod)
    wanted["spec"].update(spec)
    await control.run(wanted)


async def test_a_debugger_sees_the_processes_of_its_target(control: Control) -> None:
    pod = make_pod(shell(SLEEP))
    uid = await control.run(pod)
    await control.running(uid)
    before = control.container(uid)
    container = {
        "name": "debug", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "stdin": True,
        "targetContainerName": "web", "command": shell("cat /proc/1/cmdline; exec cat"),
    }  # fmt: skip
    await changed(control, pod, ephemeralContainers=[container])
    await control.wait(lambda: "running" in debugger(control, uid).get("state", {}))
    text, _ = await control.output(
        {"kind": "exec", "pod": uid, "container": "debug", "command": shell("tr '\\0' ' ' < /proc/1/cmdline")}
    )
    assert b"sleep 0.1" in text
    stream = await control.stream({"kind": "attach", "pod": uid, "container": "debug", "stdin": True})
    await stream.write(STDIN, b"typed\n")
    assert await control.read(stream) == (1, b"typed\n")
    await stream.close({"exitCode": 0})
    assert control.container(uid)["containerID"] == before["containerID"]


async def test_a_debugger_that_ends_stays_ended_and_its_log_is_read(control: Control) -> None:
    pod = make_pod(shell(SLEEP))
    uid = await control.run(pod)
    await control.running(uid)
    container = {"name": "debug", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    await changed(control, pod, ephemeralContainers=[{**container, "command": shell("echo seen; exit 3")}])
    await control.wait(lambda: "terminated" in debugger(control, uid).get("state", {}))
    assert debugger(control, uid)["state"]["terminated"]["exitCode"] == 3
    text, _ = await control.output({"kind": "logs", "pod": uid, "container": "debug"})
    assert text == b"seen\n"
    assert control.statuses[uid]["phase"] == "Running"


def memory_limit(control: Control, uid: str) -> str:
    return str((control.container(uid).get("resources") or {}).get("limits", {}).get("memory"))


async def limit_seen_inside(control: Control, uid: str) -> str:
    # cgroups of version 1 and of version 2.
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    text, _ = await control.output(
        {"kind": "exec", "pod": uid, "container": "web", "command": shell(f"cat {files} 2>/dev/null")}
    )
    return text.decode().strip()


async def test_resources_change_while_the_container_runs(control: Control) -> None:
    pod = make_pod(shell(SLEEP), resources={"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}})
    uid = await control.run(pod)
    await control.running(uid)
    before = control.container(uid)
    assert await limit_seen_inside(control, uid) == str(64 * 2**20)
    container = copy.deepcopy(pod["spec"]["containers"][0])
    container["resources"] = {"requests": {"cpu": "80m"}, "limits": {"memory": "96Mi"}}
    await changed(control, pod, containers=[container])
    await control.wait(lambda: memory_limit(control, uid) == "96Mi")
    assert await limit_seen_inside(control, uid) == str(96 * 2**20)
    after = control.container(uid)
    assert after["allocatedResources"] == {"cpu": "80m"}
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    types = {condition["type"] for condition in control.statuses[uid]["conditions"]}
    assert not types & {"PodResizePending", "PodResizeInProgress"}


async def test_a_policy_may_want_a_new_start_for_other_resources(control: Control) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    pod = make_pod(shell(SLEEP), resources={"limits": {"memory": "64Mi"}}, resizePolicy=policy)
    uid = await control.run(pod)
    await control.running(uid)
    container = copy.deepcopy(pod["spec"]["containers"][0])
    container["resources"] = {"limits": {"memory": "96Mi"}}
    await changed(control, pod, containers=[container])
    await control.wait(lambda: control.container(uid).get("restartCount") == 1)
    await control.running(uid)
    assert await limit_seen_inside(control, uid) == str(96 * 2**20)
