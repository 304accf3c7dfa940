"""LimitRanges: defaults of containers, and bounds that a pod or a claim must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.objects.kinds import LIMIT_RANGE, PERSISTENT_VOLUME_CLAIM, POD
from tests.support.real_api import real_api

ADMIN = User("admin", ("system:masters",))


def limit_range(**limit: Any) -> dict[str, Any]:
    metadata = {"name": "bounds", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [limit]}}


def pod(**resources: dict[str, str]) -> dict[str, Any]:
    container = {"name": "c", "image": "app:1", "resources": resources}
    metadata = {"name": "p", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


async def test_a_container_that_says_nothing_gets_the_defaults_and_the_pod_tells_so(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(
            LIMIT_RANGE, limit_range(type="Container", default={"cpu": "1", "memory": "64Mi"})
        )
        made = await client.create(POD, pod(limits={"cpu": "500m"}))
    resources = made["spec"]["containers"][0]["resources"]
    assert resources == {
        "limits": {"cpu": "500m", "memory": "64Mi"},
        "requests": {"cpu": "500m", "memory": "64Mi"},
    }
    told = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert told == "LimitRanger plugin set: memory request for container c; memory limit for container c"


@pytest.mark.parametrize(
    ("limit", "resources", "why"),
    [
        (
            {"max": {"cpu": "2"}},
            {"limits": {"cpu": "3"}},
            "maximum cpu usage per Container is 2, but limit is 3",
        ),
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "50m"}},
            "minimum cpu usage per Container is 100m, but",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)
async def test_a_pod_out_of_bounds_is_refused(
    tmp_path: Path, limit: dict[str, Any], resources: dict[str, dict[str, str]], why: str
) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(LIMIT_RANGE, limit_range(type="Container", **limit))
        with pytest.raises(StatusError) as refused:
            await client.create(POD, pod(**resources))
    assert refused.value.code == 403
    assert why in refused.value.message


async def test_the_bounds_of_a_pod_are_for_its_containers_together(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(LIMIT_RANGE, limit_range(type="Pod", max={"cpu": "1"}))
        two = pod(limits={"cpu": "600m"})
        two["spec"]["containers"].append({**two["spec"]["containers"][0], "name": "d"})
        with pytest.raises(StatusError, match="per Pod is 1, but limit is 1200m"):
            await client.create(POD, two)


async def test_a_claim_keeps_its_bounds(tmp_path: Path) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
    }
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(LIMIT_RANGE, limit_range(type="PersistentVolumeClaim", max={"storage": "10Gi"}))
        with pytest.raises(StatusError, match="maximum storage usage per PersistentVolumeClaim is 10Gi"):
            await client.create(PERSISTENT_VOLUME_CLAIM, claim)


async def test_a_running_pod_stays_within_the_bounds_when_it_is_resized(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        await client.create(POD, pod(requests={"cpu": "1"}))
        await client.create(LIMIT_RANGE, limit_range(type="Pod", max={"cpu": "2"}))
        for cpu, is_within in (("3", False), ("2", True)):
            resources = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}
            patch = {"spec": {"containers": [{"name": "c", "image": "app:1", "resources": resources}]}}
            try:
                await client.patch(POD, "p", "default", patch, subresource="resize")
            except StatusError as error:
                assert not is_within and "maximum cpu usage per Pod is 2" in error.message
            else:
                assert is_within
