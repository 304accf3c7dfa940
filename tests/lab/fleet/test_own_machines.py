"""README's second screen: an ordinary user, an Ansible inventory, and hosts whose SSH user may use sudo."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube.fleet.agent_package import build_agent_package
from gitkube.fleet.errors import PrepareError
from gitkube.fleet.inventory import load_inventory
from gitkube.fleet.known_hosts import KnownHosts
from gitkube.fleet.prepare import prepare
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh import connect
from gitkube.lab.lab import Lab
from tests.support.demo_cluster import is_ready, until
from tests.support.files import contents_below, entries_below
from tests.support.node_host import write_oci_layout
from tests.support.ordinary_user import UID, OrdinaryUser

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
    pytest.mark.skipif(
        shutil.which("sudo") is None and not os.environ.get("CI"),
        reason="sudo is not installed; scripts/install.sh dev brings it",
    ),
]

INVENTORY = """\
all:
  vars:
    ansible_user: ops
    ansible_become: true
    ntp_server: 192.0.2.1
  children:
    rack:
      hosts:
        ant:
          ansible_host: {ant}
        bee:
          ansible_host: {bee}
          gitkube_labels: {{disk: ssd}}
"""

PASSWORDLESS = "ops ALL=(ALL) NOPASSWD: ALL\n"

APP = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: registry.lab:5000/busybox:1
        command: [sh, -c, "echo hello from a pod; exec busybox httpd -f -p 8080"]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""
PODS, SERVICES = "10.60.0.0/16", "10.61.0.0/20"
"""As where the usual networks are in use already."""


class OwnMachines:
    """Two hosts with a user `ops`, and a person who runs `gitkube serve` as README says."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        self.lab = Lab(directory / "lab")
        self.person = OrdinaryUser(directory)
        self.state = self.person.home / ".local" / "state" / "gitkube"
        self.kubeconfig = self.state / "kubeconfig"
        self.log = directory / "serve.log"
        self.layout = directory / "busybox"
        self.serving: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        self.lab.up(hosts=2)
        write_oci_layout(self.layout)
        self.lab.push_images({"busybox:1": self.layout})
        key = self.person.write(".ssh/id_ed25519", "")
        key.unlink()
        self.person.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        for host in ("ant", "bee"):
            self._make_ops(host, key.with_suffix(".pub").read_text())
        addresses = {host.name: host.address for host in self.lab.layout().hosts}
        self.person.write("inventory.yaml", INVENTORY.format(**addresses))
        self.start()

    def _make_ops(self, host: str, public_key: str) -> None:
        self._on(host, "useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "ops")
        self._on(host, "install", "-d", "-m", "700", "-o", "ops", "-g", "ops", "/home/ops/.ssh")
        self._on(host, "tee", "/home/ops/.ssh/authorized_keys", stdin=public_key)
        self.put_sudo_rule(host, PASSWORDLESS)
        self._on(host, "rm", "-rf", "/root/.ssh")

    def put_sudo_rule(self, host: str, rule: str) -> None:
        self._on(host, "tee", "/etc/sudoers.d/ops", stdin=rule)
        self._on(host, "chmod", "440", "/etc/sudoers.d/ops")

    def _on(self, host: str, *argv: str, stdin: str | None = None) -> str:
        done = self.lab.exec(host, argv, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, service_cidr: str = SERVICES) -> None:
        self.serving = self.person.start(
            "gitkube", "serve", "--inventory", "inventory.yaml", "--repo", "cluster.git",
            "--listen", "127.0.0.1:0", "--cluster-cidr", PODS, "--service-cidr", service_cidr, log=self.log,
        )  # fmt: skip

    def stop(self) -> int:
        assert self.serving is not None
        self.serving.send_signal(signal.SIGTERM)
        code = self.serving.wait(120)
        self.serving = None
        return code

    def kubectl(self, *words: str, check: bool = True) -> str:
        return self.person.run("kubectl", "--kubeconfig", str(self.kubeconfig), *words, check=check)

    def ready_nodes(self) -> set[str]:
        assert self.serving is not None and self.serving.poll() is None, self.log.read_text()[-3000:]
        if not self.kubeconfig.exists():
            return set()
        said = self.kubectl("get", "nodes", "-o", "json", check=False)
        nodes = json.loads(said)["items"] if said.startswith("{") else []
        return {node["metadata"]["name"] for node in nodes if is_ready(node)}

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-n", "shop", "-o", "json"))[
            "items"
        ]
        return found

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails."""
        found = {str(self.log): self.log.read_text(errors="replace")[-8000:]} if self.log.exists() else {}
        if self.kubeconfig.exists():
            words = ("get", "nodes,pods,events", "-A", "-o", "wide")
            found["kubectl get"] = self.kubectl(*words, check=False)
        return found

    def down(self) -> None:
        if self.serving is not None:
            self.serving.kill()
            self.serving.wait()
        self.lab.down()


@pytest.fixture(scope="module")
def own() -> Iterator[OwnMachines]:
    # Not pytest's own directory: that one is closed to other users.
    with tempfile.TemporaryDirectory(prefix="gk-own-") as directory:
        machines = OwnMachines(Path(directory))
        try:
            machines.up()
            yield machines
        finally:
            machines.down()


def test_an_ordinary_user_gets_machines_ready_with_sudo_and_an_ansible_inventory(own: OwnMachines) -> None:
    until(lambda: own.ready_nodes() == {"ant", "bee"}, what=f"both hosts Ready; {own.log}")
    labels = json.loads(own.kubectl("get", "node", "bee", "-o", "json"))["metadata"]["labels"]
    assert labels["disk"] == "ssd"
    who = own.lab.exec("ant", ["ps", "-o", "user=", "-C", "sshd"]).stdout.split()
    assert "ops" in who, "the link is a session of the SSH user's"


def test_that_user_has_no_privilege_at_all(own: OwnMachines) -> None:
    assert own.serving is not None
    status = Path(f"/proc/{own.serving.pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert fields["Uid"].split() == [str(UID)] * 4
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}


def test_a_push_of_that_user_runs_a_pod_on_both_hosts_and_kubectl_shows_it(own: OwnMachines) -> None:
    until(lambda: own.ready_nodes() == {"ant", "bee"})
    git = ("git", "-C", "repo")
    own.person.run("git", "init", "--quiet", "--initial-branch=main", "repo")
    own.person.write("repo/apps/web.yaml", APP)
    own.person.run(*git, "add", "--all")
    own.person.run(*git, "commit", "--quiet", "--message", "a web")
    own.person.run(*git, "remote", "add", "lab", "../cluster.git")
    said = own.person.run(*git, "push", "lab", "main")
    assert "+ Deployment shop/web" in said and "healthy" in said, said
    own.person.run("gitkube", "status", "--wait", "120")
    pods = own.pods()
    assert {pod["spec"]["nodeName"] for pod in pods} == {"ant", "bee"} and all(map(is_ready, pods))
    for pod in pods:
        name = pod["metadata"]["name"]
        said = until(lambda name=name: own.kubectl("logs", "-n", "shop", name))
        assert said == "hello from a pod\n"
        host = own.kubectl("exec", "-n", "shop", name, "--", "busybox", "hostname")
        assert host.strip() == name


def test_pods_and_services_have_addresses_of_the_networks_that_were_chosen(own: OwnMachines) -> None:
    for node in own.nodes():
        assert ipaddress.ip_network(node["spec"]["podCIDR"]).subnet_of(ipaddress.ip_network(PODS))
    for pod in own.pods():
        assert ipaddress.ip_address(pod["status"]["podIP"]) in ipaddress.ip_network(PODS)
    service = own.kubectl("get", "service", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
    assert ipaddress.ip_address(service) in ipaddress.ip_network(SERVICES)
    name = own.pods()[0]["metadata"]["name"]
    for url in ("http://web/", f"http://{service}/"):
        ask = f"busybox timeout 10 busybox wget -q -O - {url} 2>&1 || true"
        # A pod without a probe is Ready before its server listens.
        until(
            lambda ask=ask: "404 Not Found" in own.kubectl("exec", "-n", "shop", name, "--", "sh", "-c", ask),
            what=f"the web server of some pod answers at {url}",
        )


def test_a_push_that_is_refused_says_so_to_that_user_too(own: OwnMachines) -> None:
    until(lambda: own.ready_nodes() == {"ant", "bee"})
    own.person.write("repo/apps/more.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {nam: x}\n")
    own.person.run("git", "-C", "repo", "add", "--all")
    own.person.run("git", "-C", "repo", "commit", "--quiet", "--message", "a mistake")
    said = own.person.run("git", "-C", "repo", "push", "lab", "main", check=False)
    assert "refused" in said and "apps/more.yaml:3" in said, said
    own.person.run("git", "-C", "repo", "reset", "--quiet", "--hard", "HEAD~1")


def test_serve_ends_when_told_and_its_return_restarts_no_pod(own: OwnMachines) -> None:
    until(lambda: own.ready_nodes() == {"ant", "bee"})
    before = {pod["metadata"]["uid"] for pod in own.pods()}
    assert before and own.stop() == 0, own.log.read_text()[-3000:]
    own.kubeconfig.unlink()
    own.start()
    until(lambda: own.ready_nodes() == {"ant", "bee"})
    pods = own.pods()
    assert {pod["metadata"]["uid"] for pod in pods} == before
    assert [status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]] == [0, 0]


def test_another_network_for_services_is_refused_where_there_are_some(own: OwnMachines) -> None:
    assert own.stop() == 0
    own.kubeconfig.unlink()
    own.start("10.43.0.0/16")
    assert own.serving is not None and own.serving.wait(120) == 1
    assert f"start it with --service-cidr {SERVICES}" in own.log.read_text()
    own.start()
    until(lambda: own.ready_nodes() == {"ant", "bee"})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "",
            r"sudo asks ops for a password; allow it without one on the host: echo 'ops ALL=\(ALL\) NOPASSWD",
        ),
        ("ops ALL=(ALL) ALL\n", r"sudo asks ops for a password; allow it without one"),
        ("ops ALL=(ALL) NOPASSWD: /usr/bin/true\n", r"sudo asks ops for a password; allow it without one"),
    ],
)
async def test_a_host_whose_sudo_asks_says_what_to_allow(
    own: OwnMachines, tmp_path: Path, rule: str, expected: str
) -> None:
    own.put_sudo_rule("bee", rule)
    host = load_inventory(own.person.home / "inventory.yaml").hosts["bee"]
    settings = FleetSettings()
    known = KnownHosts(tmp_path / "known_hosts")
    identity = own.person.home / ".ssh" / "id_ed25519"
    connection = await connect(replace(host, identity_file=identity), known, settings)
    try:
        with pytest.raises(PrepareError, match=expected):
            await prepare(connection, host, build_agent_package(), settings=settings, rng=Random(1))
    finally:
        await connection.close()
        own.put_sudo_rule("bee", PASSWORDLESS)


def test_what_is_kept_is_the_users_own_and_closed_to_others(own: OwnMachines) -> None:
    until(lambda: own.ready_nodes() == {"ant", "bee"})
    assert {found.st_uid for _, found in entries_below(own.person.home)} == {UID}
    assert own.state.stat().st_mode & 0o077 == 0
    modes = {path: found.st_mode for path, found, _ in contents_below(own.state)}
    secrets = [path for path in modes if path == own.kubeconfig or "key" in path.name]
    assert own.kubeconfig in secrets and len(secrets) > 1
    assert [path for path in secrets if modes[path] & 0o077] == []
