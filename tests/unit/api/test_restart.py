"""An API that starts on what an earlier one has left."""

from __future__ import annotations

from pathlib import Path

from gitkube.objects.kinds import SERVICE
from tests.support.real_api import real_client


async def uid_of_the_first_service(directory: Path) -> str:
    async with real_client(directory) as client:
        service = await client.get(SERVICE, "kubernetes", "default")
        return str(service["metadata"]["uid"])


async def test_the_objects_of_every_cluster_are_made_once(tmp_path: Path) -> None:
    first = await uid_of_the_first_service(tmp_path)
    assert await uid_of_the_first_service(tmp_path) == first
