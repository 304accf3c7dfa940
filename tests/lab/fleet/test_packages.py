"""Missing programs on a host: brought by apt, or told why not so that a person can act."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.clock import SystemClock
from gitkube.fleet.dialer import SshDialer
from gitkube.fleet.errors import PrepareError
from gitkube.fleet.link import HostLink
from gitkube.lab.lab import Lab
from tests.support.prepared_host import SETTINGS, PreparedHost
from tests.support.stand_in_agent import stand_in

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the hosts have no apt, as this machine"),
]

LOCKED = """\
E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4242 (unattended-upgr)
E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?
"""
UNKNOWN = "E: Unable to locate package crun\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("packages") / "lab")
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
    host.on("sh", "-c", "cp -n /tmp/apt/kept/* /usr/bin/", check=False)
    host.clean()


async def test_a_missing_program_is_installed_and_the_host_gets_ready(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    told: list[str] = []
    done = await host.prepare(stand_in("1"), on_progress=told.append)
    assert done.did[0] == "installed crun" and "installing crun" in told
    (call,) = host.apt_calls()
    assert call.endswith("--no-install-recommends install -- crun") and "--force-confold" in call
    assert (await host.prepare(stand_in("1"))).did == ()


async def test_old_package_lists_are_refreshed_once(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    host.apt_says(1, UNKNOWN)
    done = await host.prepare(stand_in("1"))
    assert "installed crun" in done.did
    assert [call.split()[-1] for call in host.apt_calls()] == ["crun", "update", "crun"]


async def test_a_package_that_no_source_has_is_named(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    host.apt_says(1, UNKNOWN)
    host.apt_says(3, UNKNOWN)
    with pytest.raises(PrepareError, match=r"package sources of the host .* have no crun"):
        await host.prepare(stand_in("1"))


async def test_a_mirror_out_of_reach_is_not_told_as_a_package_that_does_not_exist(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    host.apt_says(1, UNKNOWN)
    host.apt_says(2, "W: Failed to fetch http://mirror/InRelease  Temporary failure resolving 'mirror'\n")
    host.apt_says(3, UNKNOWN)
    with pytest.raises(PrepareError, match=r"does not reach its package mirror.*Temporary failure"):
        await host.prepare(stand_in("1"))


async def test_an_installation_that_brings_no_program_is_not_believed(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    host.on(
        "sh", "-c", "mkdir /tmp/apt/away && mv /tmp/apt/kept/crun /tmp/apt/away/ && touch /tmp/apt/kept/x"
    )
    try:
        with pytest.raises(PrepareError, match=r"has crun installed.*apt-get install --reinstall crun"):
            await host.prepare(stand_in("1"))
    finally:
        host.on("mv", "/tmp/apt/away/crun", "/tmp/apt/kept/crun")


async def test_another_package_manager_is_waited_for_with_growing_pauses(host: PreparedHost) -> None:
    host.has_pretend_apt("crun")
    for call in (1, 2):
        host.apt_says(call, LOCKED)
    states: list[tuple[str, str]] = []

    class Watching:
        async def linked(self, link: HostLink, hello: wire.Hello) -> None: ...

        async def heard(self, link: HostLink, message: dict[str, Any]) -> None: ...

        def state_changed(self, link: HostLink) -> None:
            states.append((link.state.phase, link.state.sentence))

    rng = Random(1)
    settings = replace(SETTINGS, hello_timeout_s=30)
    dialer = SshDialer(host.data_dir, rng=rng, settings=settings, package=stand_in("1"))
    link = HostLink(
        host.host, dialer=dialer, observer=Watching(), term=1, clock=SystemClock(), rng=rng, settings=settings
    )
    task = asyncio.ensure_future(link.run())
    try:
        async with asyncio.timeout(120):
            while not link.state.is_up:  # noqa: ASYNC110 - what is waited for happens on the host
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    waits = [sentence for phase, sentence in states if phase == "waiting"]
    assert len(waits) == 2
    assert "another package manager (process 4242, unattended-upgr) is at work" in waits[0]
    assert [call.split()[-1] for call in host.apt_calls()] == ["crun"] * 3, "lists need no refresh for a lock"


async def test_the_real_apt_is_understood_when_its_lock_is_held(host: PreparedHost) -> None:
    host.on("mkdir", "-p", "/tmp/apt/kept")
    host.on("mv", "/usr/bin/crun", "/tmp/apt/kept/")
    # dpkg's lock is one that a child does not inherit, so it is taken after the fork.
    hold = """
import fcntl, os, time
if os.fork() == 0:
    file = open("/var/lib/dpkg/lock-frontend", "w")
    fcntl.lockf(file, fcntl.LOCK_EX)
    for number in (0, 1, 2):
        os.close(number)
    time.sleep(600)
"""
    host.on("python3", "-c", hold)
    expected = r"another package manager .*holds /var/lib/dpkg/lock-frontend;"
    try:
        with pytest.raises(PrepareError, match=expected):
            await host.prepare(stand_in("1"))
    finally:
        host.on("pkill", "-f", "lock-frontend")


async def test_the_real_apt_is_understood_on_a_host_without_a_way_out(host: PreparedHost) -> None:
    host.on("mkdir", "-p", "/tmp/apt/kept")
    host.on("cp", "/usr/bin/crun", "/tmp/apt/kept/")
    host.on("dpkg", "--force-depends", "--purge", "crun")
    host.on("apt-get", "clean")
    with pytest.raises(PrepareError, match=r"the host does not reach its package mirror, so crun cannot"):
        await host.prepare(stand_in("1"))
