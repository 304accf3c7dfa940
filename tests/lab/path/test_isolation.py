"""From inside a pod: what there is to see, to open and to reach. Each was once a way out of a container."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from gitkube.api.admission.service_accounts import TOKEN_PATH
from gitkube.node.network.services import API_DOOR_PORT
from gitkube.node.oci import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from tests.support.demo_cluster import DemoCluster, is_ready, until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

NAMESPACE = "isolation"
PODS = """\
apiVersion: v1
kind: Namespace
metadata: {name: isolation}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: isolation}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: main, image: "registry.lab:5000/busybox:1", command: [sleep, "86398"]}
---
apiVersion: v1
kind: Pod
metadata: {name: hardened, namespace: isolation}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: registry.lab:5000/busybox:1
      command: [sleep, "86398"]
      securityContext:
        runAsUser: 1234
        runAsNonRoot: true
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
"""


class Inside:
    """A shell in a pod."""

    def __init__(self, cluster: DemoCluster) -> None:
        self.cluster = cluster

    def __call__(self, script: str, pod: str = "plain") -> str:
        arguments = ("exec", "-n", NAMESPACE, pod, "--", "sh", "-c", script)
        return self.cluster.kubectl(*arguments, check=False).strip()

    def status(self, pod: str, of: str = "1") -> dict[str, str]:
        lines = self(f"cat /proc/{of}/status", pod).splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def connects(self, address: str, port: int) -> bool:
        return self(f"nc -w 1 {address} {port} </dev/null >/dev/null 2>&1 && echo open; true") == "open"


@pytest.fixture(scope="module")
def inside(cluster: DemoCluster) -> Iterator[Inside]:
    cluster.write("apps/isolation/all.yaml", PODS)
    cluster.commit("Two pods to look around in")
    cluster.push()
    try:
        until(lambda: len([pod for pod in cluster.pods(NAMESPACE) if is_ready(pod)]) == 2, what="two pods")
        yield Inside(cluster)
    finally:
        cluster.drop("apps/isolation")


def held(mask: str) -> set[str]:
    number = int(mask, 16)
    return {name for bit, name in enumerate(ALL_CAPABILITIES) if number >> bit & 1}


@pytest.mark.parametrize("pod", ["plain", "hardened"])
def test_no_descriptor_of_the_runtime_leaks_into_a_container(inside: Inside, pod: str) -> None:
    """CVE-2024-21626: an open directory of the host, and a working directory that is one of them."""
    for process in ("1", "self"):
        names = set(inside(f"ls /proc/{process}/fd", pod).split())
        assert names <= {"0", "1", "2", "3"}, names  # 3 is the directory that ls itself reads
        targets = inside(f"for f in /proc/{process}/fd/*; do readlink $f; done", pod).split("\n")
        assert not [target for target in targets if target.startswith(("/sys", "/var", "/run", "/etc"))]
        assert inside(f"readlink /proc/{process}/cwd", pod) == "/"


def test_a_plain_container_holds_the_default_capabilities_and_no_more(inside: Inside) -> None:
    for of in ("1", "self"):
        status = inside.status("plain", of)
        for kind in ("CapEff", "CapPrm", "CapBnd"):
            assert held(status[kind]) <= set(DEFAULT_CAPABILITIES), kind
        assert held(status["CapInh"]) == held(status["CapAmb"]) == set()


def test_a_hardened_container_holds_nothing_and_can_gain_nothing(inside: Inside) -> None:
    for of in ("1", "self"):
        status = inside.status("hardened", of)
        assert status["NoNewPrivs"] == "1"
        assert held(status["CapBnd"]) == held(status["CapEff"]) == set()
        assert status["Uid"].split() == ["1234"] * 4
    assert "Read-only" in inside("touch /x 2>&1", "hardened")


def test_what_the_kernel_tells_and_takes_is_masked(inside: Inside) -> None:
    assert inside("cat /proc/kcore 2>/dev/null | wc -c") == "0"
    assert inside("cat /proc/timer_list /proc/keys 2>/dev/null | wc -c") == "0"
    assert inside("ls /sys/firmware /proc/acpi 2>/dev/null | grep -v : | grep . ; true") == ""
    assert "Read-only" in inside("echo x > /proc/sys/kernel/core_pattern 2>&1")
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/irq/default_smp_affinity"):
        assert inside(f"[ -e {path} ] && (echo x > {path}) 2>/dev/null && echo written; true") == "", path
    assert inside("(echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo written; true") == ""
    assert inside("mount -t tmpfs x /mnt 2>/dev/null && echo mounted; true") == ""
    assert inside("mount -o remount,rw /proc/sys 2>/dev/null && echo mounted; true") == ""
    made = inside("mknod /tmp/sda b 8 0 2>/dev/null && dd if=/tmp/sda of=/dev/null count=1 2>&1; true")
    assert "records in" not in made


def test_a_pod_sees_its_own_processes_and_its_own_host_name_only(inside: Inside) -> None:
    processes = inside("cat /proc/[0-9]*/comm").split()
    assert set(processes) <= {"sleep", "sh", "cat"}
    assert inside("hostname") == "plain"
    interfaces = inside("ls /sys/class/net").split()
    assert "wg0" not in interfaces and set(interfaces) <= {"lo", "eth0"}


def test_no_pod_sees_the_agents_socket_or_its_files(inside: Inside) -> None:
    for path in ("/run/gitkube", "/var/lib/gitkube", "/run/wireguard", "/run/gitkube/agent.sock"):
        assert inside(f"ls -a {path} 2>/dev/null; true") == "", path
    assert inside("cat /proc/net/unix | grep -c gitkube; true") == "0"
    assert inside("grep -c @ /proc/net/unix; true") == "0"


def test_no_pod_reaches_the_control_side(inside: Inside) -> None:
    cluster = inside.cluster
    api = urlsplit(json.loads(cluster.demo.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    assert api.port is not None
    pod = next(pod for pod in cluster.pods(NAMESPACE) if pod["metadata"]["name"] == "plain")
    host = cluster.address(cluster.host_of(pod))
    gateway = inside("ip route | awk '/default/ {print $3}'")
    assert inside.connects(host, 22)  # so what is shut below is shut, and not this way of asking
    for address in (cluster.lab.layout().machine_address, gateway, host, "127.0.0.1"):
        assert not inside.connects(address, api.port), address


def test_nothing_of_a_host_listens_for_pods_but_what_is_meant_for_them(inside: Inside) -> None:
    """sshd (the machine's own), DNS, the way to the API for pods, and the kernel's WireGuard."""
    host = inside.cluster.host_of(next(pod for pod in inside.cluster.pods(NAMESPACE)))
    listening = inside.cluster.lab.exec(host, ["ss", "-Htln"]).stdout
    ports = {int(line.split()[3].rpartition(":")[2]) for line in listening.splitlines()}
    assert ports <= {22, 53, API_DOOR_PORT}, listening


def test_a_pod_has_no_credential_but_the_token_of_its_own_account(inside: Inside) -> None:
    assert inside(f"cd {TOKEN_PATH} && ls").split() == ["ca.crt", "namespace", "token"]
    assert inside("find /var/run/secrets -type f ! -path '*/serviceaccount/..*'") == ""
    found = inside("ls /var/run/secrets /root/.kube /root/.ssh /etc/kubernetes 2>/dev/null; env; mount")
    for word in ("kubeconfig", "BEGIN", "id_ed25519", "token"):
        assert word not in found
