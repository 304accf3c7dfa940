"""Admission policies: what they refuse, warn of, note and change, and what happens when they cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.requests import Context
from gitkube.objects.cel.parser import parse
from gitkube.objects.kinds import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    MUTATING_ADMISSION_POLICY,
    MUTATING_ADMISSION_POLICY_BINDING,
    NAMESPACE,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    Kind,
)
from gitkube.objects.types import Object
from gitkube.objects.validation.validate import validate
from tests.support.real_api import real_api

ADMIN = User("admin", ("system:masters",))
CONFIG_MAPS = {
    "resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}
    ]
}
DEPLOYMENTS = {
    "resourceRules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}
    ]
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path) as running:
        yield running


def thing(kind: Kind, name: str, **rest: Any) -> Object:
    metadata: Object = {"name": name}
    if kind.namespaced:
        metadata["namespace"] = "default"
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


def config_map(name: str = "c", **data: str) -> Object:
    return thing(CONFIG_MAP, name, data=data)


def deployment(replicas: int = 1, name: str = "d") -> Object:
    labels = {"app": "d"}
    containers = [{"name": "c", "image": "app:1", "env": [{"name": "A", "value": "1"}]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return thing(DEPLOYMENT, name, spec=spec)


async def validating(
    api: Api, *expressions: str | Object, actions: tuple[str, ...] = ("Deny",), name: str = "p", **spec: Any
) -> None:
    """Make a policy with these validations, and a binding."""
    client = api.client(ADMIN)
    validations = [{"expression": one} if isinstance(one, str) else one for one in expressions]
    binding = spec.pop("binding", {})
    whole = {"matchConstraints": CONFIG_MAPS, "validations": validations, **spec}
    await client.create(VALIDATING_ADMISSION_POLICY, thing(VALIDATING_ADMISSION_POLICY, name, spec=whole))
    bound = {"policyName": name, "validationActions": list(actions), **binding}
    kind = VALIDATING_ADMISSION_POLICY_BINDING
    await client.create(kind, thing(kind, f"{name}-b", spec=bound))


async def mutating(api: Api, *mutations: str, name: str = "m", **spec: Any) -> None:
    """Make a policy with these ApplyConfigurations, or JSON patches where they begin with a bracket."""
    client = api.client(ADMIN)
    given = [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": one}}
        if one.startswith("[")
        else {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": one}}
        for one in mutations
    ]
    binding = spec.pop("binding", {})
    whole = {
        "matchConstraints": DEPLOYMENTS,
        "reinvocationPolicy": "Never",
        "mutations": given,
        **spec,
    }
    await client.create(MUTATING_ADMISSION_POLICY, thing(MUTATING_ADMISSION_POLICY, name, spec=whole))
    kind = MUTATING_ADMISSION_POLICY_BINDING
    await client.create(kind, thing(kind, f"{name}-b", spec={"policyName": name, **binding}))


async def served(api: Api, plural: str) -> Kind:
    """The kind of a definition, once it is established."""
    for _ in range(1000):
        if (kind := api.registry.by_resource("example.org", "v2", plural)) is not None:
            return kind
        await asyncio.sleep(0.02)
    raise TimeoutError(f"{plural} are not served")


async def refusal(write: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await write
    return caught.value


# ------------------------------------------------------------------------------------------------- validating


async def test_what_a_policy_does_not_allow_is_refused_in_kubernetes_words(api: Api) -> None:
    await validating(api, "object.data.size() < 2")
    client = api.client(ADMIN)
    await client.create(CONFIG_MAP, config_map("ok", a="1"))
    error = await refusal(client.create(CONFIG_MAP, config_map("large", a="1", b="2")))
    said = (
        "ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: failed expression: "
        "object.data.size() < 2"
    )
    assert error.message == f'configmaps "large" is forbidden: {said}'
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.details == {"name": "large", "kind": "configmaps", "causes": [{"message": said}]}


@pytest.mark.parametrize(
    ("validation", "said", "code"),
    [
        ({"message": "too large"}, "too large", 422),
        ({"message": "no", "reason": "Forbidden"}, "no", 403),
        ({"messageExpression": "'it has ' + string(object.data.size())"}, "it has 1", 422),
        ({"messageExpression": "object.data.nope", "message": "other"}, "other", 422),
        ({"messageExpression": "''"}, "failed expression: false", 422),
    ],
)
async def test_a_policy_says_why_and_of_what_sort(api: Api, validation: Object, said: str, code: int) -> None:
    await validating(api, {"expression": "false", **validation})
    error = await refusal(api.client(ADMIN).create(CONFIG_MAP, config_map(a="1")))
    assert error.message.endswith(f"denied request: {said}")
    assert error.code == code


async def test_a_policy_without_a_binding_or_for_others_does_nothing(api: Api) -> None:
    await validating(
        api,
        "false",
        binding={"matchResources": {"objectSelector": {"matchLabels": {"pick": "yes"}}}},
    )
    await api.client(ADMIN).create(CONFIG_MAP, config_map())
    await api.client(ADMIN).create(DEPLOYMENT, deployment())
    picked = config_map("picked")
    picked["metadata"]["labels"] = {"pick": "yes"}
    assert await refusal(api.client(ADMIN).create(CONFIG_MAP, picked))


async def test_warn_and_audit_let_it_pass_and_tell(api: Api) -> None:
    await validating(
        api,
        {"expression": "false", "message": "rather not"},
        actions=("Warn", "Audit"),
        auditAnnotations=[{"key": "size", "valueExpression": "string(object.data.size())"}],
    )
    context = Context(ADMIN)
    await api.verbs.create(context, CONFIG_MAP, "default", config_map(a="1"))
    said = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': rather not"
    assert context.warnings == [said]
    noted = json.loads(context.audit_annotations["validation.policy.admission.k8s.io/validation_failure"])
    assert noted[0]["message"] == "rather not"
    assert context.audit_annotations["p/size"] == "1"


async def test_variables_are_made_once_when_they_are_asked_for(api: Api) -> None:
    await validating(
        api,
        "variables.twice == 4 || variables.broken",
        variables=[
            {"name": "size", "expression": "object.data.size()"},
            {"name": "twice", "expression": "variables.size * 2"},
            {"name": "broken", "expression": "object.data.nope == 'x'"},
        ],
    )
    client = api.client(ADMIN)
    await client.create(CONFIG_MAP, config_map("two", a="1", b="2"))
    error = await refusal(client.create(CONFIG_MAP, config_map("one", a="1")))
    assert 'composited variable "broken" fails to evaluate: no such key: nope' in error.message


async def test_what_cannot_be_evaluated_refuses_or_passes_as_the_failure_policy_says(api: Api) -> None:
    await validating(api, "object.data.nope == 'x'", name="soft", failurePolicy="Ignore")
    await api.client(ADMIN).create(CONFIG_MAP, config_map("one", a="1"))
    await validating(api, "object.data.nope == 'x'", name="hard")
    error = await refusal(api.client(ADMIN).create(CONFIG_MAP, config_map("two", a="1")))
    assert "expression 'object.data.nope == 'x'' resulted in error: no such key: nope" in error.message


async def test_one_that_would_take_too_long_is_stopped(api: Api) -> None:
    bomb = "lists.range(100000).all(a, lists.range(100000).all(b, a + b >= 0))"
    await validating(api, bomb)
    error = await refusal(api.client(ADMIN).create(CONFIG_MAP, config_map()))
    assert "actual cost limit exceeded" in error.message


async def test_all_policies_together_have_a_limit_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitkube.api.admission.request.MAX_UNITS", 10_000)
    dear = "lists.range(1000).all(a, a >= 0)"
    for number in range(4):
        await validating(api, dear, name=f"p{number}", failurePolicy="Ignore")
    await validating(api, "lists.range(100).all(a, a >= 0)", name="z-cheap")
    error = await refusal(api.client(ADMIN).create(CONFIG_MAP, config_map()))
    assert "'z-cheap'" in error.message and "actual cost limit exceeded" in error.message


async def test_parameters_come_from_the_object_that_the_binding_names(api: Api) -> None:
    client = api.client(ADMIN)
    await validating(
        api,
        "object.metadata.name == 'limits' || object.data.size() <= int(params.data.max)",
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}},
    )
    error = await refusal(client.create(CONFIG_MAP, config_map("early", a="1")))
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in error.message
    # The parameters are a ConfigMap too, so they are refused until the binding is away.
    kind = VALIDATING_ADMISSION_POLICY_BINDING
    await client.delete(kind, "p-b")
    await client.create(CONFIG_MAP, config_map("limits", max="1"))
    reference = {"name": "limits", "parameterNotFoundAction": "Deny"}
    bound = {"policyName": "p", "validationActions": ["Deny"], "paramRef": reference}
    await client.create(kind, thing(kind, "again", spec=bound))
    await client.create(CONFIG_MAP, config_map("small", a="1"))
    assert await refusal(client.create(CONFIG_MAP, config_map("large", a="1", b="2")))


async def test_expressions_see_the_request_the_namespace_and_rights(api: Api) -> None:
    await validating(
        api,
        "request.operation == 'CREATE' && request.userInfo.username == 'admin' && oldObject == null",
        "namespaceObject.metadata.name == 'default'",
        "authorizer.requestResource.check('create').allowed()",
        "!authorizer.serviceAccount('default', 'no').group('').resource('secrets').check('get').allowed()",
        "authorizer.path('/healthz').check('get').allowed()",
    )
    await api.client(ADMIN).create(CONFIG_MAP, config_map())


async def test_a_deletion_is_judged_by_what_is_there(api: Api) -> None:
    await validating(api, "request.operation != 'DELETE' || oldObject.data.keep != 'yes'")
    client = api.client(ADMIN)
    await client.create(CONFIG_MAP, config_map("kept", keep="yes"))
    await client.create(CONFIG_MAP, config_map("other", keep="no"))
    assert await refusal(client.delete(CONFIG_MAP, "kept", "default"))
    await client.delete(CONFIG_MAP, "other", "default")


async def test_policies_cannot_lock_themselves_in(api: Api) -> None:
    everything = {
        "resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}]
    }
    await validating(api, "false", matchConstraints=everything)
    client = api.client(ADMIN)
    assert await refusal(client.create(NAMESPACE, thing(NAMESPACE, "x")))
    await client.delete(VALIDATING_ADMISSION_POLICY_BINDING, "p-b")
    await client.create(NAMESPACE, thing(NAMESPACE, "x"))


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        ({"validations": [{"expression": "nope == 1"}]}, "spec.validations[0].expression", "undeclared"),
        ({"validations": [{"expression": "1 + 1"}]}, "spec.validations[0].expression", "evaluate to bool"),
        ({"validations": [{"expression": ""}]}, "spec.validations[0].expression", "not specified"),
        (
            {"validations": [{"expression": "true", "messageExpression": "1"}]},
            "spec.validations[0].messageExpression",
            "must evaluate to string",
        ),
        ({"variables": [{"name": "a-b", "expression": "1"}]}, "spec.variables[0].name", "CEL identifier"),
        (
            {"matchConditions": [{"name": "x", "expression": "params.a"}]},
            "spec.matchConditions[0].expression",
            "undeclared reference to 'params'",
        ),
    ],
)
async def test_a_wrong_expression_is_refused_when_it_is_written(
    api: Api, spec: Object, field: str, why: str
) -> None:
    whole = {"matchConstraints": CONFIG_MAPS, "validations": [{"expression": "true"}], **spec}
    policy = thing(VALIDATING_ADMISSION_POLICY, "p", spec=whole)
    error = await refusal(api.client(ADMIN).create(VALIDATING_ADMISSION_POLICY, policy))
    causes = (error.details or {})["causes"]
    assert [cause["field"] for cause in causes] == [field]
    assert why in causes[0]["message"]


async def test_custom_resources_are_judged_in_the_version_that_a_rule_names(api: Api) -> None:
    client = api.client(ADMIN)
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                }
            },
        }
        for name in ("v1", "v2")
    ]
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": versions}
    definition = thing(CUSTOM_RESOURCE_DEFINITION, "things.example.org", spec=spec)
    await client.create(CUSTOM_RESOURCE_DEFINITION, definition)
    kind = await served(api, "things")
    rules = {
        "apiGroups": ["example.org"],
        "apiVersions": ["v1"],
        "resources": ["things"],
        "operations": ["*"],
    }
    await validating(
        api,
        "object.apiVersion == 'example.org/v1' && request.requestKind.version == 'v2'",
        "object.spec.size < 5",
        matchConstraints={"resourceRules": [rules]},
    )
    await mutating(
        api,
        "Object{metadata: Object.metadata{labels: {'size': string(object.spec.size)}}}",
        matchConstraints={"resourceRules": [rules]},
    )
    made = await client.create(kind, thing(kind, "small", spec={"size": 1}))
    assert made["apiVersion"] == "example.org/v2"
    assert made["metadata"]["labels"] == {"size": "1"}
    assert (
        "object.spec.size < 5"
        in (await refusal(client.create(kind, thing(kind, "large", spec={"size": 9})))).message
    )


# --------------------------------------------------------------------------------------------------- mutating


async def test_a_part_of_an_object_is_merged_into_it(api: Api) -> None:
    await mutating(
        api,
        "Object{metadata: Object.metadata{labels: {'team': 'a'}}, spec: Object.spec{template: "
        "Object.spec.template{spec: Object.spec.template.spec{containers: "
        "[Object.spec.template.spec.containers{name: 'side', image: 'side:1'}]}}}}",
    )
    made = await api.client(ADMIN).create(DEPLOYMENT, deployment())
    assert made["metadata"]["labels"] == {"team": "a"}
    containers = {each["name"]: each for each in made["spec"]["template"]["spec"]["containers"]}
    assert set(containers) == {"c", "side"}
    assert containers["side"]["imagePullPolicy"] == "IfNotPresent"


async def test_a_json_patch_may_be_written_by_an_expression(api: Api) -> None:
    await mutating(
        api,
        "[JSONPatch{op: 'add', path: '/metadata/labels', value: {}}, JSONPatch{op: 'add', "
        "path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/team'), value: 'a'}]",
        "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas * 2}]",
        "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1}]",
    )
    made = await api.client(ADMIN).create(DEPLOYMENT, deployment(replicas=2))
    assert made["metadata"]["labels"] == {"example.com/team": "a"}
    assert made["spec"]["replicas"] == 5


async def test_a_policy_of_mutation_has_conditions_and_is_seen_by_those_that_judge(api: Api) -> None:
    await mutating(
        api,
        "Object{metadata: Object.metadata{labels: {'size': 'large'}}}",
        matchConditions=[{"name": "large", "expression": "object.spec.replicas > 5"}],
    )
    await validating(
        api,
        "!has(object.metadata.labels) || !('size' in object.metadata.labels)",
        matchConstraints=DEPLOYMENTS,
    )
    await api.client(ADMIN).create(DEPLOYMENT, deployment(replicas=1))
    assert await refusal(api.client(ADMIN).create(DEPLOYMENT, deployment(replicas=9, name="large")))


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("Object{spec: Object.spec{replicas: object.spec.nope}}", "no such key: nope"),
        ("Object{spec: Object.spec{replicas: 'many'}}", "replicas"),
        ("Object{metadata: Object.metadata{name: 'other'}}", "may not be changed"),
        ("[JSONPatch{op: 'remove', path: '/spec/nope'}]", "nope"),
        (
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
            "containers: [Object.c{name: 'c', command: ['sh']}]}}}}",
            "may not mutate atomic arrays",
        ),
    ],
)
async def test_a_mutation_that_cannot_be_done_refuses_the_request(
    api: Api, expression: str, why: str
) -> None:
    await mutating(api, expression)
    error = await refusal(api.client(ADMIN).create(DEPLOYMENT, deployment()))
    assert "MutatingAdmissionPolicy 'm' with binding 'm-b' denied request: expression '" in error.message
    assert why in error.message


async def test_a_mutation_that_may_fail_leaves_the_object_as_it_is(api: Api) -> None:
    await mutating(api, "Object{spec: Object.spec{replicas: object.spec.nope}}", failurePolicy="Ignore")
    made = await api.client(ADMIN).create(DEPLOYMENT, deployment(replicas=2))
    assert made["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ('"I\'m a teapot!"', "must evaluate to Object but got string"),
        ("Object.spec.metadata{}", "must evaluate to Object but got Object.spec.metadata"),
        ("{'a': 1}", "must evaluate to Object but got map(string, int)"),
        ("object", "must evaluate to Object but got dyn"),
        ("[]", "must evaluate to list(JSONPatch) but got list(dyn)"),
        ("[Object{}]", "must evaluate to list(JSONPatch) but got list(Object)"),
        ("[JSONPatch{op: 1}]", "1:14: expected type of field 'op' is 'string' but provided type is 'int'"),
        ("[JSONPatch{opp: 'add'}]", "ERROR: <input>:1:15: undefined field 'opp'"),
        ("[JSONPatch.part{}]", "undeclared reference to 'JSONPatch.part'"),
        ("[JSONPatch{op: 'add', path: request.path}]", "undefined field 'path'"),
        ("Object{spec: Object.spec{replicas: variables.nope}}", "undefined field 'nope'"),
    ],
)
async def test_a_mutation_of_the_wrong_type_is_refused_when_it_is_written(
    api: Api, expression: str, why: str
) -> None:
    with pytest.raises(StatusError) as refused:
        await mutating(api, expression)
    assert refused.value.code == 422
    assert why in refused.value.message


@pytest.mark.parametrize(
    "kind", [VALIDATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY], ids=lambda kind: kind.kind
)
def test_a_policy_is_judged_again_only_when_its_spec_changes(kind: Kind) -> None:
    spec = {
        "matchConstraints": DEPLOYMENTS,
        "reinvocationPolicy": "Never",
        "validations": [{"expression": "object.nope("}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "object.nope("}}],
    }
    old = thing(kind, "p", spec=spec)
    old["metadata"]["resourceVersion"] = "1"
    before = parse.cache_info()
    assert validate(kind, {**old, "status": {"observedGeneration": 1}}, old) == []
    assert parse.cache_info() == before
    changed = {**old, "spec": {**spec, "failurePolicy": "Ignore"}}
    assert "compilation failed" in validate(kind, changed, old)[0]["message"]


async def test_a_mutation_may_come_to_its_type_in_many_ways(api: Api) -> None:
    await mutating(
        api,
        "has(object.spec.replicas) ? Object{spec: Object.spec{?replicas: object.spec.?replicas}} : Object{}",
        "[[JSONPatch{op: 'test', path: '/kind', value: 'Deployment'}], []][object.spec.replicas > 1 ? 1 : 0]",
        "[] + ['a', 'b'].map(k, JSONPatch{op: 'add', path: '/metadata/labels', value: {k: k}})",
        "[?optional.none()] + [JSONPatch{op: 'add', path: '/metadata/labels/c', value: string(variables.c)}]",
        variables=[{"name": "c", "expression": "1 + 1"}],
    )
    made = await api.client(ADMIN).create(DEPLOYMENT, deployment(replicas=1))
    assert made["metadata"]["labels"] == {"b": "b", "c": "2"}
