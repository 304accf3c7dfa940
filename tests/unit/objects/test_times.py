"""Times in the one form that is stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.clock import parse_rfc3339
from gitkube.objects.kinds import EVENT, LEASE
from gitkube.objects.normalise import normalise
from gitkube.objects.times import canonical_time


@pytest.mark.parametrize(
    ("text", "time", "micro_time"),
    [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000000Z"),
        ("2026-01-31T09:30:00+02:00", "2026-01-31T07:30:00Z", "2026-01-31T07:30:00.000000Z"),
        ("2026-01-31T09:30:00.5Z", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.500000Z"),
        ("2026-01-31T09:30:00.999999999Z", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.999999Z"),
        ("2026-01-31T09:30:00.123456-01:30", "2026-01-31T11:00:00Z", "2026-01-31T11:00:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_a_moment_has_one_text(text: str, time: str, micro_time: str) -> None:
    assert canonical_time(text, is_micro=False) == time
    assert canonical_time(text, is_micro=True) == micro_time


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-01-31", "2026-01-31T09:30:00", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_stays_for_validation_to_name(text: str) -> None:
    assert canonical_time(text, is_micro=False) == text
    assert canonical_time(text, is_micro=True) == text


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_the_text_of_a_text_is_itself(moment: object, offset_minutes: int) -> None:
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{str(moment).replace(' ', 'T')}{sign}{hours:02}:{minutes:02}"
    for is_micro in (False, True):
        once = canonical_time(text, is_micro=is_micro)
        assert canonical_time(once, is_micro=is_micro) == once
    if str(moment).startswith("2"):
        assert parse_rfc3339(once) == parse_rfc3339(text)


def test_each_field_is_written_with_its_own_precision() -> None:
    lease = {"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-31T09:30:00+02:00"}}
    assert normalise(LEASE, lease)["spec"]["renewTime"] == "2026-01-31T07:30:00.000000Z"
    event = {"firstTimestamp": "2026-01-31T09:30:00.5Z", "eventTime": "2026-01-31T09:30:00.5Z"}
    normal = normalise(EVENT, event)
    assert normal["firstTimestamp"] == "2026-01-31T09:30:00Z"
    assert normal["eventTime"] == "2026-01-31T09:30:00.500000Z"
