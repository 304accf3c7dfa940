"""Conversion webhooks: what they are asked, how often, and what happens when they lie."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.objects import meta
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api
from tests.support.webhook_server import WebhookServer, webhook_server

GROUP = "plants.example.org"
OPEN = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


class Converter:
    """v1 has `spec.size` as "3 beds", v2 as `spec.beds: 3`. Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        """Objects of each question."""
        self.lie: dict[str, Any] = {}
        """Laid over each converted object."""

    async def answer(self, review: dict[str, Any]) -> web.StreamResponse:
        request = review["request"]
        self.asked.append(len(request["objects"]))
        converted = [self._converted(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {
            "uid": request["uid"],
            "result": {"status": "Success"},
            "convertedObjects": [{**one, **self.lie} for one in converted],
        }
        return web.json_response({**review, "request": None, "response": response})

    def _converted(self, obj: Object, version: str) -> Object:
        spec = obj.get("spec") or {}
        if version.endswith("/v2"):
            spec = {"beds": int(str(spec.get("size", "0 beds")).split()[0])}
        else:
            spec = {"size": f"{spec.get('beds', 0)} beds"}
        return {**obj, "apiVersion": version, "spec": spec}


@contextlib.asynccontextmanager
async def gardens(directory: Path) -> AsyncIterator[tuple[Client, Kind, Kind, Converter]]:
    """A client, both versions of a kind whose first is stored, and who converts between them."""
    converter = Converter()
    async with webhook_server(directory / "webhook") as server, real_api(directory / "store") as api:
        server.answers["/convert"] = converter.answer
        client = api.client(ADMIN)
        await client.create(CUSTOM_RESOURCE_DEFINITION, _definition(server))
        for _ in range(2000):
            if api.registry.by_resource(GROUP, "v2", "gardens") is not None:
                break
            await asyncio.sleep(0.005)
        yield client, _kind(api, "v1"), _kind(api, "v2"), converter


def _kind(api: Api, version: str) -> Kind:
    kind = api.registry.by_resource(GROUP, version, "gardens")
    assert kind is not None
    return kind


def _definition(server: WebhookServer) -> Object:
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": server.client_config("/convert")}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gardens.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "gardens", "kind": "Garden"},
            "conversion": {"strategy": "Webhook", "webhook": webhook},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": OPEN},
                {"name": "v2", "served": True, "storage": False, "schema": OPEN},
            ],
        },
    }


def garden(name: str, version: str, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Garden", "metadata": metadata, "spec": spec}


async def test_a_list_asks_once_for_all_and_never_again_for_what_has_not_changed(tmp_path: Path) -> None:
    async with gardens(tmp_path) as (client, first, second, converter):
        for number in range(30):
            await client.create(first, garden(f"g{number:02}", "v1", size=f"{number} beds"))
        assert converter.asked == []
        listed = (await client.list(second, "default")).items
        assert [one["spec"]["beds"] for one in listed] == list(range(30))
        assert converter.asked == [30]
        await client.list(second, "default")
        await client.get(second, "g07", "default")
        assert converter.asked == [30]
        await client.patch(first, "g07", "default", {"spec": {"size": "70 beds"}})
        assert (await client.get(second, "g07", "default"))["spec"] == {"beds": 70}
        assert converter.asked == [30, 1]


async def test_what_is_written_in_the_other_version_is_stored_converted(tmp_path: Path) -> None:
    async with gardens(tmp_path) as (client, first, second, _):
        made = await client.create(second, garden("south", "v2", beds=3))
        assert made["apiVersion"] == f"{GROUP}/v2"
        assert (await client.get(first, "south", "default"))["spec"] == {"size": "3 beds"}
        changed = await client.patch(second, "south", "default", {"spec": {"beds": 4}})
        assert (changed["spec"], meta.generation(changed)) == ({"beds": 4}, 2)
        assert (await client.get(first, "south", "default"))["spec"] == {"size": "4 beds"}
        applied = await client.apply(second, garden("south", "v2", beds=5), field_manager="me", force=True)
        assert applied["spec"] == {"beds": 5}
        await client.delete(second, "south", "default")
        assert (await client.list(first, "default")).items == []


async def test_watchers_of_one_version_share_what_was_asked_for_an_event(tmp_path: Path) -> None:
    async with gardens(tmp_path) as (client, first, second, converter):
        version = (await client.list(second)).resource_version

        async def first_seen() -> Object:
            async for event in client.watch(second, resource_version=version, bookmarks=False):
                return event.object
            raise AssertionError("the watch has ended")

        watching = [asyncio.create_task(first_seen()) for _ in range(5)]
        await client.create(first, garden("south", "v1", size="3 beds"))
        async with asyncio.timeout(20):
            seen = await asyncio.gather(*watching)
        assert all(one["spec"] == {"beds": 3} for one in seen)
        assert converter.asked == [1]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"kind": "Other"}, "expected plants.example.org/v2, Kind=Garden"),
        ({"apiVersion": "plants.example.org/v7"}, "got plants.example.org/v7"),
        ({"metadata": {"name": "another"}}, "metadata.name must not change"),
        ({"metadata": None}, "metadata is missing"),
    ],
)
async def test_a_webhook_that_lies_is_refused_and_the_stored_version_still_works(
    tmp_path: Path, lie: dict[str, Any], said: str
) -> None:
    async with gardens(tmp_path) as (client, first, second, converter):
        await client.create(first, garden("south", "v1", size="3 beds"))
        converter.lie = lie
        with pytest.raises(StatusError) as refused:
            await client.get(second, "south", "default")
        assert refused.value.code == 500
        assert said in refused.value.message
        assert (await client.get(first, "south", "default"))["spec"] == {"size": "3 beds"}
