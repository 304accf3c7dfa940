"""MutatingAdmissionPolicies: what is written into an object before it is stored.

A mutation is an expression: of a part of the object, merged into it as by a server-side apply, or of the
operations of a JSON patch. Each sees what those before it have done. One that cannot be evaluated refuses the
request, or leaves the object as it is, as the policy's `failurePolicy` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from gitkube.api.admission.conditions import ConditionError
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.admission.rewriting import apply_operations, replace_object
from gitkube.api.admission.rounds import Rounds
from gitkube.api.admission.versions import Versions, shown_as
from gitkube.api.authorization import Authorizer
from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError
from gitkube.api.policies.evaluation import Evaluation, error_text
from gitkube.api.policies.parameters import ParameterError, parameters_of
from gitkube.api.policies.policy_set import Binding, Policy, PolicySet
from gitkube.api.policies.validating import Failure, refused
from gitkube.objects.cel import CelError, CelEvaluationError, to_plain
from gitkube.objects.kinds import MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, Kind
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.typed import check_elements, merge
from gitkube.objects.schema import Schema, schema_of
from gitkube.objects.validation.expressions import MUTATION_CONSTRUCTORS

log = structlog.get_logger()

_IDENTITY = ("name", "namespace", "uid", "generateName", "managedFields", "resourceVersion")


class MutationError(Exception):
    """A mutation cannot be done."""


class MutatingPolicies:
    def __init__(self, cache: WatchCache, *, authorizer: Authorizer, versions: Versions) -> None:
        self._authorizer = authorizer
        self._policies = PolicySet(
            cache, MUTATING_ADMISSION_POLICY, MUTATING_ADMISSION_POLICY_BINDING, versions
        )

    def concern(self, kind: Kind, subresource: str) -> bool:
        """Whether any policy could be about such a resource."""
        return bool(self._policies.about(kind, subresource))

    def mutate(self, request: AdmissionRequest, rounds: Rounds, *, is_second: bool) -> bool:
        """Let the policies change `request.obj`; whether one did.

        Raises:
            StatusError: one could not, and may not be left out.
        """
        if request.verb is Verb.DELETE:
            return False
        has_changed = False
        for policy, matched, bindings in self._policies.matched(request):
            for binding in bindings:
                key = f"{policy.name}/{binding.name}"
                if is_second and key not in rounds.due:
                    continue
                if self._apply(request, policy, matched, binding):
                    has_changed = True
                    rounds.note_change()
                if policy.spec.get("reinvocationPolicy") == "IfNeeded":
                    rounds.asked.add(key)
        return has_changed

    def _apply(self, request: AdmissionRequest, policy: Policy, matched: Kind, binding: Binding) -> bool:
        has_changed = False
        try:
            for parameters in parameters_of(request, policy, binding, self._policies.versions):
                if not Evaluation(policy, request, matched, parameters, self._authorizer).holds():
                    continue
                for mutation in policy.spec.get("mutations") or ():
                    evaluation = Evaluation(policy, request, matched, parameters, self._authorizer)
                    has_changed |= _mutate(request, matched, mutation, evaluation)
        except ParameterError as error:
            self._refuse(request, policy, binding, f"failed to configure binding: {error}")
        except (ConditionError, MutationError) as error:
            self._refuse(request, policy, binding, str(error))
        return has_changed

    def _refuse(self, request: AdmissionRequest, policy: Policy, binding: Binding, why: str) -> None:
        if not policy.is_optional:
            raise refused(request, "MutatingAdmissionPolicy", Failure(policy.name, binding, why))
        log.info("policy_passed_over", policy=policy.name, binding=binding.name, error=why)


def _mutate(
    request: AdmissionRequest, matched: Kind, mutation: Mapping[str, Any], evaluation: Evaluation
) -> bool:
    is_patch = mutation.get("patchType") == "JSONPatch"
    part = mutation.get("jsonPatch" if is_patch else "applyConfiguration") or {}
    source = str(part.get("expression"))
    try:
        value = to_plain(evaluation.value(source, MUTATION_CONSTRUCTORS))
        if is_patch:
            if not isinstance(value, list):
                raise CelEvaluationError("type mismatch: the expression must give a list of JSONPatch")
            return apply_operations(request, matched, value)
        if not isinstance(value, dict):
            raise CelEvaluationError("type mismatch: the expression must give an Object")
        return _merge(request, matched, value)
    except CelError as error:
        raise MutationError(error_text(source, error)) from error
    except (PatchError, StatusError) as error:
        raise MutationError(f"expression '{source.strip()}' resulted in error: {error.message}") from error


def _merge(request: AdmissionRequest, matched: Kind, part: dict[str, Any]) -> bool:
    """Merge a part of an object into the request's, by the kinds of its lists.

    Raises:
        PatchError: it does not fit the schema.
        StatusError: what it leaves is no object of the kind.
    """
    metadata = part.get("metadata") or {}
    if any(field in metadata for field in _IDENTITY):
        raise PatchError("metadata that says which object it is may not be changed")
    schema = schema_of(matched)
    _check_granular(part, schema, "")
    view = request.obj if request.body[1] else shown_as(request.kind, matched, request.obj)
    check_elements(part, schema)
    return replace_object(request, matched, merge(view, part, schema))


def _check_granular(value: Any, schema: Schema | None, path: str) -> None:
    """Lists that can only be replaced as a whole are not merged: the author would lose what is in them.

    Raises:
        PatchError: the part holds one.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            child = schema.child(key) if schema is not None else None
            _check_granular(item, child, f"{path}.{key}")
    elif isinstance(value, list):
        if schema is None or schema.list_type not in ("map", "set"):
            why = f"may not mutate atomic arrays, maps or structs: {path}"
            raise PatchError(f"invalid ApplyConfiguration: {why}")
        for item in value:
            _check_granular(item, schema.items, f"{path}[]")
