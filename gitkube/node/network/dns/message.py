"""DNS messages (RFC 1035, section 4), the part that a name server for pods needs. No IO.

Reading is strict where a wrong guess could loop or read past the end (section 4.1.4: a compression pointer
must point backwards), and lenient with what does not concern us: other sections are skipped unread, but an
OPT record (RFC 6891) tells how large an answer may be. Writing compresses names, and keeps whole records:
what does not fit is left out with the TC bit set, and the asker comes again over TCP.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Union

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63
MAX_UDP_BYTES = 512
"""What an asker without OPT takes."""
MAX_EDNS_BYTES = 1232
"""The most that we send by UDP: fits any path unfragmented (DNS flag day 2020)."""
MAX_TCP_BYTES = 65535
MAX_ANSWERS_READ = 128
"""Of another server's response; more addresses than this help nobody."""

_HEADER = struct.Struct("!HHHHHH")
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080


class MessageError(ValueError):
    """Bytes that are no DNS message."""


@dataclass(frozen=True)
class Query:
    """A question as it was asked."""

    id: int
    opcode: int
    recursion_desired: bool
    name: str
    """As written by the asker, without the final dot; escapes as in RFC 1035, 5.1."""
    type: int
    dns_class: int
    udp_bytes: int
    """The largest answer that the asker takes by UDP."""
    has_opt: bool


@dataclass(frozen=True)
class Srv:
    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True)
class Soa:
    primary: str
    mailbox: str
    serial: int
    refresh_s: int
    retry_s: int
    expire_s: int
    minimum_s: int


RecordData = Union[ipaddress.IPv4Address, ipaddress.IPv6Address, str, Srv, Soa]
"""By type: A, AAAA: an address; CNAME, PTR, NS: a name; TXT: a text; SRV, SOA: their fields."""


@dataclass(frozen=True)
class Record:
    name: str
    type: int
    ttl_s: int
    data: RecordData


@dataclass(frozen=True)
class Answer:
    code: int
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    is_authoritative: bool = True


# ---------------------------------------------------------------- reading


def parse_query(data: bytes) -> Query:
    """The question in a message.

    Raises:
        MessageError: it is none, or has not exactly one question.
    """
    if len(data) < _HEADER.size:
        raise MessageError("shorter than a header")
    identifier, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & _QR:
        raise MessageError("a response, not a query")
    if questions != 1:
        raise MessageError(f"{questions} questions in one message")
    name, at = read_name(data, _HEADER.size)
    if at + 4 > len(data):
        raise MessageError("the question ends early")
    kind, dns_class = struct.unpack_from("!HH", data, at)
    at += 4
    udp_bytes, has_opt = MAX_UDP_BYTES, False
    for _ in range(min(answers + authorities + additionals, 64)):
        _, at = read_name(data, at)
        if at + 10 > len(data):
            raise MessageError("a record ends early")
        record_type, record_class, _, length = struct.unpack_from("!HHIH", data, at)
        at += 10 + length
        if at > len(data):
            raise MessageError("a record ends early")
        if record_type == OPT:
            has_opt = True
            udp_bytes = max(MAX_UDP_BYTES, min(record_class, MAX_EDNS_BYTES))
    return Query(
        id=identifier,
        opcode=(flags >> 11) & 15,
        recursion_desired=bool(flags & _RD),
        name=name,
        type=kind,
        dns_class=dns_class,
        udp_bytes=udp_bytes,
        has_opt=has_opt,
    )


def read_answers(data: bytes) -> list[Record]:
    """The aliases and addresses in another server's response; all else in it is passed over.

    Raises:
        MessageError: it is not a well-formed response.
    """
    if len(data) < _HEADER.size:
        raise MessageError("shorter than a header")
    _, _, questions, answers, _, _ = _HEADER.unpack_from(data)
    at = _HEADER.size
    for _ in range(questions):
        _, at = read_name(data, at)
        at += 4
    found = []
    for _ in range(min(answers, MAX_ANSWERS_READ)):
        name, at = read_name(data, at)
        if at + 10 > len(data):
            raise MessageError("a record ends early")
        kind, _, ttl_s, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        content = data[at : at + length]
        if len(content) < length:
            raise MessageError("a record ends early")
        if kind == A and length == 4:
            found.append(Record(name, A, ttl_s, ipaddress.IPv4Address(content)))
        elif kind == AAAA and length == 16:
            found.append(Record(name, AAAA, ttl_s, ipaddress.IPv6Address(content)))
        elif kind == CNAME:
            found.append(Record(name, CNAME, ttl_s, read_name(data, at)[0]))
        at += length
    return found


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """The name that begins at `at`, and where what follows it begins.

    Raises:
        MessageError: it runs out of the message, is too long, or points forwards.
    """
    labels: list[str] = []
    after = -1
    total = 0
    floor = at
    while True:
        if at >= len(data):
            raise MessageError("a name ends early")
        length = data[at]
        if length >= 0xC0:
            if at + 2 > len(data):
                raise MessageError("a name ends early")
            target = (length & 0x3F) << 8 | data[at + 1]
            if after < 0:
                after = at + 2
            if target >= floor:
                raise MessageError("a name points forwards")
            at = floor = target
            continue
        if length > MAX_LABEL_BYTES:
            raise MessageError("a label of an unknown kind")
        at += 1
        if length == 0:
            return ".".join(labels), after if after >= 0 else at
        if at + length > len(data):
            raise MessageError("a name ends early")
        total += length + 1
        if total >= MAX_NAME_BYTES:
            raise MessageError(f"a name longer than {MAX_NAME_BYTES} bytes")
        labels.append(_escape(data[at : at + length]))
        at += length


def _escape(label: bytes) -> str:
    return "".join(
        chr(byte) if 33 <= byte <= 126 and byte not in b".\\" else f"\\{byte:03d}" for byte in label
    )


def split_name(name: str) -> list[bytes]:
    """The labels of a name in text form.

    Raises:
        MessageError: a label is empty or too long, or the name is.
    """
    if name in ("", "."):
        return []
    labels: list[bytes] = []
    current = bytearray()
    position = 0
    text = name[:-1] if name.endswith(".") and not name.endswith("\\.") else name
    while position <= len(text):
        if position == len(text) or text[position] == ".":
            if not 1 <= len(current) <= MAX_LABEL_BYTES:
                raise MessageError(f"a label of {len(current)} bytes in {name!r}")
            labels.append(bytes(current))
            current.clear()
            position += 1
        elif text[position] == "\\":
            digits = text[position + 1 : position + 4]
            if len(digits) != 3 or not digits.isascii() or not digits.isdigit() or int(digits) > 255:
                raise MessageError(f"a wrong escape in {name!r}")
            current.append(int(digits))
            position += 4
        else:
            character = ord(text[position])
            if character > 126:
                raise MessageError(f"a character that is not ASCII in {name!r}")
            current.append(character)
            position += 1
    if sum(len(label) + 1 for label in labels) >= MAX_NAME_BYTES:
        raise MessageError(f"a name longer than {MAX_NAME_BYTES} bytes")
    return labels


# ---------------------------------------------------------------- writing


def encode_query(identifier: int, name: str, kind: int, *, udp_bytes: int = 0) -> bytes:
    """A question, for tests and clients; with `udp_bytes` it carries an OPT record."""
    writer = _Writer()
    opt = bytes([0]) + struct.pack("!HHIH", OPT, udp_bytes, 0, 0) if udp_bytes else b""
    writer.put(_HEADER.pack(identifier, _RD, 1, 0, 0, 1 if opt else 0))
    writer.put_name(name)
    writer.put(struct.pack("!HH", kind, IN) + opt)
    return bytes(writer.data)


def encode_response(query: Query, answer: Answer, limit_bytes: int) -> bytes:
    """The answer to a query in at most `limit_bytes`.

    What does not fit is left out: of the answer and authority sections with TC set, of the additional
    section silently (RFC 2181, section 9).
    """
    writer = _Writer()
    writer.put(bytes(_HEADER.size))
    writer.put_name(query.name)
    writer.put(struct.pack("!HH", query.type, query.dns_class))
    opt = bytes([0]) + struct.pack("!HHIH", OPT, MAX_EDNS_BYTES, 0, 0) if query.has_opt else b""
    room = limit_bytes - len(opt)
    counts = [0, 0, 0]
    is_cut = False
    for section, records in enumerate((answer.answers, answer.authority, answer.additional)):
        for record in records:
            if is_cut or not writer.put_record(record, room):
                is_cut = is_cut or section < 2
                break
            counts[section] += 1
    writer.put(opt)
    flags = _QR | query.opcode << 11 | _RA | answer.code
    flags |= _AA if answer.is_authoritative else 0
    flags |= _TC if is_cut else 0
    flags |= _RD if query.recursion_desired else 0
    header = _HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
    writer.data[: _HEADER.size] = header
    return bytes(writer.data)


def format_error(data: bytes) -> bytes | None:
    """What to say to bytes that are no query: FORMERR with their id, or nothing when they carry none."""
    if len(data) < _HEADER.size or data[2] & 0x80:
        return None
    return _HEADER.pack(struct.unpack_from("!H", data)[0], _QR | FORMERR, 0, 0, 0, 0)


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()
        self._seen: dict[bytes, int] = {}

    def put(self, data: bytes) -> None:
        self.data += data

    def put_name(self, name: str) -> None:
        labels = split_name(name)
        for index in range(len(labels)):
            suffix = b"".join(bytes([len(label)]) + label for label in labels[index:])
            known = self._seen.get(suffix)
            if known is not None:
                self.data += struct.pack("!H", 0xC000 | known)
                return
            if len(self.data) < 0x3FFF:
                self._seen[suffix] = len(self.data)
            self.data += bytes([len(labels[index])]) + labels[index]
        self.data.append(0)

    def put_record(self, record: Record, limit_bytes: int) -> bool:
        """Append a record, or nothing of it when it does not fit."""
        start, seen = len(self.data), dict(self._seen)
        self.put_name(record.name)
        self.put(struct.pack("!HHIH", record.type, IN, record.ttl_s, 0))
        length_at = len(self.data) - 2
        self._put_data(record)
        self.data[length_at : length_at + 2] = struct.pack("!H", len(self.data) - length_at - 2)
        if len(self.data) <= limit_bytes:
            return True
        del self.data[start:]
        self._seen = seen
        return False

    def _put_data(self, record: Record) -> None:
        data = record.data
        if isinstance(data, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
            self.put(data.packed)
        elif isinstance(data, Srv):
            # A target is never compressed (RFC 2782).
            self.put(struct.pack("!HHH", data.priority, data.weight, data.port))
            self.put(b"".join(bytes([len(label)]) + label for label in split_name(data.target)) + b"\0")
        elif isinstance(data, Soa):
            self.put_name(data.primary)
            self.put_name(data.mailbox)
            times = (data.serial, data.refresh_s, data.retry_s, data.expire_s, data.minimum_s)
            self.put(struct.pack("!5I", *times))
        elif record.type == TXT:
            text = data.encode()[:255]
            self.put(bytes([len(text)]) + text)
        else:
            self.put_name(data)
