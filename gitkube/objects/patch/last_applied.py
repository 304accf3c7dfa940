"""From client-side to server-side apply, for the one manager that did both: kubectl.

A client-side `kubectl apply` notes what it applied in an annotation, and owns its fields as an Update of
`kubectl-client-side-apply`. When the same person goes on with `--server-side`, the fields of that note are
his own: no conflict, as long as nobody has changed them since. And the note is kept true, so that the way
back works too. The rules are those of Kubernetes' last-applied manager and updater.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from gitkube.objects.patch.errors import FieldConflict
from gitkube.objects.patch.fieldset import compare, difference, fields_of, members, path_text
from gitkube.objects.schema import Schema
from gitkube.objects.types import Object

KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def conflicts_left(live: Object, conflicts: Sequence[FieldConflict], schema: Schema) -> list[FieldConflict]:
    """The conflicts about fields that the note does not have, or that are not as it says any more."""
    noted = _noted(live)
    if noted is None:
        return list(conflicts)
    try:
        changes = compare(noted, live, schema)
        still_so = difference(difference(fields_of(noted, schema), changes.modified), changes.removed)
    except ValueError:
        return list(conflicts)
    allowed = {path_text(path) for path in members(still_so)}
    return [conflict for conflict in conflicts if conflict.field not in allowed]


def with_note(live: Object, applied: Object, merged: Object) -> Object:
    """The merged object with the note brought up to date; unchanged where there was none."""
    if not _annotations(live).get(LAST_APPLIED):
        return merged
    metadata = dict(applied.get("metadata") or {})
    metadata.pop("managedFields", None)
    annotations = _annotations(applied)
    annotations.pop(LAST_APPLIED, None)
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    noted = {**applied, "metadata": metadata}
    note = json.dumps(noted, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    kept = {**_annotations(merged), LAST_APPLIED: note + "\n"}
    return {**merged, "metadata": {**merged["metadata"], "annotations": kept}}


def _noted(live: Object) -> dict[str, Any] | None:
    text = _annotations(live).get(LAST_APPLIED)
    if not text:
        return None
    try:
        noted = orjson.loads(text)
    except ValueError:
        return None
    return noted if isinstance(noted, dict) else None


def _annotations(obj: Object) -> dict[str, str]:
    return dict((obj.get("metadata") or {}).get("annotations") or {})
