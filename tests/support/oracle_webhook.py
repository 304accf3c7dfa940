"""The webhooks of the recorded cases: a server that answers as the recording's did, and a look at what it
was asked.

Of what is asked, three things are no difference: the server of the recording asked once more about a patch
that was refused; it did not write the namespace into an object before it was admitted, as later releases do;
and it wrote times that are not set as null.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from tests.support.oracle_newer import SUCCESSORS
from tests.support.webhook_server import Answer, WebhookServer, after, responding, saying

Asked = dict[str, Any]


def set_up(server: WebhookServer, case: dict[str, Any], fill: Callable[[Any], Any]) -> None:
    """Let the server answer as a case says.

    Args:
        fill: puts what is known in the place of placeholders.
    """
    server.asked.clear()
    server.answers = {path: _answer(fill(wanted)) for path, wanted in case.get("webhook", {}).items()}


def _answer(wanted: dict[str, Any]) -> Answer:
    if "raw" in wanted:
        answer = saying(wanted["raw"], wanted.get("http_status", 200))
    else:
        version = {"apiVersion": wanted["apiVersion"]} if "apiVersion" in wanted else {}
        answer = responding(wanted.get("response", {}), **version)
    return after(wanted["delay_s"], answer) if "delay_s" in wanted else answer


def asked_since(server: WebhookServer) -> list[Asked]:
    """What the server was asked since the last look."""
    asked = [{"path": path, "query": query, "review": review} for path, query, review in server.asked]
    server.asked.clear()
    return _once([_without_owners(each) for each in asked])


def recorded_of(step: dict[str, Any]) -> list[Asked]:
    """What the recording's server was asked in a step."""
    return _once([_in_new_versions(copy.deepcopy(each)) for each in step.get("webhook_requests", [])])


def in_the_old_form(recorded: list[Asked], given: list[Asked]) -> list[Asked]:
    """What was asked, without what only later releases say."""
    for before, now in zip(recorded, given, strict=False):
        for field in ("object", "oldObject"):
            old = before["review"]["request"].get(field) or {}
            new = now["review"]["request"].get(field) or {}
            if "namespace" not in old.get("metadata", {}):
                new.get("metadata", {}).pop("namespace", None)
    return given


def _without_owners(asked: Asked) -> Asked:
    for field in ("object", "oldObject"):
        ((asked["review"].get("request") or {}).get(field) or {}).get("metadata", {}).pop(
            "managedFields", None
        )
    return asked


def _in_new_versions(asked: Asked) -> Asked:
    for field in ("kind", "requestKind", "resource", "requestResource"):
        if thing := asked["review"]["request"].get(field):
            version = f"{thing['group']}/{thing['version']}"
            thing["version"] = SUCCESSORS.get(version, version).rpartition("/")[2]
    for field in ("object", "oldObject"):
        metadata = (asked["review"]["request"].get(field) or {}).get("metadata", {})
        if metadata.get("creationTimestamp", "") is None:
            del metadata["creationTimestamp"]
    return asked


def _once(asked: list[Asked]) -> list[Asked]:
    """Without those that ask the same again."""
    seen: set[str] = set()
    kept: list[Asked] = []
    for each in asked:
        request = dict(each["review"].get("request") or {}, uid="")
        key = json.dumps([each["path"], request], sort_keys=True)
        if key not in seen:
            seen.add(key)
            kept.append(each)
    return kept
