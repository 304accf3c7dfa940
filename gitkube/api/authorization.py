"""Who asks, and whether they may.

Identity is made at the edge (client certificate, token) and travels as a `User`; this file only decides.
Invariant: an `Authorizer` answers "denied" unless a rule says otherwise, and an empty identity is denied
before any rule is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MASTERS_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


def system_user(component: str) -> User:
    """The identity of a part of the control side, such as `system:gitkube:scheduler`."""
    return User(f"system:gitkube:{component}", (MASTERS_GROUP, "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked: a verb on a resource, or on a path that is no resource."""

    user: User
    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; for paths the HTTP method, lower
    case."""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """Of a request for something that is no resource, such as `/healthz`."""


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What somebody may in one namespace, as rules of RBAC."""

    resources: tuple[dict[str, list[str]], ...] = ()
    paths: tuple[dict[str, list[str]], ...] = ()


class Authorizer(Protocol):
    def decide(self, attributes: Attributes) -> Decision:
        """Must not block: it is asked for every request."""
        ...

    def rules(self, user: User, namespace: str) -> Rules:
        """All that `decide` would allow, for showing it to somebody."""
        ...


_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY_PATHS = ("/api", "/apis", "/openapi")


class MastersOnly:
    """`system:masters` may all; discovery and health are open to whoever is authenticated; the rest is
    denied."""

    def decide(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if not user.name:
            return Decision(False, "the request carries no identity")
        if MASTERS_GROUP in user.groups:
            return Decision(True)
        if attributes.path and attributes.verb == "get":
            if _is_under(attributes.path, _OPEN_PATHS):
                return Decision(True)
            if "system:authenticated" in user.groups and _is_under(attributes.path, _DISCOVERY_PATHS):
                return Decision(True)
        return Decision(False)

    def rules(self, user: User, namespace: str) -> Rules:
        if not user.name:
            return Rules()
        if MASTERS_GROUP in user.groups:
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            return Rules((everything,), ({"verbs": ["*"], "nonResourceURLs": ["*"]},))
        is_known = "system:authenticated" in user.groups
        roots = (*_OPEN_PATHS, *(_DISCOVERY_PATHS if is_known else ()))
        paths = [path for root in sorted(roots) for path in (root, f"{root}/*")]
        return Rules(paths=({"verbs": ["get"], "nonResourceURLs": paths},))


def _is_under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
