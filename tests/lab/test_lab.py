"""A lab's hosts behave like machines: they boot, answer SSH, lose power, are cut off, and leave no trace."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitkube.fleet.inventory import load_inventory
from gitkube.lab.errors import LabError
from gitkube.lab.lab import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

SSH_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab")
    try:
        lab.up(hosts=3)
        yield lab
    finally:
        lab.down()


def ssh(lab: Lab, host: str, command: str, timeout_s: int = SSH_TIMEOUT_S) -> str:
    found = lab.layout().host(host)
    assert found is not None
    done = subprocess.run(
        [
            "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", "ConnectTimeout=20", "-o", f"UserKnownHostsFile={lab.known_hosts}",
            "-i", str(lab.identity_file),
            f"root@{found.address}", command,
        ],
        capture_output=True, text=True, timeout=timeout_s, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def ping(lab: Lab, source: str, target: str) -> bool:
    address = lab.layout().host(target)
    assert address is not None
    return lab.exec(source, ["ping", "-c", "1", "-W", "5", address.address]).returncode == 0


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that the machine's PID 1 has yet to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_each_host_answers_ssh_under_its_own_name_and_key(lab: Lab) -> None:
    assert [ssh(lab, host, "hostname") for host in ("ant", "bee", "cow")] == ["ant", "bee", "cow"]


def test_a_command_over_ssh_starts_with_nothing_of_the_persons_own_shell(lab: Lab) -> None:
    assert ssh(lab, "ant", "cat /root/.bashrc") == ""


def test_a_host_sees_only_its_own_processes_and_control_groups(lab: Lab) -> None:
    processes = ssh(lab, "ant", "ls -d /proc/[0-9]*").split()
    assert len(processes) < 10
    groups = ssh(lab, "ant", "cat /proc/self/cgroup").splitlines()
    assert groups
    assert all(line.endswith((":/", "/init")) for line in groups)


def test_hosts_of_different_networks_reach_each_other_through_the_router(lab: Lab) -> None:
    layout = lab.layout()
    assert {host.gateway.rsplit(".", 1)[0] for host in layout.hosts} == {
        gateway.rsplit(".", 1)[0] for _, gateway, _ in layout.subnets
    }
    assert ping(lab, "ant", "bee")
    assert ping(lab, "bee", "cow")


def test_hosts_know_one_another_and_the_registry_by_name(lab: Lab) -> None:
    assert ssh(lab, "cow", "getent hosts bee").split()[0] == lab.status().hosts[1].address
    asked = ssh(
        lab,
        "cow",
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://registry.lab:5000/v2/\").status)'",
    )
    assert asked == "200"


def test_the_inventory_is_one_that_the_control_plane_reads(lab: Lab) -> None:
    inventory = load_inventory(lab.inventory())
    assert list(inventory.hosts) == ["ant", "bee", "cow"]
    zones = [host.labels["topology.kubernetes.io/zone"] for host in inventory.hosts.values()]
    assert zones == ["a", "b", "a"]
    assert all(host.host_keys for host in inventory.hosts.values())


def test_a_cut_host_is_alone_until_it_is_joined(lab: Lab) -> None:
    lab.cut("bee")
    try:
        assert lab.status().hosts[1].state == "cut"
        assert not ping(lab, "ant", "bee")
    finally:
        lab.join("bee")
    assert lab.status().hosts[1].state == "on"
    # A neighbour that did not answer is asked for again after a moment only.
    deadline = time.monotonic() + 60
    while not ping(lab, "ant", "bee"):
        assert time.monotonic() < deadline, "a joined host is not reached"


def test_a_killed_host_comes_back_with_its_disk_and_without_its_memory(lab: Lab) -> None:
    before = ssh(
        lab, "cow",
        "echo kept > /var/lib/gitkube/file; echo kept > /etc/changed; echo lost > /run/file;"
        " ip link add dummy1 type bridge; cat /proc/sys/kernel/random/boot_id",
    )  # fmt: skip
    pid = lab.status().hosts[2].pid
    lab.kill("cow")
    assert lab.status().hosts[2].state == "off"
    assert pid is not None
    assert has_ended(pid)
    with pytest.raises(LabError, match="host cow is off"):
        lab.exec("cow", ["true"])
    lab.start("cow")
    after = ssh(
        lab,
        "cow",
        "cat /var/lib/gitkube/file /etc/changed; ls /run; ip -br link; cat /proc/sys/kernel/random/boot_id",
    )
    assert after.splitlines()[:2] == ["kept", "kept"]
    assert "file" not in after.splitlines()[2:]
    assert "dummy1" not in after
    assert before not in after


def test_a_booting_host_starts_what_is_to_start_at_boot_and_reaps_orphans(lab: Lab) -> None:
    ssh(
        lab, "ant",
        "mkdir -p /var/lib/gitkube/bin; cd /var/lib/gitkube/bin;"
        " printf '#!/bin/sh\\n(sleep 0.05 &)\\ntouch /run/started\\n' > start; chmod 755 start",
    )  # fmt: skip
    lab.kill("ant")
    lab.start("ant")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = ssh(lab, "ant", "ls /run; ps -eo stat,comm")
        if "started" in seen and "sleep" not in seen:
            break
        time.sleep(0.1)
    assert "started" in seen
    assert not [line for line in seen.splitlines() if line.startswith("Z")]


def test_a_second_up_finds_everything_in_place(lab: Lab) -> None:
    pids = [host.pid for host in lab.status().hosts]
    again = Lab(lab.directory).up()
    assert [host.pid for host in again.hosts] == pids


def test_a_lab_is_not_made_smaller(lab: Lab) -> None:
    with pytest.raises(LabError, match="not made smaller"):
        lab.up(hosts=2)


def test_two_labs_live_side_by_side_and_down_leaves_nothing_behind(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    mark = other.up(hosts=1).machine_address
    assert mark != lab.status().machine_address
    assert ssh(other, "ant", "hostname") == "ant"
    pid = other.status().hosts[0].pid
    layout_mark = other.layout().mark
    assert other.down()
    assert not other.directory.exists()
    assert pid is not None
    assert has_ended(pid)
    assert not list(Path("/run/netns").glob(f"*{layout_mark}*"))
    assert layout_mark not in subprocess.check_output(["ip", "link"], text=True)
    assert str(other.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/gitkube-lab-{layout_mark}"))
    assert not other.down()
    assert ssh(lab, "ant", "hostname") == "ant"


def test_images_are_pushed_once(lab: Lab, tmp_path: Path) -> None:
    layout = tmp_path / "image"
    subprocess.run(["umoci", "init", "--layout", str(layout)], check=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:1"], check=True)
    assert lab.push_images({"empty:1": layout}) == ["empty:1"]
    assert lab.push_images({"empty:1": layout}) == []
