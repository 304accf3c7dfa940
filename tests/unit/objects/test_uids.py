"""Identities of objects and requests."""

from __future__ import annotations

import random
import uuid

from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.uids import new_uid


@given(st.integers())
def test_a_uid_is_a_random_uuid_of_its_source_of_chance(seed: int) -> None:
    expected = uuid.UUID(int=random.Random(seed).getrandbits(128), version=4)
    assert new_uid(random.Random(seed)) == str(expected)
