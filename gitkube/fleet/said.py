"""What a host says, checked before anybody believes it.

An agent may be old, broken or in strange hands, and its words become Nodes, statuses and events. So each
message passes here once: the types are those of `wire`, lists are bounded, and the WireGuard key is one,
because it goes out to every other host. Whoever reads a message behind this door need not check again;
whether a host may speak of a pod at all is decided where the pods are known (pods.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

from gitkube import wire

MAX_PODS = 4_096
"""In one report; a host runs some hundred."""
MAX_LIST = 1_024
"""Conditions and images of a host."""
MAX_SECTIONS = 16
MAX_WORD_CHARS = 253
"""Names, reasons, digests."""
MAX_MESSAGE_CHARS = 1_024
"""Of an event; as Kubernetes."""
WIREGUARD_KEY_BYTES = 32
_MAX_PRINTED = 40


def hello(message: Mapping[str, Any]) -> wire.Hello:
    """The agent's first message.

    Raises:
        WireError: it is not one.
    """
    if not isinstance(message.get("term"), int) or isinstance(message.get("term"), bool):
        raise wire.WireError("the agent's hello has no term")
    digests = _words(message, "digests", MAX_SECTIONS)
    return wire.Hello(
        type="hello",
        protocol=wire.PROTOCOL_VERSION,
        agent=_word(message, "agent"),
        node=_word(message, "node"),
        term=message["term"],
        digests=digests,
        nodeInfo=_words(message, "nodeInfo", MAX_LIST),
        capacity=_words(message, "capacity", MAX_LIST),
        publicKey=_wireguard_key(message),
    )


def pods(message: Mapping[str, Any]) -> list[wire.PodReport]:
    """The reports of a `PodReports`.

    Raises:
        WireError: it is not one.
    """
    reports = _maps(message, "pods", MAX_PODS)
    for report in reports:
        for key in ("uid", "namespace", "name"):
            if not _word(report, key):
                raise wire.WireError(f"the report of a pod has no {key}")
        if not isinstance(report.get("gone", False), bool) or not isinstance(report.get("status", {}), dict):
            raise wire.WireError("the report of a pod has no status")
        if not report.get("gone"):
            _maps(report.setdefault("status", {}), "conditions", MAX_LIST)
    return cast("list[wire.PodReport]", reports)


def node(message: Mapping[str, Any]) -> dict[str, Any]:
    """A `NodeReport`.

    Raises:
        WireError: it is not one.
    """
    conditions = _maps(message, "conditions", MAX_LIST)
    for condition in conditions:
        if not _word(condition, "type"):
            raise wire.WireError("a condition of the host has no type")
    return {"type": "node", "conditions": conditions, "images": _maps(message, "images", MAX_LIST)}


def event(message: Mapping[str, Any]) -> dict[str, Any]:
    """An `EventReport`; its message is cut to what the API keeps.

    Raises:
        WireError: it is not one.
    """
    text = message.get("message", "")
    if not isinstance(text, str):
        raise wire.WireError("the message of an event is not text")
    words = {
        key: _word(message, key) for key in ("uid", "namespace", "name", "eventType", "reason", "fieldPath")
    }
    return {"type": "event", **words, "message": text[:MAX_MESSAGE_CHARS]}


def _word(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_WORD_CHARS:
        raise wire.WireError(f"{key} is not a word: {str(value)[:_MAX_PRINTED]!r}")
    return value


def _words(message: Mapping[str, Any], key: str, limit: int) -> dict[str, str]:
    value = message.get(key, {})
    if not isinstance(value, dict) or len(value) > limit:
        raise wire.WireError(f"{key} is not a map of at most {limit} words")
    return {name: _word(value, name) for name in value}


def _maps(message: Mapping[str, Any], key: str, limit: int) -> list[dict[str, Any]]:
    value = message.get(key) or []
    if not isinstance(value, list) or len(value) > limit or not all(isinstance(item, dict) for item in value):
        raise wire.WireError(f"{key} is not a list of at most {limit} maps")
    return value


def _wireguard_key(message: Mapping[str, Any]) -> str:
    """One host's key is part of every other host's configuration: a wrong one must not get there."""
    key = _word(message, "publicKey")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == WIREGUARD_KEY_BYTES
    except (binascii.Error, ValueError):
        is_key = False
    if key and not is_key:
        raise wire.WireError(f"the host's WireGuard key is none: {key[:_MAX_PRINTED]!r}")
    return key
