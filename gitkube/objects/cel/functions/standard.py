"""CEL's own functions: sizes, conversions, types, and the tests of strings."""

from __future__ import annotations

import math
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import ANY, function, method
from gitkube.objects.cel.values import MAX_INT, MAX_UINT, MIN_INT, Type, Uint, type_name

_MAX_NUMBER_TEXT = 64


def _size(budget: Budget, value: Any) -> int:
    return len(value)


for _kind in (str, bytes, list, dict):
    function("size", _kind, result="int")(_size)
    method("size", _kind, result="int")(_size)


@function("type", ANY, result="type")
def _type(budget: Budget, value: Any) -> Type:
    return Type(type_name(value))


@function("dyn", ANY)
def _dyn(budget: Budget, value: Any) -> Any:
    return value


@function("int", int, result="int")
@function("uint", Uint, result="uint")
@function("double", float, result="double")
@function("string", str, result="string")
@function("bytes", bytes, result="bytes")
@function("bool", bool, result="bool")
def _same(budget: Budget, value: Any) -> Any:
    return value


@function("int", Uint, result="int")
@function("int", float, result="int")
def _int_of_number(budget: Budget, value: float) -> int:
    if not math.isfinite(value) or not MIN_INT <= int(value) <= MAX_INT:
        raise CelEvaluationError("integer overflow")
    return int(value)


@function("int", str, result="int")
def _int_of_text(budget: Budget, text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if len(text) > _MAX_NUMBER_TEXT or not (digits.isascii() and digits.isdigit()):
        raise CelEvaluationError(f'strconv.ParseInt: parsing "{text[:_MAX_NUMBER_TEXT]}": invalid syntax')
    if not MIN_INT <= int(text) <= MAX_INT:
        raise CelEvaluationError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


@function("uint", int, result="uint")
@function("uint", float, result="uint")
def _uint_of_number(budget: Budget, value: float) -> Uint:
    if not math.isfinite(value) or not 0 <= int(value) <= MAX_UINT:
        raise CelEvaluationError("unsigned integer overflow")
    return Uint(int(value))


@function("uint", str, result="uint")
def _uint_of_text(budget: Budget, text: str) -> Uint:
    if len(text) > _MAX_NUMBER_TEXT or not (text.isascii() and text.isdigit()):
        raise CelEvaluationError(f'strconv.ParseUint: parsing "{text[:_MAX_NUMBER_TEXT]}": invalid syntax')
    if int(text) > MAX_UINT:
        raise CelEvaluationError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return Uint(int(text))


@function("double", int, result="double")
@function("double", Uint, result="double")
def _double_of_number(budget: Budget, value: int) -> float:
    return float(value)


@function("double", str, result="double")
def _double_of_text(budget: Budget, text: str) -> float:
    try:
        if len(text) > _MAX_NUMBER_TEXT or text != text.strip() or "_" in text:
            raise ValueError(text)
        return float(text)
    except ValueError as error:
        shown = text[:_MAX_NUMBER_TEXT]
        raise CelEvaluationError(f'strconv.ParseFloat: parsing "{shown}": invalid syntax') from error


@function("string", int, result="string")
@function("string", Uint, result="string")
def _text_of_int(budget: Budget, value: int) -> str:
    return str(int(value))


@function("string", float, result="string")
def _text_of_double(budget: Budget, value: float) -> str:
    return double_text(value)


@function("string", bool, result="string")
def _text_of_bool(budget: Budget, value: bool) -> str:
    return "true" if value else "false"


@function("string", bytes, result="string")
def _text_of_bytes(budget: Budget, value: bytes) -> str:
    budget.spend_text(len(value))
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise CelEvaluationError("invalid UTF-8 in bytes, cannot convert to string") from error


@function("bytes", str, result="bytes")
def _bytes_of_text(budget: Budget, value: str) -> bytes:
    budget.spend_text(len(value))
    return value.encode()


@function("bool", str, result="bool")
def _bool_of_text(budget: Budget, text: str) -> bool:
    if text in ("true", "TRUE", "True", "t", "1"):
        return True
    if text in ("false", "FALSE", "False", "f", "0"):
        return False
    raise CelEvaluationError(f'strconv.ParseBool: parsing "{text[:_MAX_NUMBER_TEXT]}": invalid syntax')


@method("contains", str, str, result="bool")
def _contains(budget: Budget, text: str, part: str) -> bool:
    budget.spend_text(len(text) + len(part))
    return part in text


@method("startsWith", str, str, result="bool")
def _starts_with(budget: Budget, text: str, part: str) -> bool:
    budget.spend_text(len(part))
    return text.startswith(part)


@method("endsWith", str, str, result="bool")
def _ends_with(budget: Budget, text: str, part: str) -> bool:
    budget.spend_text(len(part))
    return text.endswith(part)


def double_text(value: float) -> str:
    """As Go prints a double: no fraction where there is none."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)
