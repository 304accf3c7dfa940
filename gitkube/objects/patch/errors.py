"""What can be wrong with a patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PatchError(Exception):
    """The patch cannot be read, or cannot be done on this object."""

    def __init__(self, message: str, *, is_unprocessable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.is_unprocessable = is_unprocessable
        """The patch is well formed, but this object does not allow it (HTTP 422 instead of 400)."""


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """A field that an apply wants to change, and the manager who owns it."""

    manager: str
    """As people read it, such as `"kubectl-edit" using apps/v1`."""
    field: str
    """The path as people read it, such as `.spec.replicas`."""


class ConflictError(Exception):
    """An apply without force would change fields that others own."""

    def __init__(self, conflicts: Sequence[FieldConflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(f"{len(self.conflicts)} fields are owned by other managers")
