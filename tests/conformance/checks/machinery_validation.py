"""sig-api-machinery: field validation of typed objects and of custom resources."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.api import APPLY_PATCH, Object, at
from tests.conformance.checks.common import workload
from tests.conformance.checks.custom import Definition, define
from tests.conformance.harness import Trial, check, require


async def _post(t: Trial, path: str, body: str, validation: str) -> Any:
    query = {"fieldValidation": validation, "dryRun": "All"}
    return await t.api.call("POST", path, body, query=query)


@check("FieldValidation should detect unknown and duplicate fields of a typed object", quick=True)
async def unknown_and_duplicate_fields_are_told(t: Trial) -> None:
    path = at("apps/v1/deployments", t.namespace)
    body = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", **workload("validated")})
    body = body.replace('"replicas": 1', '"replicas": 1, "foo": "foo", "paused": true, "paused": false')
    strict = await _post(t, path, body, "Strict")
    require(strict.code == 400, f"Strict answers {strict.code}")
    for words in ('unknown field "spec.foo"', 'duplicate field "spec.paused"'):
        require(words in strict.message, f"Strict does not say {words}: {strict.message}")
        warned = await _post(t, path, body, "Warn")
        require(warned.code == 201, f"Warn answers {warned.code} {warned.message}")
        said = warned.warnings.replace('\\"', '"')
        require(words in said, f"Warn does not say {words}: {said}")
    ignored = await _post(t, path, body, "Ignore")
    require((ignored.code, ignored.warnings) == (201, ""), f"Ignore: {ignored.code} {ignored.warnings}")
    require("foo" not in ignored.body["spec"], "an unknown field was kept")


@check("FieldValidation should detect unknown metadata fields of a typed object", quick=True)
async def unknown_metadata_is_told(t: Trial) -> None:
    path = at("apps/v1/deployments", t.namespace)
    body = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", **workload("validated")})
    root = body.replace('"metadata": {"name"', '"metadata": {"unknownMeta": "foo", "name"', 1)
    embedded = body.replace('"metadata": {"labels"', '"metadata": {"unknownMeta": "foo", "labels"', 1)
    for text, field in ((root, "metadata.unknownMeta"), (embedded, "spec.template.metadata.unknownMeta")):
        answer = await _post(t, path, text, "Strict")
        require(answer.code == 400, f"{field}: {answer.code}")
        require(f'unknown field "{field}"' in answer.message, answer.message)


SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "foo": {"type": "string"},
                "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                    "x-kubernetes-list-type": "map",
                    "items": {
                        "type": "object",
                        "required": ["containerPort", "protocol"],
                        "properties": {
                            "containerPort": {"type": "integer", "format": "int32"},
                            "hostIP": {"type": "string"},
                            "hostPort": {"type": "integer", "format": "int32"},
                            "name": {"type": "string"},
                            "protocol": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}


def _custom(definition: Definition, name: str, spec: Object) -> Object:
    return {**definition.empty(name), "spec": spec}


async def _apply(t: Trial, definition: Definition, obj: Object, **query: str) -> Any:
    path = f"{definition.path}/{obj['metadata']['name']}"
    asked = {"fieldManager": "check", "fieldValidation": "Strict", **query}
    return await t.api.call("PATCH", path, obj, content_type=APPLY_PATCH, query=asked)


@check("FieldValidation should create/apply a valid CR for CRD with validation schema")
async def a_valid_resource_is_taken(t: Trial) -> None:
    definition = await define(t, SCHEMA)
    spec = {
        "foo": "foo1",
        "cronSpec": "* * * * */5",
        "ports": [{"name": "x", "containerPort": 80, "protocol": "TCP"}],
    }
    answer = await _apply(t, definition, _custom(definition, "mytest", spec))
    require(answer.code == 201, f"{answer.code} {answer.message}")
    spec["foo"] = "foo2"
    answer = await _apply(t, definition, _custom(definition, "mytest", spec))
    require(answer.code == 200 and answer.body["spec"]["foo"] == "foo2", f"{answer.code} {answer.message}")


@check("FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema")
async def without_a_schema_all_is_taken(t: Trial) -> None:
    definition = await define(t, {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    answer = await _apply(t, definition, _custom(definition, "mytest", {"foo": "foo1", "unknown": [1]}))
    require(answer.code == 201, f"{answer.code} {answer.message}")
    require(answer.body["spec"]["unknown"] == [1], "an unknown field was lost")


@check(
    "FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema"
)
async def an_extra_field_is_told(t: Trial) -> None:
    definition = await define(t, SCHEMA)
    spec = {"foo": "foo1", "extraProperty": "unknown"}
    answer = await _apply(t, definition, _custom(definition, "mytest", spec))
    require(answer.code >= 400, "an unknown field was taken under Strict")
    require("extraProperty" in answer.message, f"the field is not named: {answer.message}")


@check("FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR")
async def unknown_metadata_of_a_resource_is_told(t: Trial) -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "template": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": True,
                        "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
                    }
                },
            }
        },
    }
    definition = await define(t, schema)
    embedded = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "unknownSubMeta": "bar"}}
    obj = _custom(definition, "mytest", {"template": embedded})
    obj["metadata"]["unknownMeta"] = "foo"
    answer = await t.api.call("POST", definition.path, obj, query={"fieldValidation": "Strict"})
    require(answer.code == 400, f"{answer.code} {answer.message}")
    for field in ("metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"):
        require(f'unknown field "{field}"' in answer.message, answer.message)


@check("FieldValidation should detect duplicates in a CR when preserving unknown fields")
async def duplicates_of_a_resource_are_told(t: Trial) -> None:
    definition = await define(t, {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    body = json.dumps(_custom(definition, "mytest", {"foo": "foo1"}))
    body = body.replace('"foo": "foo1"', '"foo": "foo1", "foo": "foo2", "unknown": "kept"')
    answer = await _post(t, definition.path, body, "Strict")
    require(answer.code == 400, f"{answer.code} {answer.message}")
    require('duplicate field "spec.foo"' in answer.message, answer.message)
    require("unknown field" not in answer.message, "what is preserved counts as unknown")
