"""Bearer tokens: those of ServiceAccounts, which we sign, and a fixed table that the cluster's owner gives.

A ServiceAccount's token says for whom it is (audiences), until when, whose it is, and perhaps to which Pod,
Secret or Node it is bound. It holds while its signature, issuer, time and audience are right and everything
it names is still there with the same uid; so deleting the account or the bound object ends it at once. The
signature of a token is checked once and remembered, all else each time.

Invariant: whatever is wrong with a token, the answer is that it is none; the reason is told only to whoever
may ask for a TokenReview.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.api.accounts import groups_of, user_name_of
from gitkube.api.authorization import AUTHENTICATED_GROUP, User
from gitkube.api.cache import WatchCache
from gitkube.api.jwt import SigningKey
from gitkube.clock import Clock, parse_rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import NODE, POD, SECRET, SERVICE_ACCOUNT, Kind
from gitkube.objects.types import Object
from gitkube.objects.uids import new_uid

ISSUER = "https://kubernetes.default.svc"
API_AUDIENCES = (ISSUER,)
CLOCK_SKEW_S = 60
"""By so much the clocks of two controllers may differ, for the beginning of a token."""
BOUND_GRACE_S = 60
"""A token outlives the end of its pod's grace period by this, so that its last requests succeed."""
MAX_REMEMBERED = 8192
"""Tokens whose signature is remembered; about a kilobyte each."""
BOUND_KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in (POD, SECRET, NODE)}
_INVALID = "invalid bearer token"
_EXTRA = "authentication.kubernetes.io/"


class TokenError(Exception):
    """A token does not hold; the text says why, in Kubernetes' words."""


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    user: User
    audiences: tuple[str, ...]
    """Those of the wanted audiences that the token is for."""


class Tokens:
    """See the module's text."""

    def __init__(
        self,
        cache: WatchCache,
        key: SigningKey,
        *,
        clock: Clock,
        rng: random.Random,
        fixed: Mapping[str, User] | None = None,
    ) -> None:
        """
        Args:
            fixed: token -> user.
        """
        self._cache = cache
        self._clock = clock
        self._rng = rng
        self.key = key
        # Found by digest, so that how long the search takes tells nothing of a token.
        self._fixed = {_digest(token): user for token, user in (fixed or {}).items()}
        self._remembered: dict[bytes, dict[str, Any]] = {}
        self.foreign: list[Callable[[str], User | None]] = []
        """Who knows tokens that are neither ours nor fixed, such as an identity provider's."""

    # ------------------------------------------------------------------ reading

    def user(self, token: str) -> User | None:
        """The user that a token makes of its bearer at the API; None when it does not hold."""
        try:
            return self.authenticate(token).user
        except TokenError:
            return None

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> TokenIdentity:
        """Who the bearer of a token is.

        Args:
            audiences: for whom it must be, one at least; none given means for the API.

        Raises:
            TokenError: it does not hold.
        """
        wanted = tuple(audiences) or API_AUDIENCES
        user = self._fixed.get(_digest(token))
        if user is not None and user.name:
            common = tuple(one for one in wanted if one in API_AUDIENCES)
            if not common:
                raise TokenError(_INVALID)
            return TokenIdentity(user, common)
        try:
            claims = self._claims(token)
        except TokenError:
            common = tuple(one for one in wanted if one in API_AUDIENCES)
            for check in self.foreign if common else ():
                if (known := check(token)) is not None and known.name:
                    return TokenIdentity(known, common)
            raise
        given = claims["aud"]
        common = tuple(one for one in wanted if one in given)
        if not common:
            told = f"token audiences {_listed(given)} is invalid for the target audiences {_listed(wanted)}"
            raise TokenError(f"[{_INVALID}, {told}]")
        return TokenIdentity(self._account_user(claims), common)

    def _claims(self, token: str) -> dict[str, Any]:
        digest = _digest(token)
        claims = self._remembered.get(digest)
        if claims is None:
            claims = self.key.verified(token)
            if claims is None or not _is_complete(claims):
                raise TokenError(_INVALID)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = claims
        now_s = self._clock.now()
        if now_s >= claims["exp"]:
            raise TokenError(f"[{_INVALID}, service account token has expired]")
        if now_s < claims["nbf"] - CLOCK_SKEW_S:
            raise TokenError(f"[{_INVALID}, service account token is not valid yet]")
        return claims

    def _account_user(self, claims: dict[str, Any]) -> User:
        private = claims["kubernetes.io"]
        namespace, account = private["namespace"], private["serviceaccount"]
        present = self._cache.of(SERVICE_ACCOUNT).get(account["name"], namespace)
        if present is None or meta.is_deleting(present):
            raise TokenError(f'[{_INVALID}, serviceaccounts "{account["name"]}" not found]')
        if meta.uid(present) != account["uid"]:
            told = f"ServiceAccount UID ({meta.uid(present)}) does not match claim ({account['uid']})"
            raise TokenError(f"[{_INVALID}, {told}]")
        extra = [(f"{_EXTRA}credential-id", (f"JTI={claims['jti']}",))]
        for word, kind in BOUND_KINDS.items():
            bound = private.get(word.lower())
            if bound is None:
                continue
            self._check_bound(kind, bound, namespace)
            if kind is not SECRET:
                extra.append((f"{_EXTRA}{word.lower()}-name", (bound["name"],)))
                extra.append((f"{_EXTRA}{word.lower()}-uid", (bound["uid"],)))
        groups = (*groups_of(namespace), AUTHENTICATED_GROUP)
        return User(user_name_of(namespace, account["name"]), groups, account["uid"], tuple(extra))

    def _check_bound(self, kind: Kind, bound: dict[str, str], namespace: str) -> None:
        obj = self._cache.of(kind).get(bound["name"], namespace if kind.namespaced else "")
        is_there = obj is not None and meta.uid(obj) == bound["uid"]
        if is_there and obj is not None and meta.is_deleting(obj):
            # The time of a deletion is the end of its grace period.
            ends_s = parse_rfc3339(str(obj["metadata"]["deletionTimestamp"]))
            is_there = self._clock.now() < ends_s + BOUND_GRACE_S
        if not is_there:
            raise TokenError(f"[{_INVALID}, Token has been invalidated]")

    # ------------------------------------------------------------------ giving out

    def issue(
        self, account: Object, audiences: Sequence[str], lifetime_s: int, bound: tuple[Kind, Object] | None
    ) -> tuple[str, float]:
        """A new token of a ServiceAccount.

        Args:
            bound: ends the token when it ends.

        Returns:
            The token, and when it ends (seconds since 1970).
        """
        now_s = int(self._clock.now())
        namespace, name = meta.namespace(account), meta.name(account)
        private: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": meta.uid(account)},
        }
        if bound is not None:
            kind, obj = bound
            private[kind.kind.lower()] = {"name": meta.name(obj), "uid": meta.uid(obj)}
        claims = {
            "aud": list(audiences),
            "exp": now_s + lifetime_s,
            "iat": now_s,
            "iss": ISSUER,
            "jti": new_uid(self._rng),
            "kubernetes.io": private,
            "nbf": now_s,
            "sub": user_name_of(namespace, name),
        }
        return self.key.sign(claims), float(now_s + lifetime_s)


def _is_complete(claims: dict[str, Any]) -> bool:
    """Whether a token that we have signed is one of these: the key may come to sign others, too."""
    private = claims.get("kubernetes.io")
    if claims.get("iss") != ISSUER or not isinstance(private, dict):
        return False
    account, namespace = private.get("serviceaccount"), private.get("namespace")
    is_named = isinstance(account, dict) and isinstance(namespace, str) and bool(namespace)
    return (
        is_named
        and all(isinstance(claims.get(field), int) for field in ("exp", "nbf"))
        and isinstance(claims.get("aud"), list)
        and claims.get("sub") == user_name_of(str(namespace), str(account.get("name") if account else ""))
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _listed(words: Sequence[str]) -> str:
    return "[" + " ".join(f'"{word}"' for word in words) + "]"
