"""A real sshd on loopback: keys pinned, a changed key refused, a host prepared in one round trip.

sshd runs in mount and PID namespaces of its own with empty /run, /var/lib and /var/log, so that preparing
the "host" leaves nothing on this machine. The agent that is put there is a small stand-in with the real wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gitkube import wire
from gitkube.clock import SystemClock
from gitkube.fleet.agent_package import AgentPackage
from gitkube.fleet.dialer import SshDialer
from gitkube.fleet.errors import HostKeyChanged, HostUnreachable, LoginRefused, PrepareError
from gitkube.fleet.hosts import Host, parse_host_key
from gitkube.fleet.known_hosts import KnownHosts
from gitkube.fleet.link import HostLink
from gitkube.fleet.prepare import Prepared, modules, prepare
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh import SshConnection, connect
from tests.support.ports import free_port
from tests.support.stand_in_agent import stand_in

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd gets mount and PID namespaces, which need root"),
    pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="sshd is not installed"),
]

SETTINGS = FleetSettings(connect_timeout_s=60, install_timeout_s=60, backoff_first_s=0.05)


@dataclass
class Sshd:
    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> Host:
        return Host("ant", "127.0.0.1", self.port, "root", self.directory / "client")

    def new_host_key(self) -> str:
        key = self.directory / "host"
        for path in (key, key.with_suffix(".pub")):
            path.unlink(missing_ok=True)
        _keygen(key)
        return key.with_suffix(".pub").read_text()

    def start(self) -> None:
        config = self.directory / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {self.directory}/authorized\nStrictModes no\nPidFile none\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        room = (
            "for place in /run /var/lib /var/log; do mount -t tmpfs none $place; done; mkdir -p /run/sshd;"
            ' exec /usr/sbin/sshd -D -e -f "$0"'
        )
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
             "sh", "-c", room, str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(self.directory / "log").open("ab"),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            # A child that sshd has just forked holds the listening socket until it begins itself anew.
            deadline = time.monotonic() + 60
            while self._listens():
                assert time.monotonic() < deadline, "the port of a killed sshd still takes connections"
                time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    server = Sshd(directory, free_port())
    _keygen(directory / "client")
    (directory / "authorized").write_text((directory / "client.pub").read_text())
    server.new_host_key()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def reach(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[SshConnection] = []

    async def reach(host: Host) -> SshConnection:
        made.append(await connect(host, KnownHosts(tmp_path / "data" / "known_hosts"), SETTINGS))
        return made[-1]

    yield reach
    for connection in made:
        await connection.close()


class Counting:
    """A shell that counts what goes to the host."""

    def __init__(self, inner: SshConnection) -> None:
        self.inner, self.runs, self.uploads = inner, 0, 0

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return await self.inner.run(*args, **kwargs)

    async def upload(self, *args: Any, **kwargs: Any) -> None:
        self.uploads += 1
        await self.inner.upload(*args, **kwargs)


async def ready(connection: SshConnection, package: AgentPackage, **more: Any) -> tuple[Prepared, Counting]:
    shell = Counting(connection)
    done = await prepare(shell, connection.host, package, settings=SETTINGS, rng=Random(1), **more)
    return done, shell


async def test_the_key_of_the_first_contact_is_kept_and_a_changed_one_stops_the_host(
    sshd: Sshd, reach, tmp_path: Path
) -> None:
    first = await reach(sshd.host)
    assert first.first_contact is not None
    kept = (tmp_path / "data" / "known_hosts").read_text()
    assert kept.startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
    assert (await reach(sshd.host)).first_contact is None
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    with pytest.raises(HostKeyChanged, match=r"SHA256:.*pinned is ssh-ed25519 SHA256:"):
        await reach(sshd.host)
    assert (tmp_path / "data" / "known_hosts").read_text() == kept


async def test_a_key_pinned_by_the_inventory_is_the_only_one_trusted(sshd: Sshd, reach) -> None:
    right = parse_host_key((sshd.directory / "host.pub").read_text())
    assert (await reach(replace(sshd.host, host_keys=(right,)))).first_contact is None
    other = parse_host_key((sshd.directory / "client.pub").read_text())
    with pytest.raises(HostKeyChanged):
        await reach(replace(sshd.host, host_keys=(other,)))


async def test_a_login_that_is_refused_says_which_keys_were_tried(sshd: Sshd, reach) -> None:
    _keygen(sshd.directory / "stranger")
    with pytest.raises(LoginRefused, match=r"stranger was not accepted.*authorized_keys"):
        await reach(replace(sshd.host, identity_file=sshd.directory / "stranger"))
    with pytest.raises(LoginRefused, match="does not exist"):
        await reach(replace(sshd.host, identity_file=sshd.directory / "nothing"))


async def test_a_host_that_does_not_answer_is_unreachable_with_a_sentence(sshd: Sshd, reach) -> None:
    sshd.stop()
    with pytest.raises(HostUnreachable, match="connection refused"):
        await reach(sshd.host)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        quick = replace(SETTINGS, connect_timeout_s=0.3)
        started = time.monotonic()
        with pytest.raises(HostUnreachable):
            await connect(
                replace(sshd.host, port=mute.getsockname()[1]), KnownHosts(sshd.directory / "kh"), quick
            )
        assert time.monotonic() - started < SETTINGS.connect_timeout_s


async def test_a_command_that_ends_before_it_has_read_its_input_is_heard(sshd: Sshd, reach) -> None:
    connection = await reach(sshd.host)
    refusing = "echo 'a password is required' >&2; exit 7"
    for size in (1, 8 * 1024 * 1024):
        done = await connection.run(refusing, bytes(size), timeout_s=60)
        assert (done.exit_code, done.stderr) == (7, b"a password is required\n")
    assert (await connection.run("echo still there", b"", timeout_s=60)).stdout == b"still there\n"


async def test_a_cancelled_connect_ends_at_once(sshd: Sshd) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        host = replace(sshd.host, port=mute.getsockname()[1])
        task = asyncio.ensure_future(connect(host, KnownHosts(sshd.directory / "kh"), SETTINGS))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < SETTINGS.connect_timeout_s


async def test_a_ready_host_costs_one_round_trip_and_is_left_as_it_is(sshd: Sshd, reach) -> None:
    connection = await reach(sshd.host)
    package = stand_in("1")
    told: list[str] = []
    done, shell = await ready(connection, package, on_progress=told.append)
    assert (shell.runs, shell.uploads, done.round_trips) == (2, 1, 3)
    assert f"put {package.name}" in done.did and "started the agent" in done.did
    assert any("sending the agent" in sentence for sentence in told)
    again, shell = await ready(connection, package)
    assert (shell.runs, shell.uploads, again.did) == (1, 0, ())


async def test_a_new_agent_replaces_the_running_one_and_only_then(sshd: Sshd, reach) -> None:
    connection = await reach(sshd.host)
    await ready(connection, stand_in("1"))
    done, _ = await ready(connection, stand_in("2"))
    assert "restarted the agent" in done.did
    listing = await connection.run("ls /var/lib/gitkube/bin", b"", timeout_s=60)
    names = listing.stdout.decode().split()
    assert stand_in("1").name in names and stand_in("2").name in names
    forced, _ = await ready(connection, stand_in("2"), restart=True)
    assert forced.did == ("restarted the agent",)


async def test_a_torn_agent_on_the_disk_is_sent_again(sshd: Sshd, reach) -> None:
    connection = await reach(sshd.host)
    package = stand_in("1")
    await ready(connection, package)
    path = f"/var/lib/gitkube/bin/{package.name}"
    await connection.run(f"truncate -s 100 {path}", b"", timeout_s=60)
    done, shell = await ready(connection, package)
    assert shell.uploads == 1 and f"put {package.name}" in done.did


async def test_an_upload_that_was_tampered_with_is_refused(sshd: Sshd, reach) -> None:
    connection = await reach(sshd.host)

    class Tampering(Counting):
        async def upload(self, content: bytes, path: str, *, timeout_s: float) -> None:
            await self.inner.upload(content + b"x", path, timeout_s=timeout_s)

    with pytest.raises(PrepareError, match="not the one that was sent"):
        await prepare(Tampering(connection), connection.host, stand_in("1"), settings=SETTINGS, rng=Random(1))


async def test_a_host_without_a_package_and_without_apt_says_what_to_install(
    sshd: Sshd, reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gitkube.fleet.prepare.PACKAGES", ({"name": "no-such-thing", "programs": ["no-such-thing"]},)
    )
    changed = [(name, text.replace('which("apt-get"', 'which("no-apt"')) for name, text in modules()]
    monkeypatch.setattr("gitkube.fleet.prepare.modules", lambda: changed)
    with pytest.raises(PrepareError, match=r"has no apt.*no-such-thing"):
        await ready(await reach(sshd.host), stand_in("1"))


class Silent:
    """An observer that only keeps hellos."""

    def __init__(self) -> None:
        self.hellos: list[wire.Hello] = []

    async def linked(self, link: HostLink, hello: wire.Hello) -> None:
        self.hellos.append(hello)

    async def heard(self, link: HostLink, message: dict[str, Any]) -> None: ...

    def state_changed(self, link: HostLink) -> None: ...


async def until(check: Callable[[], Any], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is waited for happens on the host
            await asyncio.sleep(0.01)


async def test_a_link_over_ssh_carries_sections_and_streams_and_survives_sshd(
    sshd: Sshd, tmp_path: Path
) -> None:
    dialer = SshDialer(tmp_path / "data", rng=Random(1), settings=SETTINGS, package=stand_in("1"))
    observer = Silent()
    link = HostLink(
        sshd.host, dialer=dialer, observer=observer, term=1, clock=SystemClock(), rng=Random(1),
        settings=SETTINGS,
    )  # fmt: skip
    task = asyncio.ensure_future(link.run())
    try:
        await until(lambda: link.state.is_up)
        data = {"pods": ["x" * 3_000_000]}
        link.set_desired("pods", data, wire.digest_of(data), 1)
        await until(lambda: link.in_force("pods") == "")
        stream = await link.open({"kind": "exec"})
        sent = os.urandom(2_000_000)

        async def write() -> None:
            await stream.write(wire.STDIN, sent)
            await stream.write(wire.STDIN, b"")

        writing = asyncio.ensure_future(write())
        received = b""
        while (item := await stream.read()) is not None:
            received += item[1]
        await writing
        assert received == sent
        sshd.stop()
        await until(lambda: not link.state.is_up)
        sshd.start()
        await until(lambda: link.state.is_up)
        assert len(observer.hellos) == 2
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
