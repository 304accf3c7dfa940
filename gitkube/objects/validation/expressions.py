"""Checks of CEL expressions in objects: that they can be compiled, and give what they are asked for.

An object that is judged is `dyn`, for a policy may be about many kinds. The request, its namespace, and the
policy's own variables have types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitkube.objects import names
from gitkube.objects.cel import CelSyntaxError, compile_expression
from gitkube.objects.cel.checker import check_types
from gitkube.objects.cel.types import DYN, CelType
from gitkube.objects.declared_types import AUTHORIZER, NAMESPACE, REQUEST
from gitkube.objects.validation.causes import Causes

CONDITION_VARIABLES = frozenset({"object", "oldObject", "request", "authorizer"})
"""Of the conditions of a webhook."""
POLICY_VARIABLES = CONDITION_VARIABLES | {"namespaceObject", "variables"}
"""Of a policy; one with a `paramKind` has `params` besides."""
MUTATION_CONSTRUCTORS = frozenset({"Object", "JSONPatch"})
MAX_CONDITIONS = 64
_DECLARED: Mapping[str, CelType] = {
    "request": REQUEST,
    "namespaceObject": NAMESPACE,
    "authorizer": AUTHORIZER,
}
_NOTHING: Mapping[str, CelType] = {}


def check_expression(
    causes: Causes,
    source: Any,
    path: str,
    variables: frozenset[str],
    types: Sequence[str] = (),
    exactly: str = "",
    constructors: frozenset[str] = frozenset(),
    declared: Mapping[str, CelType] = _NOTHING,
) -> CelType:
    """The type of its value, `dyn` when it has none.

    Args:
        types: that the result may have, or that it could have where it is `dyn`; none means any.
        exactly: the one type that it must be known to have.
        constructors: messages that the expression may make.
        declared: types of variables, beside those that all admission has.
    """
    if not isinstance(source, str) or not source.strip():
        causes.required(path, "expression is not specified")
        return DYN
    known = {name: declared.get(name) or _DECLARED.get(name, DYN) for name in variables}
    try:
        checked = check_types(source, known, constructors)
        if not checked.mistakes:
            compile_expression(source, variables, constructors=constructors)
    except CelSyntaxError as error:
        causes.invalid(path, source, f"compilation failed: {error.message}")
        return DYN
    if checked.mistakes:
        wrong = "\n".join(checked.mistakes)
        causes.invalid(path, source, f"compilation failed: {wrong}")
        return DYN
    type = checked.type
    if (exactly and str(type) != exactly) or (types and type.name not in (*types, "dyn")):
        wanted = exactly or types[0] if len(types) < 2 else f"one of [{' '.join(types)}]"
        causes.invalid(path, source, f"must evaluate to {wanted} but got {type}")
    return type


def check_conditions(
    causes: Causes, conditions: Sequence[Mapping[str, Any]] | None, path: str, variables: frozenset[str]
) -> None:
    """`matchConditions` of a webhook or a policy."""
    given = conditions or ()
    if len(given) > MAX_CONDITIONS:
        causes.add(
            "FieldValueTooMany", path, f"Too many: {len(given)}: must have at most {MAX_CONDITIONS} items"
        )
    seen: set[str] = set()
    for index, condition in enumerate(given):
        name = str(condition.get("name") or "")
        if not name:
            causes.required(f"{path}[{index}].name")
        else:
            causes.invalids(f"{path}[{index}].name", name, names.qualified_name(name))
        if name in seen:
            causes.duplicate(f"{path}[{index}].name", name)
        seen.add(name)
        check_expression(
            causes, condition.get("expression"), f"{path}[{index}].expression", variables, ("bool",)
        )
