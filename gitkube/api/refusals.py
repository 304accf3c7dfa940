"""Why the verbs say no, in Kubernetes' words: each function raises or makes one kind of refusal."""

from __future__ import annotations

from gitkube.api import errors
from gitkube.api.authorization import Attributes, Decision
from gitkube.api.rbac.rules import quoted
from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.errors import ConflictError
from gitkube.objects.types import Object

_NEVER_UNSEEN = frozenset(
    {
        kinds.LEASE,
        kinds.POD_DISRUPTION_BUDGET,
        kinds.CUSTOM_RESOURCE_DEFINITION,
        kinds.API_SERVICE,
        kinds.VALIDATING_WEBHOOK_CONFIGURATION,
        kinds.MUTATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_ADMISSION_POLICY,
        kinds.VALIDATING_ADMISSION_POLICY_BINDING,
        kinds.MUTATING_ADMISSION_POLICY,
        kinds.MUTATING_ADMISSION_POLICY_BINDING,
    }
)
"""Kinds whose updates must say which version they are of."""


def apply_conflict(conflict: ConflictError) -> errors.StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {each.manager}", "field": each.field}
        for each in conflict.conflicts
    ]
    by_manager: dict[str, list[str]] = {}
    for each in conflict.conflicts:
        by_manager.setdefault(each.manager, []).append(each.field)
    if len(causes) == 1:
        only = conflict.conflicts[0]
        text = f"Apply failed with 1 conflict: conflict with {only.manager}: {only.field}"
    else:
        lines = []
        for manager, fields in by_manager.items():
            listed = "".join(f"\n- {field}" for field in fields)
            lines.append(f"conflicts with {manager}:{listed}")
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return errors.StatusError(409, "Conflict", text, details={"causes": causes})


def check_uid(kind: Kind, obj: Object, old: Object) -> None:
    """A patch cannot make an object another one."""
    given, uid = obj["metadata"].get("uid"), old["metadata"].get("uid")
    if given and given != uid:
        message = f'Invalid value: "{given}": field is immutable'
        cause = {"reason": "FieldValueInvalid", "message": message, "field": "metadata.uid"}
        raise errors.invalid(kind.group, kind.kind, str(old["metadata"]["name"]), [cause])


def check_deletion_fields(kind: Kind, obj: Object, old: Object) -> None:
    """Only DELETE says when an object goes and how long it may take."""
    metadata, before = obj["metadata"], old["metadata"]
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": f"Invalid value: {metadata[field]}: field is immutable",
            "field": f"metadata.{field}",
        }
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds")
        if metadata.get(field) is not None and metadata[field] != before.get(field)
    ]
    if causes:
        raise errors.invalid(kind.group, kind.kind, str(before["name"]), causes)


def check_version_given(kind: Kind, version: str, before: Object) -> None:
    """Of some kinds nobody may write over what they have not seen."""
    if version in ("", "0") and (kind in _NEVER_UNSEEN or kind.custom is not None):
        message = "Invalid value: 0: must be specified for an update"
        cause = {"reason": "FieldValueInvalid", "message": message, "field": "metadata.resourceVersion"}
        raise errors.invalid(kind.group, kind.plural, str(before["name"]), [cause])


def check_served(kind: Kind, subresource: str, served: tuple[str, ...]) -> None:
    if subresource not in served or (subresource and subresource not in kind.subresources):
        raise errors.StatusError(404, "NotFound", "the server could not find the requested resource")


def refusal(asked: Attributes, decision: Decision) -> errors.StatusError:
    """The 403 of a request that the authorizer has denied."""
    user = asked.user.name
    if asked.path:
        why = f'User "{user}" cannot {asked.verb} path {quoted(asked.path)}'
        text = f"forbidden: {why}: {decision.reason}" if decision.reason else f"forbidden: {why}"
        return errors.StatusError(403, "Forbidden", text, details={})
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    why = f'User "{user}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}" {where}'
    if decision.reason:
        why = f"{why}: {decision.reason}"
    # What the request is about is the resource; which part of it, the text says.
    return errors.forbidden(asked.group, asked.resource, asked.name, why)
