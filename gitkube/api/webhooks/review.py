"""The question that a webhook gets, and what its answer says. Pure functions.

An AdmissionReview of `admission.k8s.io/v1`, or of v1beta1 for webhooks that know only that. The answer is as
little trusted as any input: it must be about this question (its uid is echoed), and whatever is not as it
should be is an error that says what.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.admission.versions import shown_as
from gitkube.api.authorization import user_info
from gitkube.api.errors import StatusError
from gitkube.api.requests import FieldValidation
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

GROUP = "admission.k8s.io"
VERSIONS = ("v1", "v1beta1")
"""That we speak."""
MAX_WARNINGS = 100
MAX_WARNING_LENGTH = 4096
_STATUS_DETAILS = ("name", "group", "kind", "uid", "causes", "retryAfterSeconds")


class ReviewError(Exception):
    """The answer is none; the message is Kubernetes' own where it has one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook said."""

    is_allowed: bool
    status: Mapping[str, Any] = field(default_factory=dict)
    """Why not."""
    patch: str = ""
    """Base64 of a document."""
    warnings: Sequence[str] = ()
    audit_annotations: Mapping[str, str] = field(default_factory=dict)


def chosen_version(offered: Sequence[str]) -> str:
    """The first version that a webhook offers and that we speak; "" when there is none."""
    return next((each for each in offered if each in VERSIONS), "")


def question(request: AdmissionRequest, matched: Kind, *, uid: str, version: str) -> Object:
    """The review to send.

    Args:
        matched: the version of the resource that the webhook's rule names.
        version: of the review.
    """
    return {
        "kind": "AdmissionReview",
        "apiVersion": f"{GROUP}/{version}",
        "request": {"uid": uid, **attributes(request, matched)},
    }


def attributes(request: AdmissionRequest, matched: Kind) -> Object:
    """The `request` of a review but for its uid, which is also the variable `request` of expressions."""
    asked, context = request.asked, request.context
    has_name = request.name and not request.is_collection
    described: Object = {
        "kind": _kind(request, matched),
        "resource": _resource(matched),
        "requestKind": _kind(request, asked),
        "requestResource": _resource(asked),
        "operation": request.verb.value,
        "userInfo": user_info(context.user),
        "object": shown(request, request.new, matched),
        "oldObject": shown(request, request.before, matched),
        "dryRun": context.dry_run,
        "options": _options(request),
    }
    if has_name:
        described["name"] = request.name
    if request.namespace:
        described["namespace"] = request.namespace
    if request.subresource:
        described["subResource"] = described["requestSubResource"] = request.subresource
    return described


def shown(request: AdmissionRequest, obj: Object | None, matched: Kind) -> Object | None:
    """An object of the request in the version that a rule named."""
    if obj is None or request.body[1]:
        return obj
    return shown_as(request.kind, matched, obj)


def _kind(request: AdmissionRequest, kind: Kind) -> Object:
    api_version, word = request.body
    if not word:
        return {"group": kind.group, "version": kind.version, "kind": kind.kind}
    group, _, version = api_version.rpartition("/")
    return {"group": group, "version": version, "kind": word}


def _resource(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}


def _options(request: AdmissionRequest) -> Object:
    if request.verb is Verb.CONNECT:
        return {}
    context = request.context
    options: Object = {"kind": f"{request.verb.value.capitalize()}Options", "apiVersion": "meta.k8s.io/v1"}
    if context.dry_run:
        options["dryRun"] = ["All"]
    if request.verb is Verb.DELETE:
        return {**options, **(request.delete_options or {})}
    if context.named_manager:
        options["fieldManager"] = context.named_manager
    if context.field_validation is not FieldValidation.WARN:
        options["fieldValidation"] = context.field_validation.value
    return options


# --------------------------------------------------------------------------------------------- the answer


def read_answer(document: Mapping[str, Any], *, uid: str, version: str, is_mutating: bool) -> Verdict:
    """
    Args:
        uid: of the question.
        version: of the question.

    Raises:
        ReviewError: it is no answer to this question.
    """
    given = (document.get("apiVersion") or "", document.get("kind") or "")
    wanted = (f"{GROUP}/{version}", "AdmissionReview")
    if given not in (wanted, ("", "")):
        raise ReviewError(
            f"expected webhook response of {wanted[0]}, Kind={wanted[1]}, got {given[0]}, Kind={given[1]}"
        )
    response = document.get("response")
    if not isinstance(response, dict):
        raise ReviewError("webhook response was absent")
    if version == "v1" and given == ("", ""):
        raise ReviewError(f"expected webhook response of {wanted[0]}, Kind={wanted[1]}, got , Kind=")
    echoed = response.get("uid") or ""
    if version == "v1" and echoed != uid:
        raise ReviewError(f'expected response.uid="{uid}", got "{str(echoed)[:128]}"')
    patch, patch_type = response.get("patch"), response.get("patchType")
    if not is_mutating and version == "v1":
        if patch:
            raise ReviewError("validating webhook may not return response.patch")
        if patch_type:
            raise ReviewError("validating webhook may not return response.patchType")
    if is_mutating and version == "v1":
        if patch and not patch_type:
            raise ReviewError("webhook returned response.patch but not response.patchType")
        if patch_type and not patch:
            raise ReviewError("webhook returned response.patchType but not response.patch")
        if patch_type and patch_type != "JSONPatch":
            raise ReviewError(f'invalid value of response.patchType "{str(patch_type)[:64]}"')
    status = response.get("status")
    warnings = response.get("warnings")
    annotations = response.get("auditAnnotations")
    return Verdict(
        response.get("allowed") is True,
        status if isinstance(status, dict) else {},
        patch if isinstance(patch, str) and is_mutating else "",
        [str(each)[:MAX_WARNING_LENGTH] for each in warnings[:MAX_WARNINGS]]
        if isinstance(warnings, list)
        else (),
        {str(key): str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
    )


def patch_operations(verdict: Verdict) -> Any:
    """The JSON patch of an answer.

    Raises:
        ReviewError: it is none.
    """
    try:
        return orjson.loads(base64.b64decode(verdict.patch, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ReviewError("the patch of the webhook is no JSON") from error


def refusal(name: str, status: Mapping[str, Any]) -> StatusError:
    """The error of a request that a webhook has denied, with what it said."""
    denied = f'admission webhook "{name}" denied the request'
    code = status.get("code")
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    if message:
        text = f"{denied}: {message}"
    elif reason:
        text = f"{denied}: {reason}"
    else:
        text = f"{denied} without explanation"
    is_refusal = isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599
    given = status.get("details")
    details = (
        {key: given[key] for key in _STATUS_DETAILS if key in given} if isinstance(given, dict) else None
    )
    return StatusError(int(code) if is_refusal and code else 400, reason, text, details=details)
