"""From text to tokens: CEL's literals, names and signs, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gitkube.objects.cel.errors import CelSyntaxError
from gitkube.objects.cel.values import MAX_INT, MAX_UINT, Uint

_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r ]+|//[^\n]*)
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>0x[0-9a-fA-F]+[uU]?|[0-9]+[uU]?)
    |(?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"{3}|'{3}|\"|'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_CODE_LENGTHS = {"x": 2, "X": 2, "u": 4, "U": 8}
_MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    """`name`, `quoted`, `literal`, `end`, or the sign itself."""
    text: str
    at: int
    """Characters before it."""
    value: Any = None
    """Of a literal."""


def tokenize(source: str) -> list[Token]:
    """The tokens of an expression, and an `end`.

    Raises:
        CelSyntaxError: something in it is no token.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            why = f"Syntax error: token recognition error at: '{source[position]}'"
            raise CelSyntaxError(why, source, position)
        group, text, end = match.lastgroup, match.group(), match.end()
        if group == "string":
            value, end = _string(source, position, text)
            tokens.append(Token("literal", source[position:end], position, value))
        elif group == "int":
            tokens.append(Token("literal", text, position, _integer(text, source, position)))
        elif group == "float":
            tokens.append(Token("literal", text, position, float(text)))
        elif group == "quoted":
            tokens.append(Token("quoted", text[1:-1], position))
        elif group == "name":
            tokens.append(_name(text, position))
        elif group == "sign":
            tokens.append(Token(text, text, position))
        position = end
    tokens.append(Token("end", "<EOF>", len(source)))
    return tokens


def _name(text: str, position: int) -> Token:
    match text:
        case "true" | "false":
            return Token("literal", text, position, text == "true")
        case "null":
            return Token("literal", text, position, None)
        case "in":
            return Token("in", text, position)
    return Token("name", text, position)


def _integer(text: str, source: str, position: int) -> int:
    is_unsigned = text[-1] in "uU"
    digits = text.rstrip("uU")
    # Longer ones are too large in any case, and Python's conversion of them is slow.
    number = int(digits, 16 if digits.startswith("0x") else 10) if len(digits) <= 64 else MAX_UINT + 1
    # One more than the largest is -MAX-1 when a minus stands before it, which the parser knows.
    if number > (MAX_UINT if is_unsigned else MAX_INT + 1):
        kind = "uint" if is_unsigned else "int"
        raise CelSyntaxError(f"Syntax error: invalid {kind} literal", source, position)
    return Uint(number) if is_unsigned else number


def _string(source: str, start: int, opening: str) -> tuple[str | bytes, int]:
    quote = opening.lstrip("rRbB")
    prefix = opening[: len(opening) - len(quote)].lower()
    is_bytes, is_raw = "b" in prefix, "r" in prefix
    parts: list[str | bytes] = []
    position = start + len(opening)
    while True:
        if source.startswith(quote, position):
            break
        if position >= len(source) or (len(quote) == 1 and source[position] in "\n\r"):
            shown = source[start:position]
            why = f"Syntax error: token recognition error at: '{shown}'"
            raise CelSyntaxError(why, source, start)
        letter = source[position]
        if letter != "\\" or is_raw:
            parts.append(letter)
            position += 1
            continue
        piece, position = _escape(source, position, is_bytes)
        parts.append(piece)
    end = position + len(quote)
    if is_bytes:
        return b"".join(each.encode() if isinstance(each, str) else each for each in parts), end
    return "".join(each for each in parts if isinstance(each, str)), end


def _escape(source: str, position: int, is_bytes: bool) -> tuple[str | bytes, int]:
    letter = source[position + 1 : position + 2]
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], position + 2
    if letter in _CODE_LENGTHS and letter:
        digits = source[position + 2 : position + 2 + _CODE_LENGTHS[letter]]
        base, end = 16, position + 2 + _CODE_LENGTHS[letter]
        is_complete = len(digits) == _CODE_LENGTHS[letter]
    else:
        digits, base, end = source[position + 1 : position + 4], 8, position + 4
        is_complete = len(digits) == 3
    try:
        code = int(digits, base) if is_complete and digits.isalnum() else -1
    except ValueError:
        code = -1
    is_byte = is_bytes and letter not in ("u", "U")
    if not 0 <= code <= (0xFF if is_byte else _MAX_CODE_POINT) or 0xD800 <= code <= 0xDFFF:
        raise CelSyntaxError("Syntax error: invalid escape sequence", source, position)
    return (bytes([code]) if is_byte else chr(code)), end
