"""Webhooks in the way of a write: who is asked, in which order, and what their answers do."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, DeleteOptions, ListOptions
from gitkube.api.webhooks.caller import WebhookCallError
from gitkube.objects.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    MUTATING_WEBHOOK_CONFIGURATION,
    NAMESPACE,
    POD,
    VALIDATING_WEBHOOK_CONFIGURATION,
    Kind,
)
from gitkube.objects.types import Object
from tests.support.real_api import real_api

ADMIN = User("admin", ("system:masters",), uid="u1", extra=(("team", ("a", "b")),))
Respond = Callable[[Object], Mapping[str, Any] | Exception]


class FakeCaller:
    """Stands where webhooks are called: answers by the URL that a configuration names."""

    def __init__(self) -> None:
        self.responses: dict[str, Respond] = {}
        self.asked: list[tuple[str, Object]] = []

    async def call(self, client_config: Mapping[str, Any], body: Any, timeout_s: float) -> dict[str, Any]:
        url = str(client_config["url"])
        request = json.loads(json.dumps(body))["request"]
        self.asked.append((url, request))
        response = self.responses[url](request)
        if isinstance(response, Exception):
            raise response
        filled = {"uid": request["uid"], **response}
        if isinstance(filled.get("patch"), list):
            filled["patch"] = base64.b64encode(json.dumps(filled["patch"]).encode()).decode()
            filled["patchType"] = "JSONPatch"
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": filled}

    def names(self) -> list[str]:
        return [url.rsplit("/", 1)[1] for url, _ in self.asked]


class Scene:
    """An API whose webhooks are functions of the test."""

    def __init__(self, api: Api, caller: FakeCaller) -> None:
        self.api = api
        self.client: LocalClient = api.client(ADMIN)
        self.caller = caller
        self._count = 0

    async def hook(
        self,
        respond: Respond,
        *,
        kind: Kind = VALIDATING_WEBHOOK_CONFIGURATION,
        name: str = "",
        **fields: Any,
    ) -> str:
        """Make a configuration with one webhook; its name."""
        self._count += 1
        name = name or f"hook{self._count}"
        url = f"https://hooks.test/{name}"
        self.caller.responses[url] = respond
        webhook = {
            "name": f"{name}.example.org",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url},
            "rules": [rule("configmaps")],
            **fields,
        }
        configuration = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name},
            "webhooks": [webhook],
        }
        await self.client.create(kind, configuration)
        return f"{name}.example.org"

    async def mutating(self, respond: Respond, **fields: Any) -> str:
        return await self.hook(respond, kind=MUTATING_WEBHOOK_CONFIGURATION, **fields)


def rule(*resources: str, operations: tuple[str, ...] = ("*",), group: str = "", **more: Any) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "resources": list(resources),
        "operations": list(operations),
        **more,
    }


def allow(request: Object) -> Mapping[str, Any]:
    return {"allowed": True}


def deny(message: str = "no", **status: Any) -> Respond:
    return lambda request: {"allowed": False, "status": {"message": message, **status}}


def patch(*operations: Object) -> Respond:
    return lambda request: {"allowed": True, "patch": list(operations)}


def fails(why: str = "failed to call webhook: nobody there") -> Respond:
    return lambda request: WebhookCallError(why)


def config_map(name: str = "c", labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata: Object = {"name": name, "namespace": "default"}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str = "p") -> Object:
    container = {"name": "c", "image": "app:1"}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def account() -> Object:
    metadata = {"name": "default", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


@contextlib.asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Scene]:
    async with real_api(directory) as api:
        caller = FakeCaller()
        api.webhooks.call = lambda *given: caller.call(*given)  # type: ignore[method-assign]
        yield Scene(api, caller)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with staged(tmp_path) as running:
        yield running


async def refusal(write: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await write
    return caught.value


async def test_a_denied_write_is_not_done_and_says_who_denied_it(scene: Scene) -> None:
    name = await scene.hook(deny("not today", code=403, reason="Forbidden"))
    error = await refusal(scene.client.create(CONFIG_MAP, config_map()))
    assert error.message == f'admission webhook "{name}" denied the request: not today'
    assert (error.code, error.reason) == (403, "Forbidden")
    assert await refusal(scene.client.get(CONFIG_MAP, "c", "default"))


async def test_a_webhook_is_told_who_does_what_to_what(scene: Scene) -> None:
    await scene.hook(allow)
    await scene.client.create(CONFIG_MAP, config_map(a="1"), field_manager="me")
    request = scene.caller.asked[0][1]
    assert request["operation"] == "CREATE"
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"]) == ("c", "default")
    assert request["userInfo"] == {
        "username": "admin",
        "uid": "u1",
        "groups": ["system:masters"],
        "extra": {"team": ["a", "b"]},
    }
    assert request["object"]["data"] == {"a": "1"}
    assert request["object"]["metadata"]["uid"]
    assert request["oldObject"] is None
    assert request["options"]["fieldManager"] == "me"
    assert request["dryRun"] is False


async def test_nobody_is_asked_about_what_no_rule_names(scene: Scene) -> None:
    await scene.hook(deny(), rules=[rule("secrets"), rule("configmaps", operations=("DELETE",))])
    await scene.client.create(CONFIG_MAP, config_map())
    assert scene.caller.asked == []


async def test_what_a_patch_makes_is_stored(scene: Scene) -> None:
    await scene.mutating(patch({"op": "add", "path": "/data/b", "value": "2"}))
    made = await scene.client.create(CONFIG_MAP, config_map(a="1"))
    assert made["data"] == {"a": "1", "b": "2"}
    assert (await scene.client.get(CONFIG_MAP, "c", "default"))["data"] == {"a": "1", "b": "2"}


async def test_a_patched_pod_gets_its_defaults_and_the_built_in_rules_again(scene: Scene) -> None:
    sidecar = {"name": "side", "image": "side:1"}
    await scene.mutating(
        patch({"op": "add", "path": "/spec/containers/-", "value": sidecar}),
        rules=[rule("pods", operations=("CREATE",))],
    )
    await scene.client.create(
        Kind("", "v1", "ServiceAccount", "serviceaccounts", True),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        },
    )
    made = await scene.client.create(POD, pod())
    side = made["spec"]["containers"][1]
    assert side["imagePullPolicy"] == "IfNotPresent"
    assert side["terminationMessagePath"] == "/dev/termination-log"


async def test_a_patch_cannot_change_who_an_object_is_nor_its_status(scene: Scene) -> None:
    await scene.mutating(
        patch(
            {"op": "add", "path": "/metadata/uid", "value": "mine"},
            {"op": "add", "path": "/metadata/namespace", "value": "kube-system"},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}},
        ),
        rules=[rule("pods")],
    )
    await scene.client.create(
        Kind("", "v1", "ServiceAccount", "serviceaccounts", True),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        },
    )
    made = await scene.client.create(POD, pod())
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["namespace"] == "default"
    assert made["status"]["phase"] == "Pending"


async def test_an_invalid_patch_result_is_the_writers_error_and_a_wrong_patch_the_webhooks(
    scene: Scene,
) -> None:
    await scene.mutating(patch({"op": "add", "path": "/data/a b", "value": "x"}))
    assert (await refusal(scene.client.create(CONFIG_MAP, config_map(a="1")))).code == 422


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/data/none"},
        {"op": "add", "path": "/data", "value": "text"},
        {"op": "replace", "path": "", "value": 1},
        {"op": "fly", "path": "/data"},
    ],
)
async def test_a_patch_that_cannot_be_done_is_an_internal_error(scene: Scene, operation: Object) -> None:
    await scene.mutating(patch(operation), failurePolicy="Ignore")
    error = await refusal(scene.client.create(CONFIG_MAP, config_map(a="1")))
    assert (error.code, error.reason) == (500, "InternalError")


async def test_mutating_come_first_in_the_order_of_their_names_and_validating_see_the_outcome(
    scene: Scene,
) -> None:
    def seen(request: Object) -> Mapping[str, Any]:
        assert request["object"]["data"] == {"x": "0", "a": "1", "b": "1"}
        return {"allowed": True}

    await scene.hook(seen, name="a0")
    await scene.mutating(patch({"op": "add", "path": "/data/b", "value": "1"}), name="z2")
    await scene.mutating(patch({"op": "add", "path": "/data/a", "value": "1"}), name="z1")
    await scene.client.create(CONFIG_MAP, config_map(x="0"))
    assert scene.caller.names() == ["z1", "z2", "a0"]


async def test_one_that_wishes_is_asked_again_after_others_changed_something(scene: Scene) -> None:
    await scene.mutating(allow, name="m1", reinvocationPolicy="IfNeeded")
    await scene.mutating(allow, name="m2")
    await scene.mutating(patch({"op": "add", "path": "/data/b", "value": "1"}), name="m3")
    await scene.client.create(CONFIG_MAP, config_map(x="0"))
    assert scene.caller.names() == ["m1", "m2", "m3", "m1"]


async def test_a_failing_webhook_stops_the_write_or_is_passed_over(scene: Scene) -> None:
    await scene.hook(fails(), name="soft", failurePolicy="Ignore")
    await scene.client.create(CONFIG_MAP, config_map("one"))
    name = await scene.hook(fails(), name="hard")
    error = await refusal(scene.client.create(CONFIG_MAP, config_map("two")))
    why = f'failed calling webhook "{name}": failed to call webhook: nobody there'
    assert error.message == f"Internal error occurred: {why}"
    assert error.details == {"causes": [{"message": why}]}
    assert error.code == 500


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"uid": "other", "allowed": True}, 'expected response.uid="'),
        ({"allowed": True, "patch": "e30="}, "validating webhook may not return response.patch"),
    ],
)
async def test_an_answer_to_another_question_counts_as_a_failure(
    scene: Scene, response: Object, why: str
) -> None:
    await scene.hook(lambda request: response)
    assert why in (await refusal(scene.client.create(CONFIG_MAP, config_map()))).message


async def test_update_patch_apply_and_delete_are_asked_about(scene: Scene) -> None:
    await scene.hook(allow)
    client = scene.client
    made = await client.create(CONFIG_MAP, config_map(a="1"))
    await client.update(CONFIG_MAP, {**made, "data": {"a": "2"}})
    await client.patch(CONFIG_MAP, "c", "default", {"data": {"a": "3"}})
    await client.apply(CONFIG_MAP, config_map(b="1"), field_manager="me")
    await client.delete(CONFIG_MAP, "c", "default")
    requests = [request for _, request in scene.caller.asked]
    assert [request["operation"] for request in requests] == [
        "CREATE", "UPDATE", "UPDATE", "UPDATE", "DELETE",
    ]  # fmt: skip
    assert requests[1]["oldObject"]["data"] == {"a": "1"}
    assert requests[4]["object"] is None
    assert requests[4]["oldObject"]["data"] == {"a": "3", "b": "1"}
    assert requests[4]["options"]["kind"] == "DeleteOptions"


async def test_each_of_a_deleted_collection_is_asked_about_and_one_refusal_ends_it(scene: Scene) -> None:
    for name in ("a", "b", "c"):
        await scene.client.create(CONFIG_MAP, config_map(name))
    await scene.hook(
        lambda request: {"allowed": request["oldObject"]["metadata"]["name"] != "b"},
        rules=[rule("configmaps", operations=("DELETE",))],
    )
    error = await refusal(
        scene.api.verbs.delete_collection(
            Context(ADMIN), CONFIG_MAP, "default", ListOptions(), DeleteOptions()
        )
    )
    assert "denied the request without explanation" in error.message
    left = await scene.client.list(CONFIG_MAP, "default")
    assert [obj["metadata"]["name"] for obj in left.items] == ["b", "c"]
    assert all("name" not in request for _, request in scene.caller.asked)


async def test_selectors_of_namespace_and_object_decide(scene: Scene) -> None:
    await scene.hook(
        deny(),
        namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        objectSelector={"matchLabels": {"pick": "yes"}},
    )
    await scene.client.create(CONFIG_MAP, config_map("plain"))
    assert await refusal(scene.client.create(CONFIG_MAP, config_map("picked", {"pick": "yes"})))
    elsewhere = config_map("picked", {"pick": "yes"})
    elsewhere["metadata"]["namespace"] = "kube-system"
    await scene.client.create(CONFIG_MAP, elsewhere)


async def test_conditions_are_expressions_that_must_all_hold(scene: Scene) -> None:
    conditions = [
        {"name": "not-mine", "expression": "request.userInfo.username != 'system:me'"},
        {"name": "marked", "expression": "object.?data.?mark.orValue('') == 'yes'"},
        {"name": "admin", "expression": "authorizer.group('').resource('pods').check('create').allowed()"},
    ]
    await scene.hook(deny(), matchConditions=conditions)
    await scene.client.create(CONFIG_MAP, config_map("plain"))
    assert await refusal(scene.client.create(CONFIG_MAP, config_map("marked", mark="yes")))


async def test_a_condition_that_cannot_be_evaluated_fails_as_the_webhook_would(scene: Scene) -> None:
    conditions = [{"name": "odd", "expression": "object.data.nope == 'x'"}]
    await scene.hook(deny(), matchConditions=conditions, failurePolicy="Ignore")
    await scene.client.create(CONFIG_MAP, config_map("one", a="1"))
    await scene.hook(deny(), matchConditions=conditions)
    error = await refusal(scene.client.create(CONFIG_MAP, config_map("two", a="1")))
    assert error.code == 403
    assert "match condition 'odd' failed: no such key: nope" in error.message


async def test_a_dry_run_asks_only_webhooks_without_side_effects(scene: Scene) -> None:
    await scene.hook(allow, sideEffects="NoneOnDryRun")
    await scene.client.create(CONFIG_MAP, config_map(), dry_run=True)
    assert scene.caller.asked[0][1]["dryRun"] is True
    assert await refusal(scene.client.get(CONFIG_MAP, "c", "default"))


async def test_warnings_and_annotations_of_all_webhooks_are_collected(scene: Scene) -> None:
    answer = {"allowed": True, "warnings": ["look out"], "auditAnnotations": {"why": "because"}}
    name = await scene.hook(lambda request: answer)
    context = Context(ADMIN)
    await scene.api.verbs.create(context, CONFIG_MAP, "default", config_map())
    assert context.warnings == ["look out"]
    assert context.audit_annotations == {f"{name}/why": "because"}


async def test_a_scale_is_asked_about_as_a_scale_and_may_be_changed(scene: Scene) -> None:
    await scene.mutating(
        patch({"op": "replace", "path": "/spec/replicas", "value": 2}),
        rules=[rule("deployments/scale", group="apps")],
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    await scene.client.create(DEPLOYMENT, deployment)
    await scene.client.patch(DEPLOYMENT, "d", "default", {"spec": {"replicas": 9}}, subresource="scale")
    request = scene.caller.asked[0][1]
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert request["subResource"] == "scale"
    assert request["object"]["spec"]["replicas"] == 9
    stored = await scene.client.get(DEPLOYMENT, "d", "default")
    assert stored["spec"]["replicas"] == 2


async def test_a_connection_to_a_pod_is_asked_about(scene: Scene) -> None:
    await scene.hook(deny("keep out"), rules=[rule("pods/exec", operations=("CONNECT",))])
    options = {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"]}
    error = await refusal(scene.api.verbs.admit_connect(Context(ADMIN), POD, "default", "p", "exec", options))
    assert "keep out" in error.message
    request = scene.caller.asked[0][1]
    assert request["operation"] == "CONNECT"
    assert request["object"] == options


async def test_configurations_of_webhooks_are_exempt(scene: Scene) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    await scene.hook(deny(), name="wall", rules=[everything])
    assert await refusal(
        scene.client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})
    )
    await scene.client.delete(VALIDATING_WEBHOOK_CONFIGURATION, "wall")
    await scene.client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})


async def test_who_was_overtaken_while_a_webhook_thought_is_decided_anew(scene: Scene) -> None:
    made = await scene.client.create(CONFIG_MAP, config_map(a="1"))
    others = scene.api.client(User("other", ("system:masters",)))
    overtaken: list[bool] = []

    async def overtake() -> None:
        overtaken.append(True)
        await others.patch(CONFIG_MAP, "c", "default", {"data": {"b": "theirs"}})

    call = scene.caller.call

    async def slow(client_config: Mapping[str, Any], body: Any, timeout_s: float) -> dict[str, Any]:
        if not overtaken:
            await overtake()
        return await call(client_config, body, timeout_s)

    scene.caller.call = slow  # type: ignore[method-assign]
    await scene.hook(allow)
    await scene.client.patch(CONFIG_MAP, "c", "default", {"data": {"a": "mine"}})
    stored = await scene.client.get(CONFIG_MAP, "c", "default")
    assert stored["data"] == {"a": "mine", "b": "theirs"}
    assert made["metadata"]["uid"] == stored["metadata"]["uid"]
