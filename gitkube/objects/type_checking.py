"""What the expressions of a ValidatingAdmissionPolicy would do with the kinds that it is about.

A policy is written against objects whose types are not known when it is compiled. Here each of its
validations is checked once for each kind that its rules name, and what does not fit is a warning in its
status. It refuses nothing, for the policy may be right for another kind, or never be asked about this one.
Rules with wildcards name no kinds.
Source: k8s.io/apiserver, pkg/admission/plugin/policy/validating/typechecking.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gitkube.objects.cel import CelSyntaxError
from gitkube.objects.cel.checker import check_types
from gitkube.objects.cel.types import DYN, CelType
from gitkube.objects.declared_types import AUTHORIZER, NAMESPACE, REQUEST, composed, declared_type
from gitkube.objects.kinds import Kind
from gitkube.objects.schema import SchemaError, schema_of
from gitkube.objects.types import Object

MAX_KINDS = 10
"""Of one rule; a policy about more is checked for the first of them."""
FindByResource = Callable[[str, str, str], Kind | None]
"""Group, version, plural -> the kind that is served there."""
FindByName = Callable[[str, str], Kind | None]
"""apiVersion, kind -> the kind."""


def expression_warnings(
    policy: Object, by_resource: FindByResource, by_name: FindByName
) -> list[dict[str, str]]:
    """`status.typeChecking.expressionWarnings`: each expression that does not fit a kind, and why."""
    spec = policy.get("spec") or {}
    parameters = _parameter_type(spec.get("paramKind"), by_name)
    contexts = [
        (kind, _variables(spec, declared, parameters))
        for kind in kinds_about(spec, by_resource)
        if (declared := _type_of(kind)) is not None
    ]
    found: list[dict[str, str]] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            source = validation.get(field)
            warnings = [
                f"{kind.api_version}, Kind={kind.kind}: {wrong}\n"
                for kind, variables in contexts
                if source and (wrong := _mistakes(str(source), variables))
            ]
            if warnings:
                place = f"spec.validations[{index}].{field}"
                found.append({"fieldRef": place, "warning": "\n".join(warnings)})
    return found


def kinds_about(spec: Mapping[str, Any], by_resource: FindByResource) -> list[Kind]:
    """The kinds that a policy's rules name, by group, version and kind."""
    found: set[Kind] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        found.update(list(_kinds_of_rule(rule, by_resource))[:MAX_KINDS])
    return sorted(found, key=lambda kind: (kind.group, kind.version, kind.kind))


def _kinds_of_rule(rule: Mapping[str, Any], by_resource: FindByResource) -> Iterator[Kind]:
    groups, versions = sorted(rule.get("apiGroups") or ()), sorted(rule.get("apiVersions") or ())
    if any("*" in word for word in (*groups, *versions)):
        return
    plurals = sorted(word for word in rule.get("resources") or () if not {"*", "/"} & set(word))
    for group in groups:
        for version in versions:
            for plural in plurals:
                if (kind := by_resource(group, version, plural)) is not None:
                    yield kind


def _type_of(kind: Kind) -> CelType | None:
    try:
        return declared_type(schema_of(kind), kind.kind)
    except SchemaError:  # what has no schema cannot be checked
        return None


def _parameter_type(reference: Mapping[str, Any] | None, by_name: FindByName) -> CelType | None:
    """Of `params`; None when the policy has none."""
    if reference is None:
        return None
    kind = by_name(str(reference.get("apiVersion")), str(reference.get("kind")))
    return (_type_of(kind) if kind is not None else None) or DYN


def _variables(spec: Mapping[str, Any], declared: CelType, parameters: CelType | None) -> dict[str, CelType]:
    """What the expressions of a policy may name, when it is asked about objects of a type."""
    names = {
        "object": declared,
        "oldObject": declared,
        "request": REQUEST,
        "namespaceObject": NAMESPACE,
        "authorizer": AUTHORIZER,
    }
    if parameters is not None:
        names["params"] = parameters
    made: dict[str, CelType] = {}
    for variable in spec.get("variables") or ():
        before = {**names, "variables": composed(made)}
        made[str(variable.get("name"))] = _result(str(variable.get("expression")), before)
    return {**names, "variables": composed(made)}


def _result(source: str, variables: Mapping[str, CelType]) -> CelType:
    try:
        checked = check_types(source, variables)
    except CelSyntaxError:
        return DYN
    return DYN if checked.mistakes else checked.type


def _mistakes(source: str, variables: Mapping[str, CelType]) -> str:
    try:
        return "\n".join(check_types(source, variables).mistakes)
    except CelSyntaxError as error:
        return error.message
