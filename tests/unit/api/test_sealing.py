"""Secrets at rest: the disk tells nothing, another place opens nothing, another key loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gitkube.api.errors import StatusError
from gitkube.api.keys import RING_KEY, object_key
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, ListOptions
from gitkube.api.sealing import MAGIC, MissingKeyError, Ring, SealError, Sealing, Wrapping, sealed_under
from gitkube.api.sealing_rotation import Rotation, rotate
from gitkube.clock import SystemClock
from gitkube.objects.kinds import CONFIG_MAP, SECRET
from gitkube.objects.types import Object
from gitkube.server.key_file import KeyFile, sealed_kinds
from gitkube.store.fenced import FencedStore
from gitkube.store.member import Member
from gitkube.store.protocol import Put
from tests.support.memory_cluster import MemoryCluster, MemoryStore
from tests.support.real_api import ADMIN, SMALL_STORE

AUTHORITY = b"what all controllers share"
WORD = "q7-canary-of-the-secret"


def sealing_of(directory: Path, *, secret: bytes = AUTHORITY, kinds: tuple[str, ...] = ()) -> Sealing:
    directory.mkdir(parents=True, exist_ok=True)
    return Sealing(KeyFile(directory), secret=secret, random_bytes=os.urandom, kinds=sealed_kinds(kinds))


@contextlib.asynccontextmanager
async def api_over(store: MemoryStore | Member, sealing: Sealing | None, seed: int = 1) -> AsyncIterator[Api]:
    api = Api(store, clock=SystemClock(), rng=random.Random(seed), sealing=sealing)
    task = asyncio.create_task(api.run())
    try:
        async with asyncio.timeout(30):
            ready = asyncio.ensure_future(api.wait_ready())
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        yield api
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def secret(name: str, word: str = WORD) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"word": word}}


async def record(store: MemoryStore, name: str) -> bytes:
    return (await store.range(object_key(SECRET, "default", name))).kvs[0].value


async def turn(store: MemoryStore, directory: Path) -> Rotation:
    return await rotate(
        store,
        sealing_of(directory),
        Wrapping(AUTHORITY, os.urandom),
        random_bytes=os.urandom,
        on_progress=lambda _: None,
    )


async def test_no_file_of_the_store_tells_a_secret(tmp_path: Path) -> None:
    settings = replace(SMALL_STORE, snapshot_entries=20)
    member = await Member.open(
        tmp_path / "store", clock=SystemClock(), rng=random.Random(1), settings=settings
    )
    async with api_over(member, sealing_of(tmp_path / "pki", kinds=("configmaps",))) as api:
        client = api.client(ADMIN)
        await client.create(SECRET, secret("db"))
        await client.apply(SECRET, secret("applied"), field_manager="test")
        await client.patch(SECRET, "db", "default", {"stringData": {"word": f"{WORD}-2"}})
        hidden = {"metadata": {"name": "c", "namespace": "default"}, "data": {"word": WORD}}
        await client.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", **hidden})
        assert (await client.get(SECRET, "db", "default"))["data"]["word"].startswith("cTctY2FuYXJ5")
        for number in range(2 * settings.snapshot_entries):
            await client.patch(SECRET, "applied", "default", {"metadata": {"labels": {"n": str(number)}}})
    await member.close()

    held = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    for data in held.values():
        for spelling in (WORD.encode(), b"cTctY2FuYXJ5", b"q7-canary"):  # plain, and in base64
            assert spelling not in data
    for kind in ("wal", "snap"):
        assert any(MAGIC in data for path, data in held.items() if kind in str(path.relative_to(tmp_path)))


async def test_secrets_are_read_again_after_a_restart_and_by_another_controller(
    tmp_path: Path,
) -> None:
    cluster = MemoryCluster("ctl-1", "ctl-2")
    store = cluster.member("ctl-1")
    async with api_over(store, sealing_of(tmp_path / "a")) as first:
        await first.client(ADMIN).create(SECRET, secret("db"))
        # Another controller has no file yet: the keys come by the store, wrapped under the authority.
        async with api_over(cluster.member("ctl-2"), sealing_of(tmp_path / "b"), 2) as second:
            assert (await second.client(ADMIN).get(SECRET, "db", "default"))["data"]
            await second.client(ADMIN).create(SECRET, secret("other"))
    async with api_over(store, sealing_of(tmp_path / "a")) as again:
        assert (await again.client(ADMIN).get(SECRET, "other", "default"))["data"]
    assert (tmp_path / "a" / "sealing-keys.json").read_bytes() == (
        tmp_path / "b" / "sealing-keys.json"
    ).read_bytes()
    assert (tmp_path / "b" / "sealing-keys.json").stat().st_mode & 0o777 == 0o600


async def test_records_from_before_are_read_and_sealed_when_they_change(tmp_path: Path) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    async with api_over(store, None) as api:
        await api.client(ADMIN).create(SECRET, secret("old"))
    assert WORD[:4].encode() not in MAGIC and (await record(store, "old")).startswith(b"{")
    async with api_over(store, sealing_of(tmp_path)) as api:
        client = api.client(ADMIN)
        assert (await client.get(SECRET, "old", "default"))["data"]
        await client.patch(SECRET, "old", "default", {"metadata": {"labels": {"a": "b"}}})
    assert sealed_under(await record(store, "old"))


async def test_pages_and_watches_of_secrets_are_as_ever(tmp_path: Path) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    async with api_over(store, sealing_of(tmp_path)) as api:
        client = api.client(ADMIN)
        for number in range(5):
            await client.create(SECRET, secret(f"s{number}"))
        page = await api.verbs.list(Context(ADMIN), SECRET, "default", ListOptions(limit=2))
        rest = await api.verbs.list(
            Context(ADMIN), SECRET, "default", ListOptions(continue_token=page.continue_token)
        )
        names = [one["metadata"]["name"] for one in [*page.items, *rest.items]]
    assert names == [f"s{number}" for number in range(5)]


async def test_a_record_that_was_moved_is_left_out_and_stops_nothing_else(tmp_path: Path) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    async with api_over(store, sealing_of(tmp_path)) as api:
        client = api.client(ADMIN)
        await client.create(SECRET, secret("db"))
        stolen = await record(store, "db")
        await store.txn([], [Put(object_key(SECRET, "kube-public", "db"), stolen)])
        await client.create(SECRET, secret("after"))
        with pytest.raises(StatusError, match="not found"):
            await client.get(SECRET, "db", "kube-public")
        assert (await client.get(SECRET, "after", "default"))["data"]
    async with api_over(store, sealing_of(tmp_path)) as api:
        assert len((await api.client(ADMIN).list(SECRET)).items) == 2


async def test_without_its_keys_the_server_says_which_one_is_missing_and_where(tmp_path: Path) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    async with api_over(store, sealing_of(tmp_path / "a")) as api:
        await api.client(ADMIN).create(SECRET, secret("db"))
    id = sealed_under(await record(store, "db"))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with api_over(store, sealing_of(tmp_path / "b", secret=b"another authority")):
            pass
    found = caught.value.exceptions[0].exceptions[0]  # type: ignore[attr-defined]
    assert isinstance(found, MissingKeyError)
    assert id in str(found) and str(tmp_path / "b") in str(found) and "pki/" in str(found)


async def test_a_rotation_changes_the_key_under_a_running_api_and_forgets_the_old_one(tmp_path: Path) -> None:
    cluster = MemoryCluster("ctl-1", "ctl-2")
    store = cluster.member("ctl-1")
    async with (
        api_over(store, sealing_of(tmp_path / "a")) as api,
        api_over(cluster.member("ctl-2"), sealing_of(tmp_path / "b"), 2) as other,
    ):
        client = api.client(ADMIN)
        for number in range(40):
            await client.create(SECRET, secret(f"s{number}"))
        before = sealed_under(await record(store, "s0"))

        async def go_on_writing() -> None:
            for number in range(40):
                await other.client(ADMIN).patch(
                    SECRET, f"s{number}", "default", {"stringData": {"word": f"new-{number}"}}
                )

        done, _ = await asyncio.gather(turn(store, tmp_path / "a"), go_on_writing())

        records = [await record(store, f"s{number}") for number in range(40)]
        assert {sealed_under(one) for one in records} == {done.key} and done.key != before
        assert done.retired == (before,)
        await client.create(SECRET, secret("later"))
        assert len((await other.client(ADMIN).list(SECRET, "default")).items) == 41
    for name in ("a", "b"):
        assert list(KeyFile(tmp_path / name).read()) == [done.key]


async def test_a_rotation_that_was_broken_off_is_finished_without_a_further_key(tmp_path: Path) -> None:
    store = MemoryCluster("ctl-1").member("ctl-1")
    async with api_over(store, sealing_of(tmp_path)) as api:
        for number in range(40):
            await api.client(ADMIN).create(SECRET, secret(f"s{number}"))
        seen: list[str] = []

        def break_off(resealed: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await rotate(
                store, sealing_of(tmp_path), Wrapping(AUTHORITY, os.urandom),
                random_bytes=os.urandom, on_progress=break_off,
            )  # fmt: skip
        ring = Ring.decode((await store.range(RING_KEY)).kvs[0].value)
        assert len(ring.wrapped) == 2
        assert len((await api.client(ADMIN).list(SECRET, "default")).items) == 40  # under both keys
        done = await turn(store, tmp_path)
        assert done.key == ring.writes and not seen
    async with api_over(store, sealing_of(tmp_path)) as api:
        assert len((await api.client(ADMIN).list(SECRET, "default")).items) == 40


async def test_a_backup_from_before_a_rotation_is_read_with_the_authority(tmp_path: Path) -> None:
    old, new = MemoryCluster("ctl-1"), MemoryCluster("ctl-1")
    async with api_over(old.member("ctl-1"), sealing_of(tmp_path)) as api:
        await api.client(ADMIN).create(SECRET, secret("db"))
    copy = (await old.member("ctl-1").range(b"/registry/", b"/registry0")).kvs
    await turn(old.member("ctl-1"), tmp_path)
    await new.member("ctl-1").txn([], [Put(kv.key, kv.value) for kv in copy if b"/rbac" not in kv.key])
    async with api_over(new.member("ctl-1"), sealing_of(tmp_path)) as api:
        assert (await api.client(ADMIN).get(SECRET, "db", "default"))["data"]


async def test_a_write_under_a_key_that_was_replaced_meanwhile_is_made_again(tmp_path: Path) -> None:
    """The ring is compared in the same transaction, through a leader's fence, too."""
    store = MemoryCluster("ctl-1").member("ctl-1")
    sealing = sealing_of(tmp_path)
    async with api_over(store, sealing) as api:
        lease = (await store.txn([], [Put(b"leader", b"me")])).revision
        fenced = FencedStore(store, b"leader", lease)
        place = object_key(SECRET, "default", "db")
        compares, operations = sealing.sealed([], [Put(place, b"{}")])
        await turn(store, tmp_path)
        assert not (await fenced.txn(compares, operations)).succeeded
        verbs = api.verbs_over(fenced)
        await verbs.create(Context(ADMIN), SECRET, "default", secret("db"))
    assert sealed_under(await record(store, "db")) == sealing.writes


@pytest.mark.parametrize("text", ["{}", "not json", '{"format": "gitkube-sealing-keys-1", "keys": ["AAAA"]}'])
def test_a_key_file_that_is_none_says_where(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sealing-keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SealError, match=str(path)):
        KeyFile(tmp_path).read()


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    KeyFile(tmp_path).write({"x": b"k" * 32})
    (tmp_path / "sealing-keys.json").chmod(0o640)
    with pytest.raises(SealError, match="chmod 600"):
        KeyFile(tmp_path).read()


def test_kinds_are_named_by_their_plural() -> None:
    assert sealed_kinds(["none"]) == ()
    assert sealed_kinds(["configmaps", "secrets"]) == (SECRET, CONFIG_MAP)
    with pytest.raises(ValueError, match=r"--encrypt widgets"):
        sealed_kinds(["widgets"])
