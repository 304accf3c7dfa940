"""sig-api-machinery: admission by webhooks and by policies in CEL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.conformance.api import Answer, Object, at
from tests.conformance.checks.common import check_discovered, config_map, lifecycle, pod, workload
from tests.conformance.checks.custom import CRDS, define, definition_of, version
from tests.conformance.harness import Trial, check, require
from tests.conformance.webhook import Reply, Webhook, denies, patches, webhook

REGISTRATION = "admissionregistration.k8s.io/v1"
VALIDATING = f"{REGISTRATION}/validatingwebhookconfigurations"
MUTATING = f"{REGISTRATION}/mutatingwebhookconfigurations"
POLICIES = f"{REGISTRATION}/validatingadmissionpolicies"
BINDINGS = f"{REGISTRATION}/validatingadmissionpolicybindings"
MUTATIONS = f"{REGISTRATION}/mutatingadmissionpolicies"
MUTATION_BINDINGS = f"{REGISTRATION}/mutatingadmissionpolicybindings"


def _rule(resource: str, *operations: str, group: str = "", version: str = "v1") -> Object:
    return {
        "operations": list(operations or ("CREATE",)),
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [resource],
    }


def _configuration(t: Trial, hook: Webhook, path: str, *rules: Object, **more: Any) -> Object:
    """A configuration with one webhook, which is asked about the check's own namespace only."""
    one = {
        "name": "check.conformance.example.com",
        "clientConfig": hook.client_config(path),
        "rules": list(rules),
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 10,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": t.namespace}},
        **more,
    }
    return {"metadata": {"name": t.unique("hook")}, "webhooks": [one]}


async def _register(t: Trial, resource: str, obj: Object) -> str:
    path = t.leaves(at(resource, "", obj["metadata"]["name"]))
    await t.api.create(at(resource), obj)
    return path


async def _until(t: Trial, what: str, ask: Callable[[], Any], holds: Callable[[Answer], Any]) -> Answer:
    """Servers hear of a configuration a moment after it was made."""

    async def probe() -> Answer | None:
        answer = await ask()
        return answer if holds(answer) else None

    found = await t.until(what, probe, timeout_s=30)
    assert found is not None
    return found


def _try(t: Trial, resource: str, obj: Object, method: str = "POST") -> Callable[[], Any]:
    """Ask without doing it."""
    path = at(resource, t.namespace)

    async def ask() -> Answer:
        return await t.api.call(method, path, obj, query={"dryRun": "All"})

    return ask


def _denied(words: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.code >= 400 and words in answer.message


@contextlib.asynccontextmanager
async def _denying_config_maps(t: Trial, resource: str, reply: Reply) -> AsyncIterator[tuple[str, Object]]:
    async with webhook({"/": reply}) as hook:
        obj = _configuration(t, hook, "/", _rule("configmaps"))
        yield await _register(t, resource, obj), obj
        await t.api.call("DELETE", at(resource, "", obj["metadata"]["name"]))


@check(
    "AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents",
    quick=True,
)
async def webhooks_are_discovered(t: Trial) -> None:
    for resource in (VALIDATING, MUTATING):
        await check_discovered(t, resource)


@check("should be able to deny pod and configmap creation")
async def a_webhook_denies(t: Trial) -> None:
    reply = denies("not this", lambda request: "bad" in request["object"]["metadata"]["name"])
    async with webhook({"/": reply}) as hook:
        rules = (_rule("pods"), _rule("configmaps", "CREATE", "UPDATE"))
        await _register(t, VALIDATING, _configuration(t, hook, "/", *rules))
        await _until(t, "bad pods are denied", _try(t, "v1/pods", pod("bad")), _denied("not this"))
        said = await t.api.call("POST", at("v1/configmaps", t.namespace), config_map("bad"))
        require(
            'admission webhook "check.conformance.example.com" denied the request' in said.message,
            said.message,
        )
        await t.api.create(at("v1/configmaps", t.namespace), config_map("good"))
        request = hook.requests[-1]
        require(request["operation"] == "CREATE" and request["namespace"] == t.namespace, f"asked {request}")
        require(
            request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}, f"asked {request['kind']}"
        )


@check("should be able to deny attaching pod")
async def a_webhook_denies_attaching(t: Trial) -> None:
    await t.hosts()
    async with webhook({"/": denies("attaching is denied")}) as hook:
        await _register(t, VALIDATING, _configuration(t, hook, "/", _rule("pods/attach", "CONNECT")))
        await t.api.create(at("v1/pods", t.namespace), pod("attached"))
        await t.until_object(
            "the pod runs",
            at("v1/pods", t.namespace, "attached"),
            lambda one: one["status"].get("phase") == "Running",
        )
        path = at("v1/pods", t.namespace, "attached", "attach")

        async def ask() -> Answer:
            return await t.api.call("POST", path, query={"stdout": "true", "container": "main"})

        await _until(t, "attaching is denied", ask, _denied("attaching is denied"))


@check("should be able to deny custom resource creation, update and deletion")
async def a_webhook_denies_custom_resources(t: Trial) -> None:
    definition = await define(t)

    def is_bad(request: Object) -> bool:
        obj = request.get("object") or request.get("oldObject") or {}
        return (obj.get("data") or {}).get("webhook") == "disallow"

    async with webhook({"/": denies("disallowed", is_bad)}) as hook:
        rule = _rule(definition.plural, "CREATE", "UPDATE", "DELETE", group=definition.group)
        path = await _register(t, VALIDATING, _configuration(t, hook, "/", rule))
        bad = {**definition.empty("bad"), "data": {"webhook": "disallow"}}

        async def ask() -> Answer:
            return await t.api.call("POST", definition.path, bad, query={"dryRun": "All"})

        await _until(t, "creating is denied", ask, _denied("disallowed"))
        await t.api.create(definition.path, {**definition.empty("good"), "data": {"webhook": "allow"}})
        updated = await t.api.call(
            "PATCH", f"{definition.path}/good", {"data": {"webhook": "disallow"}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        require(_denied("disallowed")(updated), f"updating: {updated.code} {updated.message}")
        await t.api.delete(path)

        async def bad_is_taken() -> bool:
            return (await t.api.call("POST", definition.path, bad)).code == 201

        await t.until("without the webhook it is taken", bad_is_taken)
        await _register(t, VALIDATING, _configuration(t, hook, "/", rule))

        async def delete() -> Answer:
            return await t.api.call("DELETE", f"{definition.path}/bad", query={"dryRun": "All"})

        await _until(t, "deleting is denied", delete, _denied("disallowed"))


@check("should deny crd creation")
async def a_webhook_denies_definitions(t: Trial) -> None:
    def is_marked(request: Object) -> bool:
        return (request["object"]["metadata"].get("labels") or {}).get("webhook") == t.namespace

    async with webhook({"/": denies("no definitions", is_marked)}) as hook:
        rule = _rule("customresourcedefinitions", group="apiextensions.k8s.io")
        await _register(t, VALIDATING, _configuration(t, hook, "/", rule, namespaceSelector={}))
        obj = definition_of(t, version())
        obj["metadata"]["labels"] = {"webhook": t.namespace}

        async def ask() -> Answer:
            return await t.api.call("POST", at(CRDS), obj, query={"dryRun": "All"})

        await _until(t, "the definition is denied", ask, _denied("no definitions"))


@check("should unconditionally reject operations on fail closed webhook")
async def an_unreachable_webhook_fails_closed(t: Trial) -> None:
    async with webhook({}) as hook:
        obj = _configuration(t, hook, "/nothing", _rule("configmaps"), failurePolicy="Fail")
        await _register(t, VALIDATING, obj)
        await _until(
            t,
            "creating fails",
            _try(t, "v1/configmaps", config_map("any")),
            lambda answer: answer.code == 500 and "failed calling webhook" in answer.message,
        )


@check("should honor timeout")
async def a_slow_webhook_times_out(t: Trial) -> None:
    async with webhook({"/": denies("slow")}, delay_s=5) as hook:
        obj = _configuration(t, hook, "/", _rule("configmaps"), timeoutSeconds=1, failurePolicy="Fail")
        path = await _register(t, VALIDATING, obj)
        ask = _try(t, "v1/configmaps", config_map("any"))
        await _until(t, "it times out", ask, lambda answer: answer.code == 500)
        said = await ask()
        require("context deadline exceeded" in said.message, f"it says {said.message!r}")
        read = await t.api.get(path)
        read["webhooks"][0]["failurePolicy"] = "Ignore"
        await t.api.put(path, read)
        await _until(t, "a timeout is ignored", ask, lambda answer: answer.code == 201)


@check("should mutate configmap")
async def a_webhook_mutates(t: Trial) -> None:
    operations = [{"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}]
    second = [{"op": "add", "path": "/data/mutation-stage-2", "value": "yes"}]
    async with webhook(
        {
            "/1": patches(operations, lambda request: "mutation-start" in request["object"].get("data", {})),
            "/2": patches(second, lambda request: "mutation-stage-1" in request["object"].get("data", {})),
        }
    ) as hook:
        one = _configuration(t, hook, "/1", _rule("configmaps"))
        two = {**one["webhooks"][0], "name": "second.conformance.example.com"}
        one["webhooks"].append({**two, "clientConfig": hook.client_config("/2")})
        await _register(t, MUTATING, one)
        obj = config_map("to-be-mutated", **{"mutation-start": "yes"})
        await _until(
            t,
            "both webhooks have their say",
            _try(t, "v1/configmaps", obj),
            lambda answer: answer.code == 201 and "mutation-stage-2" in answer.body["data"],
        )


@check("should mutate pod and apply defaults after mutation")
async def defaults_follow_a_mutation(t: Trial) -> None:
    container = {"name": "added", "image": "added"}
    operations = [{"op": "add", "path": "/spec/initContainers", "value": [container]}]
    async with webhook({"/": patches(operations)}) as hook:
        await _register(t, MUTATING, _configuration(t, hook, "/", _rule("pods")))
        answer = await _until(
            t,
            "the pod is mutated",
            _try(t, "v1/pods", pod("mutated")),
            lambda answer: answer.code == 201 and answer.body["spec"].get("initContainers"),
        )
        (added,) = answer.body["spec"]["initContainers"]
        require(added.get("terminationMessagePolicy") == "File", "the added container has no defaults")


@check("should mutate everything except 'skip-me' configmaps")
async def an_object_selector_leaves_out(t: Trial) -> None:
    operations = [{"op": "add", "path": "/data", "value": {"mutated": "yes"}}]
    async with webhook({"/": patches(operations)}) as hook:
        selector = {"matchExpressions": [{"key": "skip-me", "operator": "NotIn", "values": ["yes"]}]}
        obj = _configuration(t, hook, "/", _rule("configmaps"), objectSelector=selector)
        await _register(t, MUTATING, obj)
        await _until(
            t,
            "it is mutated",
            _try(t, "v1/configmaps", config_map("any")),
            lambda answer: answer.code == 201 and "mutated" in answer.body["data"],
        )
        skipped = config_map("skipped", own="data")
        skipped["metadata"]["labels"] = {"skip-me": "yes"}
        made = await t.api.create(at("v1/configmaps", t.namespace), skipped)
        require(made["data"] == {"own": "data"}, f"what was to be skipped has {made['data']}")


async def _mutating(t: Trial, obj: Object, wanted: Callable[[Object], Any], operations: list[Object]) -> None:
    definition = await define(t, obj=obj)
    async with webhook({"/": patches(operations)}) as hook:
        rule = _rule(definition.plural, group=definition.group, version="*")
        await _register(t, MUTATING, _configuration(t, hook, "/", rule))
        one = {**definition.empty("mutated"), "data": {"start": "yes"}}

        async def ask() -> Answer:
            return await t.api.call("POST", definition.path, one, query={"dryRun": "All"})

        answer = await _until(
            t, "it is mutated", ask, lambda answer: answer.code == 201 and "stage" in answer.body["data"]
        )
        require(wanted(answer.body["data"]), f"it has {answer.body['data']}")


STAGE = [{"op": "add", "path": "/data/stage", "value": "yes"}]


@check("AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]")
async def a_webhook_mutates_custom_resources(t: Trial) -> None:
    await _mutating(
        t, definition_of(t, version()), lambda data: data == {"start": "yes", "stage": "yes"}, STAGE
    )


@check("should mutate custom resource with pruning")
async def what_a_webhook_adds_is_pruned(t: Trial) -> None:
    schema = {
        "type": "object",
        "properties": {
            "data": {
                "type": "object",
                "properties": {"start": {"type": "string"}, "stage": {"type": "string"}},
            }
        },
    }
    unknown = [*STAGE, {"op": "add", "path": "/data/unknown", "value": "yes"}]
    await _mutating(
        t,
        definition_of(t, version(schema=schema)),
        lambda data: data == {"start": "yes", "stage": "yes"},
        unknown,
    )


@check("should mutate custom resource with different stored version")
async def a_webhook_mutates_whatever_is_stored(t: Trial) -> None:
    definition = await define(t, obj=definition_of(t, version("v1"), version("v2", storage=False)))
    first = definition.at_version("v1")
    operations = [{"op": "add", "path": "/data/stage", "value": "yes"}]
    async with webhook({"/": patches(operations)}) as hook:
        rule = _rule(definition.plural, "CREATE", "UPDATE", group=definition.group, version="*")
        await _register(t, MUTATING, _configuration(t, hook, "/", rule))
        probe = {**first.empty("probe"), "data": {}}

        async def ask() -> Answer:
            return await t.api.call("POST", first.path, probe, query={"dryRun": "All"})

        await _until(
            t, "it is mutated", ask, lambda answer: answer.code == 201 and "stage" in answer.body["data"]
        )
        await t.api.create(first.path, {**first.empty("stored"), "data": {"start": "yes"}})
        changed = await t.api.get(definition.itself)
        for one in changed["spec"]["versions"]:
            one["storage"] = one["name"] == "v2"
        await t.api.put(definition.itself, changed)
        patched = await t.api.patch(f"{definition.path}/stored", {"data": {"other": "yes"}})
        require(
            patched["data"] == {"start": "yes", "stage": "yes", "other": "yes"}, f"it has {patched['data']}"
        )


@check("should not be able to mutate or prevent deletion of webhook configuration objects")
async def configurations_are_out_of_reach(t: Trial) -> None:
    added = patches([{"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}])
    async with webhook({"/deny": denies("stuck"), "/mutate": added}) as hook:
        rules = [
            _rule(resource, "*", group="admissionregistration.k8s.io", version="*")
            for resource in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
        ]
        for resource, path in ((VALIDATING, "/deny"), (MUTATING, "/mutate")):
            await _register(t, resource, _configuration(t, hook, path, *rules, namespaceSelector={}))
        for resource in (VALIDATING, MUTATING):
            obj = _configuration(t, hook, "/deny", _rule("nothing"))
            created = await t.api.create(at(resource), obj)
            require("labels" not in created["metadata"], "a configuration was mutated")
            await t.api.delete(at(resource, "", obj["metadata"]["name"]))
        require(not hook.requests, "a webhook was asked about configurations")


@check("patching/updating a validating webhook should work", resource=VALIDATING)
@check("patching/updating a mutating webhook should work", resource=MUTATING)
async def a_changed_configuration_counts(t: Trial, resource: str) -> None:
    reply = (
        denies("denied")
        if resource == VALIDATING
        else patches([{"op": "add", "path": "/data/m", "value": "y"}])
    )
    async with _denying_config_maps(t, resource, reply) as (path, _):
        obj = config_map("any", a="b")

        def acts(answer: Answer) -> bool:
            return answer.code >= 400 or (answer.code == 201 and "m" in answer.body["data"])

        ask = _try(t, "v1/configmaps", obj)
        await _until(t, "the webhook acts", ask, acts)
        read = await t.api.get(path)
        read["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        await t.api.put(path, read)
        await _until(t, "after the update it is not asked", ask, lambda answer: not acts(answer))
        operation = {"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}
        await t.api.patch(path, [operation], "application/json-patch+json")
        await _until(t, "after the patch it is asked again", ask, acts)


@check("listing validating webhooks should work", resource=VALIDATING)
@check("listing mutating webhooks should work", resource=MUTATING)
async def configurations_are_listed_and_deleted_together(t: Trial, resource: str) -> None:
    reply = (
        denies("denied")
        if resource == VALIDATING
        else patches([{"op": "add", "path": "/data/m", "value": "y"}])
    )
    mark = t.unique("list")
    async with webhook({"/": reply}) as hook:
        for _ in range(10):
            obj = _configuration(t, hook, "/", _rule("configmaps"))
            obj["metadata"]["labels"] = {"conformance": mark}
            await _register(t, resource, obj)
        listed = await t.api.items(at(resource), labelSelector=f"conformance={mark}")
        require(len(listed) == 10, f"{len(listed)} of 10 are listed")

        def acts(answer: Answer) -> bool:
            return answer.code >= 400 or (answer.code == 201 and "m" in answer.body["data"])

        ask = _try(t, "v1/configmaps", config_map("any", a="b"))
        await _until(t, "the webhooks act", ask, acts)
        await t.api.delete(at(resource), labelSelector=f"conformance={mark}")
        await _until(t, "deleted ones are not asked", ask, lambda answer: not acts(answer))


@check(
    "should be able to create and update validating webhook configurations with match conditions",
    resource=VALIDATING,
)
@check(
    "should be able to create and update mutating webhook configurations with match conditions",
    resource=MUTATING,
)
async def match_conditions_are_kept(t: Trial, resource: str) -> None:
    async with webhook({}) as hook:
        condition = {"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}
        obj = _configuration(t, hook, "/", _rule("configmaps"), matchConditions=[condition])
        path = await _register(t, resource, obj)
        read = await t.api.get(path)
        require(read["webhooks"][0]["matchConditions"] == [condition], "the condition is not kept")
        condition = {"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"}
        read["webhooks"][0]["matchConditions"] = [condition]
        updated = await t.api.put(path, read)
        require(updated["webhooks"][0]["matchConditions"] == [condition], "the condition is not updated")


@check("should reject validating webhook configurations with invalid match conditions", resource=VALIDATING)
@check("should reject mutating webhook configurations with invalid match conditions", resource=MUTATING)
async def a_wrong_match_condition_is_refused(t: Trial, resource: str) -> None:
    async with webhook({}) as hook:
        condition = {"name": "wrong", "expression": "... [] bad expression"}
        obj = _configuration(t, hook, "/", _rule("configmaps"), matchConditions=[condition])
        answer = await t.api.refused(422, "POST", at(resource), obj)
        require("compilation failed" in answer.message, f"it says {answer.message!r}")


# ------------------------------------------------------------------------------------------- policies


def _policy(t: Trial, **spec: Any) -> Object:
    match = {"resourceRules": [_rule("deployments", "CREATE", "UPDATE", group="apps")]}
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": t.namespace}}}
    return {
        "metadata": {"name": t.unique("policy")},
        "spec": {"matchConstraints": {**match, **selector}, **spec},
    }


async def _bound(t: Trial, policies: str, bindings: str, policy: Object, **binding: Any) -> None:
    name = policy["metadata"]["name"]
    t.leaves(at(policies, "", name))
    await t.api.create(at(policies), policy)
    t.leaves(at(bindings, "", name))
    await t.api.create(at(bindings), {"metadata": {"name": name}, "spec": {"policyName": name, **binding}})


@check("ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment")
async def a_policy_validates(t: Trial) -> None:
    rules = [
        {
            "expression": "object.spec.replicas > 1",
            "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)",
        },
        {
            "expression": "namespaceObject.metadata.name == '" + t.namespace + "'",
            "message": "Internal error! Other namespace should not be allowed.",
        },
    ]
    await _bound(t, POLICIES, BINDINGS, _policy(t, validations=rules), validationActions=["Deny"])
    answer = await _until(
        t,
        "one replica is denied",
        _try(t, "apps/v1/deployments", workload("one", 1)),
        _denied("wants replicas > 1, got 1"),
    )
    require(answer.code == 422, f"it is denied with {answer.code}")
    await t.api.create(at("apps/v1/deployments", t.namespace), workload("two", 2))
    await t.api.refused(422, "POST", at("apps/v1/replicasets", t.namespace), {"metadata": {"name": "x"}})


@check("ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables.")
async def a_policy_has_variables(t: Trial) -> None:
    policy = _policy(
        t,
        variables=[
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
        validations=[
            {"expression": "variables.replicas > 1"},
            {"expression": "variables.oddReplicas", "message": "only odd numbers"},
        ],
    )
    await _bound(t, POLICIES, BINDINGS, policy, validationActions=["Deny"])
    await _until(
        t,
        "two replicas are denied",
        _try(t, "apps/v1/deployments", workload("two", 2)),
        _denied("only odd numbers"),
    )
    await t.api.create(at("apps/v1/deployments", t.namespace), workload("three", 3))
    one = await t.api.call("POST", at("apps/v1/deployments", t.namespace), workload("one", 1))
    require(_denied("failed expression: variables.replicas > 1")(one), f"{one.code} {one.message}")


@check(
    "[Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations",
    quick=True,
)
async def policies_are_kept(t: Trial) -> None:
    policy = _policy(t, validations=[{"expression": "true"}])
    condition = {"type": "Tried", "status": "True", "reason": "ByHand", "message": "by a check"}
    # A controller writes the rest of the status.
    status = {"conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    await lifecycle(
        t, POLICIES, policy, namespaced=False, spec_patch={"spec": {"failurePolicy": "Ignore"}}, status=status
    )


@check("should support ValidatingAdmissionPolicyBinding API operations", quick=True)
async def bindings_are_kept(t: Trial) -> None:
    binding = {
        "metadata": {"name": t.unique("binding")},
        "spec": {"policyName": "x", "validationActions": ["Deny"]},
    }
    await lifecycle(t, BINDINGS, binding, namespaced=False)


_MUTATION = (
    'Object{{metadata: Object.metadata{{{field}: {{"mutated": "yes"}}}}, spec: Object.spec{{replicas: 3}}}}'
)


@check(
    "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]",
    field="labels",
)
@check(
    "MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations",
    field="annotations",
)
async def a_policy_mutates(t: Trial, field: str) -> None:
    expression = _MUTATION.format(field=field)
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    policy = _policy(t, failurePolicy="Fail", reinvocationPolicy="Never", mutations=[mutation])
    await _bound(t, MUTATIONS, MUTATION_BINDINGS, policy)
    answer = await _until(
        t,
        "the Deployment is mutated",
        _try(t, "apps/v1/deployments", workload("mutated", 1)),
        lambda answer: (
            answer.code == 201 and (answer.body["metadata"].get(field) or {}).get("mutated") == "yes"
        ),
    )
    require(answer.body["spec"]["replicas"] == 3, "the replicas are not mutated")


@check("should support MutatingAdmissionPolicy API operations", quick=True)
async def mutations_are_kept(t: Trial) -> None:
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
    policy = _policy(t, failurePolicy="Fail", reinvocationPolicy="Never", mutations=[mutation])
    await lifecycle(t, MUTATIONS, policy, namespaced=False)


@check("should support MutatingAdmissionPolicyBinding API operations", quick=True)
async def mutation_bindings_are_kept(t: Trial) -> None:
    binding = {"metadata": {"name": t.unique("binding")}, "spec": {"policyName": "x"}}
    await lifecycle(t, MUTATION_BINDINGS, binding, namespaced=False)
