"""What every object has: its metadata, read by name instead of by chains of `get`.

All functions take an object as the API gives it, and answer "" or an empty collection where a field is
missing. What they return belongs to the object and is not to be changed.
"""

from collections.abc import Mapping
from typing import Any

from gitkube.clock import parse_rfc3339
from gitkube.objects.types import Object

FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"


def metadata(obj: Object) -> Mapping[str, Any]:
    return obj.get("metadata") or {}


def name(obj: Object) -> str:
    return str(metadata(obj).get("name") or "")


def namespace(obj: Object) -> str:
    """The namespace, or "" for cluster-scoped objects."""
    return str(metadata(obj).get("namespace") or "")


def uid(obj: Object) -> str:
    return str(metadata(obj).get("uid") or "")


def resource_version(obj: Object) -> str:
    return str(metadata(obj).get("resourceVersion") or "")


def generation(obj: Object) -> int:
    return int(metadata(obj).get("generation") or 0)


def observed_generation(obj: Object) -> int:
    return int((obj.get("status") or {}).get("observedGeneration") or 0)


def labels(obj: Object) -> Mapping[str, str]:
    return metadata(obj).get("labels") or {}


def annotations(obj: Object) -> Mapping[str, str]:
    return metadata(obj).get("annotations") or {}


def finalizers(obj: Object) -> list[str]:
    return list(metadata(obj).get("finalizers") or ())


def owner_references(obj: Object) -> list[Mapping[str, Any]]:
    return list(metadata(obj).get("ownerReferences") or ())


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference of the object's controller, if it has one."""
    return next((owner for owner in owner_references(obj) if owner.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    controller = controller_of(obj)
    return controller is not None and controller.get("uid") == uid(owner)


def owner_reference(owner: Object, *, controller: bool = True) -> dict[str, Any]:
    """A reference to put into a dependant's metadata; the owner must have been stored."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def is_deleting(obj: Object) -> bool:
    """Deletion was asked for; finalizers or a grace period still hold the object."""
    return bool(metadata(obj).get("deletionTimestamp"))


def key(obj: Object) -> str:
    """`namespace/name`, or `name` for cluster-scoped objects: what work queues hold."""
    return key_of(namespace(obj), name(obj))


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """Namespace ("" for cluster-scoped) and name of a key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def created_at_s(obj: Object) -> float:
    """Seconds since the epoch; 0 when the object was never stored."""
    return time_s(metadata(obj).get("creationTimestamp"))


def time_s(text: Any) -> float:
    """Seconds since the epoch of a time in an object; 0 for a missing one.

    Raises:
        ValueError: it is no RFC 3339 time (validation lets none of these in).
    """
    return parse_rfc3339(text) if text else 0.0


def describe(obj: Object) -> str:
    """`Deployment shop/web`, for sentences."""
    return f"{obj.get('kind', 'object')} {key(obj)}"
