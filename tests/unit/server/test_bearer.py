"""The Authorization header."""

from __future__ import annotations

import pytest

from gitkube.server.identity import bearer_token

HEADERS = [
    ("Bearer abc", "abc"), ("bearer abc", "abc"), ("BEARER abc", "abc"), ("Bearer abc x", "abc"),
    ("  Bearer abc ", "abc"), ("Bearer", ""), ("Bearer ", ""), ("Bearer  abc", ""), ("Token abc", ""),
    ("Basic YTpi", ""), ("abc", ""), ("", ""), ("Bearerabc", ""),
]  # fmt: skip


@pytest.mark.parametrize(("header", "token"), HEADERS)
def test_only_the_word_after_the_scheme_is_a_token(header: str, token: str) -> None:
    assert bearer_token(header) == token
