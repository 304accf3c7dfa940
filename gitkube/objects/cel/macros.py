"""Macros: calls that are no calls, since they bind names. Each becomes a node of its own.

`has`, `all`, `exists`, `exists_one`, `map` and `filter` are CEL's; the forms with two variables, `cel.bind`,
`optMap` and `optFlatMap` come from the extensions that Kubernetes turns on.
"""

from __future__ import annotations

from gitkube.objects.cel.errors import CelSyntaxError
from gitkube.objects.cel.syntax import Bind, Has, Loop, LoopKind, Name, Node, OptionalMap, Select

_ONE_VARIABLE = {
    "all": LoopKind.ALL,
    "exists": LoopKind.EXISTS,
    "exists_one": LoopKind.EXISTS_ONE,
    "existsOne": LoopKind.EXISTS_ONE,
    "filter": LoopKind.FILTER,
    "map": LoopKind.MAP,
}
_TWO_VARIABLES = {
    "all": LoopKind.ALL,
    "exists": LoopKind.EXISTS,
    "existsOne": LoopKind.EXISTS_ONE,
    "exists_one": LoopKind.EXISTS_ONE,
    "transformList": LoopKind.TRANSFORM_LIST,
    "transformMap": LoopKind.TRANSFORM_MAP,
    "transformMapEntry": LoopKind.TRANSFORM_MAP_ENTRY,
}


def expand_call(source: str, at: int, function: str, arguments: tuple[Node, ...]) -> Node | None:
    """The node of `has(…)`; None when the call is one.

    Raises:
        CelSyntaxError: the macro is used wrongly.
    """
    if function != "has" or len(arguments) != 1:
        return None
    selected = arguments[0]
    if not isinstance(selected, Select) or selected.is_optional:
        raise CelSyntaxError("invalid argument to has() macro", source, at)
    return Has(selected.at, selected.operand, selected.field)


def expand_method(
    source: str, at: int, target: Node, method: str, arguments: tuple[Node, ...]
) -> Node | None:
    """The node of a macro that is written as a method; None when it is none.

    Raises:
        CelSyntaxError: the macro is used wrongly.
    """
    if method == "bind" and isinstance(target, Name) and target.name == "cel" and len(arguments) == 3:
        name = _variable(source, arguments[0], "cel.bind() variable names must be simple identifiers")
        return Bind(at, name, arguments[1], arguments[2])
    if method in ("optMap", "optFlatMap") and len(arguments) == 2:
        why = f"{method}() variable name must be a simple identifier"
        return OptionalMap(at, target, _variable(source, arguments[0], why), arguments[1], method != "optMap")
    if len(arguments) == 2 and (kind := _ONE_VARIABLE.get(method)):
        return Loop(at, kind, target, (_variable(source, arguments[0]),), arguments[1])
    if len(arguments) == 3 and method == "map":
        return Loop(at, LoopKind.MAP, target, (_variable(source, arguments[0]),), arguments[2], arguments[1])
    if len(arguments) in (3, 4) and (kind := _TWO_VARIABLES.get(method)):
        if len(arguments) == 4 and not method.startswith("transform"):
            return None
        names = (_variable(source, arguments[0]), _variable(source, arguments[1]))
        if names[0] == names[1]:
            why = f"duplicate iteration variable name: {names[0]}"
            raise CelSyntaxError(why, source, arguments[1].at)
        condition = arguments[2] if len(arguments) == 4 else None
        return Loop(at, kind, target, names, arguments[-1], condition)
    return None


def _variable(source: str, node: Node, why: str = "argument must be a simple name") -> str:
    if isinstance(node, Name):
        return node.name
    raise CelSyntaxError(why, source, node.at)
