"""From CEL's values back to JSON's, for what an expression gives to be stored or sent."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.functions.times import duration_text, timestamp_text
from gitkube.objects.cel.values import type_name
from gitkube.objects.quantity import Quantity


def to_plain(value: Any) -> Any:
    """The JSON document of a value; a copy, whose parts are nobody else's.

    Raises:
        CelEvaluationError: it has none, as a type or the server's own things.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [to_plain(each) for each in value]
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise CelEvaluationError("unsupported conversion of a map whose keys are no strings")
            return {key: to_plain(each) for key, each in value.items()}
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case Quantity():
            return str(value)
    raise CelEvaluationError(f"unsupported conversion from {type_name(value)} to JSON")
