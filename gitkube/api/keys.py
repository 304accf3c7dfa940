"""Where things lie in the store: `/registry/{group or "core"}/{plural}/[{namespace}/]{name}`.

What is allocated (cluster addresses, node ports) has a key each below `/registry/ranges/`, so that one
transaction can take it and write the object that has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gitkube.objects.kinds import Kind

REGISTRY_PREFIX = b"/registry/"
RANGES_PREFIX = b"/registry/ranges/"
RING_KEY = b"/registry/gitkube.dev/sealing/ring"
"""Which keys Secrets are sealed under (`sealing.py`)."""
JOINING_PREFIX = b"/registry/gitkube.dev/joining/"
"""Tokens with which controllers join."""
_NO_OBJECTS = (
    RANGES_PREFIX,
    JOINING_PREFIX,
    *(f"/registry/gitkube.dev/{part}/".encode() for part in ("sealing", "branches")),
)
"""Records of others below the same root, which are no objects of any kind."""


@dataclass(frozen=True, slots=True)
class Place:
    group: str
    plural: str
    namespace: str
    name: str


def object_key(kind: Kind, namespace: str, name: str) -> bytes:
    return kind_prefix(kind, namespace) + name.encode()


def kind_prefix(kind: Kind, namespace: str = "") -> bytes:
    """Of all objects of a kind, or of those in a namespace."""
    prefix = f"/registry/{kind.group or 'core'}/{kind.plural}/"
    return (f"{prefix}{namespace}/" if namespace else prefix).encode()


def range_key(range_name: str, item: str) -> bytes:
    return RANGES_PREFIX + f"{range_name}/{item}".encode()


def parse_key(key: bytes) -> Place | None:
    """The place that a key names, or None when it is none of an object."""
    if key.startswith(_NO_OBJECTS):
        return None
    parts = key.decode().split("/")
    if len(parts) == 5:
        _, _, group, plural, name = parts
        namespace = ""
    elif len(parts) == 6:
        _, _, group, plural, namespace, name = parts
    else:
        return None
    return Place("" if group == "core" else group, plural, namespace, name)
