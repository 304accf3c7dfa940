"""Which keys of the store are objects' own."""

from __future__ import annotations

from gitkube.api.keys import RING_KEY, Place, parse_key


def test_a_key_names_an_objects_place() -> None:
    assert parse_key(b"/registry/core/nodes/ant") == Place("", "nodes", "", "ant")
    assert parse_key(b"/registry/apps/deployments/shop/web") == Place("apps", "deployments", "shop", "web")


def test_the_ring_of_keys_that_seal_secrets_is_no_object() -> None:
    assert parse_key(RING_KEY) is None
