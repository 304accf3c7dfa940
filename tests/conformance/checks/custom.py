"""Definitions of custom resources for checks: made, waited for, and deleted afterwards."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.conformance.api import Object, at
from tests.conformance.checks.common import condition
from tests.conformance.harness import Trial

CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
SERVED_S = 20
ANYTHING: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    obj: Object
    namespace: str
    version: str = "v1"

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def group(self) -> str:
        return str(self.obj["spec"]["group"])

    @property
    def kind(self) -> str:
        return str(self.obj["spec"]["names"]["kind"])

    @property
    def plural(self) -> str:
        return str(self.obj["spec"]["names"]["plural"])

    @property
    def path(self) -> str:
        """Of its resources."""
        is_namespaced = self.obj["spec"]["scope"] == "Namespaced"
        return at(f"{self.group}/{self.version}/{self.plural}", self.namespace if is_namespaced else "")

    @property
    def itself(self) -> str:
        """The path of the definition."""
        return at(CRDS, "", self.name)

    def at_version(self, version: str) -> Definition:
        return dataclasses.replace(self, version=version)

    def empty(self, name: str) -> Object:
        """A resource with nothing in it."""
        return {
            "apiVersion": f"{self.group}/{self.version}",
            "kind": self.kind,
            "metadata": {"name": name},
        }


def version(name: str = "v1", schema: Object | None = None, *, storage: bool = True, **more: Any) -> Object:
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema or ANYTHING},
        **more,
    }


def definition_of(t: Trial, *versions: Object, group: str = "", kind: str = "", **spec: Any) -> Object:
    """A definition with a group of its own, which is not made yet."""
    unique = t.unique("e2e").replace("-", "")
    group = group or f"{unique}.example.com"
    kind = kind or f"E{unique}"
    plural = kind.lower() + "s"
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": list(versions), **spec},
    }


async def define(t: Trial, schema: Object | None = None, *, obj: Object | None = None) -> Definition:
    """Make a definition and wait until the server serves its resources."""
    made = obj or definition_of(t, version(schema=schema))
    definition = Definition(made, t.namespace, str(made["spec"]["versions"][-1]["name"]))
    t.leaves(definition.itself)
    await t.api.create(at(CRDS), made)
    await until_served(t, definition)
    return definition


async def until_served(t: Trial, definition: Definition) -> None:
    await t.until_object(
        f"{definition.name} is established",
        definition.itself,
        lambda one: condition(one, "Established").get("status") == "True",
        timeout_s=SERVED_S,
    )

    async def answers() -> bool:
        return (await t.api.call("GET", definition.path)).code == 200

    await t.until(f"{definition.path} is served", answers, timeout_s=SERVED_S)
