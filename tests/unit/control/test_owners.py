"""What happens to the owned when owners go, and to what lives in a namespace that is deleted."""

from __future__ import annotations

from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError
from gitkube.objects import meta
from gitkube.objects.kinds import CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, SERVICE_ACCOUNT, Kind
from gitkube.objects.types import Object
from tests.support.cluster import deployment, pod
from tests.unit.control.conftest import Cluster


async def start(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)


async def test_background_deletion_takes_the_dependents_after_the_owner(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.delete(DEPLOYMENT, "web", "default", propagation=Propagation.BACKGROUND)
    assert await cluster.all(DEPLOYMENT) == []
    await cluster.clock.advance(5)
    assert await cluster.all(REPLICA_SET) == [] and await cluster.all(POD) == []


async def test_foreground_deletion_takes_the_owner_last(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.delete(DEPLOYMENT, "web", "default", propagation=Propagation.FOREGROUND)
    for _ in range(50):
        await cluster.clock.advance(0.1)
        left = (
            len(await cluster.all(DEPLOYMENT)),
            len(await cluster.all(REPLICA_SET)),
            len(await cluster.all(POD)),
        )
        assert left[0] >= left[1] and (left[1] or not left[2]), left
    assert left == (0, 0, 0)


async def test_orphaning_leaves_the_dependents_without_owner(cluster: Cluster) -> None:
    await start(cluster)
    await cluster.client.delete(DEPLOYMENT, "web", "default", propagation=Propagation.ORPHAN)
    await cluster.clock.advance(5)
    assert await cluster.all(DEPLOYMENT) == []
    (replica_set,) = await cluster.all(REPLICA_SET)
    assert meta.owner_references(replica_set) == [] and len(await cluster.ready_pods()) == 3
    # A new Deployment of the same template takes them over: nothing restarts.
    names = {meta.name(pod) for pod in await cluster.pods()}
    await cluster.client.create(DEPLOYMENT, deployment())
    await cluster.clock.advance(5)
    assert {meta.name(pod) for pod in await cluster.pods()} == names


def owned(name: str, *owners: Object) -> Object:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": meta.name(one), "uid": meta.uid(one)}
        for one in owners
    ]
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": references}}


async def test_an_owner_is_its_uid_and_one_left_is_enough(cluster: Cluster) -> None:
    await cluster.start_all()
    create = cluster.client.create
    first = await create(CONFIG_MAP, owned("first"))
    second = await create(CONFIG_MAP, owned("second"))
    impostor = {"metadata": {"name": "second", "uid": "another"}}
    await create(CONFIG_MAP, owned("of-both", first, second))
    await create(CONFIG_MAP, owned("of-impostor", impostor))
    await cluster.clock.advance(1)
    names = {meta.name(one) for one in await cluster.all(CONFIG_MAP)}
    assert names == {"first", "second", "of-both"}
    await cluster.client.delete(CONFIG_MAP, "first", "default")
    await cluster.clock.advance(1)
    left = await cluster.client.get(CONFIG_MAP, "of-both", "default")
    assert [one["name"] for one in meta.owner_references(left)] == ["second"]
    await cluster.client.delete(CONFIG_MAP, "second", "default")
    await cluster.clock.advance(1)
    assert await cluster.all(CONFIG_MAP) == []


async def test_a_deleted_namespace_says_what_it_waits_for_and_then_goes(cluster: Cluster) -> None:
    cluster.settings = type(cluster.settings)(root_ca="PEM")
    await cluster.start_all()
    namespace = {"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}}
    await cluster.client.create(NAMESPACE, namespace)
    await cluster.clock.advance(1)
    account = await cluster.client.get(SERVICE_ACCOUNT, "default", "shop")
    assert meta.namespace(account) == "shop"
    held = {"metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.org/wait"]}}
    await cluster.client.create(CONFIG_MAP, held)
    await cluster.client.create(DEPLOYMENT, deployment(namespace="shop"))
    await cluster.clock.advance(5)

    def refuse_new(verb: str, kind: Kind, obj: Object) -> None:
        """As the API's admission does."""
        ending = cluster.client.objects.get((NAMESPACE, "", "shop"))
        if verb == "create" and meta.namespace(obj) == "shop" and ending and meta.is_deleting(ending):
            raise StatusError(403, "Forbidden", "the namespace is being terminated")

    cluster.client.reactions.append(refuse_new)
    await cluster.client.delete(NAMESPACE, "shop")
    await cluster.clock.advance(10)
    stuck = await cluster.client.get(NAMESPACE, "shop")
    said = {one["type"]: one for one in stuck["status"]["conditions"]}
    assert said["NamespaceContentRemaining"]["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances"
    )
    assert "example.org/wait in 1" in said["NamespaceFinalizersRemaining"]["message"]
    assert [one["type"] for one in stuck["status"]["conditions"]] == [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceContentRemaining",
        "NamespaceFinalizersRemaining",
    ]
    await cluster.patch(CONFIG_MAP, "held", {"metadata": {"finalizers": None}}, "shop")
    await cluster.clock.advance(5)
    assert [meta.name(one) for one in await cluster.all(NAMESPACE)] == []


async def test_pods_of_a_deleted_namespace_go_before_everything_else(cluster: Cluster) -> None:
    await cluster.start_all()
    namespace = {"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}}
    await cluster.client.create(NAMESPACE, namespace)
    held = pod("held", namespace="shop", image="web:1")
    held["metadata"]["finalizers"] = ["example.org/wait"]
    await cluster.client.create(POD, held)
    await cluster.client.create(CONFIG_MAP, {"metadata": {"name": "kept", "namespace": "shop"}})
    await cluster.client.delete(NAMESPACE, "shop")
    await cluster.clock.advance(10)
    assert [meta.name(one) for one in await cluster.all(CONFIG_MAP)] == ["kept"]
    await cluster.patch(POD, "held", {"metadata": {"finalizers": None}}, "shop")
    await cluster.clock.advance(10)
    assert await cluster.all(CONFIG_MAP) == await cluster.all(NAMESPACE) == []


async def test_the_account_of_a_namespace_comes_again(cluster: Cluster) -> None:
    await cluster.start_all()
    await cluster.client.create(NAMESPACE, {"metadata": {"name": "shop"}})
    await cluster.clock.advance(1)
    await cluster.client.delete(SERVICE_ACCOUNT, "default", "shop")
    await cluster.clock.advance(1)
    await cluster.client.get(SERVICE_ACCOUNT, "default", "shop")


async def in_a_circle(cluster: Cluster, *names: str) -> None:
    """ConfigMaps each of which is owned by the one before, the first by the last; all block their owner."""
    made = [await cluster.client.create(CONFIG_MAP, owned(name)) for name in names]
    for one, owner in zip(made, [made[-1], *made], strict=False):
        references = [{**owned("", owner)["metadata"]["ownerReferences"][0], "blockOwnerDeletion": True}]
        await cluster.patch(CONFIG_MAP, meta.name(one), {"metadata": {"ownerReferences": references}})


async def test_a_circle_of_owners_goes_when_one_of_them_is_deleted_in_the_foreground(
    cluster: Cluster,
) -> None:
    await cluster.start_all()
    await in_a_circle(cluster, "one", "two", "three")
    await cluster.clock.advance(1)
    assert len(await cluster.all(CONFIG_MAP)) == 3
    await cluster.client.delete(CONFIG_MAP, "one", "default", propagation=Propagation.FOREGROUND)
    await cluster.clock.advance(5)
    assert [meta.name(one) for one in await cluster.all(CONFIG_MAP)] == []
