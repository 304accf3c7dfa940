"""The two documents about tokens: TokenRequest asks for one of a ServiceAccount, TokenReview asks about one.

Neither is stored. What is asked for is validated here; what a token is, `tokens.py` knows.
"""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.authorization import user_info
from gitkube.api.cache import WatchCache
from gitkube.api.tokens import API_AUDIENCES, BOUND_KINDS, TokenError, Tokens
from gitkube.clock import rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import NAMESPACE, POD, SERVICE_ACCOUNT, TOKEN_REQUEST, TOKEN_REVIEW, Kind
from gitkube.objects.types import Object

DEFAULT_LIFETIME_S = 3600
MIN_LIFETIME_S = 600
MAX_LIFETIME_S = 1 << 32


def answer_request(tokens: Tokens, cache: WatchCache, namespace: str, name: str, request: Object) -> Object:
    """The TokenRequest with its token.

    Args:
        request: of the right kind and types.

    Raises:
        StatusError: 404, no such account or bound object; 400, 409, 422, the question is wrong.
    """
    metadata, spec = request.get("metadata") or {}, request.get("spec") or {}
    for field, wanted in (("name", name), ("namespace", namespace)):
        if metadata.get(field) not in (None, "", wanted):
            told = f'Invalid value: "{metadata[field]}": must match the service account {field} if specified'
            raise _invalid(f"metadata.{field}", told, name)
    if cache.of(NAMESPACE).get(namespace) is None:
        raise errors.not_found("", NAMESPACE.plural, namespace)
    account = cache.of(SERVICE_ACCOUNT).get(name, namespace)
    if account is None or meta.is_deleting(account):
        raise errors.not_found("", SERVICE_ACCOUNT.plural, name)
    lifetime_s = spec.get("expirationSeconds")
    lifetime_s = DEFAULT_LIFETIME_S if lifetime_s is None else int(lifetime_s)
    if lifetime_s < MIN_LIFETIME_S:
        told = f"Invalid value: {lifetime_s}: may not specify a duration less than 10 minutes"
        raise _invalid("spec.expirationSeconds", told)
    if lifetime_s > MAX_LIFETIME_S:
        told = f"Invalid value: {lifetime_s}: may not specify a duration larger than 2^32 seconds"
        raise _invalid("spec.expirationSeconds", told)
    audiences = [str(one) for one in spec.get("audiences") or API_AUDIENCES]
    reference = spec.get("boundObjectRef")
    bound = _bound(cache, account, reference) if reference is not None else None
    token, ends_s = tokens.issue(account, audiences, lifetime_s, bound)
    return {
        "kind": TOKEN_REQUEST.kind,
        "apiVersion": TOKEN_REQUEST.api_version,
        "metadata": {"creationTimestamp": None, **metadata, "name": name, "namespace": namespace},
        "spec": {"audiences": audiences, "expirationSeconds": lifetime_s, "boundObjectRef": reference},
        "status": {"token": token, "expirationTimestamp": rfc3339(ends_s)},
    }


def _bound(cache: WatchCache, account: Object, reference: Object) -> tuple[Kind, Object]:
    version, word = str(reference.get("apiVersion") or ""), str(reference.get("kind") or "")
    kind = BOUND_KINDS.get(word)
    if kind is None or version not in ("", "v1"):
        group = "/v1" if version == "v1" else f"/{version}" if "/" not in version else version
        raise errors.bad_request(f"cannot bind token to object of type {group}, Kind={word}")
    name = str(reference.get("name") or "")
    if not name:
        raise errors.bad_request("Name parameter required.")
    obj = cache.of(kind).get(name, meta.namespace(account) if kind.namespaced else "")
    if obj is None:
        raise errors.not_found("", kind.plural, name)
    if kind is POD and (obj.get("spec") or {}).get("serviceAccountName") != meta.name(account):
        text = (
            f'cannot bind token for serviceaccount "{meta.name(account)}" to pod running with different '
            "serviceaccount name."
        )
        raise errors.bad_request(text)
    uid = reference.get("uid")
    if uid and uid != meta.uid(obj):
        text = (
            f"the UID in the bound object reference ({uid}) does not match the UID in record. The object "
            "might have been deleted and then recreated"
        )
        details = {"name": name, "kind": kind.kind}
        raise errors.StatusError(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on {kind.kind} "{name}": {text}',
            details=details,
        )
    return kind, obj


def answer_review(tokens: Tokens, review: Object) -> dict[str, Any]:
    """The status of a TokenReview.

    Raises:
        StatusError: 400, it shows no token.
    """
    spec = review.get("spec") or {}
    token = str(spec.get("token") or "")
    if not token:
        raise errors.bad_request("token is required for TokenReview in authentication")
    try:
        identity = tokens.authenticate(token, [str(one) for one in spec.get("audiences") or ()])
    except TokenError as error:
        return {"user": {}, "error": str(error)}
    user = identity.user
    shown = {**user_info(user), "groups": list(user.groups)}
    return {"authenticated": True, "user": shown, "audiences": list(identity.audiences)}


def _invalid(field: str, message: str, name: str = "") -> errors.StatusError:
    cause = {"reason": "FieldValueInvalid", "message": message, "field": field}
    return errors.invalid(TOKEN_REVIEW.group, TOKEN_REQUEST.kind, name, [cause])
