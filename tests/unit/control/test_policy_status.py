"""What the status of a ValidatingAdmissionPolicy says of its expressions."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from gitkube.clock import SystemClock
from gitkube.control.manager import Manager
from gitkube.control.policy_status import PolicyStatusController
from gitkube.control.settings import ControlSettings
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, VALIDATING_ADMISSION_POLICY
from gitkube.objects.registry import Registry
from gitkube.objects.type_checking import expression_warnings
from gitkube.objects.types import Object
from gitkube.objects.validation.validate import validate
from tests.support.real_api import ADMIN, real_api

DEPLOYMENTS = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
GARDENS = {"apiGroups": ["plants.example.org"], "apiVersions": ["v1"], "resources": ["gardens"]}


def policy(*rules: dict[str, Any], **spec: Any) -> Object:
    matched = [{**rule, "operations": ["CREATE"]} for rule in rules]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": matched}, **spec},
    }


def warnings(*rules: dict[str, Any], **spec: Any) -> list[tuple[str, str]]:
    registry = Registry()
    found = expression_warnings(policy(*rules, **spec), registry.by_resource, registry.by_gvk)
    return [(one["fieldRef"], one["warning"]) for one in found]


def test_a_field_that_a_matched_kind_does_not_have_is_a_warning() -> None:
    validation = {"expression": "object.replicas > 1", "messageExpression": "'a' + object.metadata.nme"}
    assert warnings(DEPLOYMENTS, validations=[validation]) == [
        (
            "spec.validations[0].expression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
            " | object.replicas > 1\n"
            " | ......^\n",
        ),
        (
            "spec.validations[0].messageExpression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: undefined field 'nme'\n"
            " | 'a' + object.metadata.nme\n"
            " | .....................^\n",
        ),
    ]


def test_each_kind_that_does_not_fit_is_named_and_those_that_do_are_not() -> None:
    rule = {**DEPLOYMENTS, "resources": ["deployments", "daemonsets", "statefulsets", "deployments/scale"]}
    ((_, warning),) = warnings(rule, validations=[{"expression": "object.spec.replicas > 1"}])
    assert warning.startswith("apps/v1, Kind=DaemonSet: ERROR: <input>:1:12: undefined field 'replicas'")
    assert "Deployment" not in warning and "StatefulSet" not in warning


@pytest.mark.parametrize(
    ("rule", "spec"),
    [
        (DEPLOYMENTS, {"validations": [{"expression": "object.spec.replicas <= 5"}]}),
        ({**DEPLOYMENTS, "resources": ["*"]}, {"validations": [{"expression": "object.replicas > 1"}]}),
        ({**DEPLOYMENTS, "apiGroups": ["*"]}, {"validations": [{"expression": "object.replicas > 1"}]}),
        (GARDENS, {"validations": [{"expression": "object.replicas > 1"}]}),
        (
            DEPLOYMENTS,
            {
                "variables": [{"name": "pod", "expression": "object.spec.template.spec"}],
                "validations": [{"expression": "variables.pod.containers.all(c, c.image != '')"}],
            },
        ),
        (
            DEPLOYMENTS,
            {
                "paramKind": {"apiVersion": "rules.example.org/v1", "kind": "Limit"},
                "validations": [{"expression": "object.spec.replicas <= params.most"}],
            },
        ),
        (
            DEPLOYMENTS,
            {"validations": [{"expression": "authorizer.group('').resource('pods').check('get').allowed()"}]},
        ),
    ],
)
def test_what_fits_or_cannot_be_known_is_no_warning(rule: dict[str, Any], spec: dict[str, Any]) -> None:
    assert warnings(rule, **spec) == []


def test_variables_and_parameters_have_types() -> None:
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [{"name": "pod", "expression": "object.spec.template.spec"}],
        "validations": [
            {"expression": "variables.pod.container.size() > 0"},
            {"expression": "params.date.most == ''"},
        ],
    }
    first, second = warnings(DEPLOYMENTS, **spec)
    assert "undefined field 'container'" in first[1]
    assert "undefined field 'date'" in second[1]


async def test_the_status_follows_the_policy_and_the_kinds(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        client = api.client(ADMIN)
        manager = Manager(
            client,
            clock=SystemClock(),
            rng=random.Random(5),
            settings=ControlSettings(),
            controllers=[PolicyStatusController],
            registry=api.registry,
        )
        running = asyncio.create_task(manager.run())

        async def until(generation: int, *said: str) -> Object:
            for _ in range(3000):
                status = (await client.get(VALIDATING_ADMISSION_POLICY, "p")).get("status") or {}
                checking = status.get("typeChecking") or {}
                found = [one["warning"] for one in checking.get("expressionWarnings") or ()]
                if status.get("observedGeneration") == generation and len(found) == len(said):
                    assert all(word in warning for word, warning in zip(said, found, strict=True))
                    return status
                await asyncio.sleep(0.01)
            raise AssertionError(f"waited in vain for {said}; it says {status}")

        wrong = [{"expression": "object.spec.bets > 1"}]
        await client.create(VALIDATING_ADMISSION_POLICY, policy(DEPLOYMENTS, GARDENS, validations=wrong))
        status = await until(1, "apps/v1, Kind=Deployment")
        await client.create(CUSTOM_RESOURCE_DEFINITION, GARDEN)
        for _ in range(3000):
            status = (await client.get(VALIDATING_ADMISSION_POLICY, "p"))["status"]
            if "plants.example.org/v1, Kind=Garden" in str(status):
                break
            await asyncio.sleep(0.01)
        (warning,) = status["typeChecking"]["expressionWarnings"]
        assert "plants.example.org/v1, Kind=Garden: ERROR: <input>:1:12: undefined" in warning["warning"]

        right = {"spec": {"validations": [{"expression": "has(object.spec)"}]}}
        await client.patch(VALIDATING_ADMISSION_POLICY, "p", "", right)
        assert (await until(2))["typeChecking"] == {}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


GARDEN: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gardens.plants.example.org"},
    "spec": {
        "group": "plants.example.org",
        "scope": "Namespaced",
        "names": {"plural": "gardens", "kind": "Garden"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"beds": {"type": "integer"}}}
                        },
                    }
                },
            }
        ],
    },
}


def test_a_policy_that_is_there_is_not_refused_for_what_its_expressions_are_asked_today() -> None:
    stored = policy(DEPLOYMENTS, validations=[{"expression": "request.nothing"}], failurePolicy="Fail")
    stored["metadata"] |= {"uid": "1", "resourceVersion": "1", "generation": 1}
    assert [cause["field"] for cause in validate(VALIDATING_ADMISSION_POLICY, stored)] == [
        "spec.validations[0].expression"
    ]
    seen = {**stored, "status": {"observedGeneration": 1}}
    assert validate(VALIDATING_ADMISSION_POLICY, seen, stored) == []
