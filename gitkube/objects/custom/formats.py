"""The `format` of a text in a schema: whether it is an e-mail address, a date, and so on.

Those that Kubernetes checks; a format of any other name is a remark and checks nothing.
Source: k8s.io/kube-openapi/pkg/validation/strfmt.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import date
from urllib.parse import urlsplit

from gitkube.objects import names
from gitkube.objects.validation.fitting import is_time

_UUID = r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?%s[0-9a-fA-F]{3}-?%s[0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
_ANY, _NARROW = "[0-9a-fA-F]", "[89abAB]"
_DURATION = re.compile(
    r"\s*[0-9]+(\.[0-9]+)?\s*(ns|us|µs|μs|ms|s|m|h|d|w|nanoseconds?|microseconds?|milliseconds?|seconds?"
    r"|sec|minutes?|min|hours?|hr|days?|weeks?|wk)\s*"
)
_GO_DURATION = re.compile(r"[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[-+]?0")
_HOSTNAME = re.compile(
    r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.?"
)
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+")
_MAX_HOSTNAME = 255
_MAX_TEXT = 64 * 1024


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _parses(read: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return check


def _is_uri(text: str) -> bool:
    """As Go's url.ParseRequestURI: absolute, or a path from the root; no spaces or control characters."""
    if any(character <= " " or character == "\x7f" for character in text):
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _is_base64(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_card(text: str) -> bool:
    """13 to 19 digits whose sum is right (Luhn)."""
    digits = [int(character) for character in text if character.isdecimal()]
    if not 13 <= len(digits) <= 19 or re.fullmatch(r"[0-9 -]+", text) is None:
        return False
    doubled = [
        digit if position % 2 == 0 else sum(divmod(2 * digit, 10))
        for position, digit in enumerate(digits[::-1])
    ]
    return sum(doubled) % 10 == 0


def _is_isbn10(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if re.fullmatch(r"[0-9]{9}[0-9X]", digits) is None:
        return False
    values = [10 if character == "X" else int(character) for character in digits]
    return sum((10 - position) * value for position, value in enumerate(values)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if re.fullmatch(r"[0-9]{13}", digits) is None:
        return False
    return (
        sum((3 if position % 2 else 1) * int(character) for position, character in enumerate(digits)) % 10
        == 0
    )


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date-time": is_time,
    "datetime": is_time,
    "date": lambda text: (
        re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None and _parses(date.fromisoformat)(text)
    ),
    "duration": lambda text: bool(_DURATION.fullmatch(text) or _GO_DURATION.fullmatch(text)),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda it: ipaddress.ip_network(it, strict=False))(text),
    "mac": _matches(
        r"([0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\2){4}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"
    ),
    "uri": _is_uri,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "hostname": lambda text: len(text) <= _MAX_HOSTNAME and _HOSTNAME.fullmatch(text) is not None,
    "uuid": _matches(_UUID % (_ANY, _ANY)),
    "uuid3": _matches(_UUID % ("3", _ANY)),
    "uuid4": _matches(_UUID % ("4", _NARROW)),
    "uuid5": _matches(_UUID % ("5", _NARROW)),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_card,
    "ssn": _matches(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}"),
    "hexcolor": _matches(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matches(r"rgb\(\s*([0-9]{1,3}\s*,\s*){2}[0-9]{1,3}\s*\)"),
    "byte": _is_base64,
    "bsonobjectid": _matches(r"[0-9a-fA-F]{24}"),
    "k8s-short-name": lambda text: not names.dns_label(text),
    "k8s-long-name": lambda text: not names.dns_subdomain(text),
}


def fits_format(name: str, text: str) -> bool:
    """Whether a text has the form that a format's name says; True for names that nobody checks."""
    check = FORMATS.get(name)
    return check is None or (len(text) <= _MAX_TEXT and check(text))
