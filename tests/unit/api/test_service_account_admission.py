"""Which ServiceAccount a new pod acts as."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.admission.service_accounts import ENFORCE, MIRROR
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.objects.kinds import POD, SERVICE_ACCOUNT
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path) as api:
        yield api


async def pod(api: Api, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {"generateName": "p-", "namespace": "default", "annotations": annotations or {}}
    whole = {"containers": [{"name": "c", "image": "i"}], **spec}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}
    return await api.client(ADMIN).create(POD, obj)


async def account(api: Api, name: str, annotations: dict[str, str] | None = None, **more: Any) -> None:
    metadata = {"name": name, "namespace": "default", "annotations": annotations or {}}
    obj = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **more}
    await api.client(ADMIN).create(SERVICE_ACCOUNT, obj)


async def test_a_pod_that_names_no_account_is_the_default_one_under_both_names(api: Api) -> None:
    spec = (await pod(api))["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


async def test_another_account_must_exist(api: Api) -> None:
    with pytest.raises(StatusError) as refused:
        await pod(api, serviceAccountName="bot")
    assert refused.value.code == 403 and 'serviceaccount "bot" not found' in refused.value.message
    await account(api, "bot")
    assert (await pod(api, serviceAccount="bot"))["spec"]["serviceAccountName"] == "bot"


def variable(secret: str) -> dict[str, Any]:
    return {"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}


FORMS: list[dict[str, Any]] = [
    {"volumes": [{"name": "v", "secret": {"secretName": "SECRET"}}]},
    {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "SECRET"}}]}}]},
    {"containers": [{"name": "c", "image": "i", "env": [variable("SECRET")]}]},
    {"initContainers": [{"name": "d", "image": "i", "env": [variable("SECRET")]}]},
    {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "SECRET"}}]}]},
]


def with_secret(form: Any, name: str) -> Any:
    if isinstance(form, dict):
        return {key: with_secret(value, name) for key, value in form.items()}
    if isinstance(form, list):
        return [with_secret(value, name) for value in form]
    return name if form == "SECRET" else form


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_an_account_that_lists_its_secrets_allows_no_others(api: Api, form: dict[str, Any]) -> None:
    await account(api, "strict", {ENFORCE: "true"}, secrets=[{"name": "ok"}])
    await pod(api, serviceAccountName="strict", **with_secret(form, "ok"))
    await pod(api, **with_secret(form, "other"))
    with pytest.raises(StatusError) as refused:
        await pod(api, serviceAccountName="strict", **with_secret(form, "other"))
    assert refused.value.code == 403 and "does not reference that secret" in refused.value.message


async def test_a_mirror_of_a_hosts_own_pod_is_nobody(api: Api) -> None:
    assert "serviceAccountName" not in (await pod(api, {MIRROR: "x"}, nodeName="n"))["spec"]
    for form in ({"serviceAccountName": "default"}, *(with_secret(form, "s") for form in FORMS)):
        with pytest.raises(StatusError) as refused:
            await pod(api, {MIRROR: "x"}, nodeName="n", **form)
        assert refused.value.code == 403


# ---------------------------------------------------------------------- the token's directory

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def mounted(obj: Object) -> list[str]:
    """The names of the containers that have the directory from us."""
    names = [volume["name"] for volume in obj["spec"].get("volumes") or () if "projected" in volume]
    containers = [*(obj["spec"].get("initContainers") or ()), *obj["spec"]["containers"]]
    return [
        one["name"]
        for one in containers
        for mount in one.get("volumeMounts") or ()
        if mount["name"] in names and mount["mountPath"] == TOKEN_PATH and mount["readOnly"]
    ]


async def test_each_container_gets_token_authority_and_namespace_where_libraries_look(api: Api) -> None:
    containers = [{"name": name, "image": "i"} for name in ("c", "d")]
    found = await pod(api, containers=containers, initContainers=[{"name": "i", "image": "i"}])
    assert mounted(found) == ["i", "c", "d"]
    [volume] = found["spec"]["volumes"]
    assert volume["name"].startswith("kube-api-access-") and volume["projected"]["defaultMode"] == 0o644
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }
                ]
            }
        },
    ]


async def test_pod_and_account_may_say_no_and_the_pod_has_the_last_word(api: Api) -> None:
    await account(api, "quiet", automountServiceAccountToken=False)
    assert mounted(await pod(api, automountServiceAccountToken=False)) == []
    assert mounted(await pod(api, serviceAccountName="quiet")) == []
    assert mounted(await pod(api, serviceAccountName="quiet", automountServiceAccountToken=True)) == ["c"]


async def test_a_container_that_has_something_there_keeps_it(api: Api) -> None:
    own = {"name": "own", "mountPath": TOKEN_PATH + "/"}
    containers = [{"name": "c", "image": "i", "volumeMounts": [own]}, {"name": "d", "image": "i"}]
    volumes = [{"name": "own", "emptyDir": {}}]
    assert mounted(await pod(api, containers=containers, volumes=volumes)) == ["d"]
    only = await pod(api, containers=containers[:1], volumes=volumes)
    assert [volume["name"] for volume in only["spec"]["volumes"]] == ["own"]


async def test_secrets_to_pull_with_come_from_the_account_unless_the_pod_names_some(api: Api) -> None:
    await account(api, "puller", imagePullSecrets=[{"name": "a"}])
    assert (await pod(api, serviceAccountName="puller"))["spec"]["imagePullSecrets"] == [{"name": "a"}]
    named = await pod(api, serviceAccountName="puller", imagePullSecrets=[{"name": "b"}])
    assert named["spec"]["imagePullSecrets"] == [{"name": "b"}]
