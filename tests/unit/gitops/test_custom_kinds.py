"""Definitions of kinds and their objects in git: one commit may bring both."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from gitkube.api.authorization import system_user
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.cli.crds import crds
from gitkube.cli.plan import plan_of
from gitkube.cli.status import _lines, _read
from gitkube.clock import SystemClock
from gitkube.gitops.applier import Applier
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import Desired, desired_objects
from gitkube.gitops.source import working_tree
from gitkube.gitops.view import View
from gitkube.objects import meta
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, POD, ROLE, SOURCE, Kind
from tests.support.real_api import real_api
from tests.support.waiting import eventually
from tests.unit.gitops.conftest import Judge, Repo, running_sync

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


async def test_a_plan_from_a_clone_knows_the_kinds_that_the_cluster_serves(
    repo: Repo, tmp_path: Path
) -> None:
    north = GARDEN.replace("south", "north")
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"crd.yaml": DEFINITION, "south.yaml": GARDEN, "north.yaml": north})
            code, said = await repo.push()
            assert code == 0, said

            async def is_recorded() -> bool:
                status = (await client.get(SOURCE, "main")).get("status") or {}
                return sum(one["kind"] == "Garden" for one in status.get("inventory") or ()) == 2

            await eventually(is_recorded)
        repo.write({"crd.yaml": None, "north.yaml": None, "south.yaml": GARDEN.replace("3", "4")})
        tree, _ = working_tree(repo.clone)
        checked, plan = await plan_of(client, tree, message="", source="main")
        assert not checked.has_errors and plan is not None
        assert sorted(f"{change.action} {change.ref}" for change in plan.changes) == [
            "change Garden default/south",
            "delete CustomResourceDefinition gardens.plants.example.org",
            "delete Garden default/north",
        ]

        repo.write({"south.yaml": GARDEN.replace("beds", "bets")})
        checked, plan = await plan_of(client, working_tree(repo.clone)[0], message="", source="main")
        assert [problem.message for problem in checked.problems] == ["unknown field spec.bets"]
        assert plan is None


def test_rules_that_a_controller_fills_in_are_not_gits(judge: Judge) -> None:
    role = """apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: monitoring}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: monitoring}}]}
rules: []
"""
    (wanted,) = desired_objects(judge({"role.yaml": role}).objects).values()
    assert "aggregationRule" in wanted.object and "rules" not in wanted.object


def gardens_of(api: Api) -> Kind:
    kind = api.registry.by_gvk("plants.example.org/v1", "Garden")
    assert kind is not None
    return kind


async def test_a_custom_resource_that_somebody_changes_or_deletes_is_put_back(
    repo: Repo, tmp_path: Path
) -> None:
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"crd.yaml": DEFINITION, "garden.yaml": GARDEN})
            code, said = await repo.push()
            assert code == 0, said
            gardens = gardens_of(api)

            async def is_as_in_git() -> bool:
                found = (await client.list(gardens, "default")).items
                return [one["spec"]["beds"] for one in found] == [3]

            await eventually(is_as_in_git)
            await client.patch(gardens, "south", "default", {"spec": {"beds": 5}})
            await eventually(is_as_in_git)
            await client.delete(gardens, "south", "default")
            await eventually(is_as_in_git)
            # Whoever removes the kind itself finds it, and everything of it, back.
            name = "gardens.plants.example.org"
            before = await client.get(CUSTOM_RESOURCE_DEFINITION, name)
            await client.delete(CUSTOM_RESOURCE_DEFINITION, name)

            async def is_back() -> bool:
                try:
                    after = await client.get(CUSTOM_RESOURCE_DEFINITION, name)
                    return meta.uid(after) != meta.uid(before) and await is_as_in_git()
                except StatusError:
                    return False

            await eventually(is_back, timeout_s=30)
            await client.patch(gardens_of(api), "south", "default", {"spec": {"beds": 7}})
            await eventually(is_as_in_git, timeout_s=30)


async def test_status_lists_custom_resources_and_says_when_their_kind_is_gone(
    repo: Repo, tmp_path: Path
) -> None:
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"crd.yaml": DEFINITION, "garden.yaml": GARDEN})
            code, said = await repo.push()
            assert code == 0, said
            seen = await _read(client, "main")
            (item,) = seen.items
            assert (str(item.ref), item.health.state, item.origin) == (
                "Garden default/south", "healthy", "garden.yaml:1"
            )  # fmt: skip
            assert any("✓ Garden default/south" in line for line in _lines(seen, True))
        # Nobody puts anything back now.
        await client.delete(gardens_of(api), "south", "default")
        (item,) = (await _read(client, "main")).items
        assert (item.health.state, item.health.reason) == ("waiting", "not created yet")
        await client.delete(CUSTOM_RESOURCE_DEFINITION, "gardens.plants.example.org")

        async def is_gone() -> bool:
            return not (await client.list(CUSTOM_RESOURCE_DEFINITION)).items

        await eventually(is_gone)
        seen = await _read(client, "main")
        why = "the cluster does not serve Garden of plants.example.org/v1: its definition is gone"
        assert [(str(one.ref), one.health.state, one.health.reason) for one in seen.items] == [
            ("Garden default/south", "unknown", why)
        ]
        assert not seen.is_healthy and why in seen.waits_for


async def test_what_an_operator_writes_beside_git_is_not_applied_over(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"crd.yaml": DEFINITION, "garden.yaml": GARDEN})
            code, said = await repo.push()
            assert code == 0, said
            applied: list[str] = []
            apply_one = Applier.apply_one

            async def noted(self: Applier, wanted: Desired) -> bool:
                applied.append(str(wanted.ref))
                return await apply_one(self, wanted)

            monkeypatch.setattr(Applier, "apply_one", noted)
            gardens, operator = gardens_of(api), api.client(system_user("operator"))
            for number in range(3):
                beside = {
                    "metadata": {"annotations": {"seen": str(number)}},
                    "spec": {"soil": f"clay-{number}"},
                }
                await operator.patch(gardens, "south", "default", beside)
            await operator.patch(gardens, "south", "default", {"spec": {"beds": 9}})

            async def is_as_in_git() -> bool:
                return bool((await client.get(gardens, "south", "default"))["spec"]["beds"] == 3)

            await eventually(is_as_in_git)
            assert applied.count("Garden default/south") == 1
            assert (await client.get(gardens, "south", "default"))["spec"]["soil"] == "clay-2"


async def test_only_what_git_has_is_watched(tmp_path: Path) -> None:
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        seen: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            view = View(client, clock=SystemClock(), rng=random.Random(1))

            async def watch() -> None:
                async with asyncio.TaskGroup() as informers:
                    await view.start(informers, lambda before, after: seen.append(meta.name(after or {})))
                    started.set()

            started = asyncio.Event()
            watching = tasks.create_task(watch())
            await started.wait()
            assert await view.follow({ROLE, POD}) == {ROLE}
            assert await view.follow({ROLE}) == set()
            role = {"metadata": {"name": "reader", "namespace": "default"}, "rules": []}
            await client.create(ROLE, role)

            async def is_seen() -> bool:
                return view.live(Ref(ROLE, "default", "reader")) is not None

            await eventually(is_seen)
            await view.follow(set())
            assert view.live(Ref(ROLE, "default", "reader")) is None
            await client.delete(ROLE, "reader", "default")
            assert seen.count("reader") == 1
            watching.cancel()


async def test_a_kind_that_comes_after_its_objects_is_watched_as_well(repo: Repo, tmp_path: Path) -> None:
    """An operator brings the definition, and may take it away and bring it again; git has the object."""
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        definition = YAML(typ="safe").load(DEFINITION)
        await client.create(CUSTOM_RESOURCE_DEFINITION, definition)
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"garden.yaml": GARDEN, "keep.yaml": NAMESPACE})

            async def is_served() -> bool:
                return api.registry.by_gvk("plants.example.org/v1", "Garden") is not None

            await eventually(is_served)
            code, said = await repo.push()
            assert code == 0, said
            await client.delete(CUSTOM_RESOURCE_DEFINITION, "gardens.plants.example.org")

            async def is_gone() -> bool:
                return api.registry.by_gvk("plants.example.org/v1", "Garden") is None

            await eventually(is_gone)
            await client.create(CUSTOM_RESOURCE_DEFINITION, definition)
            await eventually(is_served)

            async def is_as_in_git() -> bool:
                try:
                    found = (await client.list(gardens_of(api), "default")).items
                except StatusError:
                    return False
                return [one["spec"]["beds"] for one in found] == [3]

            await eventually(is_as_in_git)
            await client.patch(gardens_of(api), "south", "default", {"spec": {"beds": 7}})
            await eventually(is_as_in_git)


async def test_other_kinds_of_git_are_watched_while_git_has_them(repo: Repo, tmp_path: Path) -> None:
    role = """apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"""
    async with real_api(tmp_path / "store") as api:
        client = api.client(system_user("gitops"))
        async with running_sync(client, repo, tmp_path, registry=api.registry):
            repo.commit({"role.yaml": role, "keep.yaml": NAMESPACE})
            code, said = await repo.push()
            assert code == 0, said
            await client.patch(ROLE, "reader", "default", {"rules": []})

            async def is_as_in_git() -> bool:
                return bool((await client.get(ROLE, "reader", "default")).get("rules"))

            await eventually(is_as_in_git)


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


def test_a_rule_that_reads_a_field_which_is_not_there_is_refused_at_its_line(judge: Judge) -> None:
    rules = "            x-kubernetes-validations:\n            - rule: self.beds > 1 && self.seil != ''\n"
    (problem,) = judge({"crd.yaml": DEFINITION + rules}).problems
    assert (problem.place.path, problem.place.line) == ("crd.yaml", 23)
    assert problem.message.endswith("compilation failed: ERROR: <input>:1:22: undefined field 'seil'")
