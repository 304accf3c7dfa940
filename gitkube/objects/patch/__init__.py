"""How an object changes: three kinds of patch, and server-side apply with its ownership of fields.

Everything here is a pure function from documents to documents; none of them changes its arguments. Errors are
`PatchError` (the patch makes no sense for this object, with the sentence that says why) and `ConflictError`
(another manager owns what an apply wants to change).
"""

from gitkube.objects.patch.errors import ConflictError, FieldConflict, PatchError
from gitkube.objects.patch.json_patch import apply_json_patch
from gitkube.objects.patch.merge_patch import apply_merge_patch
from gitkube.objects.patch.strategic import apply_strategic_patch

__all__ = [
    "ConflictError",
    "FieldConflict",
    "PatchError",
    "apply_json_patch",
    "apply_merge_patch",
    "apply_strategic_patch",
]
