"""Asking as somebody else: the headers `Impersonate-User`, `-Group`, `-Uid` and `-Extra-KEY`.

Each part of the wanted identity is a question of its own to the authorizer, with the verb `impersonate` on
`users`, `serviceaccounts`, `groups`, `uids` or `userextras/KEY`, named by the value; all must be allowed.
What then happens is what the other identity may, and nothing of what the asker may. Invariant: without a user
to become, no other header counts; the anonymous user never gets the group of the known.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from gitkube.api.accounts import account_of, groups_of
from gitkube.api.authorization import (
    ANONYMOUS,
    AUTHENTICATED_GROUP,
    UNAUTHENTICATED_GROUP,
    Attributes,
    Authorizer,
    User,
)
from gitkube.api.errors import bad_request
from gitkube.api.refusals import refusal

USER, GROUP, UID, EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonated(user: User, headers: CIMultiDictProxy[str], authorizer: Authorizer) -> User:
    """The user as whom a request is to be served: the one that its headers name, or else the asker.

    Raises:
        StatusError: 400, the headers name no user; 403, the asker may not become it.
    """
    if not any(name.title().startswith("Impersonate-") for name in headers):
        return user
    name, groups, uid = headers.get(USER, ""), tuple(headers.getall(GROUP, ())), headers.get(UID, "")
    extra = _extra(headers)
    if not name:
        if groups or uid or extra:
            raise bad_request(
                "the request asks for groups or more of an identity without impersonating a user"
            )
        return user
    wanted = User(name, groups, uid, extra)
    for asked in _questions(user, wanted):
        decision = authorizer.decide(asked)
        if not decision.allowed:
            raise refusal(asked, decision)
    return _completed(wanted)


def _extra(headers: CIMultiDictProxy[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.lower().startswith(EXTRA.lower()):
            key = unquote(header[len(EXTRA) :].lower())
            found.setdefault(key, []).append(value)
    return tuple((key, tuple(values)) for key, values in found.items())


def _questions(user: User, wanted: User) -> Iterator[Attributes]:
    account = account_of(wanted.name)
    if account is not None:
        namespace, name = account
        yield Attributes(user, "impersonate", "", "v1", "serviceaccounts", namespace=namespace, name=name)
    else:
        yield Attributes(user, "impersonate", "", "v1", "users", name=wanted.name)
    for group in wanted.groups:
        yield Attributes(user, "impersonate", "", "v1", "groups", name=group)
    for key, values in wanted.extra:
        for value in values:
            yield Attributes(
                user, "impersonate", _AUTHENTICATION, "v1", "userextras", subresource=key, name=value
            )
    if wanted.uid:
        yield Attributes(user, "impersonate", _AUTHENTICATION, "v1", "uids", name=wanted.uid)


def _completed(wanted: User) -> User:
    """With the groups that such a user would have."""
    groups = wanted.groups
    account = account_of(wanted.name)
    if not groups and account is not None:
        groups = groups_of(account[0])
    of_all = UNAUTHENTICATED_GROUP if wanted.name == ANONYMOUS.name else AUTHENTICATED_GROUP
    if AUTHENTICATED_GROUP not in groups and UNAUTHENTICATED_GROUP not in groups:
        groups = (*groups, of_all)
    return User(wanted.name, groups, wanted.uid, wanted.extra)
