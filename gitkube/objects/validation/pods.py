"""Checks of a pod and of the pod template in a workload, and of what may change while a pod lives."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.patch.copying import clone
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.containers import check_containers
from gitkube.objects.validation.gates import (
    check_gated_create,
    check_gates,
    check_gates_update,
    with_free_fields_restored,
)
from gitkube.objects.validation.metadata import check_annotations, check_labels
from gitkube.objects.validation.pod_rules import check_pod_rules
from gitkube.objects.validation.resources import check_resources
from gitkube.objects.validation.scheduling import check_scheduling
from gitkube.objects.validation.security import check_security_context
from gitkube.objects.validation.volumes import check_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
ADDRESS_MESSAGE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARS = 2048
_MAX_DEADLINE_S = 2**31 - 1
_UPDATE_MESSAGE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
    "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def check_pod(causes: Causes, pod: Object) -> None:
    spec = pod.get("spec") or {}
    check_pod_spec(causes, spec, "spec")


def check_pod_create(causes: Causes, pod: Object) -> None:
    """What may come to a pod only later."""
    spec = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        causes.forbidden("spec.ephemeralContainers", "cannot be set on create")
    check_gated_create(causes, spec)


def check_template(causes: Causes, template: Mapping[str, Any] | None, path: str) -> None:
    """The template of a workload's pods."""
    metadata = (template or {}).get("metadata") or {}
    check_labels(causes, metadata.get("labels"), f"{path}.metadata.labels")
    check_annotations(causes, metadata.get("annotations"), f"{path}.metadata.annotations")
    spec = (template or {}).get("spec") or {}
    check_pod_spec(causes, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        causes.forbidden(
            f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
        )


def check_pod_spec(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    check_volumes(causes, spec.get("volumes") or (), f"{path}.volumes")
    check_containers(causes, spec, path)
    causes.one_of(f"{path}.restartPolicy", spec.get("restartPolicy") or "Always", _RESTART_POLICIES)
    _check_dns(causes, spec, path)
    check_scheduling(causes, spec, path)
    check_security_context(causes, spec.get("securityContext") or {}, f"{path}.securityContext")
    check_resources(causes, spec.get("resources") or {}, f"{path}.resources")
    for field, rule in (
        ("serviceAccountName", names.dns_subdomain),
        ("nodeName", names.dns_subdomain),
        ("hostname", names.dns_label),
        ("subdomain", names.dns_label),
        ("runtimeClassName", names.dns_subdomain),
        ("priorityClassName", names.dns_subdomain),
    ):
        if value := spec.get(field):
            causes.invalids(f"{path}.{field}", value, rule(value))
    deadline_s = spec.get("activeDeadlineSeconds")
    if deadline_s is not None and not 1 <= deadline_s <= _MAX_DEADLINE_S:
        causes.invalid(
            f"{path}.activeDeadlineSeconds", deadline_s, f"must be between 1 and {_MAX_DEADLINE_S}, inclusive"
        )
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip") or ""
        if not is_address(address):
            causes.invalid(f"{path}.hostAliases[{index}].ip", address, ADDRESS_MESSAGE)
        for name in alias.get("hostnames") or ():
            causes.invalids(f"{path}.hostAliases[{index}].hostnames", name, names.dns_subdomain(name))
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        condition = gate.get("conditionType") or ""
        causes.invalids(
            f"{path}.readinessGates[{index}].conditionType", condition, names.qualified_name(condition)
        )
    check_gates(causes, spec, path)
    check_pod_rules(causes, spec, path)
    causes.one_of(
        f"{path}.preemptionPolicy",
        spec.get("preemptionPolicy"),
        ("PreemptLowerPriority", "Never"),
        is_required=False,
    )


def _check_dns(causes: Causes, spec: Mapping[str, Any], path: str) -> None:
    policy, config = spec.get("dnsPolicy") or "ClusterFirst", spec.get("dnsConfig")
    causes.one_of(f"{path}.dnsPolicy", policy, _DNS_POLICIES)
    if policy == "None":
        if config is None:
            causes.required(f"{path}.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")
        elif not config.get("nameservers"):
            causes.required(
                f"{path}.dnsConfig.nameservers",
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )
    if config is None:
        return
    nameservers = config.get("nameservers") or ()
    if len(nameservers) > _MAX_NAMESERVERS:
        causes.invalid(
            f"{path}.dnsConfig.nameservers",
            nameservers,
            f"must not have more than {_MAX_NAMESERVERS} nameservers",
        )
    for index, address in enumerate(nameservers):
        if not is_address(address):
            causes.invalid(f"{path}.dnsConfig.nameservers[{index}]", address, ADDRESS_MESSAGE)
    searches = config.get("searches") or ()
    if len(searches) > _MAX_SEARCHES:
        causes.invalid(
            f"{path}.dnsConfig.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths"
        )
    if len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        causes.invalid(
            f"{path}.dnsConfig.searches",
            searches,
            f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list",
        )
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.required(f"{path}.dnsConfig.options[{index}]", "must not be empty")


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_pod_update(causes: Causes, pod: Object, old: Object) -> None:
    """A living pod changes its images, its deadline (downwards) and its tolerations (more), nothing else."""
    spec, before = pod.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) != len(before.get(field) or ()):
            causes.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return
    deadline_s, previous_s = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if previous_s is not None and (deadline_s is None or deadline_s > previous_s):
        causes.invalid(
            "spec.activeDeadlineSeconds",
            deadline_s,
            f"must be less than or equal to previous value {previous_s}"
            if deadline_s is not None
            else "must not update from a positive integer to nil value",
        )
    _check_tolerations_added(causes, spec, before)
    check_gates_update(causes, spec, before)
    if _fixed_part(spec, before) != before:
        changed = sorted(_changed(_fixed_part(spec, before), before, ""))
        causes.forbidden("spec", f"{_UPDATE_MESSAGE}; changed: {', '.join(changed)}")


def _check_tolerations_added(causes: Causes, spec: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    def without_seconds(toleration: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    tolerations = [without_seconds(one) for one in spec.get("tolerations") or ()]
    for existing in before.get("tolerations") or ():
        if without_seconds(existing) not in tolerations:
            causes.forbidden(
                "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
            )
            return


def _fixed_part(spec: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The new spec with all that may change put back."""
    fixed: dict[str, Any] = dict(clone(spec))
    for field in ("containers", "initContainers"):
        for container, previous in zip(fixed.get(field) or (), before.get(field) or (), strict=True):
            container["image"] = previous.get("image")
            if "resources" in previous:  # changed through the resize subresource
                container["resources"] = previous["resources"]
    for field in ("activeDeadlineSeconds", "tolerations", "ephemeralContainers"):
        if field in before:
            fixed[field] = before[field]
        else:
            fixed.pop(field, None)
    if (
        fixed.get("terminationGracePeriodSeconds") == 1
        and (before.get("terminationGracePeriodSeconds") or 0) < 0
    ):
        fixed["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    with_free_fields_restored(fixed, before)
    return fixed


def _changed(value: Any, before: Any, path: str) -> list[str]:
    if isinstance(value, dict) and isinstance(before, dict):
        found: list[str] = []
        for field in value.keys() | before.keys():
            if value.get(field) != before.get(field):
                found.extend(_changed(value.get(field), before.get(field), f"{path}.{field}"))
        return found
    if isinstance(value, list) and isinstance(before, list) and len(value) == len(before):
        found = []
        for index, (item, previous) in enumerate(zip(value, before, strict=True)):
            if item != previous:
                found.extend(_changed(item, previous, f"{path}[{index}]"))
        return found
    return [f"spec{path}"]
