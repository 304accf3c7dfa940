"""A request's object after somebody outside has changed it: read anew, as if it had just been sent.

What a webhook or a policy makes of an object must be one again: of the right types, without fields that
nobody knows, with its defaults. Which object it is, it may not change.
"""

from __future__ import annotations

from typing import Any

from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.decoding import fill_defaults
from gitkube.api.errors import StatusError
from gitkube.objects.conversion import from_stored, to_stored
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import equal
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.json_patch import apply_json_patch
from gitkube.objects.types import Object
from gitkube.objects.unknown import prune
from gitkube.objects.validation.shape import decode_error


def apply_operations(request: AdmissionRequest, matched: Kind, operations: Any) -> bool:
    """Do a JSON patch on the object in the version that was asked about; whether it changed anything.

    Raises:
        StatusError: 500, the patch cannot be done, or what it leaves is no object of the kind.
    """
    if not operations and isinstance(operations, list):
        return False
    view = request.obj if request.body[1] else from_stored(matched, request.obj)
    try:
        patched = apply_json_patch(view, operations)
    except PatchError as error:
        raise StatusError(500, "InternalError", error.message) from error
    return replace_object(request, matched, patched)


def replace_object(request: AdmissionRequest, matched: Kind, patched: Any) -> bool:
    """Put another object of the version `matched` in the request's place; whether it differs.

    Raises:
        StatusError: 500, it is no object of the kind.
    """
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
        raise StatusError(500, "InternalError", f"the patch leaves no {matched.kind}")
    if request.body[1]:
        rewritten: Object = patched
    else:
        if wrong := decode_error(matched, patched):
            raise StatusError(500, "InternalError", wrong)
        stored = to_stored(matched, prune(matched, patched), request.obj)
        rewritten = fill_defaults(request.kind, stored)
    rewritten["apiVersion"], rewritten["kind"] = request.obj.get("apiVersion"), request.obj.get("kind")
    if equal(rewritten, request.obj):
        return False
    request.obj = rewritten
    return True
