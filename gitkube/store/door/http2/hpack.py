"""HPACK (RFC 7541): how header fields travel in HTTP/2.

A decoder keeps a table of fields seen before, to which later blocks refer; it must follow every block, or it
misreads all that come after. The encoder needs none of that: it writes fields literally.

A client that repeats a request sends the same bytes again, all of them references. So a block that leaves the
table as it was is remembered with its meaning, until another block changes the table.

Invariant: the table is that of the client's encoder; after a `HeaderError` it may not be, and the connection
must end (RFC 9113, section 4.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

Field = tuple[bytes, bytes]

MAX_TABLE_BYTES = 4096
"""The default of SETTINGS_HEADER_TABLE_SIZE, which we leave as it is."""
MAX_FIELDS_BYTES = 16 * 1024
"""Of a decoded block: a small one can refer to a large field many times."""
_ENTRY_OVERHEAD_BYTES = 32  # section 4.1
_REMEMBERED_BLOCKS = 64


class HeaderError(Exception):
    """A block that cannot be decoded; a connection error of type COMPRESSION_ERROR."""


_STATIC_TEXT = """
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200
:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset
accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age
allow|authorization|cache-control|content-disposition|content-encoding|content-language
content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host
if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location
max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server
set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate
"""


def _static_table() -> tuple[Field, ...]:
    """Appendix A. An index counts from 1."""
    entries = [entry for line in _STATIC_TEXT.strip().splitlines() for entry in line.split("|")]
    pairs = (entry.partition(" ") for entry in entries)
    return tuple((name.encode(), value.encode()) for name, _, value in pairs)


STATIC_TABLE = _static_table()

_CODE_LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6,
    6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5,
    6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24,
    23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26,
    26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21,
    26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
    26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)  # fmt: skip
"""Appendix B: bits of the code of each symbol; the last is the end of a string. The code is canonical: codes
follow each other in the order of their lengths, then of the symbols."""


def huffman_codes() -> dict[tuple[int, int], int]:
    """(length in bits, code) -> symbol."""
    codes: dict[tuple[int, int], int] = {}
    code, length = 0, 0
    for symbol in sorted(range(len(_CODE_LENGTHS)), key=lambda symbol: (_CODE_LENGTHS[symbol], symbol)):
        code <<= _CODE_LENGTHS[symbol] - length
        length = _CODE_LENGTHS[symbol]
        codes[(length, code)] = symbol
        code += 1
    return codes


_HUFFMAN = huffman_codes()
_END_OF_STRING = 256
_MAX_PADDING_BITS = 7


def huffman_decoded(data: bytes) -> bytes:
    """Section 5.2.

    Raises:
        HeaderError: the padding is not what it must be, or the end of a string is within it.
    """
    decoded = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _HUFFMAN.get((length, code))
            if symbol is not None:
                if symbol == _END_OF_STRING:
                    raise HeaderError("a Huffman string contains its end")
                decoded.append(symbol)
                code = length = 0
    if length > _MAX_PADDING_BITS or code != (1 << length) - 1:
        raise HeaderError("a Huffman string is padded with something else than the start of its end")
    return bytes(decoded)


class HeaderDecoder:
    """See the module's text. One for each connection."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()
        self._table_bytes = 0
        self._limit_bytes = MAX_TABLE_BYTES
        self._has_changed = False
        self._remembered: dict[bytes, tuple[Field, ...]] = {}

    def decode(self, block: bytes) -> tuple[Field, ...]:
        """The fields of a whole block, in order.

        Raises:
            HeaderError: it is malformed, or too large when decoded.
        """
        found = self._remembered.get(block)
        if found is not None:
            return found
        self._has_changed = False
        try:
            fields = tuple(self._fields(block))
        except IndexError:
            raise HeaderError("a header block ends within a field") from None
        if self._has_changed or len(self._remembered) >= _REMEMBERED_BLOCKS:
            self._remembered.clear()
        if not self._has_changed:
            self._remembered[block] = fields
        return fields

    def _fields(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        at = size_bytes = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:  # an indexed field, section 6.1
                index, at = _integer(block, at, 7)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:  # a change of the table's size, section 6.3
                limit, at = _integer(block, at, 5)
                self._resize(limit, is_at_start=not fields)
                continue
            else:  # a literal, sections 6.2.1 to 6.2.3; the last two are not added to the table
                is_added = bool(first & 0x40)
                index, at = _integer(block, at, 6 if is_added else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if is_added:
                    self._add(field)
            size_bytes += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD_BYTES
            if size_bytes > MAX_FIELDS_BYTES:
                raise HeaderError(f"header fields of more than {MAX_FIELDS_BYTES} bytes")
            fields.append(field)
        return fields

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(STATIC_TABLE):
            return STATIC_TABLE[index - 1]
        if 0 < index <= len(STATIC_TABLE) + len(self._table):
            return self._table[index - len(STATIC_TABLE) - 1]
        raise HeaderError(f"a header block refers to entry {index}, which is not there")

    def _add(self, field: Field) -> None:
        self._has_changed = True
        self._table.appendleft(field)
        self._table_bytes += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD_BYTES
        self._evict()

    def _resize(self, limit: int, *, is_at_start: bool) -> None:
        if not is_at_start or limit > MAX_TABLE_BYTES:
            raise HeaderError(f"a header block sets the table's size to {limit} where it may not")
        self._has_changed = True
        self._limit_bytes = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._limit_bytes:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + _ENTRY_OVERHEAD_BYTES


def encoded(fields: Sequence[Field]) -> bytes:
    """A block of literals that are not added to the table, section 6.2.2."""
    block = bytearray()
    for name, value in fields:
        block += b"\x00" + _length(name) + name + _length(value) + value
    return bytes(block)


def _length(text: bytes) -> bytes:
    if len(text) < 0x7F:
        return bytes([len(text)])
    rest, encoded_length = len(text) - 0x7F, bytearray([0x7F])
    while rest >= 0x80:
        encoded_length.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded_length.append(rest)
    return bytes(encoded_length)


_MAX_INTEGER_SHIFT = 28


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """Section 5.1: the number, and where it ended."""
    mask = (1 << prefix_bits) - 1
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
        shift += 7
        if shift > _MAX_INTEGER_SHIFT:
            raise HeaderError("a header block has a number that is too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2: the string, and where it ended."""
    is_huffman = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise HeaderError("a header block ends within a string")
    text = block[at:end]
    return (huffman_decoded(text) if is_huffman else text), end
