"""The three patches on one stored object, with their errors in HTTP's words."""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.client import PatchType
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.json_patch import MAX_OPERATIONS, apply_json_patch
from gitkube.objects.patch.merge_patch import apply_merge_patch
from gitkube.objects.patch.strategic import apply_strategic_patch
from gitkube.objects.schema import Schema
from gitkube.objects.types import Object


def apply_patch(kind: Kind, obj: Object, patch: Any, type: PatchType, *, schema: Schema | None) -> Object:
    """The object with the patch done on it.

    Raises:
        StatusError: 400 for a malformed patch, 413 for too large a one, 422 for one that this object refuses.
    """
    if type is PatchType.JSON and isinstance(patch, list) and len(patch) > MAX_OPERATIONS:
        text = "Request entity too large: The allowed maximum operations in a JSON patch is "
        raise errors.StatusError(413, "RequestEntityTooLarge", f"{text}{MAX_OPERATIONS}, got {len(patch)}")
    try:
        if type is PatchType.JSON:
            patched = apply_json_patch(obj, patch)
        elif type is PatchType.MERGE:
            patched = apply_merge_patch(obj, patch)
        else:
            patched = apply_strategic_patch(obj, _with_whole_numbers(patch), schema)
    except PatchError as error:
        if error.is_unprocessable:
            raise errors.StatusError(422, "Invalid", error.message) from error
        raise errors.bad_request(error.message) from error
    if not isinstance(patched, dict):
        raise errors.bad_request(
            f"the patch leaves no {kind.kind}: an object is needed, not a list or a scalar"
        )
    return patched


def _with_whole_numbers(value: Any) -> Any:
    """A strategic patch with 3.0 as 3: it is read into typed values, of which a whole number is one.

    Clients that count in floating point send such numbers.
    """
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
