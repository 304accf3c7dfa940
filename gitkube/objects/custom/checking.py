"""Does a custom resource keep to its schema: everything that is wrong with it, in Kubernetes' words.

The validation keywords of OpenAPI v3, with `nullable` and int-or-string, over the schema as it was written.
On an update, what is wrong with a value that has not changed is not said again (ratcheting): an object that
was stored before its schema became stricter can still be written, as long as the writer leaves the old
mistakes alone. A value's past is found by its field, its key, or the keys of its list's map; elements of
other lists have none. Source: k8s.io/apiextensions-apiserver/pkg/apiserver/validation,
k8s.io/kube-openapi/pkg/validation/validate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gitkube.objects.custom.formats import fits_format
from gitkube.objects.custom.patterns import PatternError, compile_pattern
from gitkube.objects.validation.causes import Causes, shown

Raw = Mapping[str, Any]
MISSING: Any = object()
"""The past of a value that was not there."""
_INT64 = (-(2**63), 2**63 - 1)
_MAX_WHOLE_FLOAT = float(2**53 - 1)
"""Above that a float does not say which whole number it is."""
INT_OR_STRING = "x-kubernetes-int-or-string"


def check_schema(causes: Causes, schema: Raw, value: Any, path: str = "", old: Any = MISSING) -> None:
    """Add a cause for everything in `value` that the schema does not allow.

    Args:
        old: what stood there before; MISSING on create.
    """
    if old is not MISSING and same(value, old):
        return
    if value is None and (schema.get("nullable") or not path):
        return
    if not _check_type(causes, schema, value, path):
        return
    _check_enum(causes, schema, value, path)
    if isinstance(value, str):
        _check_text(causes, schema, value, path)
    elif isinstance(value, dict):
        _check_object(causes, schema, value, path, old)
    elif isinstance(value, list):
        _check_list(causes, schema, value, path, old)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(causes, schema, value, path)
    _check_alternatives(causes, schema, value, path, old)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(item, other[key]) for key, item in one.items())
        )
    if isinstance(one, list):
        return (
            isinstance(other, list)
            and len(one) == len(other)
            and all(same(left, right) for left, right in zip(one, other, strict=True))
        )
    return bool(one == other)


def json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if _INT64[0] <= value <= _INT64[1] else "number"
    return {str: "string", float: "number", dict: "object", list: "array"}.get(type(value), "object")


def _check_type(causes: Causes, schema: Raw, value: Any, path: str) -> bool:
    wanted = schema.get("type")
    types = ("integer", "string") if schema.get(INT_OR_STRING) else (wanted,) if wanted else ()
    found = json_type(value)
    if not types or found in types or (found == "integer" and "number" in types):
        return True
    if found == "number" and "integer" in types and _is_whole(value):
        return True
    listed = ",".join(types)
    causes.add(
        "FieldValueTypeInvalid",
        path or "<nil>",
        f'Invalid value: "{found}": {path} in body must be of type {listed}: "{found}"',
    )
    return False


def _is_whole(value: float) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_WHOLE_FLOAT


def _check_enum(causes: Causes, schema: Raw, value: Any, path: str) -> None:
    allowed = schema.get("enum")
    if allowed and not any(same(value, one) for one in allowed):
        causes.not_supported(path, value, [one if isinstance(one, str) else shown(one) for one in allowed])


def _check_text(causes: Causes, schema: Raw, value: str, path: str) -> None:
    if (most := schema.get("maxLength")) is not None and len(value) > most:
        causes.add("FieldValueTooLong", path, f"Too long: may not be more than {most} bytes")
    if (least := schema.get("minLength")) is not None and len(value) < least:
        causes.invalid(path, value, f"{path} in body should be at least {least} chars long")
    if (pattern := schema.get("pattern")) and not _matches(pattern, value):
        causes.invalid(path, value, f"{path} in body should match '{pattern}'")
    if (form := schema.get("format")) and not fits_format(form, value):
        # As of a wrong type, which is how Kubernetes sees it.
        causes.invalid(path, value, f"{path} in body must be of type {form}: {shown(value)}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return compile_pattern(pattern).is_in(value)
    except PatternError:
        return True  # its definition is refused for it; one from elsewhere must not make objects unwritable


def _check_number(causes: Causes, schema: Raw, value: float, path: str) -> None:
    if (most := schema.get("maximum")) is not None:
        if schema.get("exclusiveMaximum") and value >= most:
            causes.invalid(path, value, f"{path} in body should be less than {most}")
        elif value > most:
            causes.invalid(path, value, f"{path} in body should be less than or equal to {most}")
    if (least := schema.get("minimum")) is not None:
        if schema.get("exclusiveMinimum") and value <= least:
            causes.invalid(path, value, f"{path} in body should be greater than {least}")
        elif value < least:
            causes.invalid(path, value, f"{path} in body should be greater than or equal to {least}")
    factor = schema.get("multipleOf")
    if factor and not _is_multiple(value, factor):
        causes.invalid(path, value, f"{path} in body should be a multiple of {factor}")


def _is_multiple(value: float, factor: float) -> bool:
    if isinstance(value, int) and isinstance(factor, int):
        return value % factor == 0
    times = value / factor
    return math.isfinite(times) and abs(times - round(times)) < 1e-9


def _check_list(causes: Causes, schema: Raw, value: list[Any], path: str, old: Any) -> None:
    if (most := schema.get("maxItems")) is not None and len(value) > most:
        causes.add("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    if (least := schema.get("minItems")) is not None and len(value) < least:
        causes.invalid(path, len(value), f"{path} in body should have at least {least} items")
    if schema.get("uniqueItems") and len({repr(item) for item in value}) < len(value):
        causes.invalid(path, value, f"{path} in body shouldn't contain duplicates")
    items = schema.get("items")
    if not isinstance(items, Mapping):
        return
    before = by_map_keys(schema, old)
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    for index, item in enumerate(value):
        past = before.get(map_key(keys, item), MISSING) if before else MISSING
        check_schema(causes, items, item, f"{path}[{index}]", past)


def by_map_keys(schema: Raw, value: Any) -> dict[tuple[str, ...], Any]:
    """The elements of a list of type map, by their keys; empty for everything else."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(value, list):
        return {}
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return {map_key(keys, item): item for item in value}


def map_key(keys: Any, item: Any) -> tuple[str, ...]:
    return tuple(repr(item.get(key)) for key in keys) if isinstance(item, dict) else (repr(item),)


def _check_object(causes: Causes, schema: Raw, value: dict[str, Any], path: str, old: Any) -> None:
    if (most := schema.get("maxProperties")) is not None and len(value) > most:
        causes.add("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {most} items")
    if (least := schema.get("minProperties")) is not None and len(value) < least:
        causes.invalid(path, len(value), f"{path} in body should have at least {least} properties")
    for field in schema.get("required") or ():
        if field not in value:
            causes.required(f"{path}.{field}" if path else field)
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    past = old if isinstance(old, dict) else {}
    for field, item in value.items():
        place = f"{path}.{field}" if path else field
        child = properties.get(field)
        if child is not None:
            check_schema(causes, child, item, place, past.get(field, MISSING))
        elif additional is False:
            causes.invalid(path, field, f"{place} in body is a forbidden property")
        elif isinstance(additional, Mapping):
            check_schema(causes, additional, item, place, past.get(field, MISSING))


def _check_alternatives(causes: Causes, schema: Raw, value: Any, path: str, old: Any) -> None:
    if every := schema.get("allOf"):
        found = [_judge(one, value, path, old) for one in every]
        failed = [one for one in found if one.list]
        for one in failed:
            _take(causes, one)
        if failed:
            rest = "" if len(failed) < len(found) else ". None validated"
            _say(causes, f'"{path}" must validate all the schemas (allOf){rest}')
    if some := schema.get("anyOf"):
        found = [_judge(one, value, path, old) for one in some]
        if all(one.list for one in found):
            _say(causes, f'"{path}" must validate at least one schema (anyOf)')
            _take(causes, found[0])
    if one_of := schema.get("oneOf"):
        found = [_judge(one, value, path, old) for one in one_of]
        valid = sum(1 for one in found if not one.list)
        if valid != 1:
            which = f"{valid} valid alternatives" if valid else "none valid"
            _say(causes, f'"{path}" must validate one and only one schema (oneOf). Found {which}')
            if not valid:
                _take(causes, found[0])
    refused = schema.get("not")
    if refused and not _judge(refused, value, path, old).list:
        _say(causes, f'"{path}" must not validate the schema (not)')


def _judge(schema: Raw, value: Any, path: str, old: Any) -> Causes:
    found = Causes()
    check_schema(found, schema, value, path, old)
    return found


def _take(causes: Causes, others: Causes) -> None:
    for cause in others.list:
        causes.add(cause["reason"], cause["field"], cause["message"])


def _say(causes: Causes, text: str) -> None:
    # Kubernetes has no field for these: the sentence says where.
    causes.add("FieldValueInvalid", "<nil>", f'Invalid value: "": {text}')
