"""ResourceQuotas on the real API with their controller: counted, and given back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.control.manager import Manager
from gitkube.control.resource_quota import ResourceQuotaController, new_status
from gitkube.control.service_account import ServiceAccountController
from gitkube.control.settings import ControlSettings
from gitkube.objects.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, POD, RESOURCE_QUOTA, SERVICE_ACCOUNT
from gitkube.objects.quantity import Quantity
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api


@contextlib.asynccontextmanager
async def controlled_api(directory: Path) -> AsyncIterator[Api]:
    async with real_api(directory) as api:
        manager = Manager(
            api.client(ADMIN),
            clock=SystemClock(),
            rng=random.Random(1),
            settings=ControlSettings(),
            controllers=[ResourceQuotaController, ServiceAccountController],
            registry=api.registry,
        )
        running = asyncio.create_task(manager.run())
        try:
            yield api
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def controlled(directory: Path) -> AsyncIterator[Client]:
    async with controlled_api(directory) as api:
        yield api.client(ADMIN)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(1500):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")


async def used_is(client: Client, expected: dict[str, str]) -> None:
    async def is_so() -> bool:
        status = (await client.get(RESOURCE_QUOTA, "q", "default")).get("status") or {}
        return bool(status.get("used") == expected)

    await until(is_so, f"the quota shows {expected}")


def pod(name: str) -> Object:
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "250m"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container]},
    }


def quota(**hard: str) -> Object:
    metadata = {"name": "q", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def config(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


async def has_account(client: Client) -> None:
    async def is_there() -> bool:
        return bool((await client.list(SERVICE_ACCOUNT, "default")).items)

    await until(is_there, "the namespace has its account")


async def test_what_was_there_counts_and_what_goes_is_given_back(tmp_path: Path) -> None:
    async with controlled(tmp_path) as client:
        await has_account(client)
        for number in range(3):
            await client.create(POD, pod(f"pod-{number}"))
        await client.create(RESOURCE_QUOTA, quota(**{"pods": "4", "requests.cpu": "1", "secrets": "1"}))
        await used_is(client, {"pods": "3", "requests.cpu": "750m", "secrets": "0"})
        await client.create(POD, pod("pod-3"))
        with pytest.raises(StatusError, match="exceeded quota"):
            await client.create(POD, pod("pod-4"))
        await client.delete(POD, "pod-0", "default")
        await client.patch(POD, "pod-1", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
        await used_is(client, {"pods": "2", "requests.cpu": "500m", "secrets": "0"})
        await client.create(POD, pod("pod-4"))


async def test_new_limits_are_taken_over(tmp_path: Path) -> None:
    async with controlled(tmp_path) as client:
        await client.create(RESOURCE_QUOTA, quota(**{"count/configmaps": "1"}))
        await used_is(client, {"count/configmaps": "0"})
        await client.create(CONFIG_MAP, config("one"))
        with pytest.raises(StatusError, match="exceeded quota"):
            await client.create(CONFIG_MAP, config("two"))
        await client.patch(
            RESOURCE_QUOTA, "q", "default", {"spec": {"hard": {"count/configmaps": "2", "secrets": "1"}}}
        )
        await used_is(client, {"count/configmaps": "1", "secrets": "0"})
        await client.create(CONFIG_MAP, config("two"))


async def test_a_count_beside_writers_never_loses_a_charge(tmp_path: Path) -> None:
    """Creating and deleting while the controller counts: what is stored never exceeds the quota."""
    async with controlled(tmp_path) as client:
        await client.create(RESOURCE_QUOTA, quota(**{"count/configmaps": "5"}))
        await used_is(client, {"count/configmaps": "0"})
        most = 0

        async def come_and_go(writer: int) -> None:
            nonlocal most
            for number in range(15):
                name = f"c-{writer}-{number}"
                try:
                    await client.create(CONFIG_MAP, config(name))
                except StatusError as error:
                    assert "exceeded quota" in error.message
                    continue
                most = max(most, len((await client.list(CONFIG_MAP, "default")).items))
                await client.delete(CONFIG_MAP, name, "default")

        await asyncio.gather(*(come_and_go(writer) for writer in range(8)))
        assert 0 < most <= 5
        await used_is(client, {"count/configmaps": "0"})


DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}


async def test_custom_resources_are_counted_charged_and_given_back(tmp_path: Path) -> None:
    async with controlled_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(CUSTOM_RESOURCE_DEFINITION, DEFINITION)

        async def is_served() -> bool:
            return api.registry.by_gvk("example.org/v1", "Thing") is not None

        await until(is_served, "the kind is served")
        kind = api.registry.by_gvk("example.org/v1", "Thing")
        assert kind is not None

        def thing(name: str) -> Object:
            metadata = {"name": name, "namespace": "default"}
            return {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": metadata}

        await client.create(kind, thing("one"))
        await client.create(RESOURCE_QUOTA, quota(**{"count/things.example.org": "2"}))
        await used_is(client, {"count/things.example.org": "1"})
        await client.create(kind, thing("two"))
        with pytest.raises(StatusError, match=r"requested: count/things\.example\.org=1"):
            await client.create(kind, thing("three"))
        await client.delete(kind, "one", "default")
        await used_is(client, {"count/things.example.org": "1"})


def test_a_name_that_nothing_is_counted_for_keeps_what_it_said() -> None:
    current = {
        "spec": {"hard": {"pods": "2", "requests.example.org/x": "3"}},
        "status": {"used": {"requests.example.org/x": "1", "gone": "7"}},
    }
    status = new_status(current, {"pods": Quantity.of(1)})
    assert status == {
        "hard": {"pods": "2", "requests.example.org/x": "3"},
        "used": {"pods": "1", "requests.example.org/x": "1"},
    }
