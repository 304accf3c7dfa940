"""What a request asks, read from its method and URL alone: the question that the authorizer is put first.

It is asked before anything is looked up, so that who may nothing also learns nothing, not even which
resources there are. The grammar is `paths.py`'s, without knowing any kind; whatever does not follow it is a
path. Invariant: a request that the rest of the server serves as a resource is never asked about as a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from gitkube.api.authorization import Attributes, User
from gitkube.api.reads import selected_name
from gitkube.server import queries

_VERBS = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "GET": "get",
    "HEAD": "get",
    "DELETE": "delete",
}
_OF_NAMESPACES = ("status", "finalize")
_OPENED_STREAMS = ("exec", "attach", "portforward")
"""However they are opened, they let their user act in the pod: never a mere read."""


def words_of(raw_path: str) -> list[str]:
    """What stands between the slashes of a path, as it is meant; few paths have an escape in them."""
    words = raw_path.split("/")
    return [unquote(word) for word in words] if "%" in raw_path else words


def attributes_of(user: User, method: str, raw_path: str, query: Mapping[str, str]) -> Attributes:
    """The question."""
    parts = [part for part in words_of(raw_path) if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Attributes(user, method.lower(), path=unquote(raw_path))
    namespace = ""
    is_watch_path = rest[0] == "watch" and len(rest) > 1
    if is_watch_path:
        rest = rest[1:]
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _OF_NAMESPACES:
            rest = rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    verb = _VERBS.get(method, method.lower())
    if subresource in _OPENED_STREAMS and verb == "get":
        verb = "create"
    if not name and verb == "delete":
        verb = "deletecollection"
    elif is_watch_path and verb == "get":
        verb = "watch"
    elif not name and verb == "get":
        verb = "watch" if queries.flag(query, "watch") else "list"
        name = selected_name(query.get("fieldSelector", ""))
    selector = query.get("fieldSelector", "") if verb in ("list", "watch") else ""
    return Attributes(user, verb, group, version, resource, subresource, namespace, name, selector)
