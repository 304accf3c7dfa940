"""One controller to an etcd: who has it, who gets it after whom, and whose data directory is whose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.server import external_etcd
from gitkube.server.external_etcd import ExternalEtcd
from gitkube.server.settings import (
    ControlPlaneSettings,
    EtcdServers,
    SettingsError,
    check_kind_of_store,
    check_settings,
)
from gitkube.store.protocol import CompactedError, IdentityError, Put, Revision, UnavailableError
from tests.support import etcd_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not etcd_server.is_installed(), reason=etcd_server.MISSING)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_etcd, "LEASE_TTL_S", 5)
    monkeypatch.setattr(external_etcd, "KEEP_S", 0.1)
    monkeypatch.setattr(external_etcd, "STATUS_EVERY_S", 0.1)


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[str]:
    async with etcd_server.etcd_server(tmp_path / "etcd", election_ms=200) as address:
        yield address


def settings(directory: Path, address: str) -> ControlPlaneSettings:
    directory.mkdir(exist_ok=True)
    return ControlPlaneSettings(
        directory, directory / "hosts.yaml", directory / "repo.git", etcd=EtcdServers((f"http://{address}",))
    )


def controller(directory: Path, address: str, name: str = "ant") -> ExternalEtcd:
    return ExternalEtcd(settings(directory, address), name, f"{name}_1", clock=SystemClock())


@asynccontextmanager
async def running(store: ExternalEtcd) -> AsyncIterator[asyncio.Task[None]]:
    await store.enter()
    task = asyncio.create_task(store.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.leave()


async def test_a_second_controller_is_told_who_has_the_etcd_and_gets_it_when_that_one_has_left(
    etcd: str, tmp_path: Path
) -> None:
    other = controller(tmp_path / "b", etcd, "bee")
    async with running(controller(tmp_path / "a", etcd)):
        with pytest.raises(IdentityError, match="the controller ant runs on the etcd at http://"):
            await other.enter()
        check_kind_of_store(ControlPlaneSettings(tmp_path / "b", tmp_path, tmp_path))  # it was left as it was
    async with running(other):
        status = await other.status()
        assert status.is_leader and status.leader_id == status.member_id == (await other.members())[0].id


async def test_a_controller_that_was_killed_has_its_etcd_back_at_once(
    etcd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_etcd, "LEASE_TTL_S", 3600)
    killed = controller(tmp_path / "a", etcd)
    await killed.enter()
    await killed.close()
    async with running(controller(tmp_path / "a", etcd)) as task:
        await asyncio.sleep(0.5)
        assert not task.done()


async def test_a_copy_of_a_data_directory_ends_the_original(etcd: str, tmp_path: Path) -> None:
    async with running(controller(tmp_path / "a", etcd)) as task, running(controller(tmp_path / "c", etcd)):
        with pytest.raises(IdentityError, match="a copy of"):
            await asyncio.wait_for(task, 60)


async def test_an_etcd_that_goes_away_is_entered_again(tmp_path: Path) -> None:
    async with etcd_server.etcd_server(tmp_path / "etcd", election_ms=200) as address:
        store = controller(tmp_path / "a", address)
        await store.enter()
        task = asyncio.create_task(store.run())
    await eventually(lambda: is_silent(store))
    async with etcd_server.etcd_server(
        tmp_path / "etcd", port=int(address.rpartition(":")[2]), election_ms=200
    ):
        await store.lease_revoke(store._lease)  # as if it had been away for longer than the lease lasts
        await eventually(lambda: is_heard(store))
        assert not task.done()
        task.cancel()
        await store.leave()


async def is_silent(store: ExternalEtcd) -> bool:
    try:
        await store.status()
    except UnavailableError:
        return True
    return False


async def is_heard(store: ExternalEtcd) -> bool:
    return not await is_silent(store) and store._lease in await store.leases()


async def test_old_history_is_forgotten(etcd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_etcd, "DEFAULT_KEEP_HISTORY_S", 0.3)
    async with running(controller(tmp_path / "a", etcd)) as task:
        store = controller(tmp_path / "reader", etcd)
        first = (await store.txn([], [Put(b"k", b"1")])).revision
        await store.txn([], [Put(b"k", b"2")])

        async def is_compacted() -> bool:
            try:
                await store.range(b"k", revision=first)
            except CompactedError:
                return True
            await store.txn([], [Put(b"k", b"3")])
            return False

        await eventually(is_compacted)
        assert not task.done()
        assert (await store.range(b"k")).kvs[0].value in (b"2", b"3")
        await store.close()


async def test_a_data_directory_stays_with_its_store(etcd: str, tmp_path: Path) -> None:
    async with running(controller(tmp_path / "a", etcd)):
        pass
    with pytest.raises(SettingsError, match=f"is in the etcd at http://{etcd}: add --etcd-servers"):
        check_kind_of_store(ControlPlaneSettings(tmp_path / "a", tmp_path, tmp_path))
    (tmp_path / "b" / "store").mkdir(parents=True)
    with pytest.raises(SettingsError, match="has a store of its own"):
        check_kind_of_store(settings(tmp_path / "b", etcd))
    async with etcd_server.etcd_server(tmp_path / "another", election_ms=200) as address:
        store = controller(tmp_path / "a", address)
        with pytest.raises(IdentityError, match="belongs to the etcd cluster"):
            await store.enter()
        await store.close()


async def test_what_is_etcds_own_is_refused_with_the_command_that_does_it(tmp_path: Path) -> None:
    store = controller(tmp_path / "a", "127.0.0.1:1")
    refused: dict[str, Callable[[], object]] = {
        "member add": lambda: store.member_add("b", "b:1"),
        "member promote": lambda: store.member_promote(1),
        "member remove": lambda: store.member_remove(1),
        "move-leader": store.transfer_leadership,
        "endpoint hashkv": lambda: store.hash(Revision(0)),
        "alarm disarm": store.disarm,
    }
    for command, ask in refused.items():
        with pytest.raises(Exception, match=f"etcdctl {command}"):
            await ask()  # type: ignore[misc]
    await store.close()


@pytest.mark.parametrize(
    ("urls", "options", "why"),
    [
        ("10.0.0.1:2379", {}, "is not http://HOST:PORT"),
        ("https://10.0.0.1", {}, "--etcd-servers"),
        ("https://a:2379,http://b:2379", {}, "all of http, or all of https"),
        ("https://a:2379", {}, "needs --etcd-cafile"),
        ("http://a:2379", {"ca_file": Path("ca")}, "are for --etcd-servers with https"),
        ("https://a:2379", {"ca_file": Path("ca"), "key_file": Path("key")}, "belong together"),
    ],
)
def test_servers_that_cannot_be_are_refused_by_their_option(
    urls: str, options: dict[str, Path], why: str
) -> None:
    etcd = EtcdServers(tuple(urls.split(",")), **options)
    with pytest.raises(SettingsError, match=why):
        check_settings(ControlPlaneSettings(Path("d"), Path("hosts"), Path("repo"), etcd=etcd))


@pytest.mark.parametrize(
    "embedded", [{"peer_listen": "a:1"}, {"door_listen": "a:1"}, {"force_new_cluster": True}]
)
def test_options_of_the_embedded_store_do_not_go_with_an_etcd(embedded: dict[str, object]) -> None:
    chosen = ControlPlaneSettings(
        Path("d"), Path("hosts"), Path("repo"), etcd=EtcdServers(("http://a:2379",)), **embedded
    )  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="is about the embedded store"):
        check_settings(chosen)
