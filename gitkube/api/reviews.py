"""Reviews: questions that are asked by creating an object, and answered in its status. Nothing is stored.

Who am I (SelfSubjectReview); may I (SelfSubjectAccessReview), and what may I at all
(SelfSubjectRulesReview); may somebody (SubjectAccessReview, and LocalSubjectAccessReview in one namespace);
whose token is this (TokenReview).
The answers are the authorizer's, which is asked as for a real request.
"""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.authorization import Attributes, Authorizer, User, user_info
from gitkube.api.token_requests import answer_review
from gitkube.api.tokens import Tokens
from gitkube.objects.kinds import (
    LOCAL_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    TOKEN_REVIEW,
    Kind,
)
from gitkube.objects.types import Object

REVIEWS = frozenset(
    {
        SELF_SUBJECT_REVIEW,
        SELF_SUBJECT_RULES_REVIEW,
        SELF_SUBJECT_ACCESS_REVIEW,
        SUBJECT_ACCESS_REVIEW,
        LOCAL_SUBJECT_ACCESS_REVIEW,
        TOKEN_REVIEW,
    }
)


def review(
    authorizer: Authorizer, tokens: Tokens, kind: Kind, namespace: str, asker: User, obj: Object
) -> Object:
    """The review with its answer.

    Raises:
        StatusError: 400, 422, the question is none.
    """
    metadata = {"creationTimestamp": None, **(obj.get("metadata") or {})}
    answered: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    if kind is SELF_SUBJECT_REVIEW:
        return {**answered, "status": {"userInfo": user_info(asker)}}
    spec = obj.get("spec") or {}
    if kind is TOKEN_REVIEW:
        return {**answered, "spec": spec, "status": answer_review(tokens, obj)}
    if kind is SELF_SUBJECT_RULES_REVIEW:
        return {**answered, "spec": {}, "status": _rules(authorizer, asker, str(spec.get("namespace") or ""))}
    _check_metadata(kind, metadata)
    user = asker if kind is SELF_SUBJECT_ACCESS_REVIEW else _user_of(kind, spec)
    attributes = _attributes(kind, spec, user, namespace)
    decision = authorizer.decide(attributes)
    status: dict[str, Any] = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return {**answered, "spec": spec, "status": status}


def _rules(authorizer: Authorizer, asker: User, namespace: str) -> dict[str, Any]:
    if not namespace:
        raise errors.bad_request("no namespace on request")
    rules = authorizer.rules(asker, namespace)
    return {
        "resourceRules": list(rules.resources),
        "nonResourceRules": list(rules.paths),
        "incomplete": False,
    }


def _check_metadata(kind: Kind, metadata: Object) -> None:
    """A question is no object: what it says of itself would mean nothing."""
    is_local = kind is LOCAL_SUBJECT_ACCESS_REVIEW
    allowed = {"managedFields", *(["namespace"] if is_local else [])}
    if any(value for field, value in metadata.items() if field not in allowed):
        why = "must be empty except for namespace" if is_local else "must be empty"
        raise _invalid(kind, "metadata", f"Invalid value: {why}")


def _user_of(kind: Kind, spec: Object) -> User:
    name, groups = str(spec.get("user") or ""), tuple(spec.get("groups") or ())
    if not name and not groups:
        message = 'Invalid value: "": at least one of user or group must be specified'
        raise _invalid(kind, "spec.user", message)
    return User(name, groups, str(spec.get("uid") or ""))


def _attributes(kind: Kind, spec: Object, user: User, namespace: str) -> Attributes:
    resource: Object | None = spec.get("resourceAttributes")
    path: Object | None = spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        message = "Invalid value: exactly one of resourceAttributes or nonResourceAttributes must be given"
        raise _invalid(kind, "spec.resourceAttributes", message)
    if path is not None:
        if kind is LOCAL_SUBJECT_ACCESS_REVIEW:
            message = "Invalid value: disallowed on this kind of request"
            raise _invalid(kind, "spec.nonResourceAttributes", message)
        return Attributes(user, str(path.get("verb") or ""), path=str(path.get("path") or ""))
    resource = resource or {}
    asked = str(resource.get("namespace") or "")
    if kind is LOCAL_SUBJECT_ACCESS_REVIEW and asked != namespace:
        message = f'Invalid value: "{asked}": must match metadata.namespace: {namespace}'
        raise _invalid(kind, "spec.resourceAttributes.namespace", message)
    words = {
        field: str(resource.get(field) or "")
        for field in ("verb", "group", "version", "resource", "subresource", "name")
    }
    return Attributes(user, namespace=asked, **words)


def _invalid(kind: Kind, field: str, message: str) -> errors.StatusError:
    cause = {"reason": "FieldValueInvalid", "message": message, "field": field}
    return errors.invalid(kind.group, kind.kind, "", [cause])
