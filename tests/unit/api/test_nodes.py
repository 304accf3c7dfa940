"""What `system:node:ant` may: what the pods on ant need, and nothing of the others'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import Attributes, User
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.objects import kinds
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

ANT = User("system:node:ant", ("system:nodes", "system:authenticated"))
STORAGE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def obj(kind: kinds.Kind, name: str, namespace: str = "", **more: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **more}


def pod(name: str, node: str, suffix: str, account: str) -> Object:
    volumes = [
        {"name": "s", "secret": {"secretName": f"secret-{suffix}"}},
        {"name": "c", "configMap": {"name": f"config-{suffix}"}},
        {"name": "d", "persistentVolumeClaim": {"claimName": f"claim-{suffix}"}},
    ]
    spec = {
        "nodeName": node, "serviceAccountName": account, "volumes": volumes,
        "containers": [{"name": "c", "image": "i"}],
    }  # fmt: skip
    return obj(kinds.POD, name, "default", spec=spec)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path) as made:
        client = made.client(ADMIN)
        for node, suffix in (("ant", "a"), ("bee", "b")):
            await client.create(kinds.NODE, obj(kinds.NODE, node))
            await client.create(kinds.SECRET, obj(kinds.SECRET, f"secret-{suffix}", "default"))
            await client.create(kinds.SERVICE_ACCOUNT, obj(kinds.SERVICE_ACCOUNT, f"bot-{suffix}", "default"))
            claim = {**STORAGE, "volumeName": f"volume-{suffix}"}
            await client.create(
                kinds.PERSISTENT_VOLUME_CLAIM,
                obj(kinds.PERSISTENT_VOLUME_CLAIM, f"claim-{suffix}", "default", spec=claim),
            )
            volume = {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                "claimRef": {"namespace": "default", "name": f"claim-{suffix}"},
            }  # fmt: skip
            await client.create(
                kinds.PERSISTENT_VOLUME, obj(kinds.PERSISTENT_VOLUME, f"volume-{suffix}", spec=volume)
            )
            await client.create(kinds.POD, pod(f"pod-{suffix}", node, suffix, f"bot-{suffix}"))
        yield made


HERE = "default"
MAY = [
    ("get", "", "secrets", HERE, "secret-a"), ("list", "", "secrets", HERE, "secret-a"),
    ("watch", "", "configmaps", HERE, "config-a"), ("get", "", "persistentvolumeclaims", HERE, "claim-a"),
    ("get", "", "persistentvolumes", "", "volume-a"), ("get", "", "pods", HERE, "pod-a"),
    ("delete", "", "pods", HERE, "pod-a"), ("patch", "", "pods/status", HERE, "pod-a"),
    ("create", "", "pods/eviction", HERE, "pod-a"), ("get", "", "nodes", "", "ant"),
    ("watch", "", "nodes", "", "ant"), ("patch", "", "nodes/status", "", "ant"),
    ("create", "", "serviceaccounts/token", HERE, "bot-a"), ("create", "", "events", HERE, ""),
    ("list", "", "services", "", ""), ("update", "coordination.k8s.io", "leases", "kube-node-lease", "ant"),
    ("create", "coordination.k8s.io", "leases", "kube-node-lease", ""),
    ("create", "certificates.k8s.io", "certificatesigningrequests", "", ""),
    ("get", "storage.k8s.io", "csinodes", "", "ant"),
]  # fmt: skip
MAY_NOT = [
    ("get", "", "secrets", HERE, "secret-b", "no relationship"),
    ("get", "", "secrets", "kube-system", "secret-a", "no relationship"),
    ("list", "", "secrets", HERE, "", "No Object name"), ("list", "", "secrets", "", "", "No Object name"),
    ("update", "", "secrets", HERE, "secret-a", "can only read"),
    ("delete", "", "configmaps", HERE, "config-a", "can only read"),
    ("get", "", "persistentvolumeclaims", HERE, "claim-b", "no relationship"),
    ("get", "", "persistentvolumes", "", "volume-b", "no relationship"),
    ("list", "", "persistentvolumes", "", "", "can only read"),
    ("get", "", "pods", HERE, "pod-b", "no relationship"),
    ("patch", "", "pods/status", HERE, "pod-b", "no relationship"),
    ("delete", "", "pods", HERE, "pod-b", "no relationship"), ("create", "", "pods", HERE, "", "make none"),
    ("list", "", "pods", "", "", "spec.nodeName"), ("create", "", "pods/exec", HERE, "pod-a", ""),
    ("get", "", "nodes", "", "bee", "its own Node"), ("list", "", "nodes", "", "", "its own Node"),
    ("patch", "", "nodes", "", "ant", "inventory"), ("delete", "", "nodes", "", "ant", "inventory"),
    ("patch", "", "nodes/status", "", "bee", "its own Node"),
    ("create", "", "serviceaccounts/token", HERE, "bot-b", "no relationship"),
    ("get", "", "serviceaccounts", HERE, "bot-a", "can only create tokens"),
    ("get", "coordination.k8s.io", "leases", "kube-node-lease", "bee", "same name"),
    ("get", "coordination.k8s.io", "leases", "kube-system", "ant", "node lease"),
    ("get", "storage.k8s.io", "csinodes", "", "bee", "same name"),
    ("get", "storage.k8s.io", "volumeattachments", "", "x", "no relationship"),
    ("get", "apps", "deployments", HERE, "x", ""), ("create", "", "namespaces", "", "", ""),
]  # fmt: skip


def question(user: User, verb: str, group: str, resource: str, namespace: str, name: str) -> Attributes:
    resource, _, subresource = resource.partition("/")
    return Attributes(user, verb, group, "v1", resource, subresource, namespace, name)


async def test_a_node_may_what_its_pods_need_and_nothing_of_the_others(api: Api) -> None:
    for asked in MAY:
        assert api.authorizer.decide(question(ANT, *asked)).allowed, asked
    for *parts, told in MAY_NOT:
        decision = api.authorizer.decide(question(ANT, *parts))
        assert not decision.allowed and told in decision.reason, (parts, decision.reason)


async def test_name_and_group_must_both_be_a_nodes_and_this_one(api: Api) -> None:
    for user in (
        User("system:node:ant", ("system:authenticated",)),
        User("ant", ("system:nodes",)),
        User("system:node:", ("system:nodes",)),
        User("system:node:bee", ("system:nodes",)),
    ):
        assert not api.authorizer.decide(question(user, "get", "", "secrets", HERE, "secret-a")).allowed


async def test_pods_are_listed_by_their_node_only(api: Api) -> None:
    client = api.client(ANT)
    listed = await client.list(kinds.POD, field_selector="spec.nodeName=ant")
    assert [one["metadata"]["name"] for one in listed.items] == ["pod-a"]
    for selector in ("", "spec.nodeName=bee", "spec.nodeName!=ant"):
        with pytest.raises(StatusError) as refused:
            await client.list(kinds.POD, field_selector=selector)
        assert refused.value.code == 403


async def test_tokens_are_bound_to_a_pod_of_the_account_on_the_node(api: Api) -> None:
    async def ask(bound: dict[str, str] | None) -> Object:
        spec = {"boundObjectRef": {"apiVersion": "v1", **bound}} if bound else {}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return await api.client(ANT).create_subresource(kinds.SERVICE_ACCOUNT, "bot-a", HERE, "token", body)

    assert (await ask({"kind": "Pod", "name": "pod-a"}))["status"]["token"]
    for bound in (None, {"kind": "Pod", "name": "pod-b"}, {"kind": "Secret", "name": "secret-a"}):
        with pytest.raises(StatusError) as refused:
            await ask(bound)
        assert refused.value.code == 403, bound


async def test_a_lease_that_a_node_makes_has_its_own_name(api: Api) -> None:
    client = api.client(ANT)
    await client.create(kinds.LEASE, obj(kinds.LEASE, "ant", "kube-node-lease"))
    with pytest.raises(StatusError, match="of its own name"):
        await client.create(kinds.LEASE, obj(kinds.LEASE, "bee", "kube-node-lease"))
