"""sig-apps: disruption budgets, evictions and ControllerRevisions."""

from __future__ import annotations

from tests.conformance.api import MERGE_PATCH, Object, at
from tests.conformance.checks.common import eviction, lifecycle, pod, until_running
from tests.conformance.harness import Trial, check, require

BUDGETS = "policy/v1/poddisruptionbudgets"


def budget(name: str, minimum: int | str = 1, app: str = "budgeted") -> Object:
    spec = {"minAvailable": minimum, "selector": {"matchLabels": {"app": app}}}
    return {"metadata": {"name": name}, "spec": spec}


async def _until_counted(t: Trial, name: str) -> Object:
    return await t.until_object(
        f"budget {name} is counted",
        at(BUDGETS, t.namespace, name),
        lambda one: (one.get("status") or {}).get("observedGeneration", 0) >= one["metadata"]["generation"],
    )


@check("DisruptionController should create a PodDisruptionBudget")
async def a_budget_is_made_changed_and_deleted(t: Trial) -> None:
    path = at(BUDGETS, t.namespace, "made")
    await t.api.create(at(BUDGETS, t.namespace), budget("made", "1%"))
    await _until_counted(t, "made")
    read = await t.api.get(path)
    read["spec"]["minAvailable"] = "2%"
    updated = await t.api.put(path, read)
    require(updated["spec"]["minAvailable"] == "2%", "an update was lost")
    await _until_counted(t, "made")
    patched = await t.api.patch(path, {"spec": {"minAvailable": "3%"}}, MERGE_PATCH)
    require(patched["spec"]["minAvailable"] == "3%", "a patch was lost")
    await t.api.delete(path)
    await t.until_gone(path)


@check("DisruptionController should observe PodDisruptionBudget status updated")
async def a_budget_counts_its_pods(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(BUDGETS, t.namespace), budget("counting"))
    for number in range(3):
        await t.api.create(at("v1/pods", t.namespace), pod(f"counted-{number}", {"app": "budgeted"}))
    await t.until_object(
        "two of three may go",
        at(BUDGETS, t.namespace, "counting"),
        lambda one: one["status"].get("currentHealthy") == 3 and one["status"]["disruptionsAllowed"] == 2,
    )


@check("should update/patch PodDisruptionBudget status")
async def a_budgets_status_is_changed(t: Trial) -> None:
    await t.hosts()
    await t.api.create(at(BUDGETS, t.namespace), budget("status"))
    await t.api.create(at("v1/pods", t.namespace), pod("one", {"app": "budgeted"}))
    await until_running(t, "one")
    path = at(BUDGETS, t.namespace, "status", "status")
    await t.until_object(
        "it is counted",
        at(BUDGETS, t.namespace, "status"),
        lambda one: one["status"].get("currentHealthy") == 1,
    )
    read = await t.api.get(path)
    read["status"]["disruptedPods"] = {"one": "2026-01-01T00:00:00Z"}
    updated = await t.api.put(path, read)
    require("one" in updated["status"]["disruptedPods"], "an update of the status was lost")
    patched = await t.api.patch(path, {"status": {"disruptedPods": None}}, MERGE_PATCH)
    require(not patched["status"].get("disruptedPods"), "a patch of the status was lost")


@check("should block an eviction until the PDB is updated to allow it")
async def a_budget_blocks_an_eviction(t: Trial) -> None:
    await t.hosts()
    for name in ("one", "two"):
        await t.api.create(at("v1/pods", t.namespace), pod(name, {"app": "budgeted"}))
        await until_running(t, name)
    await t.api.create(at(BUDGETS, t.namespace), budget("blocking", 2))
    path = at(BUDGETS, t.namespace, "blocking")
    await t.until_object("both count", path, lambda one: one["status"].get("currentHealthy") == 2)
    door = at("v1/pods", t.namespace, "one", "eviction")
    answer = await t.api.refused(429, "POST", door, eviction("one", t.namespace))
    causes = [cause["reason"] for cause in answer.body["details"]["causes"]]
    require(causes == ["DisruptionBudget"], f"the causes are {causes}")
    await t.api.patch(path, {"spec": {"minAvailable": 1}}, MERGE_PATCH)
    await t.until_object("one may go", path, lambda one: one["status"].get("disruptionsAllowed") == 1)
    await t.api.create(door, eviction("one", t.namespace))
    await t.until_gone(at("v1/pods", t.namespace, "one"))


@check("Listing PodDisruptionBudgets for all namespaces should list and delete a collection")
async def budgets_are_listed_and_deleted_together(t: Trial) -> None:
    mark = t.unique("budgets")
    other = await t.new_namespace()
    for namespace, name in ((t.namespace, "one"), (t.namespace, "two"), (other, "three")):
        obj = budget(name)
        obj["metadata"]["labels"] = {"conformance": mark}
        await t.api.create(at(BUDGETS, namespace), obj)
    require(
        len(await t.api.items(at(BUDGETS), labelSelector=f"conformance={mark}")) == 3, "not three are listed"
    )
    await t.api.delete(at(BUDGETS, t.namespace), labelSelector=f"conformance={mark}")

    async def one_is_left() -> bool:
        left = await t.api.items(at(BUDGETS), labelSelector=f"conformance={mark}")
        return [one["metadata"]["name"] for one in left] == ["three"]

    await t.until("the other namespace's is left", one_is_left)


@check("ControllerRevision should manage the lifecycle of a ControllerRevision", quick=True)
async def revisions_are_kept(t: Trial) -> None:
    revision = {"metadata": {"name": "kept"}, "revision": 1, "data": {"spec": {"template": {}}}}
    await lifecycle(t, "apps/v1/controllerrevisions", revision)
    await t.api.create(at("apps/v1/controllerrevisions", t.namespace), revision)
    change = {"data": {"spec": {"template": {"other": True}}}}
    path = at("apps/v1/controllerrevisions", t.namespace, "kept")
    await t.api.refused(422, "PATCH", path, change, content_type=MERGE_PATCH)
