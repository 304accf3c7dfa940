"""Joining: a file that is made where the cluster runs is good for one directory and for an hour."""

from __future__ import annotations

import asyncio
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from gitkube.server import joining
from gitkube.server.joining import (
    JoinError,
    JoinFile,
    check_directory,
    has_joined,
    invite,
    note_joined,
    prepare,
)
from gitkube.server.pki import Pki
from tests.support.fake_clock import FakeClock
from tests.support.memory_cluster import CLUSTER_ID, MemoryCluster, MemoryStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Home:
    """A controller that runs, and the file that it made for `ctl-2`."""

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.cluster = MemoryCluster("ctl-1")
        self.store: MemoryStore = self.cluster.member("ctl-1")
        self.pki = directory / "home" / "pki"
        made = Pki.open(self.pki, clock=clock)
        made.member_files("ctl-1", ["10.0.0.1"])
        self.file = directory / "ctl-2.join"

    async def invite(self, name: str = "ctl-2") -> JoinFile:
        before = await self.store.members()
        added = await self.store.member_add(name, f"{name}:2380")
        join = await invite(self.store, added, before, cluster_id=CLUSTER_ID, pki=self.pki, clock=self.clock)
        join.write(self.file)
        return join

    async def redeem(self, join: JoinFile, by: str) -> None:
        await joining.redeem(self.store, join.member_id, join.token, by, clock=self.clock)

    async def prepare(self, data_dir: Path) -> JoinFile:
        data_dir.mkdir(exist_ok=True)
        return await prepare(self.file, data_dir, clock=self.clock, redeem=self.redeem)


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Home:
    return Home(tmp_path, clock)


async def test_a_new_controller_gets_the_clusters_authorities_and_whom_to_dial(
    home: Home, tmp_path: Path
) -> None:
    await home.invite()
    assert home.file.stat().st_mode & 0o777 == 0o600
    join = await home.prepare(tmp_path / "new")
    assert (join.name, join.peer, dict(join.info.peers)) == ("ctl-2", "ctl-2:2380", {"1": "ctl-1:2380"})
    assert (join.info.cluster_id, join.info.member_id) == (CLUSTER_ID, 2)
    for name in ("ca.key", "ca.crt", "store-ca.key", "store-ca.crt"):
        laid = tmp_path / "new" / "pki" / name
        assert laid.read_bytes() == (home.pki / name).read_bytes()
        assert laid.stat().st_mode & 0o777 == 0o600


async def test_a_used_file_is_refused_to_another_directory_and_not_to_the_same(
    home: Home, tmp_path: Path
) -> None:
    await home.invite()
    await home.prepare(tmp_path / "new")
    await home.prepare(tmp_path / "new")
    with pytest.raises(JoinError, match="was used already"):
        await home.prepare(tmp_path / "another")


async def test_a_controller_that_died_before_it_was_let_in_tries_again(home: Home, tmp_path: Path) -> None:
    await home.invite()

    async def dies(join: JoinFile, by: str) -> None:
        await home.redeem(join, by)
        raise ConnectionError("the answer is lost")

    (tmp_path / "new").mkdir()
    with pytest.raises(ConnectionError):
        await prepare(home.file, tmp_path / "new", clock=home.clock, redeem=dies)
    await home.prepare(tmp_path / "new")


async def test_an_expired_file_is_refused_on_both_sides(home: Home, tmp_path: Path, clock: FakeClock) -> None:
    join = await home.invite()
    await clock.advance(joining.VALID_S + 1)
    with pytest.raises(JoinError, match="has expired"):
        await home.prepare(tmp_path / "new")
    assert not (tmp_path / "new" / "pki").exists()
    with pytest.raises(JoinError, match="has expired"):
        await home.redeem(join, "somebody whose clock is wrong")


async def test_only_the_newest_file_of_a_member_is_good(home: Home, tmp_path: Path) -> None:
    await home.invite()
    old = home.file.read_bytes()
    members = await home.store.members()
    await invite(home.store, members[1], members, cluster_id=CLUSTER_ID, pki=home.pki, clock=home.clock)
    home.file.write_bytes(old)
    with pytest.raises(JoinError, match="not the newest"):
        await home.prepare(tmp_path / "new")


async def test_a_file_of_a_member_that_was_never_recorded_is_refused(home: Home) -> None:
    join = await home.invite()
    with pytest.raises(JoinError, match="did not make the join file"):
        await joining.redeem(home.store, 99, join.token, "by", clock=home.clock)


OF_ANOTHER_TYPE = (
    ("cluster_id", "7"),
    ("member_id", None),
    ("name", ""),
    ("expires_s", "soon"),
    ("apis", 5),
    ("apis", [5]),
    ("peers", ["a:1"]),
    ("peers", {"ctl-1": "a:1"}),
    ("files", {"ca.key": "", "store-ca.key": ""}),
)


def set_field(name: str, value: object, path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), name: value}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.chmod(0o644), "chmod 600"),
        (lambda path: path.write_bytes(b"hello"), "is no join file"),
        (lambda path: path.write_bytes(b"[]"), "is no join file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is no join file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"join-1", b"join-9")), "is no join file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"ca.key", b"../../x")), "is no join file"),
        *((partial(set_field, name, value), "is no join file") for name, value in OF_ANOTHER_TYPE),
    ],
    ids=["missing", "open", "text", "list", "cut", "version", "path", *(name for name, _ in OF_ANOTHER_TYPE)],
)
async def test_what_is_no_join_file_is_refused_by_name(home: Home, tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    await home.invite()
    spoil(home.file)
    with pytest.raises(JoinError, match=said) as refused:
        await home.prepare(tmp_path / "new")
    assert "ctl-2.join" in str(refused.value)
    assert not list((tmp_path / "new").glob("*")), "nothing was made of it"


async def test_a_directory_of_another_cluster_or_member_is_left_alone(home: Home, tmp_path: Path) -> None:
    await home.invite()
    Pki.open(tmp_path / "other" / "pki", clock=home.clock)
    with pytest.raises(JoinError, match="is of another cluster"):
        await home.prepare(tmp_path / "other")
    (tmp_path / "first" / "store").mkdir(parents=True)
    with pytest.raises(JoinError, match="holds a store already"):
        await home.prepare(tmp_path / "first")
    await home.prepare(tmp_path / "new")
    await home.invite("ctl-3")
    with pytest.raises(JoinError, match="is member 0000000000000002"):
        await home.prepare(tmp_path / "new")


async def test_a_member_that_lost_its_store_does_not_begin_anew(home: Home, tmp_path: Path) -> None:
    await home.invite()
    await home.prepare(tmp_path / "new")
    check_directory(tmp_path / "new")
    (tmp_path / "new" / "store").mkdir()
    note_joined(tmp_path / "new")
    assert has_joined(tmp_path / "new")
    check_directory(tmp_path / "new")
    shutil.rmtree(tmp_path / "new" / "store")
    with pytest.raises(JoinError, match="gitkube store remove 0000000000000002"):
        check_directory(tmp_path / "new")


async def test_two_directories_that_ask_at_once_are_not_both_let_in(home: Home) -> None:
    join = await home.invite()
    asked = await asyncio.gather(*(home.redeem(join, by) for by in "abcd"), return_exceptions=True)
    assert sum(answer is None for answer in asked) == 1
    assert sum(isinstance(answer, JoinError) for answer in asked) == 3


async def test_the_token_is_not_in_the_store(home: Home) -> None:
    join = await home.invite()
    found = await home.store.range(joining.TOKEN_PREFIX, b"\x00")
    assert join.token not in json.dumps([kv.value.decode() for kv in found.kvs])


async def test_a_controller_that_listens_for_nobody_invites_nobody(home: Home) -> None:
    await home.store.member_update(1, peer_address="ctl-1:2380")
    lonely = [member.__class__(member.id, member.name, "") for member in await home.store.members()]
    added = await home.store.member_add("ctl-2", "ctl-2:2380")
    with pytest.raises(JoinError, match="--peer-listen"):
        await invite(home.store, added, lonely, cluster_id=1, pki=home.pki, clock=home.clock)
