"""Who sends a request: the subject of the client certificate that TLS has verified, or the bearer of a token.

A browser cannot set headers on a WebSocket: there the token is one of the subprotocols that it asks for.
In a certificate the common name is the user and the organizations are the groups. Only the TLS layer decides
whether a certificate is to be trusted; here its subject is only read. A token is shown to each of those that
know tokens. Invariants: an empty identity never becomes a user; whoever shows a token that nobody knows is
refused, and does not go on as nobody.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from aiohttp import web

from gitkube.api.authorization import AUTHENTICATED_GROUP, User
from gitkube.api.errors import StatusError
from gitkube.server.upgrade import wants_websocket


class Authenticator(Protocol):
    def __call__(self, request: web.Request) -> User | None:
        """The user behind a request, or None when it carries no credentials that we know.

        Raises:
            StatusError: 401, it carries wrong ones.
        """
        ...


SOCKET_BEARER = "base64url.bearer.authorization.k8s.io."
"""How the subprotocol begins that is a token, without padding: as Kubernetes has it."""

TokenCheck = Callable[[str], User | None]
"""The user that a token stands for; None when it is not of this kind or does not hold."""


class Authentication:
    """An `Authenticator` by certificate, and else by token."""

    def __init__(self, checks: Sequence[TokenCheck]) -> None:
        """
        Args:
            checks: asked in this order until one knows the token.
        """
        self._checks = tuple(checks)

    def __call__(self, request: web.Request) -> User | None:
        user = user_of_certificate(request)
        if user is not None:
            return user
        token = bearer_token(request.headers.get("Authorization", "")) or _socket_token(request)
        if not token:
            return None
        for check in self._checks:
            user = check(token)
            if user is not None and user.name:
                return user
        raise unauthorized()


def bearer_token(header: str) -> str:
    """The token in an Authorization header; "" when it holds none, or is of another scheme."""
    scheme, _, rest = header.strip().partition(" ")
    return rest.partition(" ")[0] if scheme.lower() == "bearer" else ""


def asked_protocols(request: web.Request) -> list[str]:
    """The subprotocols that a WebSocket client offers, best first, without one that is a token."""
    return [word for word in _offered_protocols(request) if not word.startswith(SOCKET_BEARER)]


def _offered_protocols(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [word.strip() for line in lines for word in line.split(",") if word.strip()]


def _socket_token(request: web.Request) -> str:
    """The token among the subprotocols of an upgrade to WebSocket; "" when there is none.

    Raises:
        StatusError: 401, there are several, or it cannot be read.
    """
    if not wants_websocket(request):
        return ""
    words = [word for word in _offered_protocols(request) if word.startswith(SOCKET_BEARER)]
    if not words:
        return ""
    encoded = words[0].removeprefix(SOCKET_BEARER)
    try:
        token = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise unauthorized() from error
    if len(words) > 1 or not token:
        raise unauthorized()
    return token


def user_of_certificate(request: web.Request) -> User | None:
    """An `Authenticator` by the client certificate of the connection."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    return user_of_subject(certificate.get("subject", ())) if certificate else None


@lru_cache(maxsize=1024)
def user_of_subject(subject: Any) -> User | None:
    """The user that a subject names, as `ssl.SSLSocket.getpeercert` spells it; None without a name."""
    name, groups = "", []
    for relative_name in subject:
        for key, value in relative_name:
            if key == "commonName":
                name = value
            elif key == "organizationName" and value not in groups:
                groups.append(value)
    return authenticated(User(name, tuple(groups))) if name else None


def authenticated(user: User) -> User:
    """The user, in the group of all that are known."""
    if AUTHENTICATED_GROUP in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED_GROUP), user.uid, user.extra)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")
