"""What calls give, by the types of what they are given: operators, indexes, and every registered function;
and what messages may be made.

Functions are registered with the Python types that they take (`registry`), which says of a list that it is
one. What that leaves open, the type of its elements, is said here where the result depends on it. Each of
these answers None where no overload fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gitkube.objects.cel import operators, registry
from gitkube.objects.cel.types import (
    BOOL,
    DYN,
    FREE,
    INT,
    STRING,
    CelType,
    are_numbers,
    joined,
    list_of,
    map_of,
    named,
    optional_of,
    struct,
)

Types = Sequence[CelType]


def operator_result(sign: str, operands: Types) -> CelType | None:
    """Of `_+_` and the like."""
    result = operators.OPERATORS[sign].result_of([operand.kind for operand in operands])
    if sign in ("_==_", "_!=_"):
        return _equality(*operands)
    if result is None:
        return None
    if sign == "@in":
        return _membership(*operands)
    if result == "list":
        return joined(*operands) or list_of(DYN)
    return named(result)


def _equality(a: CelType, b: CelType) -> CelType | None:
    return BOOL if joined(a, b) is not None or are_numbers(a, b) else None


def _membership(element: CelType, container: CelType) -> CelType | None:
    wanted = container.parameter(0)
    if joined(element, wanted) is not None or are_numbers(element, wanted):
        return BOOL
    return None


def index_result(operand: CelType, index: CelType) -> CelType | None:
    """Of `a[b]`; of an optional, an optional."""
    if operand.name == "optional_type":
        inner = index_result(operand.parameter(0), index)
        return None if inner is None else optional_of(inner)
    if operand.is_dyn:
        return DYN
    if operand.name == "list":
        return operand.parameter(0) if index.is_dyn or are_numbers(index) else None
    if operand.name == "map":
        key = operand.parameter(0)
        fits = joined(index, key) is not None or are_numbers(index, key)
        return operand.parameter(1) if fits else None
    return None


def function_result(name: str, *, is_method: bool, arguments: Types) -> CelType | None:
    """Of a registered function or method; the receiver comes first."""
    if is_method and (asked := arguments[0].name) in _ASKED:
        return _answer(asked, name, arguments[1:])
    found = registry.find(name, is_method, len(arguments))
    if found is None:
        return None
    kinds = [argument.kind for argument in arguments]
    results = [one.result for one in found.overloads if one.accepts(kinds)]
    if not results:
        return None
    if registry.is_host_method(name):
        return DYN
    if (refined := _RESULTS.get((name, is_method))) is not None:
        return refined(arguments)
    return named(results[0]) if len(set(results)) == 1 else DYN


def message_type(name: str) -> CelType | None:
    """Of `name{…}`; None when there is none.

    Of an `Object` and its parts nothing is known: they are judged by their schema when they are merged.
    """
    root, dot, _ = name.partition(".")
    fields = _MESSAGES.get(root)
    if fields is None:
        return struct(name, lambda field: DYN)
    return None if dot else struct(name, fields.get)


def _answer(asked: str, name: str, arguments: Types) -> CelType | None:
    """Of a method of the server's own objects, which take texts only."""
    count, result = _ASKED[asked].get(name, (-1, DYN))
    takes = len(arguments) == count and all(each.name in ("string", "dyn") for each in arguments)
    return result if takes else None


def _element(arguments: Types) -> CelType:
    return arguments[0].parameter(0) if arguments[0].name == "list" else DYN


def _same(arguments: Types) -> CelType:
    return arguments[0]


def _flattened(arguments: Types) -> CelType:
    inner = _element(arguments)
    return inner if inner.name == "list" and len(arguments) == 1 else list_of(DYN)


def _unwrapped(arguments: Types) -> CelType:
    inner = _element(arguments)
    return list_of(inner.parameter(0) if inner.name == "optional_type" else DYN)


def _value(arguments: Types) -> CelType:
    return arguments[0].parameter(0) if arguments[0].name == "optional_type" else DYN


_STRINGS = list_of(STRING)
_RESULTS: Mapping[tuple[str, bool], Callable[[Types], CelType]] = {
    ("split", True): lambda arguments: _STRINGS,
    ("findAll", True): lambda arguments: _STRINGS,
    ("slice", True): _same,
    ("sort", True): _same,
    ("distinct", True): _same,
    ("reverse", True): _same,
    ("flatten", True): _flattened,
    ("first", True): lambda arguments: optional_of(_element(arguments)),
    ("last", True): lambda arguments: optional_of(_element(arguments)),
    ("min", True): _element,
    ("max", True): _element,
    ("sum", True): _element,
    ("value", True): _value,
    ("getQuery", True): lambda arguments: map_of(STRING, _STRINGS),
    ("validate", True): lambda arguments: optional_of(_STRINGS),
    ("lists.range", False): lambda arguments: list_of(INT),
    ("format.named", False): lambda arguments: optional_of(CelType("kubernetes.NamedFormat")),
    ("optional.none", False): lambda arguments: optional_of(FREE),
    ("optional.of", False): lambda arguments: optional_of(arguments[0]),
    ("optional.ofNonZeroValue", False): lambda arguments: optional_of(arguments[0]),
    ("optional.unwrap", False): _unwrapped,
}
"""(name, is it a method) -> its result, where that depends on what the arguments hold."""

_MESSAGES: Mapping[str, Mapping[str, CelType]] = {
    "JSONPatch": {"op": STRING, "path": STRING, "from": STRING, "value": DYN},
}
"""Messages whose fields are known. Source: k8s.io/apiserver, pkg/cel/mutation."""

_AUTHORIZATION = "kubernetes.authorization."
_AUTHORIZER, _GROUP, _PATH, _RESOURCE, _DECISION = (
    CelType(f"{_AUTHORIZATION}{name}")
    for name in ("Authorizer", "GroupCheck", "PathCheck", "ResourceCheck", "Decision")
)
_ASKED: Mapping[str, Mapping[str, tuple[int, CelType]]] = {
    _AUTHORIZER.name: {"path": (1, _PATH), "group": (1, _GROUP), "serviceAccount": (2, _AUTHORIZER)},
    _GROUP.name: {"resource": (1, _RESOURCE)},
    _PATH.name: {"check": (1, _DECISION)},
    _RESOURCE.name: {
        "subresource": (1, _RESOURCE),
        "namespace": (1, _RESOURCE),
        "name": (1, _RESOURCE),
        "fieldSelector": (1, _RESOURCE),
        "labelSelector": (1, _RESOURCE),
        "check": (1, _DECISION),
    },
    _DECISION.name: {
        "allowed": (0, BOOL),
        "errored": (0, BOOL),
        "error": (0, STRING),
        "reason": (0, STRING),
    },
}
"""Type -> method -> how many texts it takes, and what it gives."""
