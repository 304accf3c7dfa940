"""The real agent with crun, conmon and skopeo, driven over its socket as the control side drives it."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitkube.wire import RESIZE, STDIN
from tests.support.node_host import IMAGE, REGISTRY, TIMEOUT_S, Control, make_pod, shell

pytestmark = pytest.mark.lab

UNTIL_TOLD, TELL = "until test -e /tmp/told; do busybox sleep 0.05; done", ": > /tmp/told"
SLEEP = "echo up; trap 'echo bye; exit 0' TERM; while :; do busybox sleep 0.1; done"


async def test_a_pod_runs_and_says_so_as_kubelet_would(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    status = control.statuses[uid]
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.99.0.") and status["hostIP"] == "192.0.2.7"
    entry = control.container(uid)
    assert entry["ready"] and entry["started"] and entry["restartCount"] == 0
    assert entry["imageID"].startswith(f"{REGISTRY}/busybox@sha256:")
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions == {
        "Initialized": "True",
        "PodReadyToStartContainers": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }
    await control.wait(
        lambda: {"Pulled", "Created", "Started"} <= {event["reason"] for event in control.events}
    )


async def test_a_pod_whose_image_is_here_runs_within_a_third_of_a_second(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    times = []
    for _ in range(5):
        begun = time.monotonic()
        uid = await control.run(make_pod(shell(SLEEP)))
        await control.running(uid)
        times.append(time.monotonic() - begun)
    print(f"bound to running: {[round(value, 3) for value in sorted(times)]}")


async def test_logs_are_read_whole_and_by_their_tail(control: Control) -> None:
    uid = await control.run(make_pod(shell("for i in 1 2 3 4 5; do echo line $i; done; busybox sleep 100")))
    await control.running(uid)
    await control.says(uid, b"".join(b"line %d\n" % number for number in range(1, 6)))
    _, result = await control.output({"kind": "logs", "pod": uid, "container": "web"})
    assert result == {"exitCode": 0}
    text, _ = await control.output({"kind": "logs", "pod": uid, "container": "web", "tailLines": 2})
    assert text == b"line 4\nline 5\n"


async def test_a_followed_log_ends_with_its_container(control: Control) -> None:
    pod = make_pod(shell(f"echo one; {UNTIL_TOLD}; echo two"))
    pod["spec"]["restartPolicy"] = "Never"
    uid = await control.run(pod)
    await control.running(uid)
    stream = await control.stream({"kind": "logs", "pod": uid, "container": "web", "follow": True})
    assert await control.read(stream) == (1, b"one\n")
    await control.do(uid, TELL)
    assert await control.read(stream) == (1, b"two\n")
    assert await control.read(stream) is None and stream.result == {"exitCode": 0}
    await control.wait(lambda: control.statuses[uid]["phase"] == "Succeeded")


async def test_exec_gives_output_and_exit_code_and_takes_input(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    text, result = await control.output(
        {"kind": "exec", "pod": uid, "container": "web", "command": shell("echo hi; exit 7")}
    )
    assert (text, result) == (b"hi\n", {"exitCode": 7})
    stream = await control.stream(
        {"kind": "exec", "pod": uid, "container": "web", "command": ["cat"], "stdin": True}
    )
    await stream.write(STDIN, b"through and through")
    await stream.write(STDIN, b"")
    assert await control.read(stream) == (1, b"through and through")
    assert await control.read(stream) is None and stream.result == {"exitCode": 0}


async def test_exec_with_a_terminal_has_the_size_it_was_given(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    stream = await control.stream(
        {"kind": "exec", "pod": uid, "container": "web", "command": ["sh"], "stdin": True, "tty": True}
    )
    await stream.write(RESIZE, b'{"Width": 101, "Height": 37}')
    await stream.write(STDIN, b"busybox stty size; exit 5\n")
    text = b""
    while (item := await control.read(stream)) is not None:
        text += item[1]
    assert b"37 101" in text and stream.result == {"exitCode": 5}


async def test_port_forward_reaches_a_server_in_the_pod(control: Control) -> None:
    script = "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    uid = await control.run(make_pod(shell(script)))
    await control.running(uid)
    await control.do(uid, "until busybox wget -qO- http://127.0.0.1:8080/; do busybox sleep 0.1; done")
    stream = await control.stream({"kind": "port-forward", "pod": uid, "port": 8080})
    await stream.write(STDIN, b"GET /index.html HTTP/1.0\r\n\r\n")
    text = b""
    while (item := await control.read(stream)) is not None:
        text += item[1]
    assert text.startswith(b"HTTP/1.1 200") and text.endswith(b"hello\n")
    _, result = await control.output({"kind": "port-forward", "pod": uid, "port": 9})
    assert "refused" in result["error"].lower()


async def test_containers_outlive_a_killed_agent_and_are_adopted(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    before = control.container(uid)
    control.host.kill_agent()
    control.statuses.clear()
    control.host.start_agent()
    hello = await control.connect()
    assert hello["node"] == "ant" and "pods" in hello["digests"]
    await control.running(uid)
    after = control.container(uid)
    assert after["containerID"] == before["containerID"]
    assert after["restartCount"] == 0 and after["ready"]
    text, result = await control.output(
        {"kind": "exec", "pod": uid, "container": "web", "command": shell("echo still; echo $$")}
    )
    assert text.startswith(b"still") and result == {"exitCode": 0}


async def test_an_exit_while_the_agent_was_dead_is_not_missed(control: Control) -> None:
    pod = make_pod(shell(f"{UNTIL_TOLD}; exit 3"))
    pod["spec"]["restartPolicy"] = "Never"
    uid = await control.run(pod)
    await control.running(uid)
    control.host.kill_agent()
    control.host.inside(["crun", "exec", f"{uid}_web_0", "/bin/sh", "-c", TELL])
    async with asyncio.timeout(TIMEOUT_S):
        while any(  # noqa: ASYNC110 - on the host
            f"{uid}_web_0 " in line and " running " in line
            for line in control.host.inside(["crun", "list"]).splitlines()
        ):
            await asyncio.sleep(0.1)
    control.host.start_agent()
    await control.connect()
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Failed")
    assert control.state(uid)["terminated"]["exitCode"] == 3


async def test_a_crashing_container_is_restarted_and_then_held_back(control: Control) -> None:
    uid = await control.run(make_pod(shell("echo try; exit 1")))
    await control.wait(lambda: control.state(uid).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    entry = control.container(uid)
    assert entry["restartCount"] == 1
    assert entry["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=web")
    assert entry["lastState"]["terminated"]["exitCode"] == 1
    text, _ = await control.output({"kind": "logs", "pod": uid, "container": "web", "previous": True})
    assert text == b"try\n"


async def test_readiness_follows_the_probe_and_liveness_restarts(control: Control) -> None:
    pod = make_pod(
        shell(f"{UNTIL_TOLD}; echo ok > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"),
        readinessProbe={
            "httpGet": {"path": "/index.html", "port": 8080},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        livenessProbe={
            "exec": {"command": shell("test ! -e /tmp/dead")},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    )  # fmt: skip
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    uid = await control.run(pod)
    await control.running(uid)
    assert not control.container(uid)["ready"]
    await control.do(uid, TELL)
    await control.wait(lambda: control.container(uid)["ready"])
    await control.do(uid, "echo x > /tmp/dead")
    await control.wait(lambda: control.container(uid)["restartCount"] == 1)
    await control.running(uid)
    await control.do(uid, TELL)
    await control.wait(lambda: control.container(uid)["ready"])
    assert any(event["reason"] == "Unhealthy" for event in control.events)


async def test_a_changed_config_map_reaches_the_mounted_file_in_one_swap(control: Control) -> None:
    control.config_maps["shop/flags"] = {"metadata": {"name": "flags"}, "data": {"color": "red"}}
    secret = {"metadata": {"name": "key"}, "data": {"token": base64.b64encode(b"s3cret").decode()}}
    control.secrets["shop/key"] = secret
    pod = make_pod(
        shell("while :; do cat /etc/flags/color; echo; busybox sleep 0.1; done"),
        env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}}],
        volumeMounts=[{"name": "flags", "mountPath": "/etc/flags"}, {"name": "key", "mountPath": "/key"}],
    )
    pod["spec"]["volumes"] = [
        {"name": "flags", "configMap": {"name": "flags"}},
        {"name": "key", "secret": {"secretName": "key", "defaultMode": 0o400}},
    ]
    uid = await control.run(pod)
    await control.running(uid)
    request = {
        "kind": "exec",
        "pod": uid,
        "container": "web",
        "command": shell("echo $TOKEN; cat /key/token"),
    }
    assert (await control.output(request))[0] == b"s3cret\ns3cret"
    control.config_maps["shop/flags"] = {"metadata": {"name": "flags"}, "data": {"color": "blue"}}
    await control.push()
    request = {"kind": "exec", "pod": uid, "container": "web", "command": shell("cat /etc/flags/color")}
    await control.until_output(request, lambda text: text == b"blue")
    assert control.container(uid)["restartCount"] == 0
    control.config_maps.clear()
    control.secrets.clear()


async def test_a_missing_config_map_is_named_and_healed_when_it_comes(control: Control) -> None:
    reference = {"configMapKeyRef": {"name": "absent", "key": "url"}}
    uid = await control.run(make_pod(shell(SLEEP), env=[{"name": "URL", "valueFrom": reference}]))
    await control.wait(
        lambda: control.state(uid).get("waiting", {}).get("reason") == "CreateContainerConfigError"
    )
    assert control.state(uid)["waiting"]["message"] == 'configmap "absent" not found'
    control.config_maps["shop/absent"] = {"metadata": {"name": "absent"}, "data": {"url": "x"}}
    await control.push()
    await control.running(uid)
    control.config_maps.clear()


async def test_an_image_that_does_not_exist_says_why(control: Control) -> None:
    uid = await control.run(make_pod(image=f"{REGISTRY}/nothing:9"))
    await control.wait(lambda: control.state(uid).get("waiting", {}).get("reason") == "ErrImagePull")
    message = control.state(uid)["waiting"]["message"]
    assert f"{REGISTRY}/nothing:9" in message and "unknown" in message
    assert control.statuses[uid]["phase"] == "Pending"


async def test_a_deleted_pod_gets_its_signal_and_leaves_nothing(control: Control) -> None:
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)
    stream = await control.stream({"kind": "logs", "pod": uid, "container": "web", "follow": True})
    assert await control.read(stream) == (1, b"up\n")
    await control.delete(uid, 3600)  # so what ends it is its signal, and not the end of its grace
    assert await control.read(stream) == (1, b"bye\n")
    await control.wait(lambda: uid in control.gone)
    assert not (control.host.root / "pods" / uid).exists()
    assert uid not in control.host.inside(["cat", "/proc/self/mountinfo"])
    assert uid not in control.host.inside(["crun", "list", "-q"])
    assert uid not in control.host.inside(["find", "/sys/fs/cgroup", "-path", "*gitkube*", "-type", "d"])
    await control.forget(uid)


async def test_a_pod_that_ignores_its_signal_is_killed_after_its_grace(control: Control) -> None:
    uid = await control.run(make_pod(shell("trap '' TERM; while :; do busybox sleep 0.1; done")))
    await control.running(uid)
    begun = time.monotonic()
    await control.delete(uid, 2)
    await control.wait(lambda: uid in control.gone)
    assert time.monotonic() - begun > 1.9
    await control.forget(uid)


async def test_limits_become_cgroups_and_too_much_memory_is_said(control: Control) -> None:
    limits = {"memory": "32Mi", "cpu": "500m"}
    uid = await control.run(make_pod(shell(SLEEP), resources={"limits": limits, "requests": limits}))
    await control.running(uid)
    path = f"/sys/fs/cgroup/memory/gitkube/{uid}/web/memory.limit_in_bytes"
    if os.path.exists("/sys/fs/cgroup/memory"):
        assert control.host.inside(["cat", path]).strip() == str(32 * 1024 * 1024)
    pod = make_pod(
        shell("x=0123456789abcdef; while :; do x=$x$x; done"),
        resources={"limits": {"memory": "16Mi"}},
    )
    pod["spec"]["restartPolicy"] = "Never"
    uid = await control.run(pod)
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Failed")
    assert control.state(uid)["terminated"]["reason"] == "OOMKilled"


async def test_init_containers_run_in_order_and_share_an_empty_dir(control: Control) -> None:
    pod = make_pod(shell("cat /work/log; busybox sleep 100"))
    mount = [{"name": "work", "mountPath": "/work"}]
    pod["spec"]["volumes"] = [{"name": "work", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = mount
    pod["spec"]["initContainers"] = [
        {"name": name, "image": IMAGE, "command": shell(f"echo {name} >> /work/log"), "volumeMounts": mount}
        for name in ("first", "second")
    ]
    uid = await control.run(pod)
    await control.running(uid)
    await control.says(uid, b"first\nsecond\n")
    inits = control.statuses[uid]["initContainerStatuses"]
    assert [entry["state"]["terminated"]["reason"] for entry in inits] == ["Completed", "Completed"]


async def test_the_containers_of_a_pod_share_its_network_and_hostname(control: Control) -> None:
    pod = make_pod(shell("echo shared > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"))
    pod["spec"]["containers"].append(
        {"name": "side", "image": IMAGE, "command": shell("exec busybox sleep 100"), "workingDir": "/tmp"}
    )
    uid = await control.run(pod)
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Running")
    script = "busybox hostname; busybox wget -qO- http://127.0.0.1:8080/index.html; busybox pwd"
    request = {"kind": "exec", "pod": uid, "container": "side", "command": shell(script)}
    text = await control.until_output(request, lambda text: b"shared" in text)
    assert text.decode().split() == [pod["metadata"]["name"], "shared", "/tmp"]
    request["command"] = shell("cat /etc/hosts /etc/resolv.conf /etc/hostname")
    text, _ = await control.output(request)
    address = control.statuses[uid]["podIP"]
    assert (
        f"{address}\t{pod['metadata']['name']}" in text.decode() and "nameserver 10.99.0.1" in text.decode()
    )


async def test_a_process_namespace_is_shared_when_asked_for(control: Control) -> None:
    pod = make_pod(shell("exec busybox sleep 4321"))
    pod["spec"]["shareProcessNamespace"] = True
    pod["spec"]["containers"].append({"name": "side", "image": IMAGE, "command": shell(SLEEP)})
    uid = await control.run(pod)
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Running")
    request = {"kind": "exec", "pod": uid, "container": "side", "command": shell("busybox ps")}
    # Until the shell has become what it starts.
    await control.until_output(request, lambda text: b"sleep 4321" in text)


async def test_users_come_from_the_spec_or_the_image(control: Control) -> None:
    pod = make_pod(shell("busybox id; exec busybox sleep 100"), securityContext={"runAsUser": 1234})
    uid = await control.run(pod)
    await control.running(uid)
    request = {"kind": "logs", "pod": uid, "container": "web"}
    text = await control.until_output(request, lambda text: text.endswith(b"\n"))
    assert b"uid=1234(web) gid=1235(web)" in text and b"77(extra)" in text


async def test_a_deposed_leader_is_refused(control: Control) -> None:
    await control.close()
    await control.connect(term=7)
    await control.push()
    await control.close()
    hello = await control.connect(term=6)
    assert hello["term"] == 7
    await control.wait(lambda: control._task.done())
    await control.connect(term=8)


async def test_a_new_connection_takes_the_place_of_the_old(control: Control) -> None:
    await control.running(await control.run(make_pod(shell(SLEEP))))  # so the old one is what counts
    old = control._task
    await control.connect()
    await control.wait(lambda: old.done())
    uid = await control.run(make_pod(shell(SLEEP)))
    await control.running(uid)


async def test_the_agent_stays_small(control: Control) -> None:
    for _ in range(5):
        uid = await control.run(make_pod(shell(SLEEP)))
        await control.running(uid)
    status = Path(f"/proc/{control.host.agent.pid}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    print(f"agent RSS: {resident_kb / 1024:.1f} MB")
    assert resident_kb < 40 * 1024


async def test_a_rebooted_host_starts_its_pods_again_by_itself(control: Control) -> None:
    pod = make_pod(shell(SLEEP))
    pod["spec"]["initContainers"] = [{"name": "first", "image": IMAGE, "command": shell("echo init")}]
    uid = await control.run(pod)
    await control.running(uid)
    await control.close()
    control.host.cut_power()
    control.statuses.clear()
    control.host.start_agent()
    async with asyncio.timeout(TIMEOUT_S):  # with nobody to tell the agent what to do
        while f"{uid}_web" not in control.host.inside(["crun", "list", "-q"]):  # noqa: ASYNC110 - there
            await asyncio.sleep(0.1)
    await control.connect()
    await control.wait(lambda: control.container(uid).get("restartCount") == 1)
    await control.running(uid)
    entry = control.container(uid)
    assert entry["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert control.statuses[uid]["podIP"].startswith("10.99.0.")
    assert control.statuses[uid]["initContainerStatuses"][0]["restartCount"] == 1


async def test_a_host_that_lost_its_disk_does_not_run_again_what_had_ended(control: Control) -> None:
    job = make_pod(shell("echo once"))
    job["spec"]["restartPolicy"] = "Never"
    uid = await control.run(job)
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Succeeded")
    await control.close()
    control.host.cut_power()
    for directory in ("pods", "desired"):
        shutil.rmtree(control.host.root / directory)
    control.statuses.clear()
    control.host.start_agent()
    assert (await control.connect())["digests"] == {}
    # The control side tells of an ended pod that it has ended.
    job["status"] = {"phase": "Succeeded"}
    beside = make_pod(shell(SLEEP))
    control._pods[uid] = job
    await control.running(await control.run(beside))
    assert control.statuses[uid]["phase"] == "Succeeded"
    assert "waiting" in control.state(uid)
    assert uid not in control.host.inside(["crun", "list", "-q"])
    assert not list((control.host.root / "pods" / uid).rglob("*.log"))


async def test_hooks_run_after_the_start_and_before_the_end(control: Control) -> None:
    pod = make_pod(
        shell("trap 'cat /tmp/said; exit 0' TERM; echo up; while :; do busybox sleep 0.1; done"),
        lifecycle={
            "postStart": {"exec": {"command": shell("echo started >> /tmp/said")}},
            "preStop": {"exec": {"command": shell("echo stopping >> /tmp/said")}},
        },
    )
    uid = await control.run(pod)
    await control.running(uid)
    request = {"kind": "exec", "pod": uid, "container": "web", "command": shell("cat /tmp/said")}
    await control.until_output(request, lambda text: text == b"started\n")
    stream = await control.stream({"kind": "logs", "pod": uid, "container": "web", "follow": True})
    assert await control.read(stream) == (1, b"up\n")
    await control.delete(uid, 60)
    said = b""
    while (item := await control.read(stream)) is not None:
        said += item[1]
    assert said == b"started\nstopping\n"
    await control.wait(lambda: uid in control.gone)


async def test_attach_joins_the_containers_own_streams(control: Control) -> None:
    uid = await control.run(make_pod(shell("while read line; do echo got $line; done"), stdin=True))
    await control.running(uid)
    stream = await control.stream({"kind": "attach", "pod": uid, "container": "web", "stdin": True})
    await asyncio.sleep(0.2)
    await stream.write(STDIN, b"a word\n")
    assert await control.read(stream) == (1, b"got a word\n")
    await stream.close({"exitCode": 0})


async def test_a_sub_path_shows_one_part_of_a_volume_and_never_more(control: Control) -> None:
    pod = make_pod(
        shell("cat /in; busybox ls /out; echo end; busybox sleep 100"),
        volumeMounts=[
            {"name": "work", "mountPath": "/in", "subPath": "deep/file"},
            {"name": "work", "mountPath": "/out", "subPath": "escape"},
        ],
    )
    pod["spec"]["volumes"] = [{"name": "work", "emptyDir": {"medium": "Memory"}}]
    script = (
        "busybox mkdir /w/deep; echo inside > /w/deep/real; "
        "busybox ln -s ../../../deep/real /w/deep/file; busybox ln -s ../../../../../etc /w/escape"
    )
    mount = [{"name": "work", "mountPath": "/w"}]
    pod["spec"]["initContainers"] = [
        {"name": "fill", "image": IMAGE, "command": shell(script), "volumeMounts": mount}
    ]
    uid = await control.run(pod)
    await control.running(uid)
    await control.says(uid, b"inside\nend\n")


async def test_an_unknown_program_is_a_start_error_with_its_cause(control: Control) -> None:
    pod = make_pod(["/bin/nothing-here"])
    pod["spec"]["restartPolicy"] = "Never"
    uid = await control.run(pod)
    await control.wait(lambda: control.statuses.get(uid, {}).get("phase") == "Failed")
    ended = control.state(uid)["terminated"]
    assert ended["reason"] == "StartError" and "nothing-here" in ended["message"] and ended["exitCode"] == 128


async def test_a_pod_on_the_hosts_network_has_the_hosts_address(control: Control) -> None:
    pod = make_pod(shell(SLEEP))
    pod["spec"]["hostNetwork"] = True
    uid = await control.run(pod)
    await control.running(uid)
    assert control.statuses[uid]["podIP"] == "192.0.2.7"


def test_a_host_with_hybrid_cgroups_is_refused_with_a_sentence(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not os.path.ismount("/sys/fs/cgroup/unified"):
        pytest.skip("this machine's cgroups are not hybrid")
    paths = ["--root", str(tmp_path / "lib"), "--run", str(tmp_path / "run")]
    agent = [sys.executable, "-m", "gitkube.node", "agent", *paths]
    result = subprocess.run(agent, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 1 and "systemd.unified_cgroup_hierarchy=1" in result.stderr
    link = [sys.executable, "-m", "gitkube.node", "link", *paths]
    result = subprocess.run(link, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 3 and "crun refuses containers there" in result.stderr
