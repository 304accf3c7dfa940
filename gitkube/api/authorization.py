"""Who asks, and whether they may.

Identity is made at the edge (client certificate, token) and travels as a `User`; this file only decides.
Invariant: an `Authorizer` answers "denied" unless a rule says otherwise, and an empty identity is denied
before any rule is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gitkube.objects.types import Object

MASTERS_GROUP = "system:masters"
AUTHENTICATED_GROUP = "system:authenticated"
UNAUTHENTICATED_GROUP = "system:unauthenticated"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What else whoever made the identity knows of it, such as the pod of a token; grants nothing."""


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED_GROUP,))
"""Who sends a request without credentials."""


def user_info(user: User) -> Object:
    """The identity as `UserInfo` of authentication.k8s.io/v1."""
    return {
        "username": user.name,
        **({"uid": user.uid} if user.uid else {}),
        **({"groups": list(user.groups)} if user.groups else {}),
        **({"extra": {key: list(values) for key, values in user.extra}} if user.extra else {}),
    }


def system_user(component: str) -> User:
    """The identity of a part of the control side, such as `system:gitkube:scheduler`."""
    return User(f"system:gitkube:{component}", (MASTERS_GROUP, AUTHENTICATED_GROUP))


class Attributes(NamedTuple):
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
    field_selector: str = ""
    """Of a list or a watch, as it was sent."""
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
