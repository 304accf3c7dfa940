"""The arithmetic of rollouts in tables, and its walls over random rollouts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitkube.control import revisions
from gitkube.control.rollout import Fences, Part, fences, new_replicas, old_replicas, scaled


def part(name: str, replicas: int, available: int | None = None, **fields: Any) -> Part:
    return Part(
        name, replicas, replicas if available is None else available, fields.pop("created_at", 0.0), **fields
    )


@pytest.mark.parametrize(
    ("strategy", "replicas", "expected"),
    [
        (None, 3, (1, 0)),
        (None, 1, (1, 0)),
        (None, 10, (3, 2)),
        ({"maxSurge": 0, "maxUnavailable": 0}, 3, (0, 1)),
        ({"maxSurge": "0%", "maxUnavailable": "10%"}, 3, (0, 1)),
        ({"maxSurge": "30%", "maxUnavailable": "30%"}, 10, (3, 3)),
        ({"maxSurge": "31%", "maxUnavailable": "39%"}, 10, (4, 3)),
        ({"maxSurge": 2, "maxUnavailable": 5}, 3, (2, 3)),
        ({"maxSurge": "100%", "maxUnavailable": 0}, 4, (4, 0)),
    ],
)
def test_percentages_become_whole_pods(
    strategy: dict[str, Any] | None, replicas: int, expected: tuple[int, int]
) -> None:
    limits = fences(strategy, replicas)
    assert (limits.max_surge, limits.max_unavailable) == expected


@pytest.mark.parametrize(
    ("desired", "surge", "old", "new", "expected"),
    [
        (10, 0, 10, 0, 0),
        (10, 2, 10, 0, 2),
        (10, 2, 5, 0, 7),
        (10, 2, 10, 2, 2),
        (2, 8, 10, 0, 0),
        (10, 3, 0, 4, 10),
        (3, 1, 0, 5, 3),
    ],
)
def test_how_far_the_new_one_comes(desired: int, surge: int, old: int, new: int, expected: int) -> None:
    assert new_replicas(part("new", new), [part("old", old)], desired, surge) == expected


@pytest.mark.parametrize(
    ("desired", "unavailable", "new", "old", "expected"),
    [
        # Nothing new is available yet: only what may be unavailable goes.
        (10, 0, part("new", 0, 0), [part("old", 10)], {}),
        (10, 2, part("new", 0, 0), [part("old", 10)], {"old": 8}),
        (10, 2, part("new", 2, 0), [part("old", 10)], {"old": 8}),
        # As many old ones go as new ones have come.
        (10, 0, part("new", 5, 5), [part("old", 10)], {"old": 5}),
        (10, 0, part("new", 5, 3), [part("old", 10)], {"old": 7}),
        # Unhealthy old ones go first, also when no healthy one may.
        (10, 0, part("new", 3, 3), [part("old", 10, 6)], {"old": 7}),
        # New ones that are not available hold even these: a bad rollout must not eat the old pods.
        (10, 0, part("new", 3, 0), [part("old", 10, 6)], {}),
        # The oldest shrinks first.
        (
            10,
            0,
            part("new", 4, 4),
            [part("older", 3, created_at=1), part("old", 7, created_at=2)],
            {"older": 0, "old": 6},
        ),
        (10, 0, part("new", 10, 10), [part("old", 0)], {}),
    ],
)
def test_how_far_the_old_ones_go(
    desired: int, unavailable: int, new: Part, old: list[Part], expected: dict[str, int]
) -> None:
    assert old_replicas(new, old, desired, unavailable) == expected


@pytest.mark.parametrize(
    ("new", "old", "desired", "surge", "expected"),
    [
        # Nothing is rolling out: the only one takes all.
        (part("new", 10), [], 12, 0, {"new": 12}),
        (part("new", 10), [part("old", 0)], 5, 0, {"new": 5}),
        (None, [part("old", 10)], 10, 0, {}),
        # In the middle: in proportion, the leftover to the largest.
        (part("new", 5, created_at=2), [part("old", 5, created_at=1)], 12, 0, {"new": 6, "old": 6}),
        (part("new", 5, created_at=2), [part("old", 5, created_at=1)], 8, 0, {"new": 4, "old": 4}),
        (
            part("new", 3, 0, created_at=2, max_replicas=12, desired_replicas=10),
            [part("old", 8, created_at=1, max_replicas=12, desired_replicas=10)],
            15,
            2,
            {"new": 4, "old": 13},
        ),
        # To zero.
        (part("new", 5), [part("old", 5)], 0, 2, {"new": 0, "old": 0}),
        # Saturated: what is old goes.
        (part("new", 10, desired_replicas=10), [part("old", 2)], 10, 0, {"old": 0}),
    ],
)
def test_scaling_in_the_middle_is_shared(
    new: Part | None, old: list[Part], desired: int, surge: int, expected: dict[str, int]
) -> None:
    sizes = scaled(new, old, desired, Fences(surge, 0), is_rolling=True, status_replicas=10)
    assert sizes == expected


@settings(max_examples=200, deadline=None)
@given(
    desired=st.integers(1, 20),
    surge=st.integers(0, 6),
    unavailable=st.integers(0, 6),
    data=st.data(),
)
def test_a_rollout_stays_between_its_walls_and_arrives(
    desired: int, surge: int, unavailable: int, data: st.DataObject
) -> None:
    limits = fences({"maxSurge": surge, "maxUnavailable": unavailable}, desired)
    new, olds = part("new", 0), [part("old", desired)]
    for step in range(400):
        wanted = new_replicas(new, olds, desired, limits.max_surge)
        if wanted != new.replicas:
            new = Part("new", wanted, new.available, 1.0)
        else:
            sizes = old_replicas(new, olds, desired, limits.max_unavailable)
            olds = [
                Part(one.name, size, min(one.available, size), 0.0)
                for one in olds
                for size in [sizes.get(one.name, one.replicas)]
            ]
        total = new.replicas + sum(one.replicas for one in olds)
        available = new.available + sum(one.available for one in olds)
        assert total <= desired + limits.max_surge
        assert available >= desired - limits.max_unavailable
        if new.available < new.replicas and (step > 50 or data.draw(st.booleans())):
            new = Part("new", new.replicas, new.available + 1, 1.0)
        if new.available == desired and not any(one.replicas for one in olds):
            return
    raise AssertionError("the rollout did not arrive")


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    desired=st.integers(0, 60),
    surge=st.integers(0, 10),
)
@example(sizes=[1, 1, 1, 1], desired=1, surge=1)
def test_scaling_never_exceeds_what_is_allowed(sizes: list[int], desired: int, surge: int) -> None:
    parts = [part(f"rs-{number}", size, created_at=number) for number, size in enumerate(sizes)]
    after = {one.name: one.replicas for one in parts}
    before = sum(after.values())
    after |= scaled(parts[0], parts[1:], desired, Fences(surge, 0), is_rolling=True, status_replicas=before)
    assert all(size >= 0 for size in after.values())
    active = sum(size > 0 for size in sizes)
    if active > 1:
        assert sum(after.values()) == (desired + surge if desired else 0)
    else:
        assert sum(after.values()) == desired


def test_a_hash_depends_on_the_template_and_its_salt_only() -> None:
    template = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": []}}
    turned = {"spec": {"containers": []}, "metadata": {"labels": {"b": "2", "a": "1"}}}
    assert revisions.template_hash(template, 0) == revisions.template_hash(turned, 0)
    assert revisions.template_hash(template, 0) != revisions.template_hash(template, 1)
    labelled = {
        "metadata": {"labels": {"a": "1", "b": "2", "pod-template-hash": "x"}},
        "spec": template["spec"],
    }
    assert revisions.is_same_template(template, labelled)
