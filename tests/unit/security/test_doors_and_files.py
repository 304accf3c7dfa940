"""Who may open which socket, and who may read which file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.clock import SystemClock
from gitkube.files import replace_durably
from gitkube.fleet.hosts import HostKey
from gitkube.fleet.known_hosts import KnownHosts
from gitkube.node import agent as agents
from gitkube.node import daemon, files
from gitkube.node.paths import Layout
from gitkube.node.sections import Sections
from gitkube.server.kubeconfig import Context, Credentials, kubeconfig, write_kubeconfig
from gitkube.server.pki import Pki
from gitkube.store.member import Member
from gitkube.store.served import StoreServer
from gitkube.wire import digest_of

NOBODY = 65534


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that any user may enter, so that only what is tested can refuse."""
    directory = Path(tempfile.mkdtemp(prefix="gk-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def heard_by_a_stranger(path: Path, monkeypatch: pytest.MonkeyPatch, say: bytes = b"") -> bytes:
    """What another user hears on a socket whose mode was lost."""
    path.chmod(0o666)
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1]);"
        f"s.sendall({say!r}); sys.stdout.buffer.write(s.recv(65536))"
    )
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if os.geteuid() != 0:  # then it is this side that is another user
        options = {}
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    python = "/usr/bin/python3"  # ours may lie where no other user gets to
    if not os.access(python, os.X_OK):
        pytest.skip(f"there is no {python} for the other user")
    process = await asyncio.create_subprocess_exec(
        python, "-IS", "-c", script, str(path), cwd="/",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
    said, error = await asyncio.wait_for(process.communicate(), 90)
    assert b"Permission" not in error and b"No such" not in error, error
    return said


async def test_the_agent_does_not_speak_to_another_user(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listening(agents.Agent):
        def __init__(self, layout: Layout) -> None:
            self._layout = layout
            self._session = None

        def hello(self) -> dict[str, Any]:
            return {"type": "hello", "secret": "canary"}

    layout = Layout(open_directory, open_directory)
    server = await Listening(layout)._listen()
    async with server:
        assert stat.S_IMODE(layout.socket.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(str(layout.socket))
        assert b"canary" in await asyncio.wait_for(reader.read(1024), 60)
        writer.close()
        assert await heard_by_a_stranger(layout.socket, monkeypatch) == b""


async def test_the_store_does_not_speak_to_another_user(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitkube.store import rpc

    member = await Member.open(open_directory / "store", clock=SystemClock(), rng=random.Random(1))
    server = StoreServer(member, open_directory / "s.sock")
    await server.start()
    try:
        assert stat.S_IMODE((open_directory / "s.sock").stat().st_mode) == 0o600
        question = rpc.encode_frame([1, "status", []])
        reader, writer = await asyncio.open_unix_connection(str(open_directory / "s.sock"))
        writer.write(question)
        assert await asyncio.wait_for(reader.read(1024), 60)
        writer.close()
        assert await heard_by_a_stranger(open_directory / "s.sock", monkeypatch, question) == b""
    finally:
        await server.close()
        await member.close()


async def test_a_push_of_another_user_is_refused(
    sync: Any, tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "gitops.sock"
    shared = open_directory / "s"
    os.link(real, shared)
    if os.geteuid() != 0:
        pytest.skip("the owner of the repository may push, and that is this user")
    request = {"hook": "pre-receive", "updates": []}
    said = await heard_by_a_stranger(shared, monkeypatch, json.dumps(request).encode() + b"\n")
    assert f"user {NOBODY} may not push here".encode() in said


# ------------------------------------------------------------ files


def is_closed(path: Path) -> bool:
    info = path.stat()
    return stat.S_IMODE(info.st_mode) & 0o077 == 0 and info.st_uid == os.geteuid()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_what_the_control_side_keeps_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=SystemClock())
    pki.server_context(["127.0.0.1"])
    pki.write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    member = await Member.open(tmp_path / "store", clock=SystemClock(), rng=random.Random(1))
    await member.close()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"ca.key", "kubeconfig"} <= {path.name for path in kept}
    assert any("store" in path.parts for path in kept)
    for path in kept:
        if path.suffix not in (".crt", ".pem"):
            assert is_closed(path), path
    assert is_closed(tmp_path / "pki") and is_closed(tmp_path / "store")


@pytest.mark.usefixtures("open_umask")
def test_known_hosts_can_be_written_by_nobody_else(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    known.remember("192.0.2.1", 22, HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA=="))
    assert is_closed(tmp_path / "known_hosts")


@pytest.mark.usefixtures("open_umask")
def test_what_a_host_keeps_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "lib", tmp_path / "run")
    layout.run.mkdir()
    layout.run.chmod(0o755)  # made by whoever came first
    os.close(daemon.prepare(layout))
    sections = Sections(layout)
    sections.load()
    data = {"pods": [], "configMaps": {}, "secrets": {"n/s": {"data": {"p": "Y2FuYXJ5"}}}, "node": {}}
    order = {"section": "pods", "term": 1, "revision": 1, "digest": digest_of(data), "data": data}
    sections.keep(order)
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and b"Y2FuYXJ5" in path.read_bytes()]
    assert [path.name for path in holders] == ["pods.json"]
    for path in (*holders, layout.run, layout.pods, layout.images, layout.desired):
        assert is_closed(path), path


@pytest.mark.parametrize("writer", ["store", "node"])
def test_no_link_and_no_leftover_opens_what_is_written(tmp_path: Path, writer: str) -> None:
    """A kubeconfig may be written into a directory that others may write to."""
    target, victim = tmp_path / "kubeconfig", tmp_path / "victim"
    victim.write_text("kept")
    temporary = tmp_path / ".kubeconfig.tmp"
    for leftover in ("link", "file"):
        if leftover == "link":
            temporary.symlink_to(victim)
        else:
            temporary.write_text("old")
            temporary.chmod(0o666)
        with contextlib.suppress(OSError):  # to refuse is right, too
            if writer == "store":
                content = kubeconfig(
                    [Context("gitkube", "https://127.0.0.1:1")], b"ca", "admin", Credentials(b"c", b"key")
                )
                write_kubeconfig(target, content)
            else:
                files.write_json(target, {"key": 1})
        assert victim.read_text() == "kept"
        if target.exists():
            assert is_closed(target) and not target.is_symlink()
            target.unlink()
        temporary.unlink(missing_ok=True)


def test_a_file_that_was_open_is_closed_by_the_next_write(tmp_path: Path) -> None:
    target = tmp_path / "kubeconfig"
    target.write_text("old")
    target.chmod(0o666)
    replace_durably(target, b"new")
    assert is_closed(target) and target.read_bytes() == b"new"


def test_a_socket_of_ours_is_a_socket_in_the_file_system() -> None:
    """Abstract ones have no mode, and every pod on the host's network could reach them."""
    import gitkube

    for path in Path(gitkube.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        for word in ('bind("\\0', "bind(b'\\0", 'bind("\\x00', 'connect("\\0'):
            assert word not in text, path
    assert socket.AF_UNIX
