"""A snapshot that is written while a member works leaves it room."""

from __future__ import annotations

from collections.abc import Iterator

from gitkube.store.upkeep import MAX_REST_S, RESTS, with_rests


class Member:
    """Applies entries while parts are taken, and notes how long it was left alone."""

    def __init__(self, *, works: bool, part_took_s: float) -> None:
        self.now = 0.0
        self.applied = 0
        self.rests: list[float] = []
        self._works = works
        self._part_took_s = part_took_s

    def take(self, parts: list[str]) -> list[str]:
        def slow() -> Iterator[str]:
            for part in parts:
                self.now += self._part_took_s
                self.applied += self._works
                yield part

        return list(
            with_rests(
                slow(),
                progress=lambda: self.applied,
                monotonic=lambda: self.now,
                rest=self.rests.append,
            )
        )


def test_each_part_is_followed_by_a_rest_in_proportion() -> None:
    member = Member(works=True, part_took_s=0.002)
    assert member.take(["a", "b", "c"]) == ["a", "b", "c"]
    assert [round(rest, 9) for rest in member.rests] == [0.002 * RESTS] * 3


def test_a_rest_after_a_part_that_waited_for_the_disk_is_short() -> None:
    member = Member(works=True, part_took_s=5.0)
    member.take(["a", "b"])
    assert member.rests == [MAX_REST_S] * 2


def test_nobody_rests_while_there_is_nothing_else_to_do() -> None:
    member = Member(works=False, part_took_s=0.002)
    assert member.take(["a", "b"]) == ["a", "b"]
    assert member.rests == []
