"""The words that everything above uses for what the API holds."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON has it. Never changed in place once it was handed to somebody."""
