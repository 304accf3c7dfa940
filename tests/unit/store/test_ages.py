"""How old revisions are."""

from __future__ import annotations

from gitkube.store.ages import RevisionAges
from gitkube.store.protocol import Revision


def test_a_revision_is_old_when_it_was_the_newest_long_enough_ago() -> None:
    ages = RevisionAges(keep_s=10.0)
    assert ages.old_at(0.0) == 0
    for second in range(0, 30, 5):
        ages.note(float(second), Revision(100 + second))
    assert [ages.old_at(now_s) for now_s in (25.0, 29.0)] == [115, 115]


def test_nothing_is_old_before_the_time_has_passed() -> None:
    ages = RevisionAges(keep_s=10.0)
    ages.note(0.0, Revision(7))
    assert ages.old_at(9.9) == 0
    assert ages.old_at(10.0) == 7


def test_what_is_noted_for_ever_takes_no_more_room_than_what_is_kept() -> None:
    ages = RevisionAges(keep_s=10.0)
    for second in range(1000):
        ages.note(float(second), Revision(second))
    assert len(ages._seen) <= 12
