"""What goes wrong in a lab, said to the person who runs it."""

from __future__ import annotations


class LabError(Exception):
    """A sentence with what failed, where, and what to do about it."""
