"""The pod network on three real hosts: overlay, Services, NodePorts and names, this part alone."""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gitkube
from gitkube.lab.lab import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

HOSTS = ("ant", "bee", "cow")
SHARES = {host: f"10.42.{number}.0/24" for number, host in enumerate(HOSTS, 1)}
WEB, EMPTY, NODE_PORT = "10.43.0.50", "10.43.0.51", 30080
DRIVER = "/var/lib/gitkube/test/driver.py"
PYTHON = "/usr/bin/python3"
PATIENCE_S = 60.0


class Cluster:
    """Three hosts with two pods each, and a control side that is this test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.version = 0
        self.pods = ["pod-a", "pod-b"]
        self.endpoints = [f"10.42.{number}.2" for number in (1, 2, 3)]
        self.keys: dict[str, str] = {}

    def install(self) -> None:
        for host in HOSTS:
            home = self.lab.directory / "hosts" / host / "disk" / "test"
            code = home / "code" / "gitkube"
            code.mkdir(parents=True)
            source = Path(gitkube.__file__).parent
            for name in ("node", "wire"):
                shutil.copytree(source / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(source / "__init__.py", code / "__init__.py")
            shutil.copy(Path(__file__).parent / "driver.py", home / "driver.py")
            self.keys[host] = self.run(host, PYTHON, DRIVER, "key")

    def start_agent(self, host: str) -> None:
        subprocess.Popen(
            self.lab.exec_argv(host, [PYTHON, DRIVER, "run"]),
            stdin=subprocess.DEVNULL,
            stdout=(self.lab.directory / f"{host}.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill_agent(self, host: str) -> None:
        for pid in self.pids(host, "driver.py run"):
            self.run(host, "kill", "-9", pid)

    def pids(self, host: str, pattern: str) -> list[str]:
        return self.lab.exec(host, ["pgrep", "-f", pattern]).stdout.split()

    def apply(self) -> dict[str, dict[str, str]]:
        """Tell every host the desired state, wait until all have it; returns the pods' addresses."""
        self.tell()
        return self.wait_all()

    def tell(self) -> None:
        self.version += 1
        addresses = {host: layout.address for host in HOSTS if (layout := self.lab.layout().host(host))}
        for host in HOSTS:
            network = {
                "node": host,
                "podCIDR": SHARES[host],
                "clusterCIDR": "10.42.0.0/16",
                "serviceCIDR": "10.43.0.0/16",
                "clusterDomain": "cluster.local",
                "listenPort": 51820,
                "peers": [
                    {
                        "name": other,
                        "publicKey": self.keys[other],
                        "endpoint": f"{addresses[other]}:51820",
                        "podCIDR": SHARES[other],
                    }
                    for other in HOSTS
                    if other != host
                ],
            }
            desired = {
                "version": self.version,
                "network": network,
                "services": self.services(),
                "pods": self.pods,
            }
            home = self.lab.directory / "hosts" / host / "disk" / "test"
            (home / "desired.new").write_text(json.dumps(desired))
            (home / "desired.new").replace(home / "desired.json")

    def wait_all(self) -> dict[str, dict[str, str]]:
        return {host: self.wait_applied(host) for host in HOSTS}

    def wait_applied(self, host: str) -> dict[str, str]:
        path = self.lab.directory / "hosts" / host / "disk" / "test" / "applied.json"

        def is_applied() -> bool:
            return path.exists() and json.loads(path.read_text())["version"] == self.version

        log = self.lab.directory / f"{host}.log"
        wait_until(is_applied, lambda: f"{host} did not apply: {log.read_text()[-2000:]}")
        addresses: dict[str, str] = json.loads(path.read_text())["addresses"]
        return addresses

    def services(self) -> dict[str, Any]:
        def service(name: str, address: str, **port: Any) -> dict[str, Any]:
            ports = [{"name": "http", "port": 80, **port}]
            metadata = {"namespace": "default", "name": name}
            return {"metadata": metadata, "spec": {"clusterIP": address, "ports": ports}}

        return {
            "services": [
                service("web", WEB, nodePort=NODE_PORT),
                service("empty", EMPTY),
                service("web-headless", "None"),
            ],
            "endpointSlices": [
                {
                    "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": 8080}],
                    "endpoints": [
                        {"addresses": [one], "conditions": {"ready": True}} for one in self.endpoints
                    ],
                }
                for name in ("web", "web-headless")
            ],
        }

    def run(self, host: str, *argv: str) -> str:
        done = self.lab.exec(host, argv, timeout_s=60)
        assert done.returncode == 0, f"{host} {argv}: {done.stdout} {done.stderr}"
        return done.stdout.strip()

    def in_pod(self, host: str, pod: str, *argv: str) -> str:
        return self.run(host, "nsenter", f"--net=/run/gitkube/netns/{pod}", *argv)

    def sessions(self, host: str) -> list[str]:
        """When each peer last agreed on keys; a session that was dropped has none."""
        return sorted(self.run(host, "wg", "show", "gitkube-wg", "latest-handshakes").splitlines())

    def ask(self, host: str, pod: str, address: str, port: int, times: int = 1) -> list[str]:
        """What connections from a pod (or from the host itself, for "") hear."""
        command = (PYTHON, DRIVER, "ask", address, str(port), str(times))
        said = self.in_pod(host, pod, *command) if pod else self.run(host, *command)
        heard: list[str] = json.loads(said)
        return heard

    def wait_carries(self, asker: str, asked: str, address: str) -> None:
        """A first packet waits for WireGuard's keys: five seconds more when one of its messages is lost."""
        wait_until(
            lambda: self.ask(asker, "pod-b", address, 8080)[0].startswith(asked),
            lambda: f"the overlay does not carry from {asker} to {asked}",
        )

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails."""
        logs = [self.lab.directory / f"{host}.log" for host in HOSTS]
        return {str(log): log.read_text(errors="replace")[-4000:] for log in logs if log.exists()}

    def dig(self, host: str, pod: str, *question: str) -> list[str]:
        gateway = SHARES[host].replace(".0/24", ".1")
        return self.in_pod(
            host, pod, "dig", "+short", "+time=10", "+tries=3", f"@{gateway}", *question
        ).splitlines()


def wait_until(is_so: Callable[[], bool], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lab = Lab(tmp_path_factory.mktemp("network") / "lab")
    try:
        lab.up(hosts=3)
        cluster = Cluster(lab)
        cluster.install()
        cluster.tell()
        for host in HOSTS:
            cluster.start_agent(host)
        addresses = cluster.wait_all()
        assert addresses["bee"] == {"pod-a": "10.42.2.2", "pod-b": "10.42.2.3"}
        for asker, asked in itertools.permutations(HOSTS, 2):
            cluster.wait_carries(asker, asked, addresses[asked]["pod-a"])
        yield cluster
    finally:
        lab.down()


def test_pods_reach_each_other_under_their_own_addresses(cluster: Cluster) -> None:
    assert cluster.ask("ant", "pod-a", "10.42.2.3", 8080) == ["bee/pod-b 10.42.1.2"]
    assert cluster.ask("bee", "pod-b", "10.42.3.2", 8080) == ["cow/pod-a 10.42.2.3"]
    assert cluster.ask("ant", "pod-a", "10.42.1.3", 8080) == ["ant/pod-b 10.42.1.2"]


def test_a_host_itself_reaches_pods_here_and_there(cluster: Cluster) -> None:
    assert cluster.ask("ant", "", "10.42.1.2", 8080) == ["ant/pod-a 10.42.1.1"]
    assert cluster.ask("ant", "", "10.42.2.2", 8080) == ["bee/pod-a 10.42.1.1"]


def test_a_large_answer_fits_through_the_overlay(cluster: Cluster) -> None:
    address = "10.42.2.2"
    cluster.in_pod("ant", "pod-a", "ping", "-c", "1", "-W", "20", "-M", "do", "-s", str(1420 - 28), address)


@pytest.mark.parametrize("pod", ["pod-a", "pod-b", ""])
def test_a_service_balances_over_all_hosts_for_pods_and_for_the_host(cluster: Cluster, pod: str) -> None:
    heard = collections.Counter(each.split()[0] for each in cluster.ask("ant", pod, WEB, 80, 60))
    # pod-a on ant is an endpoint itself: reaching itself must work, too.
    assert set(heard) == {"ant/pod-a", "bee/pod-a", "cow/pod-a"}
    assert min(heard.values()) >= 5


def test_a_service_without_endpoints_refuses_at_once(cluster: Cluster) -> None:
    assert cluster.ask("ant", "pod-a", EMPTY, 80) == ["ConnectionRefusedError"]
    assert cluster.ask("ant", "", EMPTY, 80) == ["ConnectionRefusedError"]
    assert cluster.ask("ant", "pod-a", WEB, 81) == ["ConnectionRefusedError"]


def test_a_node_port_answers_on_every_host_from_the_machine_and_from_pods(cluster: Cluster) -> None:
    for host in HOSTS:
        layout = cluster.lab.layout().host(host)
        assert layout is not None
        heard = set()
        for _ in range(30):
            with socket.create_connection((layout.address, NODE_PORT), timeout=30) as connection:
                heard.add(connection.recv(200).decode().split()[0])
        assert heard == {"ant/pod-a", "bee/pod-a", "cow/pod-a"}
        from_pod = cluster.ask("ant", "pod-b", layout.address, NODE_PORT, 5)
        assert {each.split()[0] for each in from_pod} <= heard


def test_names_are_answered_on_every_host(cluster: Cluster) -> None:
    for host in HOSTS:
        assert cluster.dig(host, "pod-a", "web.default.svc.cluster.local") == [WEB]
    assert sorted(cluster.dig("ant", "pod-b", "web-headless.default.svc.cluster.local")) == cluster.endpoints
    assert cluster.dig("ant", "pod-b", "+tcp", "web.default.svc.cluster.local") == [WEB]
    assert cluster.dig("ant", "pod-b", "-x", WEB) == ["web.default.svc.cluster.local."]
    assert cluster.dig("ant", "pod-b", "SRV", "_http._tcp.web.default.svc.cluster.local") == [
        "0 100 80 web.default.svc.cluster.local."
    ]
    whole = cluster.in_pod("ant", "pod-a", "dig", "@10.42.1.1", "nothing.default.svc.cluster.local")
    assert "status: NXDOMAIN" in whole


def test_an_endpoint_that_is_gone_gets_no_new_connection(cluster: Cluster) -> None:
    everywhere = list(cluster.endpoints)
    cluster.endpoints = ["10.42.2.2"]
    try:
        cluster.apply()
        assert set(cluster.ask("ant", "pod-b", WEB, 80, 20)) == {"bee/pod-a 10.42.1.3"}
    finally:
        cluster.endpoints = everywhere
        cluster.apply()


def test_the_same_state_again_changes_nothing(cluster: Cluster) -> None:
    before = [cluster.run(host, "nft", "-a", "list", "table", "ip", "gitkube") for host in HOSTS]
    routes = [cluster.run(host, "ip", "route") for host in HOSTS]
    tunnels = [cluster.pids(host, "wireguard-go") for host in HOSTS]
    for _ in range(3):  # of which one may fall together with the new keys of every two minutes
        sessions = cluster.sessions("ant")
        assert cluster.apply()["ant"] == {"pod-a": "10.42.1.2", "pod-b": "10.42.1.3"}
        if cluster.sessions("ant") == sessions:
            break
    else:
        pytest.fail("applying the same state costs the sessions with the peers")
    assert [cluster.run(host, "nft", "-a", "list", "table", "ip", "gitkube") for host in HOSTS] == before
    assert [cluster.run(host, "ip", "route") for host in HOSTS] == routes
    assert [cluster.pids(host, "wireguard-go") for host in HOSTS] == tunnels


def test_nobody_elses_rules_are_touched(cluster: Cluster) -> None:
    cluster.run(
        "bee", "nft", "add table ip others; add chain ip others keep; add rule ip others keep counter"
    )
    before = cluster.run("bee", "nft", "-a", "list", "table", "ip", "others")
    endpoints = list(cluster.endpoints)
    cluster.endpoints = endpoints[:2]
    cluster.apply()
    cluster.endpoints = endpoints
    cluster.apply()
    assert cluster.run("bee", "nft", "-a", "list", "table", "ip", "others") == before


def test_a_killed_agent_leaves_the_network_and_comes_back_to_it(cluster: Cluster) -> None:
    cluster.kill_agent("ant")
    wait_until(lambda: not cluster.pids("ant", "driver.py run"), lambda: "the agent does not end")
    assert cluster.ask("ant", "pod-b", "10.42.2.2", 8080) == ["bee/pod-a 10.42.1.3"]
    tunnel = cluster.pids("ant", "wireguard-go")
    rules = cluster.run("ant", "nft", "-a", "list", "table", "ip", "gitkube")
    cluster.tell()
    cluster.start_agent("ant")
    assert cluster.wait_all()["ant"] == {"pod-a": "10.42.1.2", "pod-b": "10.42.1.3"}
    assert cluster.pids("ant", "wireguard-go") == tunnel
    assert cluster.run("ant", "nft", "-a", "list", "table", "ip", "gitkube") == rules
    wait_until(
        lambda: cluster.dig("ant", "pod-b", "web.default.svc.cluster.local") == [WEB],
        lambda: "names are not answered again",
    )


def test_a_killed_tunnel_is_restored(cluster: Cluster) -> None:
    tunnel = cluster.pids("bee", "wireguard-go")
    if not tunnel:
        pytest.skip("this kernel has WireGuard, so there is no process to kill")
    cluster.run("bee", "kill", "-9", *tunnel)
    wait_until(
        lambda: cluster.ask("bee", "pod-b", "10.42.1.2", 8080) == ["ant/pod-a 10.42.2.3"],
        lambda: f"not restored: {(cluster.lab.directory / 'bee.log').read_text()[-2000:]}",
    )
    assert cluster.pids("bee", "wireguard-go") != tunnel


def test_flushed_rules_are_put_back(cluster: Cluster) -> None:
    cluster.run("cow", "nft", "flush", "ruleset")
    wait_until(
        lambda: cluster.ask("cow", "pod-b", WEB, 80)[0].split()[0][-5:] == "pod-a",
        lambda: "the service does not answer again",
    )


def test_a_host_that_boots_again_gives_its_pods_their_addresses(cluster: Cluster) -> None:
    cluster.lab.kill("cow")
    cluster.lab.start("cow")
    cluster.tell()
    cluster.start_agent("cow")
    assert cluster.wait_all()["cow"] == {"pod-a": "10.42.3.2", "pod-b": "10.42.3.3"}
    wait_until(
        lambda: cluster.ask("ant", "pod-b", "10.42.3.2", 8080) == ["cow/pod-a 10.42.1.3"],
        lambda: "the overlay does not carry",
    )


def test_the_private_key_never_leaves_its_file(cluster: Cluster) -> None:
    assert cluster.run("ant", "stat", "-c", "%a %U", "/var/lib/gitkube/network/wireguard.key") == "600 root"
    key = cluster.run("ant", "cat", "/var/lib/gitkube/network/wireguard.key")
    found = cluster.lab.exec("ant", ["grep", "-rlF", key, "/run", "/var/lib/gitkube", "/tmp"]).stdout.split()
    assert found == ["/var/lib/gitkube/network/wireguard.key"]


def test_a_pod_that_is_gone_leaves_nothing(cluster: Cluster) -> None:
    cluster.pods = ["pod-a"]
    cluster.apply()
    assert "10.42.1.3" not in cluster.run("ant", "ip", "route")
    assert cluster.run("ant", "ls", "/run/gitkube/netns") == "pod-a"
