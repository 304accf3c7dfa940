"""ValidatingAdmissionPolicies: what an object must be, and what happens when it is not.

Each binding says whether a failed validation refuses the request, warns its author, or is noted for the audit
log. An expression that cannot be evaluated refuses or passes, as the policy's `failurePolicy` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from gitkube.api.admission.conditions import ConditionError
from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.admission.versions import Versions
from gitkube.api.authorization import Authorizer
from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError, forbidden
from gitkube.api.policies.evaluation import Evaluation, error_text
from gitkube.api.policies.parameters import ParameterError, parameters_of
from gitkube.api.policies.policy_set import Binding, Policy, PolicySet
from gitkube.objects.cel import CelError
from gitkube.objects.kinds import VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING, Kind

log = structlog.get_logger()

MAX_MESSAGE_LENGTH = 5 * 1024
MAX_ANNOTATION_LENGTH = 10 * 1024
FAILURE_ANNOTATION = "validation.policy.admission.k8s.io/validation_failure"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


@dataclass(frozen=True, slots=True)
class Failure:
    """A validation that an object did not pass."""

    policy: str
    binding: Binding
    message: str
    reason: str = ""
    index: int = 0


class ValidatingPolicies:
    def __init__(self, cache: WatchCache, *, authorizer: Authorizer, versions: Versions) -> None:
        self._authorizer = authorizer
        self._policies = PolicySet(
            cache, VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING, versions
        )

    def concern(self, kind: Kind, subresource: str) -> bool:
        """Whether any policy could be about such a resource."""
        return bool(self._policies.about(kind, subresource))

    def validate(self, request: AdmissionRequest) -> None:
        """Raises `StatusError` when a policy refuses the request."""
        failures = [
            failure
            for policy, matched, bindings in self._policies.matched(request)
            for binding in bindings
            for failure in self._failures(request, policy, matched, binding)
        ]
        noted: list[Any] = []
        refusal: StatusError | None = None
        for failure in failures:
            actions = failure.binding.actions
            if "Warn" in actions:
                text = f"Validation failed for ValidatingAdmissionPolicy '{failure.policy}' with binding "
                warning = f"{text}'{failure.binding.name}': {failure.message}"
                request.context.warnings.append(warning)
            if "Audit" in actions:
                noted.append(
                    {
                        "message": failure.message,
                        "policy": failure.policy,
                        "binding": failure.binding.name,
                        "expressionIndex": failure.index,
                        "validationActions": sorted(actions),
                    }
                )
            if "Deny" in actions and refusal is None:
                refusal = refused(request, "ValidatingAdmissionPolicy", failure)
        if noted:
            request.context.audit_annotations[FAILURE_ANNOTATION] = orjson.dumps(noted).decode()
        if refusal is not None:
            raise refusal

    def _failures(
        self, request: AdmissionRequest, policy: Policy, matched: Kind, binding: Binding
    ) -> Iterator[Failure]:
        try:
            for parameters in parameters_of(request, policy, binding, self._policies.versions):
                evaluation = Evaluation(policy, request, matched, parameters, self._authorizer)
                if evaluation.holds():
                    yield from _judge(policy, binding, evaluation)
                    _annotate(request, policy, evaluation)
        except ParameterError as error:
            if not policy.is_optional:
                yield Failure(policy.name, binding, f"failed to configure binding: {error}")
        except (ConditionError, _AnnotationError) as error:
            if not policy.is_optional:
                yield Failure(policy.name, binding, str(error))


class _AnnotationError(Exception):
    """An audit annotation has no value."""


def _judge(policy: Policy, binding: Binding, evaluation: Evaluation) -> Iterator[Failure]:
    for index, validation in enumerate(policy.spec.get("validations") or ()):
        source = str(validation.get("expression"))
        reason = str(validation.get("reason") or "")
        try:
            value = evaluation.value(source)
        except CelError as error:
            if not policy.is_optional:
                yield Failure(policy.name, binding, error_text(source, error), index=index)
            continue
        if value is not True:
            yield Failure(policy.name, binding, _message(validation, evaluation), reason, index)


def _message(validation: Any, evaluation: Evaluation) -> str:
    if source := validation.get("messageExpression"):
        try:
            text = evaluation.value(str(source))
        except CelError as error:
            log.info("message_expression_failed", expression=str(source), error=error.message)
            text = None
        if isinstance(text, str) and (text := text.strip()) and "\n" not in text:
            return text[:MAX_MESSAGE_LENGTH]
    given = str(validation.get("message") or "").strip()
    return given or f"failed expression: {str(validation.get('expression')).strip()}"


def _annotate(request: AdmissionRequest, policy: Policy, evaluation: Evaluation) -> None:
    for annotation in policy.spec.get("auditAnnotations") or ():
        source = str(annotation.get("valueExpression"))
        try:
            value = evaluation.value(source)
        except CelError as error:
            raise _AnnotationError(error_text(source, error)) from error
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            why = f"valueExpression '{source.strip()}' resulted in unsupported return type"
            raise _AnnotationError(f"{why}. Return type must be either string or null")
        key = f"{policy.name}/{annotation.get('key')}"
        request.context.audit_annotations[key] = value.strip()[:MAX_ANNOTATION_LENGTH]


def refused(request: AdmissionRequest, kind: str, failure: Failure) -> StatusError:
    """The answer to a request that a policy refuses."""
    message = (
        f"{kind} '{failure.policy}' with binding '{failure.binding.name}' denied request: {failure.message}"
    )
    error = forbidden(request.kind.group, request.kind.plural, request.name, message)
    error.reason = failure.reason or "Invalid"
    error.code = _CODES.get(error.reason, 422)
    error.details = {**(error.details or {}), "causes": [{"message": message}]}
    return error
