"""The strings extension: cutting, joining, searching, changing case, and `format`.

Positions are code points, as in CEL. Whatever makes text longer pays for the result before it is made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError, no_such_overload
from gitkube.objects.cel.functions.standard import double_text
from gitkube.objects.cel.functions.times import duration_text, timestamp_text
from gitkube.objects.cel.registry import function, method
from gitkube.objects.cel.values import Type, is_number

_SPACE = (
    " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
_MAX_PRECISION = 100
_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@method("charAt", str, int, result="string")
def _char_at(budget: Budget, text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise CelEvaluationError(f"index out of range: {at}")
    return text[at : at + 1]


@method("indexOf", str, str, result="int")
def _index_of(budget: Budget, text: str, part: str) -> int:
    budget.spend_text(len(text) + len(part))
    return text.find(part)


@method("indexOf", str, str, int, result="int")
def _index_of_from(budget: Budget, text: str, part: str, start: int) -> int:
    if not 0 <= start <= len(text):
        if not part:
            return start
        raise CelEvaluationError(f"index out of range: {start}")
    budget.spend_text(len(text) + len(part))
    return text.find(part, start)


@method("lastIndexOf", str, str, result="int")
def _last_index_of(budget: Budget, text: str, part: str) -> int:
    budget.spend_text(len(text) + len(part))
    return text.rfind(part)


@method("lastIndexOf", str, str, int, result="int")
def _last_index_of_from(budget: Budget, text: str, part: str, start: int) -> int:
    if not 0 <= start <= len(text):
        raise CelEvaluationError(f"index out of range: {start}")
    budget.spend_text(len(text) + len(part))
    return text.rfind(part, 0, start + len(part))


@method("lowerAscii", str, result="string")
def _lower(budget: Budget, text: str) -> str:
    budget.spend_text(len(text))
    return "".join(chr(ord(each) + 32) if "A" <= each <= "Z" else each for each in text)


@method("upperAscii", str, result="string")
def _upper(budget: Budget, text: str) -> str:
    budget.spend_text(len(text))
    return "".join(chr(ord(each) - 32) if "a" <= each <= "z" else each for each in text)


@method("replace", str, str, str, result="string")
def _replace_all(budget: Budget, text: str, old: str, new: str) -> str:
    return _replace(budget, text, old, new, -1)


@method("replace", str, str, str, int, result="string")
def _replace(budget: Budget, text: str, old: str, new: str, limit: int) -> str:
    budget.spend_text(len(text) + len(old))
    count = text.count(old) if limit < 0 else min(text.count(old), limit)
    budget.spend_text(len(text) + count * len(new))
    return text.replace(old, new, limit)


@method("split", str, str, result="list")
def _split_all(budget: Budget, text: str, separator: str) -> list[str]:
    return _split(budget, text, separator, -1)


@method("split", str, str, int, result="list")
def _split(budget: Budget, text: str, separator: str, limit: int) -> list[str]:
    if limit == 0:
        return []
    budget.spend_text(len(text))
    if not separator:
        parts = list(text) if limit < 0 else [*text[: limit - 1], text[limit - 1 :]]
        parts = [part for part in parts if part]
    else:
        parts = text.split(separator, limit - 1 if limit > 0 else -1)
    budget.spend(len(parts))
    return parts


@method("substring", str, int, result="string")
def _substring_from(budget: Budget, text: str, start: int) -> str:
    if not 0 <= start <= len(text):
        raise CelEvaluationError(f"index out of range: {start}")
    budget.spend_text(len(text) - start)
    return text[start:]


@method("substring", str, int, int, result="string")
def _substring(budget: Budget, text: str, start: int, end: int) -> str:
    if start > end:
        raise CelEvaluationError(f"invalid substring range. start: {start}, end: {end}")
    for each in (start, end):
        if not 0 <= each <= len(text):
            raise CelEvaluationError(f"index out of range: {each}")
    budget.spend_text(end - start)
    return text[start:end]


@method("trim", str, result="string")
def _trim(budget: Budget, text: str) -> str:
    budget.spend_text(len(text))
    return text.strip(_SPACE)


@method("reverse", str, result="string")
def _reverse(budget: Budget, text: str) -> str:
    budget.spend_text(len(text))
    return text[::-1]


@method("join", list, result="string")
def _join(budget: Budget, parts: list[Any]) -> str:
    return _join_with(budget, parts, "")


@method("join", list, str, result="string")
def _join_with(budget: Budget, parts: list[Any], separator: str) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise no_such_overload()
    budget.spend(len(parts))
    budget.spend_text(sum(len(part) for part in parts) + len(separator) * len(parts))
    return separator.join(parts)


@function("strings.quote", str, result="string")
def _quote(budget: Budget, text: str) -> str:
    budget.spend_text(2 * len(text))
    return '"' + "".join(_QUOTED.get(each, each) for each in text) + '"'


@method("format", str, list, result="string")
def _format(budget: Budget, template: str, arguments: list[Any]) -> str:
    """`%s %d %f %e %b %x %X %o %%`, as the strings extension defines them."""
    budget.spend_text(len(template))
    parts: list[str] = []
    position = used = 0
    while position < len(template):
        percent = template.find("%", position)
        if percent < 0:
            parts.append(template[position:])
            break
        parts.append(template[position:percent])
        position = percent + 1
        if template.startswith("%", position):
            parts.append("%")
            position += 1
            continue
        precision, position = _precision(template, position)
        verb = template[position : position + 1]
        position += 1
        if used >= len(arguments):
            raise CelEvaluationError(f"index {used} out of range")
        text = _clause(budget, verb, arguments[used], precision)
        budget.spend_text(len(text))
        parts.append(text)
        used += 1
    return "".join(parts)


def _precision(template: str, position: int) -> tuple[int, int]:
    if not template.startswith(".", position):
        return 6, position
    end = position + 1
    while end < len(template) and template[end] in "0123456789":
        end += 1
    digits = template[position + 1 : end]
    if not digits or len(digits) > 3 or int(digits) > _MAX_PRECISION:
        raise CelEvaluationError(f"precision may have at most {_MAX_PRECISION} digits")
    return int(digits), end


def _clause(budget: Budget, verb: str, value: Any, precision: int) -> str:
    match verb:
        case "s":
            return _shown(budget, value)
        case "d" if is_number(value) and not isinstance(value, float):
            return str(int(value))
        case "f" if is_number(value):
            return f"{float(value):.{precision}f}"
        case "e" if is_number(value):
            return f"{float(value):.{precision}e}"
        case "b" if isinstance(value, bool) or (is_number(value) and not isinstance(value, float)):
            return f"{int(value):b}"
        case "o" if is_number(value) and not isinstance(value, float):
            return f"{int(value):o}"
        case "x" | "X":
            text = _hexadecimal(value)
            budget.spend_text(len(text))
            return text.upper() if verb == "X" else text
        case "d" | "f" | "e" | "b" | "o":
            raise CelEvaluationError(f"could not parse formatting clause: unsupported value for %{verb}")
    raise CelEvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _hexadecimal(value: Any) -> str:
    if isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, bytes):
        return value.hex()
    if is_number(value) and not isinstance(value, float):
        return f"{int(value):x}"
    raise CelEvaluationError("could not parse formatting clause: unsupported value for %x")


def _shown(budget: Budget, value: Any) -> str:
    budget.spend(1)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int():
            return str(int(value))
        case float():
            return double_text(value)
        case bytes():
            return value.decode(errors="replace")
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case Type():
            return value.name
        case list() | tuple():
            return "[" + ", ".join(_shown(budget, each) for each in value) + "]"
        case dict():
            entries = sorted((_shown(budget, key), _shown(budget, each)) for key, each in value.items())
            return "{" + ", ".join(f"{key}: {each}" for key, each in entries) + "}"
    raise CelEvaluationError("could not parse formatting clause: unsupported value for %s")
