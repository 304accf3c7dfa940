"""A new agent that cannot be reached is taken back by the host itself; with and without systemd."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from gitkube.fleet import ssh
from gitkube.fleet.agent_package import AgentPackage
from gitkube.fleet.dialer import SshDialer
from gitkube.fleet.errors import LinkLost, PrepareError
from gitkube.fleet.prepare import modules
from gitkube.lab.lab import Lab
from tests.support.prepared_host import BIN, SETTINGS, PreparedHost
from tests.support.stand_in_agent import stand_in

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

OLD, NEW = stand_in("1"), stand_in("2")
MUTE, CRASHING = stand_in("3", "mute"), stand_in("4", "crash")
PATIENT = replace(SETTINGS, hello_timeout_s=30)
"""For agents that greet, however busy the machine is."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("trial") / "lab")
    try:
        lab.up(hosts=1)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> Iterator[PreparedHost]:
    host = PreparedHost(lab, tmp_path)
    host.clean()
    yield host
    host.clean()


@pytest.fixture(params=["systemd", "no systemd"])
def either(host: PreparedHost, request: pytest.FixtureRequest) -> PreparedHost:
    if request.param == "systemd":
        host.has_pretend_systemd()
    return host


async def dial(host: PreparedHost, package: AgentPackage) -> None:
    """As the control side does it, up to an agent that has greeted."""
    settings = SETTINGS if package.digest in {MUTE.digest, CRASHING.digest} else PATIENT
    dialer = SshDialer(host.data_dir, rng=Random(1), settings=settings, package=package)
    session = await dialer.dial(host.host, restart=False, on_progress=lambda sentence: None)
    await session.close()


async def mute_on(host: PreparedHost, package: AgentPackage = MUTE) -> None:
    """Dial with an agent that says nothing. It is seen to run; how long it still does so is not said."""
    dialing = asyncio.ensure_future(dial(host, package))
    try:
        while not dialing.done():
            if await asyncio.to_thread(host.running) == [package.name]:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail(f"the mute agent was not seen to run: {dialing.exception()!r}")
        with pytest.raises(LinkLost, match="said nothing"):
            await dialing
    finally:
        dialing.cancel()
        await asyncio.gather(dialing, return_exceptions=True)


async def until(check: Callable[[], Any], timeout_s: float = 120) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110 - what is waited for happens on the host
            await asyncio.sleep(0.1)


async def test_a_new_agent_that_greets_over_a_new_connection_stays(
    either: PreparedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []

    async def counted(*arguments: Any) -> Any:
        connections.append(await real(*arguments))
        return connections[-1]

    real = ssh.connect
    monkeypatch.setattr(ssh, "connect", counted)
    await dial(either, OLD)
    assert len(connections) == 1, "there is nothing to go back to from the first agent"
    with capture_logs() as logs:
        await dial(either, NEW)
    assert len(connections) == 3
    assert [line["agent"] for line in logs if line["event"] == "agent_confirmed"] == [NEW.digest[:12]]
    assert "trial" not in either.files()
    await asyncio.sleep(PATIENT.trial_s + 1)
    assert (either.current(), either.running()) == (NEW.name, [NEW.name])


async def test_a_new_agent_that_says_nothing_is_taken_back_by_the_host_alone(either: PreparedHost) -> None:
    await dial(either, OLD)
    await mute_on(either)
    await until(lambda: either.running() == [OLD.name])
    assert either.current() == OLD.name
    with capture_logs() as logs:
        await dial(either, MUTE)
    (line,) = [line for line in logs if line["event"] == "host_prepared"]
    assert line["did"] == [
        f"kept {OLD.name}: {MUTE.name} was not reached over a new connection and was put back"
    ]
    assert either.running() == [OLD.name]


async def test_another_agent_than_the_refused_one_gets_its_chance_at_once(host: PreparedHost) -> None:
    await dial(host, OLD)
    with pytest.raises(LinkLost):
        await dial(host, MUTE)
    await dial(host, NEW)
    await asyncio.sleep(PATIENT.trial_s + 1)
    assert host.running() == [NEW.name]


async def test_an_agent_on_trial_is_never_what_a_later_one_goes_back_to(host: PreparedHost) -> None:
    await dial(host, OLD)
    with pytest.raises(LinkLost):
        await dial(host, MUTE)
    with pytest.raises(LinkLost):
        await dial(host, stand_in("5", "mute"))
    await until(lambda: host.running() == [OLD.name])


async def test_with_nothing_to_go_back_to_the_new_agent_is_kept(host: PreparedHost) -> None:
    await dial(host, OLD)
    removing = asyncio.ensure_future(remove_when_another_is_on_trial(host, OLD))
    with pytest.raises(LinkLost):
        await dial(host, MUTE)
    await removing
    await until(lambda: "trial" not in host.files())
    assert (host.current(), host.running()) == (MUTE.name, [MUTE.name])
    await dial(host, NEW)


async def remove_when_another_is_on_trial(host: PreparedHost, package: AgentPackage) -> None:
    """As early as can be: when the trial is over, it is too late."""
    async with asyncio.timeout(120):
        while "trial" not in await asyncio.to_thread(host.files):  # noqa: ASYNC110 - on the host
            await asyncio.sleep(0.05)
    await asyncio.to_thread(host.on, "rm", f"{BIN}/{package.name}")


async def test_an_agent_that_does_not_start_is_put_back_at_once(
    either: PreparedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dial(either, OLD)
    quick = tuple(
        (name, text.replace("START_TIMEOUT_S = 15.0", "START_TIMEOUT_S = 1.0")) for name, text in modules()
    )
    monkeypatch.setattr("gitkube.fleet.prepare.modules", lambda: quick)
    monkeypatch.setattr("tests.support.prepared_host.SETTINGS", replace(SETTINGS, trial_s=300))
    with pytest.raises(PrepareError, match=r"does not listen .* The agent before it is put back"):
        await either.prepare(CRASHING)
    await until(lambda: either.running() == [OLD.name])
    assert "trial" not in either.files()


async def test_a_trial_goes_on_after_a_power_cut(host: PreparedHost) -> None:
    await dial(host, OLD)
    with pytest.raises(LinkLost):
        await dial(host, MUTE)
    host.lab.kill("ant")
    host.lab.start("ant")
    await until(lambda: host.running() == [MUTE.name])
    await until(lambda: host.running() == [OLD.name])
    assert host.files() >= {"refused", OLD.name}


async def test_under_systemd_a_unit_runs_the_agent_and_is_written_once(
    host: PreparedHost,
) -> None:
    host.has_pretend_systemd()
    done = await host.prepare(OLD)
    assert done.facts["systemd"] and "wrote /etc/systemd/system/gitkube-node.service" in done.did
    calls = host.on("cat", "/tmp/systemd/calls").splitlines()
    assert [call.split()[1] for call in calls if "manage" not in call] == [
        "daemon-reload",
        "enable",
        "restart",
    ]
    assert host.running() == [OLD.name]
    assert (await host.prepare(OLD)).did == ()
    assert host.on("stat", "-c", "%a", "/etc/systemd/system/gitkube-node.service") == "644\n"
    host.on("pkill", "-9", "-f", "pyz agent")
    await until(lambda: host.running() == [OLD.name])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
async def test_systemd_itself_finds_nothing_wrong_with_the_unit(host: PreparedHost) -> None:
    host.has_pretend_systemd()
    await host.prepare(OLD)
    done = host.lab.exec("ant", ["systemd-analyze", "verify", "/etc/systemd/system/gitkube-node.service"])
    said = [line for line in (done.stdout + done.stderr).splitlines() if "gitkube" in line]
    assert (done.returncode, said) == (0, [])


async def test_a_systemctl_that_fails_is_quoted(host: PreparedHost) -> None:
    host.has_pretend_systemd()
    host.on("sed", "-i", "s/refused/daemon-reload/", "/usr/local/sbin/systemctl")
    with pytest.raises(PrepareError, match=r"systemctl daemon-reload failed on the host: Failed to connect"):
        await host.prepare(OLD)
    host.on("sed", "-i", "s/daemon-reload/refused/", "/usr/local/sbin/systemctl")
    await host.prepare(OLD)
    assert host.running() == [OLD.name]
    assert "gitkube-node" in host.on("ls", "/etc/systemd/system/multi-user.target.wants")
    assert host.on("sh", "-n", f"{BIN}/start") == ""
