"""How much of the past a kind's ring of events keeps."""

from __future__ import annotations

import pytest

from gitkube.api.errors import StatusError
from gitkube.api.keys import Place
from gitkube.api.kind_cache import KindCache
from gitkube.api.settings import ApiSettings
from gitkube.api.watch_events import CacheEvent
from gitkube.objects.kinds import CONFIG_MAP

SETTINGS = ApiSettings(watch_ring_events=4, watch_ring_fresh_s=75.0, watch_ring_events_max=10)


def kept_after(times_s: list[float]) -> int:
    """How many of the events that came at these times can still be watched from."""
    cache = KindCache(CONFIG_MAP, SETTINGS)
    place = Place("", "configmaps", "default", "a")
    for revision, came_s in enumerate(times_s, start=1):
        cache.record(CacheEvent(place, {"metadata": {}}, None, revision, False, came_s))
    with pytest.raises(StatusError):
        cache.position_after(cache.oldest - 1)
    cache.position_after(cache.oldest)
    return len(times_s) - cache.oldest


def test_young_events_are_kept_beyond_the_usual_number() -> None:
    assert kept_after([float(number) for number in range(8)]) == 8


def test_but_not_without_bound() -> None:
    assert kept_after([0.0] * 30) == 10


def test_the_ring_shrinks_as_its_events_get_old() -> None:
    assert kept_after([0.0] * 8 + [100.0]) == 7
    assert kept_after([0.0] * 8 + [100.0] * 4) == 4
    assert kept_after([0.0] * 8 + [100.0] * 6) == 6


def test_a_quiet_kind_keeps_its_last_events_however_old() -> None:
    assert kept_after([0.0, 0.0, 0.0, 1000.0]) == 4
