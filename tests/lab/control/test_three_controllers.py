"""Three controllers: one dies, two die, one is frozen; a push, its pods and their logs don't mind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from typing import Any

import pytest

from gitkube import wire
from tests.lab.control.conftest import ThreeControllers
from tests.support.demo_cluster import TIMEOUT_S, restarts, until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

TAKEN = (" created", "already exists")
SETTINGS = (
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: hello}}\ndata: {{v: '{value}'}}\n"
)


def settings(site: ThreeControllers, name: str, value: str) -> str:
    """Commit a ConfigMap; the commit."""
    site.write(f"apps/hello/{name}.yaml", SETTINGS.format(name=name, value=value))
    site.commit(f"{name} = {value}")
    return site.git("rev-parse", "HEAD")


def deployed(site: ThreeControllers, name: str, value: str, context: str) -> bool:
    found = site.kubectl(
        "get", "configmap", name, "-n", "hello", "-o", "jsonpath={.data.v}", check=False, context=context
    )
    return found == value


def running(site: ThreeControllers, context: str) -> dict[str, int]:
    """Each pod of the sample with its restarts."""
    listed = site.kubectl("get", "pods", "-n", "hello", "-o", "json", context=context)
    return restarts(json.loads(listed)["items"])


def test_a_push_to_any_controller_deploys_and_reaches_every_repository(site: ThreeControllers) -> None:
    follower = site.others(site.leader())[0]
    commit = settings(site, "anywhere", "1")
    said = site.push(remote=follower)
    assert "healthy" in said and "plan     + ConfigMap hello/anywhere" in said
    for name in site.names:
        until(lambda name=name: tip(site, name) == commit, what=f"{name} has the commit")
    site.write("apps/hello/anywhere.yaml", "nonsense: true\n")
    site.commit("broken")
    refused = site.push(remote=follower)
    assert "refused  nothing was changed" in refused and "kind is missing" in refused
    site.git("reset", "--hard", "--quiet", "HEAD~1")


def tip(site: ThreeControllers, name: str) -> str:
    repository = site.controller(name).repository
    command = ["git", f"--git-dir={repository}", "rev-parse", "main"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_logs_and_exec_work_from_every_controller(site: ThreeControllers) -> None:
    pod = site.pods("guestbook", "app=redis")[0]["metadata"]["name"]
    for name in site.names:
        ran = site.kubectl("exec", "-n", "guestbook", pod, "--", "echo", "from", name, context=name)
        assert ran == f"from {name}\n"
        assert site.kubectl("logs", "-n", "guestbook", pod, "--tail=1", context=name)
        refused = site.kubectl("exec", "-n", "guestbook", pod, "--", "false", check=False, context=name)
        assert "exit code 1" in refused


@pytest.mark.parametrize("moment", ["plan", "healthy"])
def test_a_leader_killed_during_a_push_loses_nothing_and_the_push_is_finished(
    site: ThreeControllers, moment: str
) -> None:
    leader = site.leader()
    witness = site.others(leader)[0]
    before = running(site, witness)
    commit = settings(site, f"killed-{moment}", "1")
    push = site.start_push(leader)
    assert push.stdout is not None
    said = ""
    for line in push.stdout:
        said += line
        if moment in line:
            break
    site.lab.kill(leader)
    said += push.communicate(timeout=TIMEOUT_S)[0]
    was_accepted = "-> main\n" in said and "rejected" not in said
    if was_accepted:  # then it is everybody's, and nobody has to push it again
        until(lambda: deployed(site, f"killed-{moment}", "1", witness), what="the next leader deploys it")
    else:
        assert "unknown  the control plane went away" in said or "refused  nothing was changed" in said
        until(
            lambda: "Everything up-to-date" in (again := site.push(remote=witness)) or "healthy" in again,
            what="the push is taken, once somebody leads again",
        )
        until(lambda: deployed(site, f"killed-{moment}", "1", witness), what="it is deployed")
    assert site.leader() != leader
    assert running(site, witness) == before, "no pod was touched"
    site.heal()
    until(lambda: tip(site, leader) == commit, what="the dead one has it, too, when it is back")


def test_the_loops_start_again_within_seconds_of_a_leaders_death(site: ThreeControllers) -> None:
    leader = site.leader()
    witness = site.others(leader)[0]
    site.lab.kill(leader)
    create = ("create", "deployment", "after", "--image=registry.lab:5000/busybox:1", "-n", "hello",
              "--replicas=2", "--", "sleep", "1000")  # fmt: skip
    until(
        lambda: any(word in site.kubectl(*create, check=False, context=witness) for word in TAKEN),
        what="a write is taken",
    )
    listed = until(
        lambda: [
            pod
            for pod in json.loads(
                site.kubectl("get", "pods", "-n", "hello", "-l", "app=after", "-o", "json", context=witness)
            )["items"]
            if pod["spec"].get("nodeName")
        ],
        what="somebody makes pods of it and schedules them",
    )
    assert listed
    site.kubectl("delete", "deployment", "after", "-n", "hello", context=witness)


def test_with_one_of_three_left_reads_go_on_and_writes_say_why_not(site: ThreeControllers) -> None:
    last, *lost = site.names
    before = running(site, last)
    for name in lost:
        site.lab.kill(name)
    until(lambda: "there is no leader" in site.store("status"), what="the last one knows that it is alone")
    cached = site.kubectl("get", "--raw", "/api/v1/namespaces/hello/pods?resourceVersion=0", context=last)
    assert {item["metadata"]["uid"] for item in json.loads(cached)["items"]} == set(before)
    refused = site.kubectl("create", "configmap", "x", "-n", "hello", check=False, context=last)
    assert "the store has no quorum: 1 of 3 members" in refused and "Start the others" in refused
    site.lab.start(lost[0])
    site.leader()
    create = ("create", "configmap", "x", "-n", "hello")
    until(
        lambda: any(word in site.kubectl(*create, check=False, context=last) for word in TAKEN),
        what="a write is taken again",
    )
    assert running(site, last) == before
    site.kubectl("delete", "configmap", "x", "-n", "hello", context=last)


def test_a_frozen_leader_wakes_up_deposed_and_hosts_refuse_it(site: ThreeControllers) -> None:
    leader = site.leader()
    witness = site.others(leader)[0]
    before, old_term = running(site, witness), obeyed(site, "ant")
    losses = site.log(leader).count("leadership_lost")
    group = site.controller(leader).pid
    os.killpg(group, signal.SIGSTOP)
    try:
        until(lambda: obeyed(site, "ant") > old_term, what="the hosts follow another leader")
        until(lambda: any(map(site.leads, site.others(leader))), what="another one leads")
        new_term = obeyed(site, "ant")
    finally:
        os.killpg(group, signal.SIGCONT)
    until(lambda: site.log(leader).count("leadership_lost") > losses, what="the old one stops")
    refusal = asyncio.run(order_of(site, "ant", old_term))
    assert refusal == "closed", "an order with the old term is refused"
    # On a machine without time for it the new leader may be followed by one more.
    assert obeyed(site, "ant") >= new_term > old_term
    assert running(site, witness) == before


def test_a_leader_that_is_cut_off_stops_acting_and_comes_back_as_a_follower(site: ThreeControllers) -> None:
    leader = site.leader()
    witness = site.others(leader)[0]
    before, losses = running(site, witness), site.log(leader).count("leadership_lost")
    site.lab.cut(leader)
    try:
        until(lambda: any(map(site.leads, site.others(leader))), what="another one leads")
        commit = settings(site, "cut-off", "1")
        until(
            lambda: "healthy" in site.push(remote=witness), what="the push is taken, once it leads or follows"
        )
        until(lambda: site.log(leader).count("leadership_lost") > losses, what="the one cut off stops")
        assert not site.leads(leader)
    finally:
        site.lab.join(leader)
    until(lambda: tip(site, leader) == commit, what="it has what was pushed meanwhile")
    until(lambda: site.store("check").count("agrees") == 3, what="all members agree")
    assert running(site, witness) == before, "no pod was touched"


def obeyed(site: ThreeControllers, host: str) -> int:
    """The highest term that a host has heard."""
    return int(json.loads(site.lab.exec(host, ["cat", "/var/lib/gitkube/term"]).stdout)["term"])


async def order_of(site: ThreeControllers, host: str, term: int) -> str:
    """Greet a host's agent as a leader of some term would: "closed" when it hangs up."""
    process = await asyncio.create_subprocess_exec(
        *site.lab.exec_argv(host, ["/var/lib/gitkube/bin/gitkube-node", "link"]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None

    class Pipes:
        async def read(self) -> bytes:
            return await process.stdout.read(65536)  # type: ignore[union-attr]

        async def write(self, data: bytes) -> None:
            process.stdin.write(data)  # type: ignore[union-attr]
            await process.stdin.drain()  # type: ignore[union-attr]

        async def close(self) -> None:
            process.stdin.close()  # type: ignore[union-attr]

    greeted = asyncio.Event()

    async def on_message(message: dict[str, Any]) -> None:
        if message.get("type") == "hello":
            await connection.send(wire.Welcome(type="welcome", node=host, term=term))
        else:
            greeted.set()

    connection = wire.Connection(Pipes(), is_opener=True, on_message=on_message)
    running_ = asyncio.ensure_future(connection.run())
    try:
        async with asyncio.timeout(60):
            welcomed = asyncio.ensure_future(greeted.wait())
            await asyncio.wait({running_, welcomed}, return_when=asyncio.FIRST_COMPLETED)
            return "obeyed" if welcomed.done() else "closed"
    finally:
        running_.cancel()
        await asyncio.gather(running_, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):  # it ended when it was hung up on
            process.kill()
        await process.wait()


def test_a_controller_that_lost_its_disk_joins_again_as_a_new_one(site: ThreeControllers) -> None:
    import shutil

    leader = site.leader()
    lost = site.others(leader)[0]
    controller, sponsor = site.controller(lost), str(site.controller(leader).data_dir)
    site.lab.kill(lost)
    shutil.rmtree(controller.directory)
    removed = site.store("remove", lost, "--yes", data_dir=sponsor)
    assert "is removed" in removed, removed
    site.lab.start(lost)
    until(
        lambda: [one["role"] for one in members(site, sponsor) if one["name"] == lost] == ["voter"],
        what=f"{lost} is a voter again",
    )
    until(lambda: tip(site, lost) == tip(site, leader), what="and has the repository")
    until(lambda: site.store("check", data_dir=sponsor).count("agrees") == 3, what="all members agree")


def members(site: ThreeControllers, data_dir: str) -> list[dict[str, Any]]:
    """None that are known while the store has no leader."""
    said = site.store("members", "--output", "json", data_dir=data_dir)
    found: list[dict[str, Any]] = json.loads(said) if said.startswith("[") else []
    return found
