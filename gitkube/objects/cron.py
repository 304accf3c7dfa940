"""Cron schedules: five fields, or a word such as `@hourly`, as Kubernetes reads them.

Minute, hour, day of month, month, day of week. A field is a list of ranges, each with an optional step:
`*`, `5`, `1-5`, `*/15`, `10-40/10`, `mon-fri`. The sentences of `schedule_error` are those of robfig/cron v3,
which Kubernetes uses, because people search for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = "@every "
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+", re.ASCII)
_FIELDS = 5


@dataclass(frozen=True, slots=True)
class _Bounds:
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Words for the numbers from `low` on."""


_BOUNDS = (
    _Bounds(0, 59),
    _Bounds(0, 23),
    _Bounds(1, 31),
    _Bounds(1, 12, _MONTHS),
    _Bounds(0, 6, _WEEKDAYS),
)


def schedule_error(text: str) -> str:
    """Why a text is no schedule; "" when it is one."""
    if not text:
        return "empty spec string"
    if text.startswith("@"):
        return _descriptor_error(text)
    fields = text.split()
    if len(fields) != _FIELDS:
        return f"expected exactly {_FIELDS} fields, found {len(fields)}: {fields}".replace("'", "")
    for field, bounds in zip(fields, _BOUNDS, strict=True):
        for part in field.split(","):
            if part and (error := _range_error(part, bounds)):
                return error
    return ""


def _descriptor_error(text: str) -> str:
    if text in _DESCRIPTORS:
        return ""
    if text.startswith(_EVERY):
        duration = text.removeprefix(_EVERY)
        return "" if _DURATION.fullmatch(duration) else f"failed to parse duration {text}"
    return f"unrecognized descriptor: {text}"


def _range_error(part: str, bounds: _Bounds) -> str:
    span, *steps = part.split("/")
    ends = span.split("-")
    if len(steps) > 1:
        return f"too many slashes: {part}"
    if len(ends) > 2:
        return f"too many hyphens: {part}"
    if ends[0] in ("*", "?"):
        if len(ends) > 1:
            return f"too many hyphens: {part}"
        low, high = bounds.low, bounds.high
    else:
        numbers = [_number(end, bounds) for end in ends]
        if None in numbers:
            wrong = ends[numbers.index(None)]
            return f'failed to parse int from {wrong}: strconv.Atoi: parsing "{wrong}": invalid syntax'
        low, high = int(numbers[0] or 0), int(numbers[-1] or 0)
        if steps and len(ends) == 1:
            high = bounds.high
    if steps and not (steps[0].isascii() and steps[0].isdigit()):
        return f'failed to parse int from {steps[0]}: strconv.Atoi: parsing "{steps[0]}": invalid syntax'
    if low < bounds.low:
        return f"beginning of range ({low}) below minimum ({bounds.low}): {part}"
    if high > bounds.high:
        return f"end of range ({high}) above maximum ({bounds.high}): {part}"
    if low > high:
        return f"beginning of range ({low}) beyond end of range ({high}): {part}"
    if steps and int(steps[0]) == 0:
        return f"step of range should be a positive number: {part}"
    return ""


def _number(word: str, bounds: _Bounds) -> int | None:
    lowered = word.lower()
    if lowered in bounds.names:
        return bounds.names.index(lowered) + bounds.low
    return int(word) if word.isascii() and word.isdigit() else None
