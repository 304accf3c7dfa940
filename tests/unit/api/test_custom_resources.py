"""Custom resources through the API: they come with their definition, live as others do, and go with it."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.client import Client, PatchType
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, NAMESPACE, Kind
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

GROUP = "plants.example.org"
NAME = f"gardens.{GROUP}"


def schema(**spec: Any) -> dict[str, Any]:
    return {
        "openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    }


BEDS = {"type": "integer", "default": 2}
V1 = {"name": "v1", "served": True, "storage": True, "schema": schema(beds=BEDS, old={"type": "string"})}
V2 = {"name": "v2", "served": True, "storage": False, "schema": schema(beds=BEDS, new={"type": "string"})}


def definition(*versions: dict[str, Any]) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "gardens", "kind": "Garden"},
            "versions": copy.deepcopy(list(versions)),
        },
    }


def garden(name: str, version: str = "v1", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Garden", "metadata": metadata, "spec": spec}


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(2000):
        if await condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited in vain until {what}")


async def defined(api: Api, client: Client, *versions: dict[str, Any]) -> Kind:
    """The kind of the first version, once it is served."""
    await client.create(CUSTOM_RESOURCE_DEFINITION, definition(*versions))
    return await served(api, versions[0]["name"])


async def served(api: Api, version: str) -> Kind:
    async def is_served() -> bool:
        return api.registry.by_resource(GROUP, version, "gardens") is not None

    await until(is_served, f"{version} is served")
    kind = api.registry.by_resource(GROUP, version, "gardens")
    assert kind is not None
    return kind


async def is_gone(client: Client, kind: Kind, name: str, namespace: str = "") -> bool:
    try:
        await client.get(kind, name, namespace)
    except StatusError as error:
        return error.code == 404
    return False


async def test_each_version_sees_the_objects_with_its_own_schema(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        first = await defined(api, client, V1, V2)
        second = await served(api, "v2")
        await client.create(first, garden("south", old="x"))
        seen = await client.get(second, "south", "default")
        assert (seen["apiVersion"], seen["spec"]) == (f"{GROUP}/v2", {"beds": 2})
        (listed,) = (await client.list(second, "default")).items
        assert listed == seen

        await client.patch(second, "south", "default", {"spec": {"beds": 5}})
        seen = await client.get(first, "south", "default")
        assert (seen["apiVersion"], seen["spec"]["beds"]) == (f"{GROUP}/v1", 5)


async def test_a_default_that_comes_later_is_there_for_what_was_stored_before(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        plain = {**V1, "schema": schema(beds={"type": "integer"})}
        kind = await defined(api, client, plain)
        await client.create(kind, garden("south"))
        path = "/spec/versions/0/schema"
        patch = [{"op": "replace", "path": path, "value": schema(beds=BEDS)}]
        await client.patch(CUSTOM_RESOURCE_DEFINITION, NAME, "", patch, type=PatchType.JSON)
        assert (await client.get(kind, "south", "default"))["spec"] == {"beds": 2}


async def test_a_watch_shows_the_end_of_all_objects_and_then_ends_with_the_definition(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        kind = await defined(api, client, V1)
        await client.create(kind, garden("south"))
        version = (await client.list(kind)).resource_version
        seen: list[tuple[str, str]] = []

        async def watch() -> None:
            async for event in client.watch(kind, resource_version=version, bookmarks=False):
                seen.append((event.type, meta.name(event.object)))

        watching = asyncio.create_task(watch())
        await client.delete(CUSTOM_RESOURCE_DEFINITION, NAME)
        async with asyncio.timeout(20):
            await watching
        assert seen[-1] == ("DELETED", "south")
        with pytest.raises(StatusError) as refused:
            await client.list(kind)
        assert refused.value.code == 404


async def test_an_object_with_a_finalizer_holds_its_definition_and_no_new_one_comes(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        kind = await defined(api, client, V1)
        held = garden("held")
        held["metadata"]["finalizers"] = ["example.org/hold"]
        await client.create(kind, held)
        await client.delete(CUSTOM_RESOURCE_DEFINITION, NAME)

        async def is_ending() -> bool:
            return meta.is_deleting(await client.get(kind, "held", "default"))

        await until(is_ending, "the object is asked to go")
        with pytest.raises(StatusError) as refused:
            await client.create(kind, garden("late"))
        assert (refused.value.code, refused.value.reason) == (405, "MethodNotAllowed")
        assert conditions.is_true(await client.get(CUSTOM_RESOURCE_DEFINITION, NAME), "Terminating")

        await client.patch(kind, "held", "default", {"metadata": {"finalizers": None}})
        await until(lambda: is_gone(client, CUSTOM_RESOURCE_DEFINITION, NAME), "the definition is gone")


async def test_another_process_on_the_same_store_serves_the_kind_from_its_start(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        kind = await defined(api, client, V1)
        await client.create(kind, garden("south", beds=4))
        other = Api(api.store, clock=SystemClock(), rng=random.Random(5))
        running = asyncio.create_task(other.run())
        try:
            async with asyncio.timeout(60):
                await other.wait_ready()
            theirs = other.registry.by_gvk(f"{GROUP}/v1", "Garden")
            assert theirs is not None
            seen = await other.client(ADMIN).get(theirs, "south", "default")
            assert seen["spec"] == {"beds": 4}
            await other.client(ADMIN).delete(CUSTOM_RESOURCE_DEFINITION, NAME)

            async def is_unknown() -> bool:
                return api.registry.by_gvk(f"{GROUP}/v1", "Garden") is None

            await until(is_unknown, "the first process has forgotten the kind")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_owners_and_namespaces_count_for_custom_kinds_too(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        manager = Manager(
            client,
            clock=SystemClock(),
            rng=random.Random(1),
            settings=ControlSettings(),
            registry=api.registry,
        )
        running = asyncio.create_task(manager.run())
        try:
            kind = await defined(api, client, V1)
            owner = await client.create(kind, garden("south"))
            owned = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "owned", "namespace": "default"},
            }
            owned["metadata"] = {**owned["metadata"], "ownerReferences": [meta.owner_reference(owner)]}  # type: ignore[dict-item]
            await client.create(CONFIG_MAP, owned)
            await client.delete(kind, "south", "default")
            await until(lambda: is_gone(client, CONFIG_MAP, "owned", "default"), "the owned object has gone")

            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plants"}}
            await client.create(NAMESPACE, namespace)
            inside = garden("inside")
            inside["metadata"]["namespace"] = "plants"
            await client.create(kind, inside)
            await client.delete(NAMESPACE, "plants")
            await until(lambda: is_gone(client, NAMESPACE, "plants"), "the namespace has gone")
            assert (await client.list(kind)).items == []
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_names_that_another_definition_has_are_refused_until_they_are_free(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await defined(api, client, V1)
        rival = definition(V1)
        rival["metadata"]["name"] = f"plots.{GROUP}"
        rival["spec"]["names"] = {"plural": "plots", "kind": "Garden"}
        await client.create(CUSTOM_RESOURCE_DEFINITION, rival)

        async def has_judgement() -> bool:
            seen = await client.get(CUSTOM_RESOURCE_DEFINITION, f"plots.{GROUP}")
            return conditions.status_of(seen, "NamesAccepted") == "False"

        await until(has_judgement, "the names are refused")
        assert api.registry.by_resource(GROUP, "v1", "plots") is None
        await client.delete(CUSTOM_RESOURCE_DEFINITION, NAME)

        async def is_served() -> bool:
            return api.registry.by_resource(GROUP, "v1", "plots") is not None

        await until(is_served, "the rival is served")
