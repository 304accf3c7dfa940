"""A request's object after somebody outside has changed it: read anew, as if it had just been sent.

What a webhook or a policy makes of an object must be one again: of the right types, without fields that
nobody knows, with its defaults. Which object it is, it may not change.
"""

from __future__ import annotations

from typing import Any

from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.admission.versions import shown_as, taken_from
from gitkube.api.decoding import fill_defaults
from gitkube.api.errors import StatusError
from gitkube.objects.custom.validation import decode_error as custom_decode_error
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
    view = request.obj if request.body[1] else shown_as(request.kind, matched, request.obj)
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
        if wrong := _decode_error(matched, patched):
            raise StatusError(500, "InternalError", wrong)
        taken = taken_from(request.kind, matched, prune(matched, patched), request.obj)
        rewritten = fill_defaults(request.kind, taken)
    rewritten["apiVersion"], rewritten["kind"] = request.obj.get("apiVersion"), request.obj.get("kind")
    if equal(rewritten, request.obj):
        return False
    request.obj = rewritten
    return True


def _decode_error(kind: Kind, obj: Object) -> str:
    return decode_error(kind, obj) if kind.custom is None else custom_decode_error(kind, obj)
