"""Where things lie in the store, and what of it are no objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitkube.api.keys import JOINING_PREFIX, RING_KEY, Place, object_key, parse_key, range_key
from gitkube.api.machinery import Api
from gitkube.objects import kinds
from gitkube.store.protocol import Put
from tests.support.real_api import ADMIN, real_api


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (object_key(kinds.POD, "default", "web"), Place("", "pods", "default", "web")),
        (object_key(kinds.NODE, "", "ant"), Place("", "nodes", "", "ant")),
        (object_key(kinds.SOURCE, "", "it"), Place("gitkube.dev", "sources", "", "it")),
        (range_key("serviceips", "10.43.0.1"), None),
        (RING_KEY, None),
        (JOINING_PREFIX + b"token", None),
    ],
)
def test_a_key_is_an_objects_place_or_none(key: bytes, place: Place | None) -> None:
    assert parse_key(key) == place


async def test_an_api_that_begins_reads_past_what_are_no_objects(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        await write_records(api)
    async with real_api(tmp_path) as api:
        found = await api.client(ADMIN).list(kinds.NAMESPACE)
        assert "default" in {one["metadata"]["name"] for one in found.items}


async def write_records(api: Api) -> None:
    """Of the store's other users below the objects' prefix."""
    for key in (RING_KEY, JOINING_PREFIX + b"token"):
        await api.store.txn((), (Put(key, b'{"writes":"a","keys":{}}'),), ())
