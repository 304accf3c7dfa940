"""What the control side knows of a machine before it has spoken to it, and which words are allowed there.

An inventory is data from a person. Names, addresses and users end in argument lists, file names and object
names, so each is checked here against the narrowest grammar that fits (RFC 1123 for names, POSIX for users)
and none may open with a dash. Invariant: a `Host` that exists has passed every check of this file.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_HOSTS = 10_000
"""Of one inventory: above it the file is a mistake (a range with a zero too many)."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DNS_NAME = re.compile(rf"(?i:{_LABEL}(?:\.{_LABEL})*)")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}[A-Za-z0-9_$.-]?")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
HOST_KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the inventory a thing is written; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class InventoryError(Exception):
    """The inventory cannot be used as it is. One (place, sentence) for each mistake found."""

    def __init__(self, mistakes: list[tuple[Place, str]]) -> None:
        # A name in a sentence comes from the file: it must not reach a terminal as control characters.
        self.mistakes = [(place, printable(sentence)) for place, sentence in mistakes]
        super().__init__("\n".join(f"{place}: {sentence}" for place, sentence in self.mistakes))


@dataclass(frozen=True, slots=True)
class Taint:
    """As in NodeSpec.taints."""

    key: str
    value: str
    effect: str

    def to_object(self) -> dict[str, str]:
        taint = {"key": self.key, "effect": self.effect}
        return {**taint, "value": self.value} if self.value else taint


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key: OpenSSH's type word and the base64 of the key."""

    type: str
    base64: str

    def __str__(self) -> str:
        return f"{self.type} {self.base64}"


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the inventory. Two equal hosts need no reconnect."""

    name: str
    """Also the Node's name."""
    address: str
    """An IP address or a DNS name, as written."""
    port: int = 22
    user: str = "root"
    identity_file: Path | None = None
    """The private key to log in with; None tries the user's default keys and ssh-agent."""
    host_keys: tuple[HostKey, ...] = ()
    """Pinned by the inventory; () means pinned at the first contact."""
    sudo: bool = True
    """Whether `sudo -n` is needed to become root; never used when the user is root."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    pod_cidr: str = ""
    """A fixed share of the pod network; "" leaves it to the control side."""
    vars: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the inventory says of the host; data only."""
    place: Place = field(default=Place("", 0, 0), compare=False)

    @property
    def needs_sudo(self) -> bool:
        return self.sudo and self.user != "root"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The machines, by name, in the order of the file."""

    hosts: Mapping[str, Host]
    path: Path | None = None
    """The file that it was read from, so that a change of it can be noticed."""
    notes: tuple[str, ...] = ()
    """What was read and deliberately left aside, each with its place."""


# ------------------------------------------------- checks: each returns the value or raises ValueError


def check_host_name(text: str) -> str:
    """A Node's name: RFC 1123 subdomain, at most 63 characters because it becomes a label's value too."""
    if len(text) <= 63 and _HOST_NAME.fullmatch(text):
        return text
    proposal = re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:63]
    hint = f"; call it {proposal!r}" if _HOST_NAME.fullmatch(proposal) and proposal != text else ""
    raise ValueError(
        f"host name {_shown(text)} must be lower-case letters, digits, '-' and '.'"
        f" (RFC 1123, at most 63){hint}"
    )


def check_address(text: str) -> str:
    """An IP address, or a DNS name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        numeric = re.fullmatch(r"[0-9.]+", text)
        if len(text) <= 253 and _DNS_NAME.fullmatch(text) and not numeric:
            return text
        raise ValueError(f"address {_shown(text)} is neither an IP address nor a DNS name") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"address {_shown(text)} is not the address of one machine")
    return text


def check_user(text: str) -> str:
    if _USER.fullmatch(text):
        return text
    raise ValueError(
        f"user {_shown(text)} must be letters, digits, '_', '.' and '-', open with a letter or '_',"
        " and have at most 32 characters"
    )


def check_port(number: int) -> int:
    if 1 <= number <= 65535:
        return number
    raise ValueError(f"port {number} is not between 1 and 65535")


def check_label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    prefix_is_right = not slash or (len(prefix) <= 253 and _HOST_NAME.fullmatch(prefix) is not None)
    if prefix_is_right and _QUALIFIED.fullmatch(name):
        return text
    raise ValueError(
        f"{_shown(text)} is not a label key: [prefix/]name, the name at most 63 of [-A-Za-z0-9_.]"
    )


def check_label_value(text: str) -> str:
    if text == "" or _QUALIFIED.fullmatch(text):
        return text
    raise ValueError(
        f"{_shown(text)} is not a label value: at most 63 of [-A-Za-z0-9_.], alphanumeric at both ends"
    )


def check_taint(key: str, value: str, effect: str) -> Taint:
    if effect not in TAINT_EFFECTS:
        raise ValueError(f"taint effect {_shown(effect)} must be one of {', '.join(TAINT_EFFECTS)}")
    return Taint(check_label_key(key), check_label_value(value), effect)


def parse_taint(text: str) -> Taint:
    """kubectl's short form: `key=value:Effect` or `key:Effect`."""
    pair, colon, effect = text.rpartition(":")
    if not colon:
        raise ValueError(f"taint {_shown(text)} has no effect; write key=value:NoSchedule")
    key, _, value = pair.partition("=")
    return check_taint(key, value, effect)


def parse_host_key(text: str) -> HostKey:
    """A line such as `ssh-ed25519 AAAA… comment`, as in /etc/ssh/ssh_host_ed25519_key.pub."""
    words = text.split()
    if len(words) < 2 or words[0] not in HOST_KEY_TYPES:
        raise ValueError(
            "a host key is written as in /etc/ssh/ssh_host_ed25519_key.pub: type (one of"
            f" {', '.join(HOST_KEY_TYPES)}), a space, base64"
        )
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the host key is not valid base64; copy the whole line again") from None
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != words[0].encode():
        raise ValueError(f"the host key says {words[0]} but holds something else; copy the whole line again")
    return HostKey(words[0], base64.b64encode(blob).decode())


def check_pod_cidr(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError:
        raise ValueError(f"pod_cidr {_shown(text)} is not a network such as 10.42.3.0/24") from None
    if network.num_addresses < 8:
        raise ValueError(f"pod_cidr {text} has no room for pods; give a /24")
    return str(network)


def printable(text: str) -> str:
    """The text with everything that a terminal could obey written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _shown(text: str) -> str:
    """Quoted, control characters escaped, cut: an inventory is not trusted with the terminal."""
    return repr(text if len(text) <= 80 else text[:77] + "…")
