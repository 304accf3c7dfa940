"""Checks of what a container asks for: known resources, whole numbers where halves make no sense, order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.quantity import Quantity
from gitkube.objects.validation.causes import Causes

_CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES = "hugepages-"


def check_resources(causes: Causes, resources: Mapping[str, Any], path: str) -> None:
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            check_amount(causes, name, text, f"{path}.{field}[{name}]")
    for name, text in requests.items():
        if name in limits:
            if Quantity.parse(text) > Quantity.parse(limits[name]):
                causes.invalid(
                    f"{path}.requests",
                    str(text),
                    f"must be less than or equal to {name} limit of {limits[name]}",
                )
            elif _is_exclusive(name) and Quantity.parse(text) != Quantity.parse(limits[name]):
                causes.invalid(
                    f"{path}.requests", str(text), f"must be equal to {name} limit of {limits[name]}"
                )
        elif _is_exclusive(name):
            causes.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    wanted = {**limits, **requests}
    if any(name.startswith(_HUGE_PAGES) for name in wanted) and not {"cpu", "memory"} & wanted.keys():
        causes.forbidden(path, "HugePages require cpu or memory")


def check_amount(causes: Causes, name: str, text: Any, path: str) -> None:
    """One entry of a resource list in a container."""
    if wrong := names.qualified_name(name):
        causes.invalids(path, name, wrong)
    elif "/" not in name and name not in _CONTAINER_RESOURCES and not name.startswith(_HUGE_PAGES):
        causes.invalid(path, name, "must be a standard resource for containers")
        causes.invalid(path, name, "must be a standard resource type or fully qualified")
    amount = Quantity.parse(text)
    if amount.nanos < 0:
        causes.invalid(path, str(amount), "must be greater than or equal to 0")
    elif _is_exclusive(name) and not amount.is_integer:
        causes.invalid(path, str(amount), "must be an integer")


def _is_exclusive(name: str) -> bool:
    """Extended resources and huge pages: whole, and never shared."""
    return name.startswith(_HUGE_PAGES) or ("/" in name and "kubernetes.io/" not in name)
