"""`gitkube store`, typed by a person, against a real member of one."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gitkube.api.sealing import MAGIC, Sealing
from gitkube.cli.main import cli
from gitkube.clock import SystemClock
from gitkube.server.data_directory import held
from gitkube.server.joining import JoinFile
from gitkube.server.key_file import KeyFile
from gitkube.server.pki import Pki
from gitkube.server.settings import ControlPlaneSettings, member_config
from gitkube.store.config import EXIT_REFUSED
from gitkube.store.protocol import NoSpaceError, Put, Revision
from gitkube.store.remote import RemoteStore
from tests.support.ports import free_port

START_TIMEOUT_S = 60


class Controller:
    """A data directory, and the member that runs in it."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        settings = ControlPlaneSettings(
            data_dir=self.data_dir,
            inventory=directory,
            repository=directory,
            peer_listen=f"127.0.0.1:{free_port()}",
        )
        pki = Pki.open(self.data_dir / "pki", clock=SystemClock())
        self.config = member_config(settings, pki, "ctl-1", None)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = self.data_dir / "store.json"
        self.config.write(path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gitkube.store.process", "--config", str(path)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._leads():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    def _leads(self) -> bool:
        said = self("status", "--output", "json").output
        return said.startswith("{") and bool(json.loads(said)["leader"])

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(START_TIMEOUT_S)
            self.process = None

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["store", *words, "--data-dir", str(self.data_dir)])

    def put(self, count: int) -> None:
        async def work() -> None:
            store = RemoteStore(self.config.socket, clock=SystemClock())
            for number in range(count):
                await store.txn([], [Put(b"k", b"%d" % number)])
            await store.close()

        asyncio.run(work())


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = Controller(tmp_path)
    made.start()
    yield made
    made.stop()


def test_status_and_members_tell_the_same_in_every_form(controller: Controller) -> None:
    controller.put(3)
    status = json.loads(controller("status", "--output", "json").output)
    assert status["member"] == status["leader"] == "ctl-1" and status["problems"] == []
    table = controller("status").output
    assert "ctl-1" in table and "leader, term" in table and f"revision  {status['revision']}" in table
    [member] = json.loads(controller("members", "-o", "json").output)
    assert member["role"] == "leader" and member["peer"] == controller.config.peer_listen
    assert member["id"] == status["memberId"] in controller("members").output
    assert "name: ctl-1" in controller("members", "-o", "yaml").output


def test_a_controller_is_added_invited_again_and_removed(controller: Controller, tmp_path: Path) -> None:
    out = tmp_path / "ctl-2.join"
    added = controller("add", "ctl-2", "--peer", "127.0.0.1:9", "--out", str(out))
    assert added.exit_code == 0 and "is secret and holds for an hour" in added.output
    join = JoinFile.read(out)
    assert (join.name, join.peer) == ("ctl-2", "127.0.0.1:9")
    assert list(join.peers.values()) == [controller.config.peer_listen]
    refused = controller("add", "ctl-2", "--peer", "127.0.0.1:9", "--out", str(out))
    assert refused.exit_code == 1 and "is there already" in refused.output
    again = tmp_path / "again.join"
    assert controller("add", "ctl-2", "--peer", "127.0.0.1:9", "--out", str(again)).exit_code == 0
    assert JoinFile.read(again).member_id == join.member_id
    taken = controller("add", "ctl-1", "--peer", "127.0.0.1:8", "--out", str(tmp_path / "x"))
    assert taken.exit_code == 1 and "has that name" in taken.output and not (tmp_path / "x").exists()
    never_ran = controller("promote", "ctl-2")
    assert never_ran.exit_code == 1 and "has not been heard of" in never_ran.output
    planned = controller("remove", "ctl-2")
    assert planned.exit_code == 1 and "leaves    1 voter," in planned.output
    assert "to do it, add --yes" in planned.output and "ctl-2" in controller("members").output
    assert controller("remove", "ctl-2", "--yes").exit_code == 0
    assert "ctl-2" not in controller("members").output
    only = controller("remove", "ctl-1", "--yes")
    assert only.exit_code == 1 and "without it there is no cluster" in only.output


def test_a_backup_is_restored_at_a_later_revision(controller: Controller, tmp_path: Path) -> None:
    controller.put(5)
    file = tmp_path / "backup"
    made = controller("backup", str(file))
    assert made.exit_code == 0 and "verified" in made.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is there already" in controller("backup", str(file)).output
    before = json.loads(controller("status", "-o", "json").output)
    running = controller("restore", str(file), "--yes")
    assert running.exit_code == 1 and "a member runs in" in running.output
    controller.stop()
    full = controller("restore", str(file), "--yes")
    assert full.exit_code == 1 and "move it away first" in full.output
    (controller.data_dir / "store").rename(tmp_path / "old")
    planned = controller("restore", str(file))
    assert planned.exit_code == 1 and "made by ctl-1" in planned.output
    assert not (controller.data_dir / "store").exists()
    assert controller("restore", str(file), "--name", "ctl-1", "--yes").exit_code == 0
    assert "is whole" in controller("check").output
    controller.start()
    after = json.loads(controller("status", "-o", "json").output)
    assert after["revision"] >= before["revision"] + 1_000_000_000
    assert after["clusterId"] != before["clusterId"]


def test_a_damaged_backup_is_not_restored(controller: Controller, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    controller("backup", str(file))
    controller.stop()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (controller.data_dir / "store").rename(tmp_path / "old")
    refused = controller("restore", str(file), "--yes")
    assert refused.exit_code == 1 and str(file) in refused.output
    assert "restore another one" in refused.output and "from a backup" not in refused.output
    assert not (controller.data_dir / "store").exists()


def test_history_is_compacted_when_it_is_wanted(controller: Controller) -> None:
    controller.put(20)
    before = json.loads(controller("status", "-o", "json").output)
    planned = controller("compact")
    assert planned.exit_code == 1 and "watchers that are further behind" in planned.output
    assert (
        json.loads(controller("status", "-o", "json").output)["compactRevision"] == before["compactRevision"]
    )
    assert controller("compact", "--revision", str(before["revision"]), "--yes").exit_code == 0
    after = json.loads(controller("status", "-o", "json").output)
    assert after["compactRevision"] == before["revision"]
    future = controller("compact", "--revision", str(Revision(10**9)), "--yes")
    assert future.exit_code == 1


def test_a_quota_that_was_raised_lifts_its_alarm_though_there_is_nothing_to_compact(
    controller: Controller,
) -> None:
    async def fill() -> None:
        store = RemoteStore(controller.config.socket, clock=SystemClock())
        try:
            for number in range(100):
                await store.txn([], [Put(b"k/%d" % number, b"x" * 10_000)])
        finally:
            await store.close()

    def quota(size_bytes: int) -> None:
        controller.stop()
        controller.config = replace(controller.config, quota_bytes=size_bytes)
        controller.start()

    quota(200_000)
    for _ in range(2):  # the second time all is compacted that can be, and the alarm comes back
        with pytest.raises(NoSpaceError):
            asyncio.run(fill())
        assert controller("compact", "--yes").exit_code == 0
    with pytest.raises(NoSpaceError, match="--store-quota"):
        asyncio.run(fill())
    quota(2_000_000)
    assert controller("compact", "--yes").exit_code == 0
    asyncio.run(fill())


def test_the_only_voter_is_not_even_offered_for_removal(controller: Controller) -> None:
    refused = controller("remove", "ctl-1")
    assert refused.exit_code == 1
    assert refused.output == "Error: ctl-1 is the only voter: without it there is no cluster\n"


def test_a_member_that_systemd_stops_ends_in_good_order(controller: Controller) -> None:
    controller.put(1)
    assert controller.process is not None
    controller.process.terminate()
    assert controller.process.wait(START_TIMEOUT_S) == 0
    assert controller("check").exit_code == 0


def test_check_compares_what_runs_and_reads_what_does_not(controller: Controller) -> None:
    controller.put(3)
    running = controller("check")
    assert running.exit_code == 0 and "ctl-1" in running.output and "agrees" in running.output
    controller.stop()
    assert controller("check").exit_code == 0
    assert f"every file in {controller.data_dir / 'store'} is whole\n" in controller("check").output
    [segment, *_] = sorted((controller.data_dir / "store" / "wal").glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    damaged = controller("check", "-o", "json")
    assert damaged.exit_code == 1
    found = json.loads(damaged.output)
    assert not found["good"] and str(segment) in json.dumps(found)
    assert controller("check").output.count(str(segment)) == 1


def test_without_a_member_each_command_says_where_it_looked(tmp_path: Path) -> None:
    for words in (["status"], ["members"], ["transfer"], ["compact"], ["backup", str(tmp_path / "b")]):
        done = CliRunner().invoke(cli, ["store", *words, "--data-dir", str(tmp_path)])
        assert done.exit_code == 1 and f"no member runs in {tmp_path}" in done.output
    nothing = CliRunner().invoke(cli, ["store", "check", "--data-dir", str(tmp_path)])
    assert nothing.exit_code == 1 and "there is no store" in nothing.output


async def test_a_member_that_is_being_started_again_is_not_said_to_need_a_start(tmp_path: Path) -> None:
    async with held(tmp_path, SystemClock()):
        done = CliRunner().invoke(cli, ["store", "status", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert f"(process {os.getpid()}) starts it again" in done.output and "full disk" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "ctl-2", "--peer", "2380"], "is not HOST:PORT"),
        (["add", "ctl-2", "--peer", "0.0.0.0:2380"], "no place that the others could dial"),
        (["add", "ctl-2", "--peer", "[::]:2380"], "no place that the others could dial"),
        (["add", "a b", "--peer", "a:1"], "letters, digits"),
        (["add", "ctl-2"], "Missing option '--peer'"),
        (["remove"], "Missing argument"),
    ],
)
def test_wrong_use_ends_with_two(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["store", *words])
    assert done.exit_code == 2 and said in done.output


def test_leadership_stays_where_there_is_nobody_else(controller: Controller) -> None:
    refused = controller("transfer")
    assert refused.exit_code == 1 and "no other voter" in refused.output
    assert "there is no member x" in controller("transfer", "x").output


def test_another_key_is_made_and_all_records_are_sealed_anew(controller: Controller) -> None:
    refused = controller("rotate-key", "--yes")
    assert refused.exit_code == 1 and "nothing is sealed in this store yet" in refused.output
    pki = controller.data_dir / "pki"
    authority = Pki.open(pki, clock=SystemClock()).shared_secret()
    sealing = Sealing(KeyFile(pki), secret=authority, random_bytes=os.urandom)
    place = b"/registry/core/secrets/default/db"

    async def write() -> None:
        store = RemoteStore(controller.config.socket, clock=SystemClock())
        await sealing.load(store)
        compares, operations = sealing.sealed([], [Put(place, b"word")])
        assert (await store.txn(compares, operations)).succeeded
        await store.txn([], [Put(b"/registry/core/secrets/default/old", b"open")])
        await store.close()

    async def read() -> list[bytes]:
        store = RemoteStore(controller.config.socket, clock=SystemClock())
        await sealing.load(store)
        found = await store.range(b"/registry/core/secrets/", b"/registry/core/secrets0")
        await store.close()
        return [sealing.open(kv.key, kv.value) for kv in found.kvs if kv.value.startswith(MAGIC)]

    asyncio.run(write())
    before = sealing.writes
    planned = controller("rotate-key")
    assert planned.exit_code == 1 and before in planned.output and "to do it, add --yes" in planned.output
    done = controller("rotate-key", "--yes")
    assert done.exit_code == 0 and "2 records sealed anew" in done.output
    assert asyncio.run(read()) == [b"word", b"open"]
    assert list(KeyFile(pki).read()) == [sealing.writes] != [before]


def test_a_member_whose_address_is_taken_is_not_started_again_and_names_the_option(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    host, _, port = controller.config.peer_listen.rpartition(":")
    with socket.create_server((host, int(port))):
        controller.config.write(tmp_path / "store.json")
        done = subprocess.run(
            [sys.executable, "-m", "gitkube.store.process", "--config", str(tmp_path / "store.json")],
            stdin=subprocess.PIPE,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )
    assert done.returncode == EXIT_REFUSED
    assert done.stderr.endswith("Address already in use; choose another with --peer-listen\n")
