"""What is wrong with an object, collected as Kubernetes words it.

A check adds causes and goes on, so that a person sees all mistakes at once. Each cause names its field by
the path people know (`spec.template.spec.containers[0].image`), a reason from Kubernetes' list, and a
sentence that starts as Kubernetes' does ("Invalid value: ...").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

MAX_CAUSES = 100
"""More than that are one mistake repeated; a person reads the first few."""
MAX_SHOWN_VALUE = 300
"""Characters of a value that are shown."""


class Cause(TypedDict):
    """One mistake, as it stands in `Status.details.causes`."""

    reason: str
    message: str
    field: str


class Causes:
    """Collects causes; `list` has them in the order found, none twice."""

    __slots__ = ("list",)

    def __init__(self) -> None:
        self.list: list[Cause] = []

    def add(self, reason: str, field: str, message: str) -> None:
        cause = Cause(reason=reason, message=message, field=field)
        if len(self.list) < MAX_CAUSES and cause not in self.list:
            self.list.append(cause)

    def required(self, field: str, why: str = "") -> None:
        if any(cause["field"] == field and cause["reason"] == "FieldValueRequired" for cause in self.list):
            return
        self.add("FieldValueRequired", field, f"Required value: {why}" if why else "Required value")

    def invalid(self, field: str, value: Any, why: str) -> None:
        self.add("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {why}")

    def invalids(self, field: str, value: Any, whys: Iterable[str]) -> None:
        """One cause for each complaint about the same value."""
        for why in whys:
            self.invalid(field, value, why)

    def wrong_type(self, field: str, value: Any, why: str) -> None:
        self.add("FieldValueTypeInvalid", field, f"Invalid value: {shown(value)}: {why}")

    def not_supported(self, field: str, value: Any, supported: Sequence[str]) -> None:
        listed = ", ".join(f'"{word}"' for word in supported)
        self.add(
            "FieldValueNotSupported", field, f"Unsupported value: {shown(value)}: supported values: {listed}"
        )

    def duplicate(self, field: str, value: Any, why: str = "") -> None:
        text = f"Duplicate value: {shown(value)}"
        self.add("FieldValueDuplicate", field, f"{text}: {why}" if why else text)

    def forbidden(self, field: str, why: str) -> None:
        self.add("FieldValueForbidden", field, f"Forbidden: {why}")

    def not_found(self, field: str, value: Any) -> None:
        self.add("FieldValueNotFound", field, f"Not found: {shown(value)}")

    def too_long(self, field: str, why: str) -> None:
        self.add("FieldValueTooLong", field, f"Too long: {why}")

    def immutable(self, field: str, value: Any, before: Any) -> None:
        """The field differs from what it was, and may not."""
        if value != before:
            self.invalid(field, value, "field is immutable")

    def one_of(self, field: str, value: Any, supported: Sequence[str], *, is_required: bool = True) -> bool:
        """Whether the value is one of the supported words; complains when it is not."""
        if value in (None, ""):
            if is_required:
                self.required(field)
            return False
        if value in supported:
            return True
        self.not_supported(field, value, supported)
        return False

    def not_negative(self, field: str, value: Any) -> None:
        if isinstance(value, int) and value < 0:
            self.invalid(field, value, "must be greater than or equal to 0")


def shown(value: Any) -> str:
    """A value as it stands in a sentence: texts quoted, structures as JSON, cut when they are long."""
    if value is None:
        return "null"
    if isinstance(value, str):
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        # Not orjson: a number from a manifest may have more than 64 bits, and is shown all the same.
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_VALUE else text[:MAX_SHOWN_VALUE] + "..."
