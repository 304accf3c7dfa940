"""Which schedules are taken, and what is said of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.cron import schedule_error


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/5 * * * *", "0 0 1 1 0", "5,10-20/5 8-18 * * mon-fri", "0 12 ? * ?",
        "59 23 31 dec sat", "@hourly", "@yearly", "@midnight", "@every 1h30m", "10/15 * * * *",
    ],
)  # fmt: skip
def test_a_schedule_is_taken(schedule: str) -> None:
    assert schedule_error(schedule) == ""


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "empty"),
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("0 * * * * *", "found 6"),
        ("61 * * * *", "end of range (61) above maximum (59)"),
        ("0 0 0 * *", "beginning of range (0) below minimum (1)"),
        ("0 0 * * 7", "above maximum (6)"),
        ("20-10 * * * *", "beyond end of range"),
        ("*/0 * * * *", "should be a positive number"),
        ("1/2/3 * * * *", "too many slashes"),
        ("1-2-3 * * * *", "too many hyphens"),
        ("x * * * *", "failed to parse int"),
        ("@sometimes", "unrecognized descriptor"),
        ("@every soon", "failed to parse duration"),
    ],
)
def test_a_wrong_schedule_is_named(schedule: str, words: str) -> None:
    assert words in schedule_error(schedule)


@given(st.text(alphabet="0123456789*/-,? @aehmnorwy", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(schedule_error(text), str)
