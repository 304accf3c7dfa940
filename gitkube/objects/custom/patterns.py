"""Regular expressions of schemas, matched in linear time.

A pattern in a definition is written by somebody else and run on every object, so it must not be able to
stand still the server: `(a+)+$` takes Python's engine longer than the age of the universe. Rust's engine,
which comes with jsonschema-rs, keeps no stack of attempts and takes time in proportion to the text, as the Go
engine that Kubernetes uses does; like that one it has no look-around and no back references.
"""

from __future__ import annotations

import re
from functools import lru_cache

import jsonschema_rs

MAX_PROGRAM_BYTES = 4 * 1024 * 1024
"""Of a compiled pattern: what `(a{1000}){1000}` would need is refused."""
MAX_PATTERN = 16 * 1024
"""Characters of a pattern."""
MAX_REPEAT = 1000
"""As Go: more repetitions than that are refused."""
_REPEAT = re.compile(r"(?<!\\)\{(\d+)(?:,(\d*))?\}")
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\x0B\f\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_CLASS = re.compile(r"\[:([a-z]+):\]")
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)


class PatternError(ValueError):
    """The text is no regular expression, or too large a one."""


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_validator", "text")

    def __init__(self, text: str, validator: jsonschema_rs.Validator) -> None:
        self.text = text
        self._validator = validator

    def is_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        return bool(self._validator.is_valid(text))


@lru_cache(maxsize=1024)
def compile_pattern(text: str) -> Pattern:
    """The pattern that a text means.

    Raises:
        PatternError: none, or one that would be too large.
    """
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a pattern may have {MAX_PATTERN} characters, this has {len(text)}")
    for low, high in _REPEAT.findall(text):
        if int(high or low) > MAX_REPEAT:
            raise PatternError(f"error parsing regexp: invalid repeat count: `{{{low}}}`")
    translated = _QUOTED.sub(lambda found: re.escape(found.group(1)), text)
    translated = _CLASS.sub(lambda found: _CLASSES.get(found.group(1), found.group(0)), translated)
    options = jsonschema_rs.RegexOptions(size_limit=MAX_PROGRAM_BYTES, dfa_size_limit=MAX_PROGRAM_BYTES)
    try:
        validator = jsonschema_rs.validator_for({"pattern": translated}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise PatternError(f"error parsing regexp: `{text}` is no regular expression of RE2") from error
    return Pattern(text, validator)
