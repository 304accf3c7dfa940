"""The two API servers that are measured: `gitkube serve`, and a real kube-apiserver over etcd.

Both listen on loopback with TLS and take client certificates of one authority of their own. Ours runs all of
its parts, controllers and scheduler too; the other one is the API server alone, which is in its favour.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

from api_client import Connection, Server, request
from gitkube.api.kubeconfig import read_connection
from gitkube.clock import SystemClock
from gitkube.server.pki import Pki
from store_sides import rss_mb

START_TIMEOUT_S = 120.0
_POLL_S = 0.02


class Side(Protocol):
    name: str

    async def start(self) -> float:
        """Start it on what it has stored; seconds until it says that it is ready."""
        ...

    def stop(self) -> None:
        """Stop it; what it has stored stays."""
        ...

    @property
    def server(self) -> Server: ...

    def rss_mb(self) -> float:
        """Of all its processes."""
        ...


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def _wait_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.perf_counter() + START_TIMEOUT_S
    while time.perf_counter() < end:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            connection = await Connection.open(server)
            try:
                status, _ = await connection.send(request("GET", "/readyz"))
            finally:
                connection.close()
            if status == 200:
                return
        await asyncio.sleep(_POLL_S)
    raise RuntimeError(f"it is not ready after {START_TIMEOUT_S:.0f} s: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Ours:
    name = "gitkube"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        # One host there must be; this one is never reached (RFC 5737 keeps its address for examples).
        (directory / "inventory.yaml").write_text("hosts: {ant: {address: 192.0.2.11, user: ops}}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._server: Server | None = None

    async def start(self) -> float:
        log = self._directory / "serve.log"
        started = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
                [
                    sys.executable, "-m", "gitkube.cli.main", "serve",
                    "--data-dir", str(self._directory / "data"),
                    "--inventory", str(self._directory / "inventory.yaml"),
                    "--listen", f"127.0.0.1:{self._port}",
                ],
                stdout=output,
                stderr=output,
            )  # fmt: skip
        kubeconfig = self._directory / "data" / "kubeconfig"
        while not kubeconfig.exists():
            if self._process.poll() is not None:
                raise RuntimeError(f"it ended: {log.read_text()[-2000:]}")
            await asyncio.sleep(_POLL_S)
        if self._server is None:
            context = read_connection(kubeconfig).context
            if context is None:
                raise RuntimeError(f"{kubeconfig} is not for TLS")
            self._server = Server("127.0.0.1", self._port, context)
        await _wait_ready(self._server, self._process, log)
        return time.perf_counter() - started

    def stop(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def rss_mb(self) -> float:
        assert self._process is not None
        total = 0.0
        for pid in _tree(self._process.pid):
            with contextlib.suppress(OSError, ValueError):  # one that is just ending has no memory
                total += rss_mb(pid)
        return total


class Kubernetes:
    name = "kube-apiserver"

    def __init__(self, directory: Path, binary: Path, etcd: Path) -> None:
        self._directory = directory
        self._binary = binary
        self._etcd = etcd
        self._port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        pki = Pki.open(directory / "pki", clock=SystemClock())
        self._ca = directory / "ca.pem"
        self._ca.write_bytes(pki.ca_pem)
        certificate, key = pki.server_certificate(["127.0.0.1", "localhost"])
        self._certificate, self._key = Path(certificate), Path(key)
        admin = pki.client_certificate("root", ["system:masters"])
        context = ssl.create_default_context(cadata=pki.ca_pem.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(admin.certificate + admin.key)
            file.flush()
            context.load_cert_chain(file.name)
        self._server = Server("127.0.0.1", self._port, context)
        self._token_key = directory / "tokens.pem"
        openssl = ["openssl", "genrsa", "-out", str(self._token_key), "2048"]
        subprocess.run(openssl, check=True, capture_output=True)

    async def start(self) -> float:
        started = time.perf_counter()
        etcd_url, peer_url = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._run(
            [
                str(self._etcd), "--data-dir", str(self._directory / "etcd"),
                "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
                "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
                "--initial-cluster", f"default={peer_url}",
            ],
            "etcd.log",
        )  # fmt: skip
        process = self._run(
            [
                str(self._binary), "--etcd-servers", etcd_url, "--secure-port", str(self._port),
                "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--insecure-port=0",
                "--client-ca-file", str(self._ca), "--tls-cert-file", str(self._certificate),
                "--tls-private-key-file", str(self._key), "--authorization-mode=RBAC",
                "--service-account-issuer=https://api.bench",
                "--service-account-key-file", str(self._token_key),
                "--service-account-signing-key-file", str(self._token_key),
                "--service-cluster-ip-range=10.96.0.0/16",
                # There is no controller that would make the accounts which pods would be given.
                "--disable-admission-plugins=ServiceAccount",
            ],
            "kube-apiserver.log",
        )  # fmt: skip
        await _wait_ready(self._server, process, self._directory / "kube-apiserver.log")
        return time.perf_counter() - started

    def _run(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self._directory / log).open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ})
        self._processes.append(process)
        return process

    def stop(self) -> None:
        while self._processes:
            _end(self._processes.pop())

    @property
    def server(self) -> Server:
        return self._server

    def rss_mb(self) -> float:
        return sum(rss_mb(process.pid) for process in self._processes)


def sides(directory: Path) -> list[Side]:
    """Ours, and the real one when KUBE_APISERVER names its binary (and ETCD etcd's, or the PATH has it)."""
    (directory / "ours").mkdir()
    found: list[Side] = [Ours(directory / "ours")]
    binary, etcd = os.environ.get("KUBE_APISERVER"), os.environ.get("ETCD") or shutil.which("etcd")
    if binary and etcd:
        (directory / "kubernetes").mkdir()
        found.append(Kubernetes(directory / "kubernetes", Path(binary), Path(etcd)))
    return found


def _tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found
