"""Reading parts of values: fields of maps, elements of lists, through optionals too.

Names of fields that are no names in CEL are written escaped (`a__dash__b` is `a-b`), as Kubernetes does; the
plain reading of a name wins where both are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects.cel.errors import CelEvaluationError, no_such_key, no_such_overload
from gitkube.objects.cel.syntax import RESERVED
from gitkube.objects.cel.values import NONE, HostObject, Optional, is_number

_SIGNS = {"__underscores__": "__", "__dot__": ".", "__dash__": "-", "__slash__": "/"}
_KEYWORDS = RESERVED - {"var", "while"} | {"true", "false", "null", "in"}
"""Field names that are escaped, as in Kubernetes."""


def unescaped(name: str) -> str:
    """The field that an escaped name means; the name itself when it is not escaped."""
    if "__" not in name:
        return name
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _KEYWORDS:
        return name[2:-2]
    parts, position = [], 0
    while position < len(name):
        for escape, sign in _SIGNS.items():
            if name.startswith(escape, position):
                parts.append(sign)
                position += len(escape)
                break
        else:
            parts.append(name[position])
            position += 1
    return "".join(parts)


def has_field(value: Any, field: str, plain: str) -> bool:
    if isinstance(value, Mapping):
        return field in value or plain in value
    if isinstance(value, Optional):
        return value.has_value and has_field(value.value, field, plain)
    raise no_such_overload()


def select_field(value: Any, field: str, plain: str) -> Any:
    if isinstance(value, Mapping):
        if field in value:
            return value[field]
        if plain in value:
            return value[plain]
        raise no_such_key(plain)
    if isinstance(value, Optional):
        # A field of an optional is an optional, so that `a.?b.c` needs one mark only.
        if not value.has_value or not has_field(value.value, field, plain):
            return NONE
        return Optional(True, select_field(value.value, field, plain))
    if isinstance(value, HostObject):
        return value.field(field)
    raise no_such_overload()


def index_value(value: Any, index: Any, is_optional: bool) -> Any:
    if isinstance(value, Optional):
        return index_value(value.value, index, True) if value.has_value else NONE
    if isinstance(value, Mapping):
        key = _map_key(index)
        if key in value:
            return Optional(True, value[key]) if is_optional else value[key]
        if is_optional:
            return NONE
        raise no_such_key(index)
    if not isinstance(value, list | tuple):
        raise no_such_overload()
    position = _list_position(index)
    if 0 <= position < len(value):
        return Optional(True, value[position]) if is_optional else value[position]
    if is_optional:
        return NONE
    raise CelEvaluationError(f"index out of bounds: {position}")


def _map_key(index: Any) -> Any:
    if isinstance(index, float) and index.is_integer():
        return int(index)
    if not isinstance(index, str | int):
        raise no_such_overload()
    return index


def _list_position(index: Any) -> int:
    if not is_number(index):
        raise no_such_overload()
    if isinstance(index, float):
        if not index.is_integer():
            raise CelEvaluationError(f"unsupported index value: {index}")
        return int(index)
    return int(index)
