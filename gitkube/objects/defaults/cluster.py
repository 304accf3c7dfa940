"""Defaults of Namespaces, Nodes and of our own Sources."""

from __future__ import annotations

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part
from gitkube.objects.types import Object

NAME_LABEL = "kubernetes.io/metadata.name"


def default_namespace(namespace: Object) -> None:
    metadata = part(namespace, "metadata")
    if metadata.get("name"):
        # So that a namespace can be selected by its name where only labels are selected by.
        made_part(metadata, "labels")[NAME_LABEL] = metadata["name"]
    fill(namespace, spec={}, status={})
    fill_zero(part(namespace, "status"), phase="Active")


def default_node(node: Object) -> None:
    spec = made_part(node, "spec")
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR") and isinstance(spec["podCIDRs"], list):
        spec["podCIDR"] = spec["podCIDRs"][0]
    status = made_part(node, "status")
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(part(status, "capacity"))


def default_source(source: Object) -> None:
    if spec := part(source, "spec"):
        fill_zero(spec, branch="main")
