"""Ranges of keys, as etcd writes them down.

A range is `key` and `end`: from `key` up to but without `end`. Without an `end` it is the single key; with
the end b"\\0" it has no upper bound, so that key b"\\0" and end b"\\0" is everything (keys are never empty).
An end at or before the key is a range without keys, not an error.
"""

from __future__ import annotations

NO_END = b"\x00"
"""As `end` of a range: no upper bound."""


def covers(key: bytes, end: bytes | None, candidate: bytes) -> bool:
    """Whether `candidate` is in the range."""
    if not end:
        return candidate == key
    return key <= candidate and (end == NO_END or candidate < end)


def prefix_of(key: bytes, end: bytes | None) -> bytes | None:
    """The prefix that all keys of the range share and no other key has, or None: not such a range."""
    if not end:
        return None
    if end == NO_END:
        return b"" if key == NO_END else None
    # The end of a prefix is the prefix with its last byte counted up; trailing 0xff cannot be counted up.
    trimmed = key.rstrip(b"\xff")
    if trimmed and end == trimmed[:-1] + bytes([trimmed[-1] + 1]):
        return key
    return None
