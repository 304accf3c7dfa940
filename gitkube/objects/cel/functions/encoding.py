"""Encodings: base64, and the escape of keys in the paths of JSON patches (`jsonpatch.escapeKey`)."""

from __future__ import annotations

import base64
import binascii

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function


@function("base64.encode", bytes, result="string")
def _encode(budget: Budget, value: bytes) -> str:
    budget.spend_text(2 * len(value))
    return base64.b64encode(value).decode()


@function("base64.decode", str, result="bytes")
def _decode(budget: Budget, text: str) -> bytes:
    budget.spend_text(len(text))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CelEvaluationError("illegal base64 data") from error


@function("jsonpatch.escapeKey", str, result="string")
def _escape_key(budget: Budget, key: str) -> str:
    budget.spend_text(2 * len(key))
    return key.replace("~", "~0").replace("/", "~1")
