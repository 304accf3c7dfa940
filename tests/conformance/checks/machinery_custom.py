"""sig-api-machinery: custom resources: definitions, defaults, discovery, published schemas, conversion."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

from tests.conformance.api import MERGE_PATCH, CheckError, Object, at
from tests.conformance.checks.common import check_discovered, condition
from tests.conformance.checks.custom import (
    ANYTHING,
    CRDS,
    Definition,
    define,
    definition_of,
    until_served,
    version,
)
from tests.conformance.harness import Trial, check, require
from tests.conformance.webhook import webhook

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@check("Simple CustomResourceDefinition creating/deleting custom resource definition objects works")
async def a_definition_is_made_and_deleted(t: Trial) -> None:
    definition = await define(t)
    await t.api.create(definition.path, definition.empty("one"))
    await t.api.delete(definition.itself)
    await t.until_gone(definition.itself)

    async def is_unserved() -> bool:
        return (await t.api.call("GET", definition.path)).code == 404

    await t.until("its resources are not served any more", is_unserved)


@check("Simple CustomResourceDefinition listing custom resource definition objects works")
async def definitions_are_listed_and_deleted_together(t: Trial) -> None:
    mark = t.unique("list")
    for _ in range(3):
        obj = definition_of(t, version())
        obj["metadata"]["labels"] = {"conformance": mark}
        await define(t, obj=obj)
    listed = await t.api.items(at(CRDS), labelSelector=f"conformance={mark}")
    require(len(listed) == 3, f"{len(listed)} of 3 are listed")
    await t.api.delete(at(CRDS), labelSelector=f"conformance={mark}")

    async def is_empty() -> bool:
        return not await t.api.items(at(CRDS), labelSelector=f"conformance={mark}")

    await t.until("all are deleted", is_empty)


@check("getting/updating/patching custom resource definition status sub-resource works")
async def a_definitions_status_is_a_door_of_its_own(t: Trial) -> None:
    definition = await define(t)
    path = f"{definition.itself}/status"
    read = await t.api.get(path)
    one = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "by a check"}
    read["status"]["conditions"].append({**one, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    updated = await t.api.put(path, read)
    require(condition(updated, "StatusUpdate").get("reason") == "E2E", "an update of the status was lost")
    two = {**one, "type": "StatusPatched", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [*updated["status"]["conditions"], two]
    patched = await t.api.patch(path, {"status": {"conditions": conditions}}, MERGE_PATCH)
    require(condition(patched, "StatusPatched").get("reason") == "E2E", "a patch of the status was lost")


@check("custom resource defaulting for requests and from storage works")
async def defaults_are_filled_in(t: Trial) -> None:
    definition = await define(
        t, {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    )
    await t.api.create(definition.path, {**definition.empty("before"), "a": "given"})
    changed = await t.api.get(definition.itself)
    properties = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["b"]["default"] = "filled"
    await t.api.put(definition.itself, changed)

    async def is_filled() -> bool:
        return (await t.api.get(f"{definition.path}/before")).get("b") == "filled"

    await t.until("what was stored before is filled in when read", is_filled)
    created = await t.api.create(definition.path, definition.empty("after"))
    require(created.get("b") == "filled", "a created resource was not filled in")
    require("a" not in created, "a field without a default was filled in")


@check(
    "CustomResourceDefinition resources should include custom resource definition resources in discovery",
    quick=True,
)
async def definitions_are_discovered(t: Trial) -> None:
    await check_discovered(t, CRDS)


@check("CustomResourceDefinition Watch watch on custom resource definition objects")
async def custom_resources_are_watched(t: Trial) -> None:
    definition = await define(t)
    async with t.api.watch(definition.path) as watch:
        for name in ("name1", "name2"):
            await t.api.create(definition.path, definition.empty(name))
            await watch.expect("ADDED", name=name)
        for name in ("name1", "name2"):
            await t.api.patch(f"{definition.path}/{name}", {"spec": {"x": 1}})
            await watch.expect("MODIFIED", name=name)
            await t.api.delete(f"{definition.path}/{name}")
            await watch.expect("DELETED", name=name)


@check("CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector")
async def selectable_fields_select(t: Trial) -> None:
    fields = {"host": {"type": "string"}, "port": {"type": "string"}}
    obj = definition_of(
        t,
        version(
            schema={"type": "object", "properties": fields},
            selectableFields=[{"jsonPath": ".host"}, {"jsonPath": ".port"}],
        ),
    )
    definition = await define(t, obj=obj)
    query = {"fieldSelector": "host=host1"}
    async with t.api.watch(definition.path, **query) as watch:
        for name, host in (("one", "host1"), ("two", "host1"), ("three", "host2")):
            await t.api.create(definition.path, {**definition.empty(name), "host": host, "port": "80"})
        await watch.expect("ADDED", "ADDED")
        names = sorted(one["metadata"]["name"] for one in await t.api.items(definition.path, **query))
        require(names == ["one", "two"], f"the selector lists {names}")
        both = await t.api.items(definition.path, fieldSelector="host=host1,port=80")
        require(len(both) == 2, f"two selectors list {len(both)}")
        await t.api.patch(f"{definition.path}/one", {"host": "host2"})
        await watch.expect("DELETED", name="one")
        await t.api.delete(definition.path, **query)
        await watch.expect("DELETED", name="two")
    await t.api.refused(400, "GET", definition.path, query={"fieldSelector": "spec.unknown=x"})


async def _aggregated(t: Trial, group: str) -> Object | None:
    answer = await t.api.call("GET", "/apis", accept=_AGGREGATED)
    for one in answer.body["items"]:
        if one["metadata"]["name"] == group:
            found: Object = one
            return found
    return None


@check("AggregatedDiscovery should support raw aggregated discovery request for CRDs")
@check("AggregatedDiscovery should support aggregated discovery interface for CRDs")
async def custom_groups_are_in_aggregated_discovery(t: Trial) -> None:
    definition = await define(t)
    group = await t.until("the group is discovered", lambda: _aggregated(t, definition.group))
    assert group is not None
    (resource,) = group["versions"][0]["resources"]
    require(resource["resource"] == definition.plural, f"it is called {resource['resource']}")
    require(resource["responseKind"]["kind"] == definition.kind, "the kind is another")
    require(resource["scope"] == "Namespaced", "the scope is another")
    old = await t.api.get(f"/apis/{definition.group}/v1")
    require(old["resources"][0]["name"] == definition.plural, "the old form has it not")


# ------------------------------------------------------------------------------------ published schemas


async def _published(t: Trial, definition: Definition) -> Object | None:
    """Its schema in OpenAPI v2, as kubectl and the suite read it."""
    document = await t.api.get("/openapi/v2")
    for schema in document["definitions"].values():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            if (gvk["group"], gvk["version"], gvk["kind"]) == (
                definition.group,
                definition.version,
                definition.kind,
            ):
                found: Object = schema
                return found
    return None


async def _until_published(t: Trial, definition: Definition) -> Object:
    schema = await t.until(f"{definition.kind} is published", lambda: _published(t, definition))
    assert schema is not None
    path = f"/openapi/v3/apis/{definition.group}/{definition.version}"
    document = await t.until("OpenAPI v3 has it, too", lambda: _document(t, path))
    kinds = [
        gvk["kind"]
        for one in document["components"]["schemas"].values()
        for gvk in one.get("x-kubernetes-group-version-kind", ())
    ]
    require(definition.kind in kinds, f"OpenAPI v3 has {kinds}")
    return schema


async def _document(t: Trial, path: str) -> Any:
    answer = await t.api.call("GET", path)
    return answer.body if answer.code == 200 else None


FOO = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {
                    "type": "array",
                    "description": "List of Bars and their specs.",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "description": "Name of Bar."},
                            "age": {"type": "string", "description": "Age of Bar."},
                        },
                    },
                }
            },
        }
    },
}


@check("CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema")
async def a_schema_is_published(t: Trial) -> None:
    definition = await define(t, FOO)
    schema = await _until_published(t, definition)
    bars = schema["properties"]["spec"]["properties"]["bars"]
    require(bars["items"]["required"] == ["name"], "what is required is lost")
    text = await t.kubectl(
        "explain", f"{definition.plural}.spec.bars", f"--api-version={definition.group}/v1"
    )
    require("List of Bars and their specs." in text and "age" in text, f"kubectl explains {text!r}")
    body = (
        f"{{apiVersion: {definition.group}/v1, kind: {definition.kind}, metadata: {{name: test}}, "
        "spec: {bars: [{name: b, wrong: x}]}}"
    )
    await t.kubectl("create", "--validate=strict", "-f", "-", stdin=body, fails=True)
    await t.kubectl("create", "-f", "-", stdin=body.replace(", wrong: x", ""))


@check("CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema")
async def no_schema_is_published_as_anything(t: Trial) -> None:
    definition = await define(t, ANYTHING)
    schema = await _until_published(t, definition)
    require("spec" not in (schema.get("properties") or {}), "fields that nobody declared are published")
    body = (
        f"{{apiVersion: {definition.group}/v1, kind: {definition.kind}, metadata: {{name: test}}, any: [1]}}"
    )
    await t.kubectl("create", "-f", "-", stdin=body)
    await t.kubectl("apply", "-f", "-", stdin=body)


@check("works for CRD preserving unknown fields at the schema root")
async def unknown_fields_at_the_root_are_published(t: Trial) -> None:
    schema = copy.deepcopy(FOO) | {"x-kubernetes-preserve-unknown-fields": True}
    definition = await define(t, schema)
    published = await _until_published(t, definition)
    # A client of v2 knows no such extension: where anything may stand, nothing is declared.
    require(
        "spec" not in (published.get("properties") or {}), "fields are declared as if there were no others"
    )
    group_version = f"{definition.group}/{definition.version}"
    head = f"apiVersion: {group_version}, kind: {definition.kind}, metadata: {{name: test}}"
    await t.kubectl("create", "-f", "-", stdin=f"{{{head}, unknown: [1]}}")


@check("works for CRD preserving unknown fields in an embedded object")
async def unknown_fields_of_an_embedded_object_are_published(t: Trial) -> None:
    inner = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = await define(t, {"type": "object", "properties": {"spec": inner}})
    published = await _until_published(t, definition)
    spec = published["properties"]["spec"]
    require(spec.get("x-kubernetes-preserve-unknown-fields") is True, "the extension is not published")


@check("works for multiple CRDs of different groups")
async def two_groups_are_published(t: Trial) -> None:
    for _ in range(2):
        await _until_published(t, await define(t, FOO))


@check("works for multiple CRDs of same group and version but different kinds")
async def two_kinds_of_a_group_are_published(t: Trial) -> None:
    group = t.unique("e2e").replace("-", "") + ".example.com"
    made = [
        await define(t, obj=definition_of(t, version(schema=FOO), group=group, kind=kind))
        for kind in ("Efoo", "Ebar")
    ]
    for definition in made:
        await _until_published(t, definition)


@check("works for multiple CRDs of same group but different versions")
async def two_versions_are_published(t: Trial) -> None:
    versions = (version("v2", FOO, storage=False), version("v1", FOO))
    definition = await define(t, obj=definition_of(t, *versions))
    for name in ("v1", "v2"):
        await _until_published(t, definition.at_version(name))


@check("updates the published spec when one version gets renamed")
async def a_renamed_version_is_published_anew(t: Trial) -> None:
    versions = (version("v2", FOO), version("v3", FOO, storage=False))
    definition = await define(t, obj=definition_of(t, *versions))
    await _until_published(t, definition.at_version("v3"))
    changed = await t.api.get(definition.itself)
    changed["spec"]["versions"][1]["name"] = "v4"
    await t.api.put(definition.itself, changed)
    await _until_published(t, definition.at_version("v4"))
    await _until_unpublished(t, definition.at_version("v3"))
    await _until_published(t, definition.at_version("v2"))


@check("removes definition from spec when one version gets changed to not be served")
async def a_version_that_is_not_served_is_not_published(t: Trial) -> None:
    versions = (version("v5", FOO), version("v6", FOO, storage=False))
    definition = await define(t, obj=definition_of(t, *versions))
    await _until_published(t, definition.at_version("v6"))
    changed = await t.api.get(definition.itself)
    changed["spec"]["versions"][1]["served"] = False
    await t.api.put(definition.itself, changed)
    await _until_unpublished(t, definition.at_version("v6"))
    await _until_published(t, definition.at_version("v5"))


async def _until_unpublished(t: Trial, definition: Definition) -> None:
    async def is_gone() -> bool:
        return await _published(t, definition) is None

    await t.until(f"{definition.version} is not published any more", is_gone)


# -------------------------------------------------------------------------------------------- conversion


def _convert(request: Object) -> Object:
    """v1 has hostPort, "host:port"; v2 has host and port."""
    wanted = request["desiredAPIVersion"]
    converted = []
    for obj in request["objects"]:
        made = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v2") and "hostPort" in made:
            made["host"], _, made["port"] = made.pop("hostPort").partition(":")
        elif wanted.endswith("/v1") and "host" in made:
            made["hostPort"] = f"{made.pop('host')}:{made.pop('port')}"
        converted.append(made)
    return {"convertedObjects": converted, "result": {"status": "Success"}}


@contextlib.asynccontextmanager
async def _convertible(t: Trial) -> AsyncIterator[Definition]:
    async with webhook({}, conversions={"/convert": _convert}) as hook:
        one = {"type": "object", "properties": {"hostPort": {"type": "string"}}}
        two = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
        conversion = {
            "strategy": "Webhook",
            "webhook": {
                "clientConfig": hook.client_config("/convert"),
                "conversionReviewVersions": ["v1", "v1beta1"],
            },
        }
        obj = definition_of(t, version("v1", one), version("v2", two, storage=False), conversion=conversion)
        definition = await define(t, obj=obj)
        await until_served(t, definition.at_version("v1"))
        yield definition
        # While the webhook is there, what is stored can still be deleted.
        await t.api.delete(definition.itself)
        await t.until_gone(definition.itself)


@check("should be able to convert from CR v1 to CR v2")
async def a_resource_is_converted(t: Trial) -> None:
    async with _convertible(t) as definition:
        first = definition.at_version("v1")
        await t.api.create(first.path, {**first.empty("one"), "hostPort": "localhost:8080"})
        read = await t.api.get(f"{definition.at_version('v2').path}/one")
        require((read.get("host"), read.get("port")) == ("localhost", "8080"), f"v2 is {read}")


@check("should be able to convert a non homogeneous list of CRs")
async def a_mixed_list_is_converted(t: Trial) -> None:
    async with _convertible(t) as definition:
        first, second = definition.at_version("v1"), definition.at_version("v2")
        await t.api.create(first.path, {**first.empty("one"), "hostPort": "localhost:8080"})
        changed = await t.api.get(definition.itself)
        changed["spec"]["versions"][0]["storage"] = False
        changed["spec"]["versions"][1]["storage"] = True
        await t.api.put(definition.itself, changed)
        await t.api.create(second.path, {**second.empty("two"), "host": "h", "port": "1"})
        for path, field in ((first.path, "hostPort"), (second.path, "host")):
            listed = await t.api.items(path)
            require(len(listed) == 2, f"{len(listed)} of 2 are listed")
            if not all(field in one for one in listed):
                raise CheckError(f"{path} lists something that is not converted")
