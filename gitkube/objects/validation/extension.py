"""Checks of what extends the API: definitions of kinds, other servers, flow control.

Source: k8s.io/kubernetes/pkg/apis/flowcontrol/validation, and
k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation (names and versions; what a structural
schema may say is checked where custom objects are served).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

_VERSION = re.compile(r"v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")
_RESERVED_GROUPS = (".k8s.io", ".kubernetes.io")
_APPROVAL = "api-approved.kubernetes.io"
_MAX_PRECEDENCE = 10_000


# ------------------------------------------------------------------------------------- definitions of kinds


def check_definition(causes: Causes, definition: Object) -> None:
    """Of a CustomResourceDefinition: names and versions."""
    spec = definition.get("spec") or {}
    group, scope = spec.get("group") or "", spec.get("scope") or ""
    if not group:
        causes.required("spec.group")
    elif wrong := names.dns_subdomain(group):
        causes.invalids("spec.group", group, wrong)
    elif "." not in group:
        causes.invalid("spec.group", group, "should be a domain with at least one dot")
    if scope not in ("Cluster", "Namespaced"):
        causes.not_supported("spec.scope", scope, ("Cluster", "Namespaced"))
    annotations = (definition.get("metadata") or {}).get("annotations") or {}
    if group.endswith(_RESERVED_GROUPS) and not annotations.get(_APPROVAL):
        causes.required(
            f"metadata.annotations[{_APPROVAL}]", "protected groups must have approval annotation"
        )
    _check_names(causes, spec.get("names") or {}, "spec.names")
    _check_versions(causes, spec)
    plural = (spec.get("names") or {}).get("plural") or ""
    name = (definition.get("metadata") or {}).get("name") or ""
    if name != f"{plural}.{group}":
        causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')


def _check_names(causes: Causes, given: Mapping[str, Any], path: str) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        word = given.get(field) or ""
        if not word:
            if field != "singular":
                causes.required(f"{path}.{field}")
        elif field in ("kind", "listKind"):
            if names.dns_label(word.lower()):
                message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-'"
                causes.invalid(
                    f"{path}.{field}", word, f"may have mixed case, but should otherwise match: {message}"
                )
        else:
            causes.invalids(f"{path}.{field}", word, names.dns_label(word))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        message = "kind and listKind may not be the same"
        causes.invalid(f"{path}.listKind", given["listKind"], message)
    for field in ("shortNames", "categories"):
        for index, word in enumerate(given.get(field) or ()):
            causes.invalids(f"{path}.{field}[{index}]", word, names.dns_label(word))


def _check_versions(causes: Causes, spec: Mapping[str, Any]) -> None:
    versions = spec.get("versions") or ()
    if not versions:
        causes.invalid(
            "spec.versions", list(versions), "must have exactly one version marked as storage version"
        )
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path, name = f"spec.versions[{index}]", version.get("name") or ""
        causes.invalids(f"{path}.name", name, names.dns_label(name))
        if name in seen:
            causes.invalid("spec.versions", name, "must contain unique version names")
        seen.add(name)
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            causes.required(f"{path}.schema.openAPIV3Schema", "schemas are required")
    if sum(1 for version in versions if version.get("storage")) != 1:
        message = "must have exactly one version marked as storage version"
        causes.invalid("spec.versions", [version.get("name") for version in versions], message)
    strategy = (spec.get("conversion") or {}).get("strategy")
    causes.one_of("spec.conversion.strategy", strategy, ("None", "Webhook"), is_required=False)


def check_definition_update(causes: Causes, definition: Object, old: Object) -> None:
    spec, before = definition.get("spec") or {}, old.get("spec") or {}
    causes.immutable("spec.group", spec.get("group"), before.get("group"))
    plural = (spec.get("names") or {}).get("plural")
    causes.immutable("spec.names.plural", plural, (before.get("names") or {}).get("plural"))
    conditions = (old.get("status") or {}).get("conditions") or ()
    if any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions):
        causes.immutable("spec.scope", spec.get("scope"), before.get("scope"))
        kind = (spec.get("names") or {}).get("kind")
        causes.immutable("spec.names.kind", kind, (before.get("names") or {}).get("kind"))


def check_api_service(causes: Causes, api_service: Object) -> None:
    spec = api_service.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name = (api_service.get("metadata") or {}).get("name") or ""
    wanted = f"{version}.{group}"
    if name != wanted:
        causes.invalid("metadata.name", name, f'`spec.version+"."+spec.group` must be {wanted}')
    if not version:
        causes.required("spec.version")
    else:
        causes.invalids("spec.version", version, names.dns_label(version))
    for field, most in (("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)):
        number = spec.get(field) or 0
        if not 0 < number <= most:
            causes.invalid(f"spec.{field}", number, f"must be positive and less than {most}")
    service = spec.get("service")
    if service is None:
        for field in ("caBundle", "insecureSkipTLSVerify"):
            if spec.get(field):
                causes.invalid(f"spec.{field}", "<value>", "local APIServices may not have it")
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            causes.required(f"spec.service.{field}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        causes.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")


# --------------------------------------------------------------------------------------------- flow control


def check_flow_schema(causes: Causes, flow_schema: Object) -> None:
    spec = flow_schema.get("spec") or {}
    precedence = spec.get("matchingPrecedence") or 0
    if not 1 <= precedence <= _MAX_PRECEDENCE:
        causes.invalid("spec.matchingPrecedence", precedence, f"must be between 1 and {_MAX_PRECEDENCE}")
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        causes.required("spec.priorityLevelConfiguration.name", "must reference a priority level")


def check_priority_level(causes: Causes, level: Object) -> None:
    spec = level.get("spec") or {}
    kind = spec.get("type") or ""
    if kind not in ("Exempt", "Limited"):
        causes.not_supported("spec.type", kind, ("Exempt", "Limited"))
    elif kind == "Limited" and spec.get("limited") is None:
        causes.required("spec.limited", "must not be empty when type is Limited")
    elif kind == "Exempt" and spec.get("limited") is not None:
        causes.forbidden("spec.limited", "must be nil if the type is not Limited")
