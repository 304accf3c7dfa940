"""What a table is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.objects.labels import SelectorError, selector_of
from gitkube.objects.types import Object

NONE = "<none>"
UNSET = "<unset>"
Cells = list[Any]
"""Values of one row: texts and numbers, as many as there are columns."""
Printer = Callable[[Object, float], Cells]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str = "string"
    description: str = ""
    priority: int = 0
    """0 is always shown, 1 with `-o wide`."""
    format: str = ""
    """The word "name" marks the column that `kubectl -o name` and completion read."""


NAME = Column("Name", description="Unique within a namespace.", format="name")
AGE = Column("Age", description="How long ago the object was created.")
CREATED_AT = Column("Created At", "date", "When the object was created.")
CONTAINERS = Column("Containers", description="Names of each container in the template.", priority=1)
IMAGES = Column("Images", description="Images referenced by each container in the template.", priority=1)
SELECTOR = Column("Selector", description="Labels of the pods it selects.", priority=1)


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[Column, ...]
    cells: Printer


def join_labels(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` in the order of the keys."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def join_selector(selector: Mapping[str, Any] | None) -> str:
    """A label selector as one types it."""
    try:
        parsed = selector_of(selector)
    except SelectorError:
        return "<error>"
    ordered = sorted(parsed.requirements, key=lambda requirement: requirement.key)
    return ",".join(str(requirement) for requirement in ordered) or NONE


def containers_and_images(template: Mapping[str, Any] | None) -> tuple[str, str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or ()
    names = ",".join(str(container.get("name") or "") for container in containers)
    return names, ",".join(str(container.get("image") or "") for container in containers)


def with_more(texts: Iterable[str], limit: int) -> str:
    """The first few, and how many there are beyond."""
    listed = list(texts)
    if not listed:
        return UNSET
    shown = ",".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} + {len(listed) - limit} more..."
