"""From what a client sent to an object that the verbs can work with, and the last check before it is stored.

In order: is it of the kind that the URL names, has every field the right type, which fields are unknown;
then defaults; at the end, validation. Each refusal is Kubernetes' own, with its code and words where clients
read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gitkube.api import errors
from gitkube.api.custom.identity import check_custom_identity
from gitkube.api.requests import Context, FieldValidation
from gitkube.objects.custom.validation import decode_error as custom_decode_error
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone
from gitkube.objects.types import Object
from gitkube.objects.unknown import prune, unknown_fields
from gitkube.objects.validation.shape import decode_error
from gitkube.objects.validation.validate import validate

MAX_WARNINGS = 20
_REPEATED_OWNERS = (
    "metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and "
    "may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)
MAX_SHOWN_PATCH = 300
"""Characters of a wrong patch that are shown with the error."""


def accept_patched(kind: Kind, patched: Object, patch: Any, context: Context) -> Object:
    """As `accept`, for what a patch has made of an object: what is wrong is the patch's fault.

    Raises:
        StatusError: 422, it cannot be read as an object of this kind.
    """
    if kind.custom is not None:
        return accept(kind, patched, context, is_patched=True)
    try:
        return accept(kind, patched, context)
    except errors.StatusError as error:
        shown = orjson.dumps(patch).decode(errors="replace")[:MAX_SHOWN_PATCH]
        message = f"Invalid value: {orjson.dumps(shown).decode()}: {error.message}"
        cause = {"reason": "FieldValueInvalid", "message": message, "field": "patch"}
        details = {"causes": [cause]}
        text = f' "" is invalid: patch: {message}'
        raise errors.StatusError(422, "Invalid", text, details=details) from error


def accept(
    kind: Kind, obj: Any, context: Context, *, is_apply: bool = False, is_patched: bool = False
) -> Object:
    """A copy of what was sent, of the right kind and types, without fields that nobody knows.

    Raises:
        StatusError: 400, it cannot be read as an object of this kind.
    """
    if not isinstance(obj, dict):
        raise errors.bad_request(f"the body must be a {kind.kind}, not {type(obj).__name__}")
    if kind.custom is not None:
        check_custom_identity(kind, obj, is_patched=is_patched)
    api_version, word = obj.get("apiVersion") or "", obj.get("kind") or ""
    if is_apply and not word:
        raise errors.bad_request(f"the applied object says no kind; {kind.kind} is expected")
    if is_apply and api_version != kind.api_version:
        text = "Incorrect version specified in apply patch. "
        raise errors.bad_request(
            f"{text}Specified patch version: {api_version}, expected: {kind.api_version}"
        )
    if api_version not in ("", kind.api_version):
        raise errors.bad_request(
            f"the API version in the data ({api_version}) does not match "
            f"the expected API version ({kind.api_version})"
        )
    if word not in ("", kind.kind):
        raise errors.bad_request(
            f"the kind in the data ({word}) does not match the expected one ({kind.kind})"
        )
    wrong = decode_error(kind, obj) if kind.custom is None else custom_decode_error(kind, obj)
    if wrong:
        raise errors.bad_request(wrong)
    accepted: Object = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
    accepted["apiVersion"], accepted["kind"] = kind.api_version, kind.kind
    if accepted.get("metadata") is None:
        accepted["metadata"] = {}
    unknown = unknown_fields(kind, accepted)
    _handle_unknown(kind, accepted, unknown, context, is_apply)
    known = prune(kind, accepted) if unknown or kind.custom is not None else clone(accepted)
    if len(known["metadata"].get("ownerReferences") or ()) > 1 and not is_apply:
        _drop_repeated_owners(known["metadata"], context)
    return known


def _drop_repeated_owners(metadata: dict[str, Any], context: Context) -> None:
    """What stands twice among the owners counts once; in place."""
    kept: list[Any] = []
    repeated: list[str] = []
    for reference in metadata["ownerReferences"]:
        if reference in kept:
            repeated.append(str(reference.get("uid") or ""))
        else:
            kept.append(reference)
    if repeated:
        metadata["ownerReferences"] = kept
        warn(context, [f"{_REPEATED_OWNERS}{', '.join(repeated)}"])


def warn(context: Context, sentences: Sequence[str]) -> None:
    """Tell the client, in the order in which things were found, and nothing twice or without end."""
    for sentence in sentences:
        if sentence not in context.warnings and len(context.warnings) < MAX_WARNINGS:
            context.warnings.append(sentence)


def _handle_unknown(kind: Kind, obj: Object, paths: Sequence[str], context: Context, is_apply: bool) -> None:
    if context.field_validation is FieldValidation.IGNORE and not is_apply:
        return
    if is_apply:
        if not paths:
            return
        name = obj["metadata"].get("name", "")
        text = f"failed to create typed patch object ({name}; {kind.api_version}, Kind={kind.kind}): "
        raise errors.bad_request(f"{text}.{paths[0]}: field not declared in schema")
    unknown = [f'unknown field "{path}"' for path in paths] + context.strict_problems
    if not unknown:
        return
    if context.field_validation is FieldValidation.STRICT:
        joined = ", ".join(unknown)
        text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        raise errors.bad_request(f"{text}strict decoding error: {joined}")
    context.warnings.extend(unknown[: MAX_WARNINGS - len(context.warnings)])


def check_identity(kind: Kind, obj: Object, namespace: str, name: str) -> None:
    """The object must be the one that the request is about.

    Args:
        name: in the URL; "" on create.

    Raises:
        StatusError: 400, it names another one.
    """
    metadata = obj["metadata"]
    given = str(metadata.get("namespace") or "")
    if kind.namespaced and given not in ("", namespace):
        text = (
            f"the namespace of the object ({given}) does not match the namespace on the request ({namespace})"
        )
        raise errors.bad_request(text)
    if not kind.namespaced:
        metadata.pop("namespace", None)
    if kind.namespaced and not namespace:
        raise errors.bad_request(f"a namespace is needed: {kind.plural} live in namespaces")
    if not name:
        return
    given_name = str(metadata.get("name") or "")
    if not given_name:
        text = f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        raise errors.bad_request(text)
    if given_name != name:
        text = f"the name of the object ({given_name}) does not match the name on the URL ({name})"
        raise errors.bad_request(text)


def fill_defaults(kind: Kind, obj: Object) -> Object:
    """A copy with everything filled in that its author left out."""
    metadata = obj.get("metadata") or {}
    managers = metadata.get("managedFields")
    if managers is None:
        return apply_defaults(kind, obj)
    # Owners have no other spelling, and an empty list, which says "forget them", must not get lost.
    rest = {field: value for field, value in metadata.items() if field != "managedFields"}
    filled = apply_defaults(kind, {**obj, "metadata": rest})
    filled["metadata"]["managedFields"] = managers
    return filled


def validated(kind: Kind, obj: Object, old: Object | None) -> None:
    """Raises `StatusError` 422 with one cause for each mistake."""
    causes = validate(kind, obj, old)
    if causes:
        raise errors.invalid(kind.group, kind.kind, str(obj["metadata"].get("name") or ""), causes)
