"""sig-api-machinery: discovery, version, tables, chunks and watches."""

from __future__ import annotations

import asyncio

from tests.conformance.api import Object, at
from tests.conformance.checks.common import LABEL, check_discovered, config_map
from tests.conformance.harness import NotReachableError, Trial, check, require

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@check("Discovery should locate the groupVersion and a resource within each APIGroup", quick=True)
async def each_group_has_its_resource(t: Trial) -> None:
    for resource in (
        "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "apiextensions.k8s.io/v1/customresourcedefinitions",
        "apiregistration.k8s.io/v1/apiservices",
        "apps/v1/deployments",
        "authentication.k8s.io/v1/tokenreviews",
        "authorization.k8s.io/v1/selfsubjectaccessreviews",
        "autoscaling/v1/horizontalpodautoscalers",
        "autoscaling/v2/horizontalpodautoscalers",
        "batch/v1/jobs",
        "certificates.k8s.io/v1/certificatesigningrequests",
        "coordination.k8s.io/v1/leases",
        "discovery.k8s.io/v1/endpointslices",
        "events.k8s.io/v1/events",
        "networking.k8s.io/v1/ingresses",
        "node.k8s.io/v1/runtimeclasses",
        "policy/v1/poddisruptionbudgets",
        "scheduling.k8s.io/v1/priorityclasses",
    ):
        await check_discovered(t, resource)


@check("Discovery should validate PreferredVersion for each APIGroup", serial=True, quick=True)
async def preferred_versions_are_served(t: Trial) -> None:
    for group in (await t.api.get("/apis"))["groups"]:
        preferred = group["preferredVersion"]["groupVersion"]
        require(
            preferred in [version["groupVersion"] for version in group["versions"]],
            f"{group['name']} prefers {preferred}, which it does not serve",
        )
        alone = await t.api.get(f"/apis/{group['name']}")
        require(alone["preferredVersion"] == group["preferredVersion"], f"{group['name']}: two answers")


@check("should find the server version", quick=True)
async def the_version_is_told(t: Trial) -> None:
    version = await t.api.get("/version")
    require(version["major"].isdigit() and version["minor"].rstrip("+").isdigit(), f"no numbers: {version}")
    require(version["gitVersion"].startswith("v"), "no git version")


@check("should return a 406 for a backend which does not implement metadata", quick=True)
async def a_review_is_no_table(t: Trial) -> None:
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    path = at("authorization.k8s.io/v1/selfsubjectaccessreviews")
    await t.api.refused(406, "POST", path, review, accept=TABLE)


async def _aggregated(t: Trial, path: str) -> dict[str, Object]:
    answer = await t.api.call("GET", path, accept=_AGGREGATED)
    require(answer.code == 200, f"{path}: {answer.code}")
    kind = answer.headers.get("Content-Type", "")
    require("as=APIGroupDiscoveryList" in kind and "v=v2" in kind, f"{path} is {kind}")
    require(answer.body["kind"] == "APIGroupDiscoveryList", f"{path} is a {answer.body['kind']}")
    return {one["metadata"].get("name", ""): one for one in answer.body["items"]}


@check("AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers", quick=True)
async def both_roots_are_aggregated(t: Trial) -> None:
    require("" in await _aggregated(t, "/api"), "/api has no core group")
    require("apps" in await _aggregated(t, "/apis"), "/apis has no apps")
    plain = await t.api.get("/apis")
    require(plain["kind"] == "APIGroupList", "without the header it must be the old form")


@check(
    "AggregatedDiscovery should support aggregated discovery interface [Conformance]", serial=True, quick=True
)
async def the_aggregated_form_has_what_the_old_one_has(t: Trial) -> None:
    new = await _aggregated(t, "/apis")
    for group in (await t.api.get("/apis"))["groups"]:
        require(group["name"] in new, f"{group['name']} is missing")
        for version in new[group["name"]]["versions"]:
            old = await t.api.get(f"/apis/{group['name']}/{version['version']}")
            plurals = {one["name"] for one in old["resources"] if "/" not in one["name"]}
            found = {one["resource"] for one in version["resources"]}
            require(plurals == found, f"{group['name']}: {plurals ^ found} in one of the two only")


async def _many(t: Trial, count: int) -> str:
    mark = t.unique("chunk")
    path = at("v1/podtemplates", t.namespace)
    spec = {"containers": [{"name": "test", "image": "test2"}]}

    async def one(number: int) -> None:
        metadata = {"name": f"template-{number:04d}", "labels": {LABEL: mark}}
        await t.api.create(path, {"metadata": metadata, "template": {"spec": spec}})

    for start in range(0, count, 20):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 20, count))))
    return mark


@check("should return chunks of results for list calls")
async def a_list_comes_in_chunks(t: Trial) -> None:
    count = 400
    await _many(t, count)
    path = at("v1/podtemplates", t.namespace)
    names: list[str] = []
    query = {"limit": "17"}
    version = ""
    while True:
        page = await t.api.get(path, **query)
        names += [one["metadata"]["name"] for one in page["items"]]
        metadata = page["metadata"]
        version = version or metadata["resourceVersion"]
        require(metadata["resourceVersion"] == version, "pages are of different moments")
        if not metadata.get("continue"):
            break
        left = metadata.get("remainingItemCount")
        require(left is None or left == count - len(names), f"{left} are said to remain")
        query["continue"] = metadata["continue"]
    require(names == sorted(names) and len(names) == count, f"{len(names)} objects came")
    whole = await t.api.get(path, limit=str(count + 1))
    require("continue" not in whole["metadata"], "a whole list goes on")


@check("should support continue listing from the last key if the original version has been compacted away")
async def a_list_goes_on_after_its_version_is_forgotten(t: Trial) -> None:
    await _many(t, 60)
    path = at("v1/podtemplates", t.namespace)
    first = await t.api.get(path, limit="10")
    token = first["metadata"]["continue"]
    # Compaction is the server's own affair; only who has patience waits minutes for it.
    for _ in range(t.patience_s):
        answer = await t.api.call("GET", path, query={"limit": "10", "continue": token})
        if answer.code == 410:
            fresh = answer.body["metadata"]["continue"]
            page = await t.api.get(path, **{"limit": "10", "continue": fresh})
            require(page["items"][0]["metadata"]["name"] == "template-0010", "it goes on elsewhere")
            return
        await asyncio.sleep(1)
    raise NotReachableError(
        f"the server keeps old versions for longer than {t.patience_s} s: --patient waits"
    )


@check("should observe add, update, and delete watch notifications on configmaps", quick=True)
async def watches_by_label_see_what_is_theirs(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace)
    async with (
        t.api.watch(path, labelSelector=f"{LABEL}=a") as of_a,
        t.api.watch(path, labelSelector=f"{LABEL}=b") as of_b,
        t.api.watch(path, labelSelector=f"{LABEL} in (a,b)") as of_both,
    ):
        for letter, own, other in (("a", of_a, of_b), ("b", of_b, of_a)):
            name = f"watched-{letter}"
            await t.api.create(path, {"metadata": {"name": name, "labels": {LABEL: letter}}})
            for number in ("1", "2"):
                await t.api.patch(f"{path}/{name}", {"data": {"mutation": number}})
            await t.api.delete(f"{path}/{name}")
            for watch in (own, of_both):
                seen = await watch.expect("ADDED", "MODIFIED", "MODIFIED", "DELETED", name=name)
                require(seen[2]["data"]["mutation"] == "2", "an event has an older state")
            require(await other.is_silent(0.3), "a watch saw what is not its own")


@check("should be able to start watching from a specific resource version", quick=True)
async def a_watch_begins_at_a_version(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace)
    await t.api.create(path, config_map("from", mutation="0"))
    first = await t.api.patch(f"{path}/from", {"data": {"mutation": "1"}})
    await t.api.patch(f"{path}/from", {"data": {"mutation": "2"}})
    await t.api.delete(f"{path}/from")
    version = first["metadata"]["resourceVersion"]
    query = {"fieldSelector": "metadata.name=from", "resourceVersion": version}
    async with t.api.watch(path, **query) as watch:
        changed, _ = await watch.expect("MODIFIED", "DELETED", name="from")
        require(changed["data"]["mutation"] == "2", "the watch began elsewhere")


@check("should be able to restart watching from the last resource version observed", quick=True)
async def a_watch_is_taken_up_again(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace)
    query = {"fieldSelector": "metadata.name=again"}
    async with t.api.watch(path, **query) as watch:
        await t.api.create(path, config_map("again", mutation="0"))
        await t.api.patch(f"{path}/again", {"data": {"mutation": "1"}})
        _, last = await watch.expect("ADDED", "MODIFIED", name="again")
    await t.api.patch(f"{path}/again", {"data": {"mutation": "2"}})
    await t.api.delete(f"{path}/again")
    version = last["metadata"]["resourceVersion"]
    async with t.api.watch(path, resourceVersion=version, **query) as watch:
        changed, _ = await watch.expect("MODIFIED", "DELETED", name="again")
        require(changed["data"]["mutation"] == "2", "a change is missing")


@check("should observe an object deletion if it stops meeting the requirements of the selector", quick=True)
async def what_leaves_the_selector_is_deleted(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace)
    async with t.api.watch(path, labelSelector=f"{LABEL}=in") as watch:
        await t.api.create(path, {"metadata": {"name": "label", "labels": {LABEL: "in"}}})
        await t.api.patch(f"{path}/label", {"data": {"mutation": "1"}})
        await t.api.patch(f"{path}/label", {"metadata": {"labels": {LABEL: "out"}}})
        await watch.expect("ADDED", "MODIFIED", "DELETED", name="label")
        await t.api.patch(f"{path}/label", {"data": {"mutation": "2"}})
        await t.api.patch(f"{path}/label", {"metadata": {"labels": {LABEL: "in"}}})
        await t.api.delete(f"{path}/label")
        back, _ = await watch.expect("ADDED", "DELETED", name="label")
        require(back["data"]["mutation"] == "2", "what came back has an older state")


@check("should receive events on concurrent watches in same order")
async def all_watches_see_one_order(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace)
    listed = await t.api.get(path)
    changes = 60

    async def write() -> None:
        for number in range(changes):
            name = f"order-{number % 5}"
            if number < 5:
                await t.api.create(path, config_map(name))
            else:
                await t.api.patch(f"{path}/{name}", {"data": {"mutation": str(number)}})

    async def read(version: str, count: int) -> list[str]:
        async with t.api.watch(path, resourceVersion=version) as watch:
            return [(await watch.next())["object"]["metadata"]["resourceVersion"] for _ in range(count)]

    version = listed["metadata"]["resourceVersion"]
    *orders, _ = await asyncio.gather(*(read(version, changes) for _ in range(5)), write())
    require(all(order == orders[0] for order in orders), "two watches saw different orders")
    for index in (10, 30):
        rest = await read(orders[0][index], changes - index - 1)
        require(rest == orders[0][index + 1 :], "a later watch saw another order")
