"""JSON merge patch, RFC 7386: drawn like the document; null removes, and lists are replaced whole."""

from __future__ import annotations

from typing import Any

from gitkube.objects.patch.copying import clone


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """`MergePatch(Target, Patch)` of RFC 7386, section 2. Neither argument is changed."""
    if not isinstance(patch, dict):
        return clone(patch)
    # "if Target is not an Object: Target = {}": what is no object is replaced, not merged.
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = apply_merge_patch(merged.get(name), value)
    return merged


def create_merge_patch(before: Any, after: Any) -> Any:
    """The smallest merge patch that makes `after` of `before`.

    A merge patch cannot set a value to null; a null in `after` is treated as absent.
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        return clone(after)
    patch: dict[str, Any] = {name: None for name in before if after.get(name) is None}
    for name, value in after.items():
        if value is None or (name in before and before[name] == value):
            continue
        patch[name] = create_merge_patch(before.get(name), value)
    return patch
