"""Definitions of kinds and their objects in git: one commit may bring both."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from gitkube.api.authorization import system_user
from gitkube.cli.crds import crds
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION
from tests.support.real_api import real_api
from tests.unit.gitops.conftest import Judge, Repo, eventually, running_sync

DEFINITION = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gardens.plants.example.org}
spec:
  group: plants.example.org
  scope: Namespaced
  names: {plural: gardens, kind: Garden}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [beds]
            properties:
              beds: {type: integer, minimum: 1}
              soil: {type: string, default: loam}
"""
GARDEN = """apiVersion: plants.example.org/v1
kind: Garden
metadata: {name: south}
spec: {beds: 3}
"""


def test_objects_of_a_kind_that_the_same_commit_defines_are_checked_by_its_schema(judge: Judge) -> None:
    assert not judge({"crd.yaml": DEFINITION, "garden.yaml": GARDEN}).has_errors

    wrong = GARDEN.replace("beds: 3", "beds: 0")
    (problem,) = judge({"crd.yaml": DEFINITION, "garden.yaml": wrong}).problems
    assert "greater than or equal to 1" in problem.message
    assert (problem.place.path, problem.place.line) == ("garden.yaml", 4)


def test_an_unknown_field_of_a_custom_kind_is_named_with_its_line(judge: Judge) -> None:
    wrong = GARDEN.replace("beds: 3", "beds: 3, soyl: clay")
    (problem,) = judge({"crd.yaml": DEFINITION, "garden.yaml": wrong}).problems
    assert problem.message == "unknown field spec.soyl"
    assert "soil" in problem.hint
    assert problem.place.line == 4


def test_a_kind_that_nobody_defines_is_still_unknown(judge: Judge) -> None:
    (problem,) = judge({"garden.yaml": GARDEN}).problems
    assert problem.message == "unknown kind Garden of plants.example.org/v1"


def test_a_definition_that_is_wrong_says_so_at_its_line(judge: Judge) -> None:
    wrong = DEFINITION.replace("beds: {type: integer, minimum: 1}", "beds: {minimum: 1}")
    problems = judge({"crd.yaml": wrong}).problems
    assert any("must not be empty for specified object fields" in problem.message for problem in problems)
    assert all(problem.place.path == "crd.yaml" for problem in problems)


async def test_one_push_brings_a_kind_and_its_objects_and_the_next_takes_them_away(
    repo: Repo, tmp_path: Path
) -> None:
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"crd.yaml": DEFINITION, "garden.yaml": GARDEN, "keep.yaml": NAMESPACE})
            code, said = await repo.push()
            assert code == 0, said

            async def garden():  # type: ignore[no-untyped-def]
                kind = api.registry.by_gvk("plants.example.org/v1", "Garden")
                return kind and (await client.list(kind, "default")).items

            (made,) = await eventually(garden)
            assert made["spec"] == {"beds": 3, "soil": "loam"}

            repo.commit({"crd.yaml": None, "garden.yaml": None}, message="gitkube-allow-delete")
            code, said = await repo.push()
            assert code == 0, said

            async def is_gone() -> bool:
                return not (await client.list(CUSTOM_RESOURCE_DEFINITION)).items

            await eventually(is_gone)
            assert api.registry.by_gvk("plants.example.org/v1", "Garden") is None


NAMESPACE = """apiVersion: v1
kind: Namespace
metadata: {name: plants}
"""


ROUTE = """apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: entry}]
  rules:
  - backendRefs: [{name: shop, port: 80}]
"""


def test_a_route_that_no_gateway_could_serve_is_refused_at_its_line(judge: Judge) -> None:
    definitions = CliRunner().invoke(crds, ["gateway-api"], catch_exceptions=False).output
    assert not judge({"gateway-api.yaml": definitions, "route.yaml": ROUTE}).has_errors

    wrong = ROUTE.replace("port: 80", "weight: 1")
    (problem,) = judge({"gateway-api.yaml": definitions, "route.yaml": wrong}).problems
    assert "Must have port for Service reference" in problem.message
    assert (problem.place.path, problem.place.line) == ("route.yaml", 7)
