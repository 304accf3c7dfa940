"""Who sends a request: the subject of the client certificate that TLS has verified, or nobody.

The common name is the user, the organizations are the groups. Only the TLS layer decides whether a
certificate is to be trusted; here its subject is only read. An empty identity never becomes a user.
"""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError

AUTHENTICATED_GROUP = "system:authenticated"


class Authenticator(Protocol):
    def __call__(self, request: web.Request) -> User | None:
        """The user behind a request, or None when it carries no credentials that we know."""
        ...


def user_of_certificate(request: web.Request) -> User | None:
    """An `Authenticator` by the client certificate of the connection."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    return user_of_subject(certificate.get("subject", ())) if certificate else None


def user_of_subject(subject: Any) -> User | None:
    """The user that a subject names, as `ssl.SSLSocket.getpeercert` spells it; None without a name."""
    name, groups = "", []
    for relative_name in subject:
        for key, value in relative_name:
            if key == "commonName":
                name = value
            elif key == "organizationName" and value not in groups:
                groups.append(value)
    if not name:
        return None
    if AUTHENTICATED_GROUP not in groups:
        groups.append(AUTHENTICATED_GROUP)
    return User(name, tuple(groups))


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")
