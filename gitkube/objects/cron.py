"""Cron schedules: five fields, or a word such as `@hourly`, as Kubernetes reads them.

Minute, hour, day of month, month, day of week. A field is a list of ranges, each with an optional step:
`*`, `5`, `1-5`, `*/15`, `10-40/10`, `mon-fri`. The sentences of `schedule_error` are those of robfig/cron v3,
which Kubernetes uses, because people search for them; `next_start_s` walks as its `SpecSchedule.Next` does:
month, day, hour and minute are moved on in turn until all fit, in absolute time, so an hour that a clock
skips has no start and one that it shows twice has two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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


_DESCRIBED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HORIZON_YEARS = 5
"""A schedule without a start in so many years (30 February) has none."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is to start. Either the five sets, or a constant pause in seconds."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    """0 is Sunday."""
    is_any_day: bool = False
    """The day of the month or of the week is `*`: both must fit. Otherwise one of them is enough."""
    pause_s: float = 0.0

    def fits_day(self, moment: datetime) -> bool:
        by_month, by_week = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return (by_month and by_week) if self.is_any_day else (by_month or by_week)


def parse_schedule(text: str) -> Schedule:
    """The schedule that a text means.

    Raises:
        ValueError: it is none; the message is that of `schedule_error`.
    """
    if error := schedule_error(text):
        raise ValueError(error)
    if text.startswith(_EVERY):
        found = re.finditer(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text.removeprefix(_EVERY))
        total_s = sum(float(part[1]) * _UNITS_S[part[2]] for part in found)
        return Schedule(pause_s=max(float(int(total_s)), 1.0))
    fields = _DESCRIBED.get(text, text).split()
    minutes, hours, days, months, weekdays = (
        _numbers(field, bounds) for field, bounds in zip(fields, _BOUNDS, strict=True)
    )
    is_any_day = _is_any(fields[2]) or _is_any(fields[4])
    return Schedule(minutes, hours, days, months, weekdays, is_any_day)


def next_start_s(schedule: Schedule, after_s: float, zone: tzinfo = UTC) -> float | None:
    """The first start after a moment, both in seconds since the epoch; None when there is none for years."""
    if schedule.pause_s:
        return float(int(after_s)) + schedule.pause_s
    at_s = (int(after_s) // 60 + 1) * 60
    last_year = datetime.fromtimestamp(at_s, zone).year + _HORIZON_YEARS
    while True:
        local = datetime.fromtimestamp(at_s, zone)
        if local.year > last_year:
            return None
        if local.month not in schedule.months:
            year, month = divmod(local.year * 12 + local.month, 12)
            at_s = int(datetime(year, month + 1, 1, tzinfo=zone).timestamp())
        elif not schedule.fits_day(local):
            day = local.date() + timedelta(days=1)
            at_s = int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
        elif local.hour not in schedule.hours:
            at_s += (60 - local.minute) * 60
        elif local.minute not in schedule.minutes:
            at_s += 60
        else:
            return float(at_s)


def zone_named(name: str) -> tzinfo:
    """The time zone of the IANA's name, from this host's tables; UTC for no name.

    Raises:
        ValueError: there is none of that name.
    """
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _is_any(field: str) -> bool:
    """Whether a field is `*` somewhere in its list; with a step above 1 it is a choice."""
    parts = (part.split("/") for part in field.split(","))
    return any(part[0] in ("*", "?") and (len(part) == 1 or int(part[1]) == 1) for part in parts)


def _numbers(field: str, bounds: _Bounds) -> frozenset[int]:
    found: set[int] = set()
    for part in filter(None, field.split(",")):
        span, *steps = part.split("/")
        ends = span.split("-")
        if ends[0] in ("*", "?"):
            low, high = bounds.low, bounds.high
        else:
            low, high = (int(_number(end, bounds) or 0) for end in (ends[0], ends[-1]))
            if steps and len(ends) == 1:
                high = bounds.high
        found.update(range(low, high + 1, int(steps[0]) if steps else 1))
    return frozenset(found)


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
