"""Short ways to write down hosts and pods in tests."""

from __future__ import annotations

from typing import Any

from gitkube.objects.types import Object


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **extra: Any) -> Object:
    """A host; `labels`, `taints`, `unschedulable`, `images` and `ready` as keywords."""
    spec: Object = {}
    if "taints" in extra:
        spec["taints"] = extra["taints"]
    if extra.get("unschedulable"):
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, **extra.get("labels", {})},
        },
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **extra.get("resources", {})},
            "images": extra.get("images", []),
            "conditions": [{"type": "Ready", "status": extra.get("ready", "True")}],
        },
    }


def pod(
    name: str,
    *,
    cpu: str = "",
    memory: str = "",
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    owner: str = "",
    resources: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A pod; further keywords are fields of its spec."""
    requests = dict(resources or {})
    if cpu:
        requests["cpu"] = cpu
    if memory:
        requests["memory"] = memory
    metadata: Object = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
    if labels:
        metadata["labels"] = labels
    if owner:
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
        ]
    container: Object = {"name": "main", "image": spec.pop("image", "app:1")}
    if requests:
        container["resources"] = {"requests": requests}
    if "ports" in spec:
        container["ports"] = spec.pop("ports")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **spec},
        "status": {"phase": "Pending"},
    }


def deployment(
    name: str = "web", *, replicas: int = 3, image: str = "web:1", namespace: str = "default", **spec: Any
) -> Object:
    """A Deployment with defaults as the API would fill them in; further keywords are fields of its spec."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


def image_patch(image: str) -> Object:
    """A merge patch that changes the one container's image."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
