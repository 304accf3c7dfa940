"""Claims and volumes on a cluster in memory: kept while somebody uses them."""

from __future__ import annotations

from gitkube.objects import meta
from gitkube.objects.kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from gitkube.objects.types import Object
from tests.support.cluster import pod
from tests.unit.control.conftest import Cluster


def claim(name: str = "data") -> Object:
    metadata = {"name": name, "namespace": "default", "finalizers": ["kubernetes.io/pvc-protection"]}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}}


def user(name: str) -> Object:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    return pod(name, image="web:1", volumes=volumes)


async def test_a_claim_goes_when_the_last_pod_that_names_it_has_gone(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(PERSISTENT_VOLUME_CLAIM, claim())
    for name in ("one", "two"):
        await cluster.client.create(POD, user(name))
    await cluster.clock.advance(5)
    await cluster.client.delete(PERSISTENT_VOLUME_CLAIM, "data", "default")
    await cluster.clock.advance(5)
    (held,) = await cluster.all(PERSISTENT_VOLUME_CLAIM)
    assert meta.is_deleting(held)
    await cluster.client.delete(POD, "one", "default")
    await cluster.clock.advance(5)
    assert len(await cluster.all(PERSISTENT_VOLUME_CLAIM)) == 1
    await cluster.client.delete(POD, "two", "default")
    await cluster.clock.advance(5)
    assert await cluster.all(PERSISTENT_VOLUME_CLAIM) == []


async def test_a_claim_that_nobody_uses_goes_at_once(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(PERSISTENT_VOLUME_CLAIM, claim())
    await cluster.client.create(POD, pod("other", image="web:1"))
    await cluster.clock.advance(1)
    await cluster.client.delete(PERSISTENT_VOLUME_CLAIM, "data", "default")
    await cluster.clock.advance(1)
    assert await cluster.all(PERSISTENT_VOLUME_CLAIM) == []


async def test_a_bound_volume_is_kept_and_one_from_before_gets_its_finalizer(cluster: Cluster) -> None:
    await cluster.start_all()
    volume = {"metadata": {"name": "disk"}, "spec": {}, "status": {"phase": "Bound"}}
    await cluster.client.create(PERSISTENT_VOLUME, volume)
    await cluster.clock.advance(1)
    (protected,) = await cluster.all(PERSISTENT_VOLUME)
    assert meta.finalizers(protected) == ["kubernetes.io/pv-protection"]
    await cluster.client.delete(PERSISTENT_VOLUME, "disk")
    await cluster.clock.advance(1)
    assert len(await cluster.all(PERSISTENT_VOLUME)) == 1
    released = {"status": {"phase": "Released"}}
    await cluster.client.patch(PERSISTENT_VOLUME, "disk", "", released, subresource="status")
    await cluster.clock.advance(1)
    assert await cluster.all(PERSISTENT_VOLUME) == []
