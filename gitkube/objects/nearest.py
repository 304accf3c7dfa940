"""The word that was probably meant by one that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LIKENESS = 0.6
"""How alike two words must be (of 1.0) for one to be suggested for the other."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate most like a word, or "" when none is like it. Case counts for little."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    if word.lower() in by_lower:
        return by_lower[word.lower()]
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_LIKENESS)
    return by_lower[close[0]] if close else ""
