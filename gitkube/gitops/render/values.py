"""Values for templates: `values.yaml` at the root, and those of each directory on the way down over it.

Maps are merged key by key, everything else is replaced. Purely a function of the files' texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("values.yaml", "values.yml")
Values = Mapping[str, Any]


def is_values_file(path: str) -> bool:
    return path.rpartition("/")[2] in NAMES


def directories_of(path: str) -> list[str]:
    """The directories from the root ("") down to the one that holds `path`."""
    parts = path.split("/")[:-1]
    return ["", *("/".join(parts[: depth + 1]) for depth in range(len(parts)))]


def value_files_for(path: str, files: Mapping[str, Any]) -> list[str]:
    """The values files that a template at `path` sees, the root's first."""
    found = []
    for directory in directories_of(path):
        prefix = f"{directory}/" if directory else ""
        found += [prefix + name for name in NAMES if prefix + name in files]
    return found


def merge(base: Values, over: Values) -> dict[str, Any]:
    """`over` on top of `base`; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
