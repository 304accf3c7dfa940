"""scale, binding, eviction and the parts of pods: small views of an object, and what writing to them does.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.api import errors
from gitkube.api.client import Propagation
from gitkube.api.custom import scale as custom_scale
from gitkube.api.requests import DeleteOptions
from gitkube.objects import meta
from gitkube.objects.kinds import POD, REPLICATION_CONTROLLER, Kind
from gitkube.objects.labels import selector_of, selector_of_map
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.pod_parts import check_pod_part

EVICTION_VERSIONS = ("policy/v1", "policy/v1beta1")
_SCALE_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(kind: Kind, obj: Object, *, must_be_there: bool = True) -> Object:
    """The `autoscaling/v1` Scale of a workload.

    Raises:
        StatusError: 404 or 500, a custom resource has no such number.
    """
    if kind.custom is not None:
        return custom_scale.scale_of(kind, obj, must_be_there=must_be_there)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    metadata = {field: obj["metadata"][field] for field in _SCALE_METADATA if field in obj["metadata"]}
    replicas = spec.get("replicas")
    scale_status: dict[str, Any] = {"replicas": status.get("replicas", 0)}
    given = spec.get("selector")
    parsed = selector_of_map(given) if kind is REPLICATION_CONTROLLER else selector_of(given)
    if selector := str(parsed):
        scale_status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": replicas} if replicas else {},
        "status": scale_status,
    }


def check_scale(scale: Object, name: str) -> None:
    """A Scale that is written whole must say where it is.

    Raises:
        StatusError: 422, it does not; 400, it is no Scale at all.
    """
    _check_kind(scale, "autoscaling/v1", "Scale")
    metadata = scale.get("metadata") or {}
    is_about_another = metadata.get("name") not in (None, name)  # which is said by whoever looks at it
    if not metadata.get("namespace") and not is_about_another:
        cause = {"reason": "FieldValueRequired", "message": "Required value", "field": "metadata.namespace"}
        raise errors.invalid("autoscaling", "Scale", name, [cause])


def with_scale(kind: Kind, obj: Object, scale: Object) -> Object:
    """The workload with the number of replicas that a Scale wants; nothing else of the Scale counts.

    Raises:
        StatusError: the Scale is of something else, or its number is none.
    """
    replicas, metadata = wanted_replicas(kind, obj, scale), scale.get("metadata") or {}
    if kind.custom is not None:
        return custom_scale.with_replicas(kind, obj, replicas, metadata)
    carried = {key: metadata[key] for key in ("uid", "resourceVersion") if metadata.get(key)}
    return {
        **obj,
        "metadata": {**obj["metadata"], "resourceVersion": "", **carried},
        "spec": {**obj["spec"], "replicas": replicas},
    }


def wanted_replicas(kind: Kind, obj: Object, scale: Object) -> int:
    """The number that a Scale asks for.

    Raises:
        StatusError: the Scale is of something else, or its number is none.
    """
    metadata, name = scale.get("metadata") or {}, meta.name(obj)
    _check_kind(scale, "autoscaling/v1", "Scale")
    if metadata.get("name") not in (None, name):
        text = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        raise errors.bad_request(text)
    replicas = (scale.get("spec") or {}).get("replicas")
    replicas = 0 if replicas is None else replicas
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas < 2**31:
        if kind.custom is not None:
            raise custom_scale.wrong_number(kind, meta.name(obj), replicas)
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        cause = {"reason": "FieldValueInvalid", "message": message, "field": "spec.replicas"}
        raise errors.invalid("autoscaling", "Scale", name, [cause])
    return replicas


def applied_scale(kind: Kind, name: str, replicas: int) -> Object:
    """The object that an apply of a Scale is: the number of replicas and nothing else."""
    if kind.custom is not None:
        return custom_scale.applied_with_replicas(kind, name, replicas)
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name},
        "spec": {"replicas": replicas},
    }


def bind(pod: Object, binding: Object, now: str) -> Object:
    """The Pod on the host that a Binding names.

    Raises:
        StatusError: 409 when it is on a host already or being deleted.
    """
    name = meta.name(pod)
    _check_kind(binding, "v1", "Binding")
    target, metadata = binding.get("target") or {}, binding.get("metadata") or {}
    if metadata.get("name") != name:
        raise errors.bad_request("name in URL does not match name in Binding object")
    if target.get("kind") not in (None, "", "Node"):
        raise _invalid_binding(name, "target.kind", f'Unsupported value: "{target["kind"]}"')
    if not target.get("name"):
        raise _invalid_binding(name, "target.name", "Required value")
    if metadata.get("uid") and metadata["uid"] != meta.uid(pod):
        uids = f"{metadata['uid']}, UID in object meta: {meta.uid(pod)}"
        why = f"Precondition failed: UID in precondition: {uids}"
        raise errors.conflict("", "pods", name, why)
    version = metadata.get("resourceVersion")
    if version and version != meta.resource_version(pod):
        versions = f"{version}, ResourceVersion in object meta: {meta.resource_version(pod)}"
        why = f"Precondition failed: ResourceVersion in precondition: {versions}"
        raise errors.conflict("", "pods", name, why)
    if meta.is_deleting(pod):
        raise errors.conflict(
            "", "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    host = (pod.get("spec") or {}).get("nodeName")
    if host:
        raise errors.conflict("", "pods/binding", name, f'pod {name} is already assigned to node "{host}"')
    if (pod.get("spec") or {}).get("schedulingGates"):
        raise errors.conflict("", "pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    status = pod.get("status") or {}
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    others = [each for each in status.get("conditions") or [] if each.get("type") != "PodScheduled"]
    return {
        **pod,
        "metadata": {
            **pod["metadata"],
            **_merged(pod, metadata, "annotations"),
            **_merged(pod, metadata, "labels"),
        },
        "spec": {**pod["spec"], "nodeName": target["name"]},
        "status": {**status, "conditions": [*others, scheduled]},
    }


def check_part(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    """Whether this door of an object may change what it changes.

    Raises:
        StatusError: 422.
    """
    if kind is not POD:
        return
    causes = Causes()
    check_pod_part(causes, obj, old, subresource)
    if causes.list:
        raise errors.invalid("", POD.kind, meta.name(old), causes.list)


def eviction_options(eviction: Object, namespace: str, name: str) -> DeleteOptions:
    """What the `deleteOptions` of a policy/v1 Eviction ask for.

    Raises:
        StatusError: 400, it is none, or one of another pod; nothing is evicted by mistake.
    """
    kind, version = eviction.get("kind") or "Eviction", eviction.get("apiVersion") or EVICTION_VERSIONS[0]
    if kind != "Eviction" or version not in EVICTION_VERSIONS:
        raise errors.bad_request(f"the body must be a policy/v1 Eviction, not {version} {kind}")
    if (eviction.get("metadata") or {}).get("name") != name:
        raise errors.bad_request("name in URL does not match name in Eviction object")
    return parse_delete_options(eviction.get("deleteOptions") or {})


def parse_delete_options(body: Object) -> DeleteOptions:
    """The options in a `v1.DeleteOptions` document.

    Raises:
        StatusError: 400 or 422, a field has a wrong value.
    """
    uid, resource_version = preconditions_of(body.get("preconditions"))
    word = body.get("propagationPolicy")
    grace_s = body.get("gracePeriodSeconds")
    if grace_s is not None and (not isinstance(grace_s, int) or isinstance(grace_s, bool)):
        raise errors.bad_request("gracePeriodSeconds must be a whole number")
    if word is not None and body.get("orphanDependents") is not None:
        message = f'Invalid value: "{word}": orphanDependents and deletionPropagation cannot be both set'
        raise _invalid_options("propagationPolicy", message)
    if body.get("orphanDependents") is not None:
        word = "Orphan" if body["orphanDependents"] else "Background"
    try:
        propagation = Propagation(word) if word else None
    except ValueError as error:
        message = f'Unsupported value: "{word}": supported values: "Background", "Foreground", "Orphan"'
        raise _invalid_options("propagationPolicy", message, "FieldValueNotSupported") from error
    return DeleteOptions(propagation, grace_s, uid, resource_version)


def preconditions_of(given: object) -> tuple[str, str]:
    """The uid and the version that an object must have; "" is any.

    Something of a wrong type is refused, and never read as nothing: the object would be deleted all the same.

    Raises:
        StatusError: 400.
    """
    if given is None:
        return "", ""
    if not isinstance(given, Mapping):
        raise errors.bad_request("preconditions must be an object")
    uid, resource_version = given.get("uid"), given.get("resourceVersion")
    for name, value in (("uid", uid), ("resourceVersion", resource_version)):
        if value is not None and not isinstance(value, str):
            raise errors.bad_request(f"preconditions.{name} must be a string")
    return uid or "", resource_version or ""


def delete_options_document(options: DeleteOptions) -> Object:
    """The fields of a `v1.DeleteOptions` that say the same, for those who are asked about a deletion."""
    preconditions = {"uid": options.uid, "resourceVersion": options.resource_version}
    given = {key: value for key, value in preconditions.items() if value}
    return {
        **({"gracePeriodSeconds": options.grace_period_s} if options.grace_period_s is not None else {}),
        **({"preconditions": given} if given else {}),
        **({"propagationPolicy": options.propagation.value} if options.propagation is not None else {}),
    }


def _check_kind(body: Object, api_version: str, kind: str) -> None:
    if body.get("kind") not in (None, "", kind) or body.get("apiVersion") not in (None, "", api_version):
        got = f"{body.get('apiVersion')} {body.get('kind')}"
        raise errors.bad_request(f"the body must be a {api_version} {kind}, not {got}")


def _merged(pod: Object, metadata: Object, field: str) -> Object:
    given = metadata.get(field)
    return {field: {**(pod["metadata"].get(field) or {}), **given}} if given else {}


def _invalid_binding(name: str, field: str, message: str) -> errors.StatusError:
    reason = "FieldValueRequired" if message == "Required value" else "FieldValueNotSupported"
    return errors.invalid("", POD.kind, name, [{"reason": reason, "message": message, "field": field}])


def _invalid_options(field: str, message: str, reason: str = "FieldValueInvalid") -> errors.StatusError:
    cause = {"reason": reason, "message": message, "field": field}
    return errors.invalid("meta.k8s.io", "DeleteOptions", "", [cause])
