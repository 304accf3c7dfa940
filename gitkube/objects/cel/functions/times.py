"""Timestamps and durations, to the microsecond."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method

_UNITS_US = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000, "us": 1, "µs": 1, "ns": 0.001}
_DURATION = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:h|ms|m|s|us|µs|ns))+|[+-]?0")
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s|us|µs|ns)")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})")
_MAX_TEXT = 64


@function("timestamp", str, result="timestamp")
def parse_timestamp(budget: Budget, text: str) -> datetime:
    match = _TIMESTAMP.fullmatch(text) if len(text) <= _MAX_TEXT else None
    try:
        if match is None:
            raise ValueError(text)
        fraction = (match[2] or ".0")[1:7].ljust(6, "0")
        zone = "+00:00" if match[3] == "Z" else match[3]
        return datetime.fromisoformat(f"{match[1]}.{fraction}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        shown = text[:_MAX_TEXT]
        why = f'parsing time "{shown}" as "2006-01-02T15:04:05Z07:00": cannot parse "{shown}"'
        raise CelEvaluationError(why) from error


@function("timestamp", int, result="timestamp")
def _timestamp_of_seconds(budget: Budget, seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise CelEvaluationError("timestamp overflow") from error


@function("duration", str, result="duration")
def parse_duration(budget: Budget, text: str) -> timedelta:
    if len(text) > _MAX_TEXT or not _DURATION.fullmatch(text):
        raise CelEvaluationError(f'time: invalid duration "{text[:_MAX_TEXT]}"')
    total_us = sum(float(number) * _UNITS_US[unit] for number, unit in _PART.findall(text))
    try:
        return timedelta(microseconds=-total_us if text.startswith("-") else total_us)
    except OverflowError as error:
        raise CelEvaluationError(f'time: invalid duration "{text}"') from error


@function("timestamp", datetime, result="timestamp")
@function("duration", timedelta, result="duration")
def _same(budget: Budget, value: Any) -> Any:
    return value


@function("int", datetime, result="int")
def _seconds(budget: Budget, value: datetime) -> int:
    return int(value.timestamp())


@function("string", datetime, result="string")
def _text(budget: Budget, value: datetime) -> str:
    return timestamp_text(value)


@function("string", timedelta, result="string")
def _duration_string(budget: Budget, value: timedelta) -> str:
    return duration_text(value)


def timestamp_text(value: datetime) -> str:
    fraction = f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def duration_text(value: timedelta) -> str:
    us = round(value / timedelta(microseconds=1))
    sign, us = ("-", -us) if us < 0 else ("", us)
    whole, fraction = divmod(us, 1_000_000)
    tail = f".{fraction:06}".rstrip("0") if fraction else ""
    return f"{sign}{whole}{tail}s"


def _zone(name: str) -> tzinfo:
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        if len(name) > _MAX_TEXT:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise CelEvaluationError(f"unknown time zone {name[:_MAX_TEXT]}") from error


def _part_of_time(name: str, read: Callable[[datetime], int]) -> None:
    @method(name, datetime, result="int")
    def in_utc(budget: Budget, value: datetime) -> int:
        return read(value.astimezone(UTC))

    @method(name, datetime, str, result="int")
    def in_zone(budget: Budget, value: datetime, zone: str) -> int:
        try:
            return read(value.astimezone(_zone(zone)))
        except (ValueError, OverflowError) as error:
            raise CelEvaluationError(f"unknown time zone {zone[:_MAX_TEXT]}") from error


_part_of_time("getFullYear", lambda value: value.year)
_part_of_time("getMonth", lambda value: value.month - 1)
_part_of_time("getDate", lambda value: value.day)
_part_of_time("getDayOfMonth", lambda value: value.day - 1)
_part_of_time("getDayOfWeek", lambda value: value.isoweekday() % 7)
_part_of_time("getDayOfYear", lambda value: value.timetuple().tm_yday - 1)
_part_of_time("getHours", lambda value: value.hour)
_part_of_time("getMinutes", lambda value: value.minute)
_part_of_time("getSeconds", lambda value: value.second)
_part_of_time("getMilliseconds", lambda value: value.microsecond // 1000)


def _part_of_duration(name: str, unit: timedelta) -> None:
    @method(name, timedelta, result="int")
    def whole_units(budget: Budget, value: timedelta) -> int:
        return abs(value) // unit * (-1 if value < timedelta(0) else 1)


_part_of_duration("getHours", timedelta(hours=1))
_part_of_duration("getMinutes", timedelta(minutes=1))
_part_of_duration("getSeconds", timedelta(seconds=1))
_part_of_duration("getMilliseconds", timedelta(milliseconds=1))
