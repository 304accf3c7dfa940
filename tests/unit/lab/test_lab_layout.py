"""What a lab decides before it touches anything: names, addresses, texts, which mounts it needs."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from gitkube.fleet.inventory import load_inventory
from gitkube.lab.cgroups import Hierarchy, read_mounts
from gitkube.lab.files import etc_files, inventory_text, known_hosts_text, needs_tmpfs
from gitkube.lab.layout import MAX_BLOCKS, MAX_HOSTS, plan_lab

LAB = plan_lab(Path("/srv/lab"), 0, 3)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def test_the_first_lab_has_the_well_known_addresses() -> None:
    assert (LAB.machine_address, LAB.router_address, LAB.registry) == (
        "10.66.0.1",
        "10.66.0.2",
        "10.66.0.1:5000",
    )
    assert [(host.name, host.address, host.zone) for host in LAB.hosts] == [
        ("ant", "10.66.1.11", "a"),
        ("bee", "10.66.2.12", "b"),
        ("cow", "10.66.1.13", "a"),
    ]


def test_no_two_labs_or_hosts_share_a_network_or_a_name() -> None:
    labs = [plan_lab(Path(f"/srv/{block}"), block, MAX_HOSTS) for block in range(MAX_BLOCKS)]
    addresses = [host.address for lab in labs for host in lab.hosts]
    addresses += [lab.machine_address for lab in labs] + [lab.router_address for lab in labs]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.66.0.0/16") for address in addresses)
    names = [host.namespace for lab in labs for host in lab.hosts]
    assert len(set(names)) == len(names)
    assert len({host.hardware_address for lab in labs for host in lab.hosts}) == len(names)


def test_controllers_live_on_a_network_of_their_own() -> None:
    lab = plan_lab(Path("/srv/lab"), 1, 3, 3)
    assert [(one.name, one.address, one.url, one.peer) for one in lab.controllers][:2] == [
        ("ctl-1", "10.66.7.11", "https://10.66.7.11:6443", "10.66.7.11:2380"),
        ("ctl-2", "10.66.7.12", "https://10.66.7.12:6443", "10.66.7.12:2380"),
    ]
    assert lab.control_subnet[2] not in [subnet for _, _, subnet in lab.subnets]
    places = [*lab.hosts, *lab.controllers]
    assert len({one.hardware_address for one in places}) == len({one.namespace for one in places}) == 6
    bridges = [bridge for bridge, _, _ in (*lab.subnets, lab.control_subnet)]
    of_bridges = {lab.bridge_hardware_address(bridge) for bridge in bridges}
    assert len(of_bridges) == 3 and not of_bridges & {one.hardware_address for one in places}
    assert lab.controller("ctl-3") is not None and lab.controller("ctl-4") is None
    assert plan_lab(Path("/srv/lab"), 1, 3).controllers == (), "a lone one is none of the lab's"


@pytest.mark.parametrize("controllers", [0, 6])
def test_more_controllers_than_there_is_room_for_are_refused(controllers: int) -> None:
    with pytest.raises(ValueError, match="controllers"):
        plan_lab(Path("/srv/lab"), 0, 3, controllers)


def test_names_of_links_fit_into_the_kernels_fifteen_characters() -> None:
    lab = plan_lab(Path("/srv/lab"), 63, MAX_HOSTS)
    names = [lab.machine_link, *itertools.chain.from_iterable((host.port, host.bridge) for host in lab.hosts)]
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize(("block", "hosts"), [(0, 0), (0, MAX_HOSTS + 1), (-1, 3), (MAX_BLOCKS, 3)])
def test_a_lab_that_has_no_room_is_refused(block: int, hosts: int) -> None:
    with pytest.raises(ValueError):
        plan_lab(Path("/srv/lab"), block, hosts)


def test_the_inventory_is_read_by_the_control_plane_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        inventory_text(LAB, {host.name: KEY for host in LAB.hosts}, Path("/srv/lab/ssh/id_ed25519"))
    )
    hosts = load_inventory(path).hosts
    assert [host.address for host in hosts.values()] == ["10.66.1.11", "10.66.2.12", "10.66.1.13"]
    assert hosts["bee"].labels == {"topology.kubernetes.io/zone": "b"}
    assert [str(key) for key in hosts["ant"].host_keys] == [KEY]


def test_a_host_knows_its_neighbours_and_the_registry() -> None:
    files = etc_files(LAB, LAB.hosts[0])
    assert "10.66.2.12 bee\n" in files["hosts"]
    assert "10.66.0.1 registry.lab\n" in files["hosts"]
    assert 'location = "registry.lab:5000"\ninsecure = true' in files["containers/registries.conf"]
    assert files["machine-id"] != etc_files(LAB, LAB.hosts[1])["machine-id"]
    assert known_hosts_text(LAB, {host.name: KEY for host in LAB.hosts}).startswith(f"ant,10.66.1.11 {KEY}\n")


ROOT = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([ROOT], True),  # the upper layer would lie inside its lower one
        ([ROOT, "23 22 254:1 / /srv rw - ext4 /dev/vdb rw"], False),
        ([ROOT, "23 22 0:40 / /srv rw - tmpfs tmpfs rw"], False),
        ([ROOT, "23 22 0:41 / /srv rw - overlay overlay rw"], True),
        ([ROOT, "23 22 0:42 / /srv rw - fuse.sshfs x rw"], True),
        ([ROOT, "23 22 254:1 / /srv/other rw - ext4 /dev/vdb rw"], True),
    ],
)
def test_the_upper_layer_is_in_memory_only_where_it_must(mounts: list[str], expected: bool) -> None:
    assert needs_tmpfs(Path("/srv/lab/hosts/ant/layer"), "\n".join(mounts)) is expected


def test_the_machines_control_groups_are_recognised() -> None:
    hybrid = read_mounts(
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert hybrid.v1 == (
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
        Hierarchy("/sys/fs/cgroup/systemd", "name=systemd"),
    )
    unified = read_mounts("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    assert unified.v1 == ()
    assert unified.v2 == Hierarchy("/sys/fs/cgroup", "")
