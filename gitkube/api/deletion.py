"""What a DELETE does to an object: nothing yet, a mark, or its end. A pure decision.

An object goes at once unless something holds it: finalizers, or a Pod's grace period. What is held gets a
deletionTimestamp and stays until the last finalizer is taken off, or, for a Pod on a host, until it is
deleted again with grace 0 once its containers have ended. Propagation is a finalizer too:
`foregroundDeletion` waits for the dependents, `orphan` for them to be cut loose; both are taken off by the
garbage collector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gitkube.api import errors
from gitkube.api.client import Propagation
from gitkube.api.requests import DeleteOptions
from gitkube.clock import parse_rfc3339, rfc3339
from gitkube.objects import conditions
from gitkube.objects.custom.definition import CLEANUP_FINALIZER, TERMINATING
from gitkube.objects.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    JOB,
    NAMESPACE,
    POD,
    REPLICATION_CONTROLLER,
    Kind,
)
from gitkube.objects.meta import FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from gitkube.objects.types import Object

DEFAULT_POD_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Deletion:
    object: Object
    """As it is to be stored, or, if `is_end`, as it was last."""
    is_end: bool
    is_rewritten: bool = False
    """Its last version is a new one: it was waiting for its end, which came sooner than said."""


def _check_preconditions(kind: Kind, obj: Object, *, uid: str, resource_version: str) -> None:
    """409 when the object is another one by now."""
    metadata = obj["metadata"]
    name = metadata["name"]
    if uid and metadata.get("uid") != uid:
        why = f"the UID in the precondition ({uid}) does not match the UID in record "
        why += f"({metadata.get('uid')}). "
        why += "The object might have been deleted and then recreated"
        raise errors.conflict(kind.group, kind.kind, name, why)
    if resource_version and metadata.get("resourceVersion") != resource_version:
        why = f"the ResourceVersion in the precondition ({resource_version}) does not match the "
        why += f"ResourceVersion in record ({metadata.get('resourceVersion')}). "
        why += "The object might have been modified"
        raise errors.conflict(kind.group, kind.kind, name, why)


def decide_deletion(kind: Kind, obj: Object, options: DeleteOptions, now_s: float) -> Deletion:
    """What becomes of `obj`.

    Raises:
        StatusError: a precondition does not hold.
    """
    _check_preconditions(kind, obj, uid=options.uid, resource_version=options.resource_version)
    metadata = obj["metadata"]
    if kind is POD:
        return _delete_pod(obj, options, now_s)
    if kind is CUSTOM_RESOURCE_DEFINITION and "deletionTimestamp" not in metadata:
        return Deletion(_ending_definition(obj, now_s), is_end=False)
    finalizers = _finalizers(metadata.get("finalizers") or [], _with_default(kind, options))
    spec_finalizers = (obj.get("spec") or {}).get("finalizers") if kind is NAMESPACE else None
    if not finalizers and not spec_finalizers:
        return Deletion(obj, is_end=True)
    marked = _marked(obj, finalizers, 0 if kind is not NAMESPACE else None, now_s)
    if kind is NAMESPACE:
        marked["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return Deletion(marked, is_end=False)


def _ending_definition(definition: Object, now_s: float) -> Object:
    """A definition waits until all objects of its kind are gone."""
    finalizers = [*(definition["metadata"].get("finalizers") or ()), CLEANUP_FINALIZER]
    marked = _with_deletion(definition, list(dict.fromkeys(finalizers)), now_s, None)
    text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    condition = conditions.make(TERMINATING, True, "InstanceDeletionPending", text)
    before = conditions.conditions(definition)
    marked["status"] = {
        **(definition.get("status") or {}),
        "conditions": conditions.with_condition(before, condition, now_s),
    }
    return marked


def orphans_by_default(kind: Kind) -> bool:
    """Kinds whose pods stay when nobody says what shall become of them, as it was in their first years."""
    return kind in (JOB, REPLICATION_CONTROLLER)


def _with_default(kind: Kind, options: DeleteOptions) -> DeleteOptions:
    if options.propagation is None and orphans_by_default(kind):
        return replace(options, propagation=Propagation.ORPHAN)
    return options


def _delete_pod(pod: Object, options: DeleteOptions, now_s: float) -> Deletion:
    metadata = pod["metadata"]
    grace_s = _pod_grace_s(pod, options)
    if "deletionTimestamp" not in metadata:
        finalizers = _finalizers(metadata.get("finalizers") or [], options)
        marked = _marked(pod, finalizers, grace_s, now_s)
        return Deletion(marked, is_end=grace_s == 0 and not finalizers)
    # A second request may only shorten the time; without a number, it changes nothing.
    present_s = metadata.get("deletionGracePeriodSeconds") or 0
    finalizers = list(metadata.get("finalizers") or [])
    if options.grace_period_s is None or grace_s >= present_s:
        return Deletion(pod, is_end=present_s == 0 and not finalizers)
    started_s = parse_rfc3339(metadata["deletionTimestamp"]) - present_s
    shortened = _with_deletion(pod, finalizers, started_s + grace_s, grace_s)
    return Deletion(shortened, is_end=grace_s == 0 and not finalizers, is_rewritten=True)


def _pod_grace_s(pod: Object, options: DeleteOptions) -> int:
    spec = pod.get("spec") or {}
    phase = (pod.get("status") or {}).get("phase")
    # Where nothing runs there is nothing to wait for.
    if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
        return 0
    grace_s = options.grace_period_s
    if grace_s is None:
        grace_s = spec.get("terminationGracePeriodSeconds", DEFAULT_POD_GRACE_S)
    return 1 if grace_s < 0 else int(grace_s)


def _finalizers(present: list[str], options: DeleteOptions) -> list[str]:
    wanted = options.propagation
    orphans = wanted is Propagation.ORPHAN or (wanted is None and ORPHAN_FINALIZER in present)
    foreground = wanted is Propagation.FOREGROUND or (wanted is None and FOREGROUND_FINALIZER in present)
    finalizers = [each for each in present if each not in (ORPHAN_FINALIZER, FOREGROUND_FINALIZER)]
    if orphans:
        finalizers.append(ORPHAN_FINALIZER)
    if foreground:
        finalizers.append(FOREGROUND_FINALIZER)
    return finalizers


def _marked(obj: Object, finalizers: list[str], grace_s: int | None, now_s: float) -> Object:
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata:
        # A later request may still choose another propagation.
        kept = {key: value for key, value in metadata.items() if key != "finalizers"}
        return {**obj, "metadata": {**kept, "finalizers": finalizers} if finalizers else kept}
    marked = _with_deletion(obj, finalizers, now_s + (grace_s or 0), grace_s)
    if metadata.get("generation"):
        marked["metadata"]["generation"] = metadata["generation"] + 1
    return marked


def _with_deletion(obj: Object, finalizers: list[str], at_s: float, grace_s: int | None) -> Object:
    metadata = {**obj["metadata"], "deletionTimestamp": rfc3339(at_s)}
    if grace_s is not None:
        metadata["deletionGracePeriodSeconds"] = grace_s
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    return {**obj, "metadata": metadata}


def ends_with_update(kind: Kind, obj: Object, old: Object) -> bool:
    """Whether an update takes away the last thing that held an object being deleted."""
    metadata, before = obj["metadata"], old["metadata"]
    if "deletionTimestamp" not in before or metadata.get("finalizers"):
        return False
    if kind is NAMESPACE:
        return not (obj.get("spec") or {}).get("finalizers")
    return not before.get("deletionGracePeriodSeconds")
