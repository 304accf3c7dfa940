"""The pure parts: sections, taints, conditions, statuses, and what runs on a host."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube import wire
from gitkube.fleet import desired, nodes
from gitkube.fleet.hosts import Host
from gitkube.fleet.link import LinkState
from gitkube.fleet.nodes import HostFacts, merge_taints, ready_condition
from gitkube.fleet.on_host import agent_file, base, packages
from gitkube.fleet.pod_status import merged_status
from gitkube.fleet.prepare import command_for, explain_failure
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh import Completed

SETTINGS = FleetSettings()


def node(name: str, number: int, key: str = "k", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "uid": f"u-{name}", "resourceVersion": "5", "managedFields": [{}],
            "annotations": {
                desired.PUBLIC_KEY_ANNOTATION: key, desired.ENDPOINT_ANNOTATION: f"192.0.2.{number}:51820",
            },
        },
        "spec": {"podCIDR": f"10.42.{number}.0/24"},
        "status": status,
    }  # fmt: skip


def test_peers_are_the_others_that_are_complete_sorted_by_name() -> None:
    unborn = node("dog", 4, key="")
    peers = desired.peers_of([node("cow", 3), node("ant", 1), node("bee", 2), unborn])
    section = desired.network_section(node("bee", 2), peers, SETTINGS)
    assert section is not None
    assert [peer["name"] for peer in section["peers"]] == ["ant", "cow"]
    assert section["podCIDR"] == "10.42.2.0/24" and section["listenPort"] == 51820
    assert desired.network_section({"metadata": {"name": "x"}, "spec": {}}, [], SETTINGS) is None


def test_a_section_does_not_depend_on_order_status_or_versions() -> None:
    def pod(name: str, version: str, phase: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version},
            "spec": {"containers": []},
            "status": {"phase": phase},
        }

    def nothing(name: str, namespace: str) -> None:
        return None

    first = desired.pods_section(
        node("ant", 1), [pod("x", "1", "Pending"), pod("y", "2", "")], nothing, nothing
    )
    later = node("ant", 1, conditions=[{"type": "Ready"}])
    second = desired.pods_section(
        later, [pod("y", "8", "Unknown"), pod("x", "9", "Running")], nothing, nothing
    )
    assert wire.digest_of(first) == wire.digest_of(second)


def test_ipv6_endpoints_are_in_brackets() -> None:
    assert desired.endpoint("2001:db8::1", 51820) == "[2001:db8::1]:51820"


_taints = st.lists(
    st.builds(
        lambda key, effect: {"key": key, "effect": effect},
        st.sampled_from("abcd"),
        st.sampled_from(["NoSchedule", "NoExecute"]),
    ),
    max_size=4,
    unique_by=lambda taint: (taint["key"], taint["effect"]),
)


@given(_taints, _taints, _taints)
def test_taints_of_others_stay_ours_go_and_wanted_ones_are_there(
    others: list[dict[str, Any]], before: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    others = [taint for taint in others if taint not in before]
    merged = merge_taints([*others, *before], before, wanted)
    assert all(taint in merged for taint in [*others, *wanted])
    assert all(taint in others or taint in wanted for taint in merged)
    assert merge_taints(merged, wanted, wanted) == merged


def facts(
    phase: str, *, last_up_s: float | None = None, network: str | None = "", since_s: float = 0
) -> HostFacts:
    link = LinkState(phase, "Unreachable", "ssh: timed out", 0.0)
    return HostFacts(Host("ant", "192.0.2.1"), link, since_s, last_up_s, network_error=network)


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("known", "status", "expected"),
    [
        (facts("up"), {}, "True"),
        (facts("up", network="wg0 failed"), READY, "False"),
        (facts("up", network=None), READY, None),
        (facts("up", network=None), {}, "False"),
        (facts("waiting", last_up_s=97), READY, None),
        (facts("waiting", last_up_s=90), READY, "Unknown"),
        (facts("connecting", since_s=98), READY, None),
        (facts("connecting", since_s=98), {}, "Unknown"),
        (facts("stopped", last_up_s=99), READY, "Unknown"),
    ],
)
def test_ready_says_what_is_known(known: HostFacts, status: dict[str, Any], expected: str | None) -> None:
    condition = ready_condition(known, node("ant", 1, **status), 100.0, SETTINGS)
    assert (condition or {}).get("status") == expected


def test_a_condition_that_says_the_same_is_not_written_again() -> None:
    first = nodes.status(facts("up"), node("ant", 1), 1.0, 1000.0, SETTINGS)
    again = nodes.status(facts("up"), node("ant", 1, **first), 2.0, 2000.0, SETTINGS)
    assert again["conditions"] == first["conditions"]


def test_conditions_of_others_stay_in_a_reported_status() -> None:
    current = {
        "qosClass": "Burstable", "phase": "Pending", "message": "old",
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
    }  # fmt: skip
    reported = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert merged_status(current, reported) == {
        "qosClass": "Burstable", "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
    }  # fmt: skip


ENDED = {
    "phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z", "podIP": "10.42.1.5",
    "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 0}}, "containerID": "x://1"}],
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": "then"},
        {"type": "PodScheduled", "status": "True"},
    ],
}  # fmt: skip
"""A Job's pod as the API has it."""
NEVER_RUN = [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]
NOT_READY = {"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": "now"}


@pytest.mark.parametrize("phase", ["Pending", "Running", "Succeeded", "Failed"])
def test_a_host_that_has_lost_its_disk_takes_nothing_from_the_status_of_a_pod_that_has_ended(
    phase: str,
) -> None:
    reported = {
        "phase": phase, "startTime": "2026-02-02T00:00:00Z", "containerStatuses": NEVER_RUN,
        "conditions": [NOT_READY],
    }  # fmt: skip
    assert merged_status(ENDED, reported) == ENDED


def test_a_pod_that_was_given_up_stays_failed_and_its_containers_still_say_how_they_ended() -> None:
    given_up = {"phase": "Failed", "reason": "Lost", "conditions": ENDED["conditions"]}
    running = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}
    ready = {"type": "Ready", "status": "True"}
    first = merged_status(given_up, {**running, "conditions": [ready]})
    assert first == {**given_up, "containerStatuses": running["containerStatuses"]}
    ended = [{"name": "main", "state": {"terminated": {"exitCode": 137}}}]
    told = {"phase": "Failed", "containerStatuses": ended, "podIP": "10.42.1.5", "conditions": [NOT_READY]}
    assert merged_status(first, told) == {**given_up, "podIP": "10.42.1.5", "containerStatuses": ended}


def test_a_pod_that_was_refused_and_is_refused_again_is_as_it_was() -> None:
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "its name is no name"}
    assert merged_status(refused, dict(refused)) == refused


def test_conditions_of_a_pod_that_has_ended_still_change() -> None:
    gone = {"type": "PodReadyToStartContainers", "status": "False"}
    before = {**ENDED, "conditions": [{**gone, "status": "True"}, *ENDED["conditions"]]}
    reported = {"phase": "Succeeded", "containerStatuses": NEVER_RUN, "conditions": [gone, NOT_READY]}
    assert merged_status(before, reported) == {**ENDED, "conditions": [gone, *ENDED["conditions"]]}


@pytest.mark.parametrize(
    ("phase", "told"), [("Running", None), ("Succeeded", "Succeeded"), ("Failed", "Failed")]
)
def test_a_host_is_told_that_a_pod_has_ended_and_nothing_else_of_its_phase(
    phase: str, told: str | None
) -> None:
    pod = {"metadata": {"name": "a", "namespace": "b"}, "spec": {}, "status": {**ENDED, "phase": phase}}
    assert desired.pod_for_host(pod).get("status") == (None if told is None else {"phase": told})


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (1, "sudo: a password is required\n", "NOPASSWD"),
        (1, "ada is not in the sudoers file.", "sudo group"),
        (127, "sh: 1: sudo: not found", "no sudo"),
        (127, "bash: /usr/bin/python3: No such file or directory", "Python 3.9"),
        (2, "strange\nlast line", "exit code 2, saying: last line"),
    ],
)
def test_why_a_host_cannot_be_looked_at(code: int, said: str, expected: str) -> None:
    host = Host("ant", "192.0.2.1", user="ada")
    assert expected in explain_failure(host, Completed(code, b"", said.encode()))


def test_root_needs_no_sudo() -> None:
    assert command_for(Host("a", "192.0.2.1", user="root"), "x") == "x"
    assert command_for(Host("a", "192.0.2.1", user="ada"), "x") == "sudo -n -- x"
    assert command_for(Host("a", "192.0.2.1", user="ada", sudo=False), "x") == "x"


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setattr(agent_file, "BIN", str(directory))
    monkeypatch.setattr(agent_file, "CURRENT", str(directory / "gitkube-node"))
    return directory


def package(directory: Path, name: str) -> tuple[Path, str]:
    path = directory / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "")
        archive.writestr("gitkube/__init__.py", "")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_agent_is_taken_only_whole_and_only_if_it_is_the_one(bin_dir: Path, tmp_path: Path) -> None:
    uploaded, digest = package(tmp_path, "upload")
    target = bin_dir / "gitkube-node-1.pyz"
    with pytest.raises(base.Refusal):
        agent_file.put_agent(str(uploaded), str(target), "0" * 64)
    assert not target.exists() and not uploaded.exists()
    uploaded, digest = package(tmp_path, "upload")
    agent_file.put_agent(str(uploaded), str(target), digest)
    assert agent_file.is_agent(str(target), digest) and os.access(target, os.X_OK)
    target.write_bytes(target.read_bytes()[:-1])
    assert not agent_file.is_agent(str(target), digest)


def test_an_uploaded_symlink_is_not_followed(bin_dir: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tmp_path / "upload").symlink_to(secret)
    with pytest.raises(OSError):
        agent_file.put_agent(str(tmp_path / "upload"), str(bin_dir / "a.pyz"), "0" * 64)


def test_the_current_name_means_one_agent_and_old_ones_are_forgotten(bin_dir: Path) -> None:
    for number in range(1, 6):
        path, _ = package(bin_dir, f"gitkube-node-{number}.pyz")
        os.utime(path, (number, number))
        agent_file.unpack(str(path))
    newest = str(bin_dir / "gitkube-node-5.pyz")
    assert agent_file.current_agent() == ""
    agent_file.switch(newest)
    assert os.readlink(bin_dir / "gitkube-node") == agent_file.current_agent() == "gitkube-node-5.pyz"
    agent_file.forget_old_agents(newest)
    left = sorted(path.name for path in bin_dir.iterdir())
    assert left == [
        "gitkube-node", "gitkube-node-4.d", "gitkube-node-4.pyz", "gitkube-node-5.d", "gitkube-node-5.pyz",
    ]  # fmt: skip


def test_missing_packages_depend_on_the_kernel() -> None:
    asked = [
        {"name": "shell", "programs": ["sh"]},
        {"name": "go", "programs": ["no-such-program"], "withoutKernelWireguard": True},
    ]
    assert packages.missing_packages(asked, {"kernelWireguard": True}) == []
    assert packages.missing_packages(asked, {"kernelWireguard": False}) == ["go"]
