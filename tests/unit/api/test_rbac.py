"""Who may do what: stored roles and bindings decide, and nobody grants what they do not hold."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import ANONYMOUS, Attributes, User
from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.rbac.defaults import AUTOUPDATE, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from gitkube.api.rbac.reconcile import DEFAULTS, complete, ensure_default_roles
from gitkube.api.rbac.rules import rules_of, uncovered
from gitkube.objects.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVED,
)
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

GROUP = "rbac.authorization.k8s.io"
EVE = User("eve", ("team", "system:authenticated"))
BOT = User("system:serviceaccount:default:bot", ("system:serviceaccounts", "system:authenticated"))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path) as api:
        yield api


def role(name: str, *rules: dict[str, Any], namespace: str = "default") -> Object:
    """A Role; a ClusterRole when the namespace is ""."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    kind = "Role" if namespace else "ClusterRole"
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "rules": list(rules)}


def allow(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    rule: dict[str, Any] = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    return {**rule, "resourceNames": names.split()} if names else rule


def binding(name: str, of: str, *subjects: str, namespace: str = "default") -> Object:
    """`of` and each subject are `KIND NAME` or `ServiceAccount NAMESPACE/NAME`."""

    def subject(text: str) -> dict[str, str]:
        kind, name = text.split(" ")
        if kind != "ServiceAccount":
            return {"kind": kind, "apiGroup": GROUP, "name": name}
        of_namespace, _, account = name.rpartition("/")
        return {"kind": kind, "name": account, **({"namespace": of_namespace} if of_namespace else {})}

    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    kind, ref = of.split(" ")
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": ref},
        "subjects": [subject(each) for each in subjects],
    }


_KIND_OF = {
    "Role": ROLE,
    "ClusterRole": CLUSTER_ROLE,
    "RoleBinding": ROLE_BINDING,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDING,
}


async def make(api: Api, *objects: Object, user: User = ADMIN) -> None:
    for obj in objects:
        await api.client(user).create(_KIND_OF[obj["kind"]], obj)


def may(api: Api, user: User, verb: str, resource: str, namespace: str = "default", name: str = "") -> bool:
    resource, _, subresource = resource.partition("/")
    asked = Attributes(user, verb, "", "v1", resource, subresource, namespace, name)
    return api.authorizer.decide(asked).allowed


# ------------------------------------------------------------------ default deny


async def test_who_has_no_role_may_nothing_with_any_kind(api: Api) -> None:
    own = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
    parts = [(kind, subresource) for kind in SERVED for subresource in ("", *kind.subresources)]
    for user, (kind, subresource) in itertools.product((EVE, BOT, ANONYMOUS), parts):
        for verb in (*kind.verbs, "impersonate", "escalate", "bind", "*"):
            asked = Attributes(user, verb, kind.group, kind.version, kind.plural, subresource, "default")
            is_own = kind.plural in own and verb == "create" and user is not ANONYMOUS
            assert api.authorizer.decide(asked).allowed is is_own, asked


async def test_an_empty_name_may_nothing_whatever_its_groups(api: Api) -> None:
    await make(api, binding("all", "ClusterRole cluster-admin", "Group team", "User x", namespace=""))
    for groups in ((), ("system:masters",), ("system:authenticated",), ("team",)):
        for asked in (
            Attributes(User("", groups), "get", resource="pods"),
            Attributes(User("", groups), "get", path="/healthz"),
            Attributes(User("", groups), "get", path="/api"),
        ):
            assert not api.authorizer.decide(asked).allowed
        assert not api.authorizer.rules(User("", groups), "default").resources


@pytest.mark.parametrize(
    "path", ["/apix", "/api2/x", "/openapi.evil", "/healthzz", "/versions", "/", "/metrics"]
)
async def test_a_path_that_only_begins_alike_is_not_open(api: Api, path: str) -> None:
    assert not api.authorizer.decide(Attributes(EVE, "get", path=path)).allowed
    for verb in ("post", "put", "delete", "patch"):
        assert not api.authorizer.decide(Attributes(EVE, verb, path="/healthz")).allowed


async def test_discovery_is_open_to_the_known_and_health_to_all(api: Api) -> None:
    for path in ("/api", "/apis/apps/v1", "/openapi/v3"):
        assert api.authorizer.decide(Attributes(EVE, "get", path=path)).allowed
        assert not api.authorizer.decide(Attributes(ANONYMOUS, "get", path=path)).allowed
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert api.authorizer.decide(Attributes(ANONYMOUS, "get", path=path)).allowed


# ------------------------------------------------------------------ bindings


async def test_a_role_opens_its_resource_in_its_namespace_and_no_other(api: Api) -> None:
    await make(api, role("reader", allow("get list", "pods")), binding("b", "Role reader", "User eve"))
    assert may(api, EVE, "get", "pods", name="x") and may(api, EVE, "list", "pods")
    for verb, resource, namespace in (
        ("get", "secrets", "default"), ("get", "pods/log", "default"), ("get", "pods/exec", "default"),
        ("create", "pods", "default"), ("get", "pods", "kube-system"), ("list", "pods", ""),
        ("get", "podss", "default"), ("get", "pods", "default/"), ("get", "pods", "defaul"),
    ):  # fmt: skip
        assert not may(api, EVE, verb, resource, namespace), (verb, resource, namespace)
    assert not may(api, User("ev"), "get", "pods") and not may(api, User("evel"), "get", "pods")


async def test_a_cluster_role_in_a_role_binding_stays_in_its_namespace_and_opens_no_path(api: Api) -> None:
    rules = [allow("*", "*"), {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]
    await make(api, role("wide", *rules, namespace=""), binding("b", "ClusterRole wide", "Group team"))
    assert may(api, EVE, "delete", "secrets", name="x")
    assert not may(api, EVE, "get", "secrets", "kube-system") and not may(api, EVE, "list", "nodes", "")
    assert not api.authorizer.decide(Attributes(EVE, "get", path="/metrics")).allowed
    await make(api, binding("c", "ClusterRole wide", "Group team", namespace=""))
    assert may(api, EVE, "list", "nodes", "") and may(api, EVE, "get", "secrets", "kube-system")
    assert api.authorizer.decide(Attributes(EVE, "get", path="/metrics")).allowed


async def test_a_service_account_is_meant_by_namespace_and_name(api: Api) -> None:
    await make(api, role("r", allow("get", "pods")), binding("b", "Role r", "ServiceAccount default/bot"))
    assert may(api, BOT, "get", "pods")
    for name in ("bot", "system:serviceaccount:kube-system:bot", "system:serviceaccount:default:bot2",
                 "system:serviceaccount:default:bo", "default/bot", "default:bot"):  # fmt: skip
        assert not may(api, User(name), "get", "pods"), name


async def test_names_of_objects_never_open_lists_or_creates(api: Api) -> None:
    rule = allow("*", "configmaps", names="a")
    await make(api, role("r", rule), binding("b", "Role r", "User eve"))
    eve = api.client(EVE)
    admin = api.client(ADMIN)
    for name in ("a", "b"):
        await admin.create(CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}})
    assert (await eve.get(CONFIG_MAP, "a", "default"))["metadata"]["name"] == "a"
    only = await eve.list(CONFIG_MAP, "default", field_selector="metadata.name=a")
    assert [each["metadata"]["name"] for each in only.items] == ["a"]
    for selector in ("", "metadata.name=b", "metadata.name!=a", "metadata.name=b,metadata.name=a"):
        with pytest.raises(StatusError) as refused:
            await eve.list(CONFIG_MAP, "default", field_selector=selector)
        assert refused.value.code == 403
    for attempt in (
        eve.create(CONFIG_MAP, {"metadata": {"name": "a", "namespace": "default"}}),
        eve.get(CONFIG_MAP, "b", "default"),
        eve.delete(CONFIG_MAP, "b", "default"),
    ):
        with pytest.raises(StatusError) as refused:
            await attempt
        assert refused.value.code == 403


async def test_applying_what_is_not_there_needs_the_right_to_create(api: Api) -> None:
    await make(api, role("r", allow("patch get", "configmaps")), binding("b", "Role r", "User eve"))
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}
    with pytest.raises(StatusError) as refused:
        await api.client(EVE).apply(CONFIG_MAP, obj, field_manager="t")
    assert refused.value.code == 403
    await api.client(ADMIN).create(CONFIG_MAP, obj)
    await api.client(EVE).apply(CONFIG_MAP, {**obj, "data": {"a": "b"}}, field_manager="t")


async def test_a_change_counts_at_once_and_a_missing_role_is_told(api: Api) -> None:
    await make(api, binding("b", "Role later", "User eve"))
    asked = Attributes(EVE, "list", "", "v1", "pods", namespace="default")
    assert api.authorizer.decide(asked).reason == f'RBAC: role.{GROUP} "later" not found'
    await make(api, role("later", allow("list", "pods")))
    decision = api.authorizer.decide(asked)
    assert decision.allowed
    assert decision.reason == 'RBAC: allowed by RoleBinding "b/default" of Role "later" to User "eve"'
    await api.client(ADMIN).patch(ROLE, "later", "default", {"rules": []}, type=PatchType.MERGE)
    assert not api.authorizer.decide(asked).allowed
    await api.client(ADMIN).patch(
        ROLE, "later", "default", {"rules": [allow("list", "pods")]}, type=PatchType.MERGE
    )
    assert api.authorizer.decide(asked).allowed
    await api.client(ADMIN).delete(ROLE_BINDING, "b", "default")
    assert not api.authorizer.decide(asked).allowed


async def test_a_role_in_a_namespace_may_open_the_namespace_itself(api: Api) -> None:
    await make(api, role("r", allow("get", "namespaces")), binding("b", "Role r", "User eve"))
    assert (await api.client(EVE).get(NAMESPACE, "default"))["metadata"]["name"] == "default"
    with pytest.raises(StatusError):
        await api.client(EVE).get(NAMESPACE, "kube-system")


async def test_rules_say_all_that_is_allowed(api: Api) -> None:
    await make(api, role("r", allow("get", "pods")), binding("b", "Role r", "User eve"))
    assert allow("get", "pods") in api.authorizer.rules(EVE, "default").resources
    assert allow("get", "pods") not in api.authorizer.rules(EVE, "kube-system").resources
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    await api.client(ADMIN).delete(CLUSTER_ROLE_BINDING, "cluster-admin")
    assert everything in api.authorizer.rules(ADMIN, "default").resources


# ------------------------------------------------------------------ escalation


async def author(api: Api, *more: dict[str, Any]) -> None:
    """Eve may write roles and bindings in the namespace, and read pods."""
    writes = allow("create update patch get", "roles rolebindings", GROUP)
    rules = [writes, allow("get", "pods"), *more]
    await make(api, role("author", *rules), binding("author", "Role author", "User eve"))


GRANTS = [
    allow("get list", "pods"), allow("get", "secrets"), allow("*", "*"), allow("get", "pods/log"),
    allow("create", "pods/exec"), allow("get", "pods", "apps"), allow("get", "*"),
    allow("escalate", "roles", GROUP), allow("impersonate", "users"),
]  # fmt: skip


@pytest.mark.parametrize("grant", GRANTS, ids=str)
async def test_nobody_writes_a_role_that_allows_more_than_they_hold(api: Api, grant: dict[str, Any]) -> None:
    await author(api)
    eve = api.client(EVE)
    await make(api, role("ok", allow("get", "pods")), user=EVE)
    applied = {**role("ok", grant)}
    for attempt in (
        eve.create(ROLE, role("more", grant)),
        eve.update(ROLE, {**role("ok", grant)}),
        eve.patch(ROLE, "ok", "default", {"rules": [grant]}),
        eve.apply(ROLE, applied, field_manager="t", force=True),
        eve.create(ROLE, role("more", grant), dry_run=True),
    ):
        with pytest.raises(StatusError) as refused:
            await attempt
        assert refused.value.code == 403
        assert "is attempting to grant RBAC permissions not currently held" in refused.value.message


async def test_nobody_binds_a_role_that_allows_more_than_they_hold(api: Api) -> None:
    await author(api)
    await make(api, role("big", allow("get", "secrets")), role("small", allow("get", "pods")))
    await make(api, binding("ok", "Role small", "User bob"), user=EVE)
    for of, code in (("Role big", 403), ("ClusterRole cluster-admin", 403), ("Role missing", 404)):
        with pytest.raises(StatusError) as refused:
            await make(api, binding("more", of, "User eve"), user=EVE)
        assert refused.value.code == code
    with pytest.raises(StatusError):
        await make(api, binding("more", "ClusterRole cluster-admin", "User eve", namespace=""), user=EVE)


async def test_the_verbs_escalate_and_bind_lift_the_check_and_each_but_its_own(api: Api) -> None:
    await author(api, allow("bind", "clusterroles", GROUP, names="system:node"))
    await make(api, binding("ok", "ClusterRole system:node", "User bob"), user=EVE)
    with pytest.raises(StatusError):
        await make(api, binding("no", "ClusterRole cluster-admin", "User bob"), user=EVE)
    with pytest.raises(StatusError):
        await make(api, role("no", allow("get", "secrets")), user=EVE)
    await make(api, role("e", allow("escalate", "roles", GROUP)), binding("e", "Role e", "User eve"))
    await make(api, role("yes", allow("get", "secrets")), user=EVE)
    with pytest.raises(StatusError):
        await make(api, binding("no", "Role yes", "User eve"), user=EVE)


async def test_who_may_not_write_a_rule_may_still_help_to_end_the_role(api: Api) -> None:
    await author(api)
    big = role("big", allow("get", "secrets"))
    big["metadata"]["finalizers"] = ["example.org/hold"]
    await make(api, big)
    await api.client(ADMIN).delete(ROLE, "big", "default")
    await api.client(EVE).patch(ROLE, "big", "default", {"metadata": {"finalizers": []}})
    with pytest.raises(StatusError) as gone:
        await api.client(ADMIN).get(ROLE, "big", "default")
    assert gone.value.code == 404


async def test_only_who_holds_everything_may_gather_roles(api: Api) -> None:
    rule = allow("create", "clusterroles", GROUP)
    writers = role("w", rule, namespace=""), binding("w", "ClusterRole w", "User eve", namespace="")
    await make(api, *writers)
    gathering = role("g", namespace="")
    gathering["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    with pytest.raises(StatusError) as refused:
        await make(api, gathering, user=EVE)
    assert "must have cluster-admin privileges to use the aggregationRule" in refused.value.message


# ------------------------------------------------------------------ what every cluster begins with


async def test_default_roles_are_there_and_a_second_start_changes_nothing(api: Api) -> None:
    admin = api.client(ADMIN)
    names = {each["metadata"]["name"] for each in (await admin.list(CLUSTER_ROLE)).items}
    assert names == {each["metadata"]["name"] for each in CLUSTER_ROLES}
    bindings = {each["metadata"]["name"] for each in (await admin.list(CLUSTER_ROLE_BINDING)).items}
    assert bindings == {each["metadata"]["name"] for each in CLUSTER_ROLE_BINDINGS}
    before = (await admin.list(CLUSTER_ROLE)).resource_version
    await ensure_default_roles(admin)
    assert (await admin.list(CLUSTER_ROLE)).resource_version == before


async def test_a_default_role_that_was_cut_is_completed_and_what_was_added_stays(api: Api) -> None:
    admin = api.client(ADMIN)
    extra = allow("get", "widgets", "example.org")
    await admin.patch(CLUSTER_ROLE, "system:basic-user", "", {"rules": [extra]})
    await admin.patch(CLUSTER_ROLE_BINDING, "cluster-admin", "", {"subjects": None})
    await admin.delete(CLUSTER_ROLE, "view")
    await ensure_default_roles(admin)
    completed = await admin.get(CLUSTER_ROLE, "system:basic-user")
    assert extra in completed["rules"]
    wanted = next(each for each in CLUSTER_ROLES if each["metadata"]["name"] == "system:basic-user")
    assert uncovered(rules_of(completed), rules_of(wanted)) == []
    assert (await admin.get(CLUSTER_ROLE_BINDING, "cluster-admin"))["subjects"]
    assert await admin.get(CLUSTER_ROLE, "view")


async def test_a_binding_to_another_role_is_made_anew_and_one_that_is_kept_is_let_alone(api: Api) -> None:
    admin = api.client(ADMIN)
    for name, auto in (("system:discovery", "true"), ("system:basic-user", "false")):
        await admin.delete(CLUSTER_ROLE_BINDING, name)
        other = binding(name, "ClusterRole view", "User eve", namespace="")
        other["metadata"]["annotations"] = {AUTOUPDATE: auto}
        await make(api, other)
    await ensure_default_roles(admin)
    discovery = await admin.get(CLUSTER_ROLE_BINDING, "system:discovery")
    assert discovery["roleRef"]["name"] == "system:discovery"
    assert (await admin.get(CLUSTER_ROLE_BINDING, "system:basic-user"))["roleRef"]["name"] == "view"


def test_what_is_complete_needs_no_write() -> None:
    for _, wanted in DEFAULTS:
        assert complete(wanted, wanted) is None
        kept = {**wanted, "metadata": {**wanted["metadata"], "annotations": {AUTOUPDATE: "false"}}}
        assert complete({**kept, "rules": [], "subjects": []}, wanted) is None
