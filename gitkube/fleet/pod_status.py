"""What becomes of a pod's status when its host reports. Pure.

While a pod lives the host's word counts, and kept is what only others may say. Once the API says Succeeded or
Failed that is final, as kubelet's status manager has it: a host that has lost its disk knows nothing of the
pod any more, and one that was away may not have heard that it was given up. Neither may bring it back, nor
take away what is known of how it ended; a container that ended afterwards may still say how.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gitkube.objects import conditions, pods

PASSING_CONDITIONS = frozenset({"PodResizePending", "PodResizeInProgress"})
"""The host's own, which it leaves out when they hold no more."""
_CONTAINER_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_FINAL = ("phase", "reason", "message", "startTime")
"""What stays as it was written when the pod ended."""


def merged_status(current: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """The status that a report makes of the one that the API has.

    Kept are conditions of types that the host does not report (such as PodScheduled from the scheduler),
    the fields that the API itself fills in, and how a pod has ended.
    """
    if current.get("phase") not in pods.TERMINAL_PHASES:
        return _of_a_living(current, reported)
    result = dict(current)
    if reported.get("phase") in pods.TERMINAL_PHASES:
        told = _since_when(current, reported)
        result |= _of_a_living(current, {**reported, "conditions": told} if told else reported)
        result |= {key: current[key] for key in _FINAL if key in current}
    for key in _CONTAINER_LISTS:
        if entries := _known_containers(current.get(key) or (), reported.get(key) or ()):
            result[key] = entries
        else:
            result.pop(key, None)
    return result


def _of_a_living(current: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    told = {condition.get("type") for condition in reported.get("conditions") or ()}
    own_types = told | PASSING_CONDITIONS
    others = [one for one in current.get("conditions") or () if one.get("type") not in own_types]
    result = {key: current[key] for key in ("qosClass", "nominatedNodeName") if key in current}
    result |= reported
    if others or told:
        result["conditions"] = _in_order(
            current.get("conditions") or (), [*others, *reported.get("conditions", ())]
        )
    return result


def _since_when(current: Mapping[str, Any], reported: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The reported conditions; one that holds as before is the one that is there, with its time."""
    there = {one.get("type"): one for one in current.get("conditions") or ()}
    return [
        before
        if (before := there.get(one.get("type"))) is not None and before.get("status") == one.get("status")
        else one
        for one in reported.get("conditions") or ()
    ]


def _known_containers(
    current: Iterable[Mapping[str, Any]], reported: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """How each container is: what the host saw of it, and else what was known before."""
    known = {one.get("name"): one for one in current}
    for one in reported:
        if {"running", "terminated"} & set(one.get("state") or {}):
            known[one.get("name")] = one
    return list(known.values())


def _in_order(
    current: Iterable[Mapping[str, Any]], wanted: list[Mapping[str, Any]]
) -> list[conditions.Condition]:
    """Conditions keep the place that they have, so that an unchanged status is an equal one."""
    places = {condition.get("type"): place for place, condition in enumerate(current)}
    ordered = sorted(wanted, key=lambda condition: places.get(condition.get("type"), len(places)))
    return [dict(condition) for condition in ordered]
