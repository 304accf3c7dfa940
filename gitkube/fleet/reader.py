"""Reading a located tree into typed values, gathering every mistake instead of stopping at the first.

Each reader takes a `Value`, returns the typed thing or None, and notes what was wrong. At the end
`raise_if_any` turns the notes into one `InventoryError`, so a person fixes a file in one go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from gitkube.fleet import hosts
from gitkube.fleet.document import Value
from gitkube.fleet.hosts import InventoryError, Place, Taint
from gitkube.objects.nearest import nearest

MAX_MISTAKES = 100
"""More than these help nobody; the rest is left out."""

COMMAND_WORDS = (
    "ProxyCommand", "ProxyJump", "LocalCommand", "PermitLocalCommand", "RemoteCommand", "KnownHostsCommand",
    "Include", "Match", "ForwardAgent", "PKCS11Provider", "SecurityKeyProvider", "ControlPath", "SendEnv",
)  # fmt: skip
"""ssh_config words that run something here, or lend this side's credentials to the host."""
_COMMAND_KEYS = frozenset(word.lower() for word in COMMAND_WORDS)
_COMMAND_IN_TEXT = re.compile(
    r"(?i)\b(ProxyCommand|LocalCommand|KnownHostsCommand|PKCS11Provider)\b|\bMatch\s+exec\b"
)
_LOOKUP_IN_TEXT = re.compile(r"\{\{.*\b(lookup|query|q|pipe)\s*\(|\{%|\|\s*pipe\b", re.DOTALL)

T = TypeVar("T")
U = TypeVar("U")


class Mistakes:
    """What was wrong so far, in the order of reading."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, str]] = []

    def add(self, place: Place, sentence: str) -> None:
        if len(self._found) < MAX_MISTAKES and (place, sentence) not in self._found:
            self._found.append((place, sentence))

    def raise_if_any(self) -> None:
        if self._found:
            raise InventoryError(sorted(self._found, key=lambda found: (found[0].line, found[0].column)))

    def check(self, place: Place, check: Callable[[U], T], value: U) -> T | None:
        """`check(value)`, its ValueError noted at `place`."""
        try:
            return check(value)
        except ValueError as error:
            self.add(place, str(error))
            return None

    def mapping(self, value: Value, keys: Iterable[str] | None, what: str) -> dict[str, Value]:
        """The entries of a mapping (empty for null); with `keys`, others are mistakes."""
        if value.data is None:
            return {}
        if not isinstance(value.data, dict):
            self.add(value.place, f"{what} must be a mapping")
            return {}
        if keys is None:
            return value.data
        known = list(keys)
        for key in value.data:
            if key not in known:
                place = (value.key_places or {}).get(key, value.place)
                self.add(place, f"unknown field {key!r} in {what}{did_you_mean(key, known)}")
        return {key: item for key, item in value.data.items() if key in known}

    def items(self, value: Value | None, what: str) -> list[Value]:
        if value is None or value.data is None:
            return []
        if isinstance(value.data, list):
            return value.data
        self.add(value.place, f"{what} must be a list")
        return []

    def text(self, value: Value, what: str) -> str | None:
        """Text, or a number as it is written."""
        if isinstance(value.data, (dict, list, bool)) or value.data is None:
            self.add(value.place, f"{what} must be text")
            return None
        return value.plain_text if value.plain_text is not None else str(value.data)

    def checked_text(self, value: Value, what: str, check: Callable[[str], T]) -> T | None:
        text = self.text(value, what)
        return None if text is None else self.check(value.place, check, text)

    def boolean(self, value: Value, what: str) -> bool | None:
        if isinstance(value.data, bool):
            return value.data
        self.add(value.place, f"{what} must be true or false")
        return None

    def port(self, value: Value) -> int | None:
        number = value.data
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) <= 5:
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int):
            self.add(value.place, "port must be a number")
            return None
        return self.check(value.place, hosts.check_port, number)

    def file(self, value: Value, base: Path) -> Path | None:
        """A path: `~` is the user's home, a relative one is beside the inventory."""
        text = self.text(value, "a file")
        if text is None:
            return None
        if not text or text.startswith("-") or "\0" in text or "\n" in text or "%" in text or "$" in text:
            self.add(value.place, f"{text[:80]!r} is not the path of a file")
            return None
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            self.add(value.place, f"the home directory in {text[:80]!r} is not known")
            return None
        return path if path.is_absolute() else (base / path).absolute()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    return f"; did you mean {close!r}?" if close else ""


def read_labels(value: Value | None, mistakes: Mistakes) -> dict[str, str]:
    """`labels:` of a host or a group; numbers and booleans become their text, as a person means them."""
    labels: dict[str, str] = {}
    for key, item in mistakes.mapping(value, None, "labels").items() if value else ():
        mistakes.check(
            (value.key_places or {}).get(key, item.place) if value else item.place, hosts.check_label_key, key
        )
        if isinstance(item.data, (dict, list)):
            mistakes.add(item.place, f"label {key!r} must be text")
            continue
        text = "" if item.data is None else (item.plain_text or "")
        labels[key] = mistakes.check(item.place, hosts.check_label_value, text) or ""
    return labels


def read_taints(value: Value | None, mistakes: Mistakes) -> tuple[Taint, ...]:
    """`taints:`: a list of `key=value:Effect`, or of mappings with key, value, effect."""
    taints = []
    for item in mistakes.items(value, "taints"):
        if isinstance(item.data, dict):
            fields = mistakes.mapping(item, ("key", "value", "effect"), "a taint")
            words = [
                mistakes.text(fields[key], key) or "" if key in fields else ""
                for key in ("key", "value", "effect")
            ]
            taint = mistakes.check(item.place, lambda triple: hosts.check_taint(*triple), words)
        else:
            text = mistakes.text(item, "a taint")
            taint = mistakes.check(item.place, hosts.parse_taint, text) if text is not None else None
        if taint is not None:
            taints.append(taint)
    return tuple(taints)


def refuse_commands(value: Value, mistakes: Mistakes) -> None:
    """Note everything in the tree that could run a command on this side, wherever it stands."""
    if isinstance(value.data, dict):
        for key, item in value.data.items():
            place = (value.key_places or {}).get(key, item.place)
            if key.lower() in _COMMAND_KEYS:
                mistakes.add(
                    place, f"{key} is refused: an inventory never runs a command or lends a login; {_REMEDY}"
                )
            refuse_commands(item, mistakes)
    elif isinstance(value.data, list):
        for item in value.data:
            refuse_commands(item, mistakes)
    elif isinstance(value.data, str):
        word = _COMMAND_IN_TEXT.search(value.data)
        if word:
            mistakes.add(
                value.place, f"{word.group(0)} is refused: it runs a command on this machine; {_REMEDY}"
            )
        elif _LOOKUP_IN_TEXT.search(value.data):
            sentence = "a lookup is refused: it would run on this machine; write the value itself"
            mistakes.add(value.place, sentence)


_REMEDY = "give an address that this machine reaches directly"
