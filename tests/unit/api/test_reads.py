"""Lists and watches as clients page, resume and compare them; and the bytes that all readers share."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, ListOptions, WatchOptions
from gitkube.api.settings import ApiSettings
from gitkube.api.stored import StoredObject, decode, encode
from gitkube.objects.kinds import CONFIG_MAP
from gitkube.store.protocol import RangeResult, Revision, Store
from tests.support.real_api import real_api

ADMIN = User("admin", ("system:masters",))
CONTEXT = Context(ADMIN)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path, settings=ApiSettings(bookmark_interval_s=600)) as api:
        yield api


@pytest.fixture
def client(api: Api) -> LocalClient:
    return api.client(ADMIN)


def config(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def names(api: Api, **options: Any) -> list[str]:
    found = await api.verbs.list(CONTEXT, CONFIG_MAP, "default", ListOptions(**options))
    return [obj["metadata"]["name"] for obj in found.items]


def token(**parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


async def test_a_list_goes_on_at_the_newest_version_when_its_own_is_forgotten(
    api: Api, client: LocalClient
) -> None:
    for name in "abcd":
        await client.create(CONFIG_MAP, config(name))
    page = await client.list(CONFIG_MAP, "default", limit=2)
    await client.create(CONFIG_MAP, config("bb"))
    await api.store.compact(Revision(api.cache.revision))

    with pytest.raises(StatusError) as refused:
        await client.list(CONFIG_MAP, "default", limit=2, continue_token=page.continue_token)

    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    token = refused.value.to_status()["metadata"]["continue"]
    assert await names(api, limit=2, continue_token=token) == ["bb", "c"]


async def test_pages_are_one_picture(api: Api, client: LocalClient) -> None:
    for name in "abcd":
        await client.create(CONFIG_MAP, config(name))
    page = await client.list(CONFIG_MAP, "default", limit=3)
    assert page.remaining == 1
    await client.delete(CONFIG_MAP, "d", "default")
    assert await names(api, limit=3, continue_token=page.continue_token) == ["d"]


async def test_a_number_with_a_limit_is_exactly_that_version(api: Api, client: LocalClient) -> None:
    first = await client.create(CONFIG_MAP, config("a"))
    await client.create(CONFIG_MAP, config("b"))
    version = first["metadata"]["resourceVersion"]
    assert await names(api, resource_version=version, limit=5) == ["a"]
    assert await names(api, resource_version=version, resource_version_match="Exact") == ["a"]
    assert await names(api, resource_version=version) == ["a", "b"]
    assert await names(api, resource_version="0", limit=1) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"resource_version_match": "Exact"}, 422),
        ({"resource_version_match": "Exact", "resource_version": "0"}, 422),
        ({"resource_version_match": "Newest", "resource_version": "1"}, 422),
        ({"resource_version": "x"}, 400),
        ({"resource_version": "-1"}, 400),
        ({"resource_version": "99999999"}, 504),
        ({"resource_version": "99999999", "limit": 1}, 504),
        ({"continue_token": "?"}, 400),
        ({"continue_token": "e30="}, 400),
        ({"continue_token": token(v=2, rv=1, after="a")}, 400),
        ({"continue_token": token(v=1, rv=1, after="")}, 400),
        ({"continue_token": token(v=1, rv="1", after="a")}, 400),
        ({"label_selector": "a in"}, 400),
        ({"field_selector": "spec.color=red"}, 400),
    ],
)
async def test_a_list_that_cannot_be_is_refused(api: Api, options: dict[str, Any], code: int) -> None:
    with pytest.raises(StatusError) as refused:
        await names(api, **options)
    assert refused.value.code == code


async def test_an_object_that_leaves_the_selection_is_deleted_for_the_watcher(
    api: Api, client: LocalClient
) -> None:
    await client.create(CONFIG_MAP, config("a", app="x"))
    options = WatchOptions(label_selector="app=x")
    watch = await api.verbs.watch(CONTEXT, CONFIG_MAP, "default", options)
    assert (await anext(watch)).type == "ADDED"
    moved = await client.patch(CONFIG_MAP, "a", "default", {"metadata": {"labels": {"app": "y"}}})
    item = await anext(watch)
    assert item.type == "DELETED"
    assert item.object["metadata"]["labels"] == {"app": "x"}
    assert item.object["metadata"]["resourceVersion"] == moved["metadata"]["resourceVersion"]
    await watch.aclose()


async def test_all_watchers_of_an_event_share_its_bytes(api: Api, client: LocalClient) -> None:
    version = str(api.cache.revision)
    watches = [
        await api.verbs.watch(CONTEXT, CONFIG_MAP, "", WatchOptions(resource_version=version))
        for _ in range(3)
    ]
    firsts = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await client.create(CONFIG_MAP, config("a"))
    items = await asyncio.gather(*firsts)
    assert len({id(item.encoded) for item in items}) == 1
    stored = await client.get(CONFIG_MAP, "a", "default")
    assert orjson.loads(items[0].encoded) == {"type": "ADDED", "object": stored}
    for watch in watches:
        await watch.aclose()


async def test_what_is_written_is_answered_with_the_bytes_of_the_cache(api: Api, client: LocalClient) -> None:
    created = await client.create(CONFIG_MAP, config("a"))
    assert isinstance(created, StoredObject)
    assert created is await client.get(CONFIG_MAP, "a", "default")
    assert orjson.loads(created.document) == created
    assert orjson.loads(created.metadata_document) == created["metadata"]


@pytest.mark.parametrize(
    "value",
    [
        encode({"spec": {"metadata": {"x": 1}}, "metadata": {"name": "a"}, "kind": "K", "apiVersion": "v1"}),
        b'{"spec":{"metadata":{}},"metadata":{"name":"a"},"apiVersion":"v1","kind":"K"}',
        b'{"apiVersion":"v1","kind":"K","metadata":{"name":"\xc3\xa4"}}',
        b'{"apiVersion":"v\\"1","kind":"K","metadata":{"name":"a"}}',
    ],
)
def test_the_version_is_put_into_the_stored_bytes(value: bytes) -> None:
    stored = decode(value, 7)
    assert stored["metadata"]["resourceVersion"] == "7"
    assert orjson.loads(stored.document) == stored
    assert orjson.loads(stored.metadata_document) == stored["metadata"]


class AnswersLate:
    """A store that answers how new it is only when the test lets it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def range(self, *args: Any, **options: Any) -> RangeResult:
        if options.get("count_only"):
            self.was_asked.set()
            await self.may_answer.wait()
        return await self._store.range(*args, **options)


async def test_a_watch_stands_only_when_its_beginning_is_fixed(
    api: Api, client: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.create(CONFIG_MAP, config("a"))
    late = AnswersLate(api.store)
    monkeypatch.setattr(api.cache, "_store", late)
    opening = asyncio.ensure_future(api.verbs.watch(CONTEXT, CONFIG_MAP, "default", WatchOptions()))
    await late.was_asked.wait()
    assert not opening.done()
    late.may_answer.set()
    watch = await opening

    # Nobody has taken anything from it yet, and still what is written now comes after its beginning.
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": "1"}})
    await client.delete(CONFIG_MAP, "a", "default")

    seen = [await anext(watch) for _ in range(3)]
    assert [item.type for item in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert "data" not in seen[0].object
    await watch.aclose()


async def test_a_watch_that_nobody_read_while_the_cache_was_read_anew_must_list_again(
    api: Api, client: LocalClient
) -> None:
    await client.create(CONFIG_MAP, config("a"))
    version = str(api.cache.revision)
    watch = await api.verbs.watch(CONTEXT, CONFIG_MAP, "default", WatchOptions(resource_version=version))
    api.cache.of(CONFIG_MAP).replace_all({}, api.cache.revision + 1)
    with pytest.raises(StatusError) as told:
        await anext(watch)
    assert told.value.code == 410
    await watch.aclose()
