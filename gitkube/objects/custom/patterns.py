"""Regular expressions of schemas, matched in linear time.

A pattern in a definition is written by somebody else and run on every object, so it must not be able to stand
still the server: `(a+)+$` takes Python's engine longer than the age of the universe. RE2 keeps no stack of
attempts and takes time in proportion to the text, as the Go engine that Kubernetes uses, and has that one's
syntax: no look-around and no back references.
"""

from __future__ import annotations

from functools import lru_cache

import re2

MAX_MEMORY_BYTES = 1024 * 1024
"""Of a compiled pattern and its automaton: what `(a{1000}){1000}` would need is refused."""
MAX_PATTERN = 16 * 1024
"""Characters of a pattern."""


class PatternError(ValueError):
    """The text is no regular expression, or too large a one."""


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_compiled",)

    def __init__(self, text: str) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MAX_MEMORY_BYTES
        self._compiled = re2.compile(text, options)

    def is_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        try:
            return self._compiled.search(text) is not None
        except UnicodeError:
            return False  # half a character, which no pattern means


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Pattern:
    """The pattern that a text means.

    Raises:
        PatternError: none, or one that would be too large.
    """
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a pattern may have {MAX_PATTERN} characters, this has {len(text)}")
    try:
        return Pattern(text)
    except (re2.error, UnicodeError) as error:
        raise PatternError(f"error parsing regexp: {_text_of(error)}: `{text}`") from error


def _text_of(error: Exception) -> str:
    said = error.args[0] if error.args else "invalid"
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
