"""sig-node: what is changed in a running pod, as far as no container must be looked into."""

from __future__ import annotations

from tests.conformance.api import STRATEGIC_PATCH, Object, at
from tests.conformance.checks.common import IMAGE, pod, until_running
from tests.conformance.harness import Trial, check, require

PODS = "v1/pods"
_CGROUPS = "objects only; that cgroups follow is tried in the lab of real hosts"
_ENTERED = "objects only; that it can be entered is tried in the lab of real hosts"

Size = tuple[str, str, str, str]
"""Requests and limits of CPU, then of memory; "" without."""


def _resources(size: Size) -> Object:
    requests = {"cpu": size[0], "memory": size[2]}
    limits = {"cpu": size[1], "memory": size[3]}
    return {
        part: found
        for part, all_of in (("requests", requests), ("limits", limits))
        if (found := {name: amount for name, amount in all_of.items() if amount})
    }


def _guaranteed(cpu: str, memory: str) -> Size:
    return (cpu, cpu, memory, memory)


_THREE = [_guaranteed("100m", "100Mi"), _guaranteed("110m", "110Mi"), _guaranteed("120m", "120Mi")]
_SPEC = "Pod InPlace Resize Container"


@check(
    f"{_SPEC} guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2",
    part=_CGROUPS,
    before=_THREE,
    after=[_guaranteed("140m", "150Mi"), _guaranteed("150m", "160Mi"), _guaranteed("90m", "90Mi")],
)
@check(
    f"{_SPEC} guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease",
    part=_CGROUPS,
    before=_THREE,
    after=[_guaranteed("110m", "110Mi"), _guaranteed("80m", "80Mi"), _guaranteed("90m", "90Mi")],
)
@check(
    f"{_SPEC} guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3)",
    part=_CGROUPS,
    before=_THREE,
    after=[_guaranteed("120m", "100Mi"), _guaranteed("90m", "130Mi"), _guaranteed("140m", "140Mi")],
)
@check(
    f"{_SPEC} burstable pods - extended 6 containers - various operations performed",
    part=_CGROUPS,
    before=[
        ("100m", "", "", ""),
        ("100m", "200m", "", ""),
        ("", "", "100Mi", ""),
        ("", "", "100Mi", "200Mi"),
        ("100m", "200m", "100Mi", "200Mi"),
        ("", "", "", ""),
    ],
    after=[
        ("150m", "250m", "", ""),
        ("150m", "250m", "", ""),
        ("", "", "150Mi", "250Mi"),
        ("", "", "150Mi", "250Mi"),
        ("50m", "150m", "120Mi", "250Mi"),
        ("50m", "100m", "50Mi", "100Mi"),
    ],
)
@check(
    f"{_SPEC} burstable pods - extended resize with equivalents",
    part=_CGROUPS,
    before=[("2m", "10m", "", ""), ("100m", "200m", "64Mi", "128Mi")],
    after=[("1m", "5m", "", ""), ("0.15", "0.25", "65536Ki", "131072Ki")],
)
async def running_containers_are_resized(t: Trial, before: list[Size], after: list[Size]) -> None:
    await _begin(t, before)
    patch = {"spec": {"containers": _containers(after)}}
    await t.api.patch(f"{at(PODS, t.namespace, 'resized')}/resize", patch, STRATEGIC_PATCH)
    await _until_in_force(t, after)


@check(f"{_SPEC} resize pod via the replace endpoint", part=_CGROUPS)
async def a_pod_is_resized_by_replacing_it(t: Trial) -> None:
    running = await _begin(t, _THREE[:1])
    running["spec"]["containers"][0]["resources"] = _resources(_guaranteed("200m", "200Mi"))
    await t.api.put(f"{at(PODS, t.namespace, 'resized')}/resize", running)
    await _until_in_force(t, [_guaranteed("200m", "200Mi")])


def _containers(sizes: list[Size]) -> list[Object]:
    return [{"name": f"c{number}", "resources": _resources(size)} for number, size in enumerate(sizes, 1)]


async def _begin(t: Trial, sizes: list[Size]) -> Object:
    await t.hosts()
    obj = pod("resized")
    obj["spec"]["containers"] = [{**one, "image": IMAGE} for one in _containers(sizes)]
    await t.api.create(at(PODS, t.namespace), obj)
    return await until_running(t, "resized")


async def _until_in_force(t: Trial, sizes: list[Size]) -> None:
    """The containers run with what the pod asks for now, as they were."""

    def is_in_force(one: Object) -> bool:
        asked = {each["name"]: each.get("resources", {}) for each in one["spec"]["containers"]}
        statuses = one["status"]["containerStatuses"]
        return len(statuses) == len(sizes) and all(
            (each.get("resources") or {}) == asked[each["name"]] for each in statuses
        )

    found = await t.until_object("the sizes are in force", at(PODS, t.namespace, "resized"), is_in_force)
    restarts = sum(each["restartCount"] for each in found["status"]["containerStatuses"])
    require(restarts == 0, f"containers were restarted {restarts} times")
    require(found["metadata"]["generation"] == 2, f"its generation is {found['metadata']['generation']}")
    first = found["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    require(first == sizes[0][0], f"the first container asks for {first} of CPU")


@check("Ephemeral Containers will start an ephemeral container in an existing pod", part=_ENTERED)
async def an_ephemeral_container_is_started(t: Trial) -> None:
    await _add(t, await _debugged(t), "debugger")


@check("Ephemeral Containers should update the ephemeral containers in an existing pod", part=_ENTERED)
async def ephemeral_containers_are_added_by_update_and_patch(t: Trial) -> None:
    path = f"{at(PODS, t.namespace, 'debugged')}/ephemeralcontainers"
    await _add(t, await _debugged(t), "debugger1")
    read = await t.api.get(path)
    read["spec"]["ephemeralContainers"].append({"name": "debugger2", "image": IMAGE})
    await t.api.put(path, read)
    await _until_debuggers_run(t, ["debugger1", "debugger2"])


async def _debugged(t: Trial) -> str:
    await t.hosts()
    await t.api.create(at(PODS, t.namespace), pod("debugged"))
    await until_running(t, "debugged")
    return f"{at(PODS, t.namespace, 'debugged')}/ephemeralcontainers"


async def _add(t: Trial, path: str, name: str) -> None:
    one = {"name": name, "image": IMAGE, "tty": True, "stdin": True}
    await t.api.patch(path, {"spec": {"ephemeralContainers": [one]}}, STRATEGIC_PATCH)
    await _until_debuggers_run(t, [name])


async def _until_debuggers_run(t: Trial, names: list[str]) -> None:
    def run(one: Object) -> bool:
        statuses = one["status"].get("ephemeralContainerStatuses") or []
        return [each["name"] for each in statuses if "running" in each["state"]] == names

    await t.until_object(f"{names} run", at(PODS, t.namespace, "debugged"), run)
