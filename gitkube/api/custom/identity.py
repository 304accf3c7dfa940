"""Does a write to a custom kind belong there: is the body of that kind, and does the kind still take objects?

Kubernetes answers otherwise here than of built-in kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitkube.api import errors
from gitkube.api.keys import object_key
from gitkube.objects import meta
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from gitkube.objects.types import Object
from gitkube.store.protocol import Compare, Op, Target

if TYPE_CHECKING:
    from gitkube.api.cache import WatchCache


def check_custom_identity(kind: Kind, obj: Object, *, is_patched: bool) -> None:
    """Make sure that an object says what it is.

    Args:
        is_patched: it is what a patch has made of a stored one.

    Raises:
        StatusError: 400 or 422, it is of another kind, or says nothing.
    """
    api_version, word = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not word:
        text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        raise errors.bad_request(f"{text}Object 'Kind' is missing in the body")
    if not api_version:
        raise errors.bad_request("Object 'apiVersion' is missing in the body")
    if word != kind.kind:
        raise _other(kind, obj, "kind", word, kind.kind)
    if is_patched and api_version != kind.api_version:
        raise _other(kind, obj, "apiVersion", api_version, kind.api_version)


def check_definition_lives(kind: Kind, cache: WatchCache) -> Compare:
    """Nothing new comes to a kind whose definition is being deleted.

    Returns:
        What the transaction must compare, so that nothing slips in after its objects have been counted.

    Raises:
        StatusError: 405, it is being deleted; 404, it is gone.
    """
    assert kind.custom is not None
    definition = cache.of(CUSTOM_RESOURCE_DEFINITION).get(kind.custom.definition)
    if definition is None:
        raise errors.not_found(
            CUSTOM_RESOURCE_DEFINITION.group, "customresourcedefinitions", kind.custom.definition
        )
    if meta.is_deleting(definition):
        text = "create not allowed while custom resource definition is terminating"
        details = {"group": kind.group, "kind": kind.plural}
        raise errors.StatusError(405, "MethodNotAllowed", text, details=details)
    key = object_key(CUSTOM_RESOURCE_DEFINITION, "", kind.custom.definition)
    return Compare(key, Target.MOD, Op.EQUAL, int(meta.resource_version(definition)))


def _other(kind: Kind, obj: Object, field: str, given: object, wanted: str) -> errors.StatusError:
    metadata = obj.get("metadata")
    name = str(metadata.get("name") or "") if isinstance(metadata, dict) else ""
    cause = {
        "reason": "FieldValueInvalid",
        "message": f'Invalid value: "{given}": must be {wanted}',
        "field": field,
    }
    # The refusal names what the body claims to be.
    group = str(obj.get("apiVersion")).rpartition("/")[0]
    return errors.invalid(group, str(obj.get("kind")), name, [cause])
