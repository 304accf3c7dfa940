"""A small operator, as people write them with kopf: a Guestbook becomes a Deployment, which it tells of.

The Deployment belongs to the Guestbook, so it goes with it; a finalizer holds the Guestbook until its
farewell is written down.
"""

from __future__ import annotations

from typing import Any

import kopf
import kubernetes

GROUP, VERSION, PLURAL = "example.org", "v1", "guestbooks"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    kubernetes.config.load_kube_config()
    settings.posting.enabled = True
    settings.persistence.finalizer = "example.org/farewell"


def deployment(name: str, spec: Any) -> dict[str, Any]:
    labels = {"guestbook": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": spec["image"]}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": spec["replicas"], "selector": {"matchLabels": labels}, "template": template},
    }


@kopf.on.create(GROUP, VERSION, PLURAL)
def create(name: str, namespace: str, spec: Any, body: Any, **_: Any) -> dict[str, Any]:
    wanted = deployment(name, spec)
    kopf.adopt(wanted)
    made = kubernetes.client.AppsV1Api().create_namespaced_deployment(namespace, wanted)
    kopf.info(body, reason="Opened", message="the book is open")
    return {"deployment": made.metadata.name}


@kopf.on.field(GROUP, VERSION, PLURAL, field="spec.replicas")
def scale(name: str, namespace: str, old: Any, new: int, **_: Any) -> None:
    if old is not None:
        patch = {"spec": {"replicas": new}}
        kubernetes.client.AppsV1Api().patch_namespaced_deployment_scale(name, namespace, patch)


@kopf.on.event("apps", "v1", "deployments", labels={"guestbook": kopf.PRESENT})
def tell(name: str, namespace: str, status: Any, type: str | None, **_: Any) -> None:
    if type == "DELETED":
        return
    patch = {"status": {"ready": status.get("readyReplicas", 0)}}
    api = kubernetes.client.CustomObjectsApi()
    try:
        api.patch_namespaced_custom_object_status(GROUP, VERSION, namespace, PLURAL, name, patch)
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise


@kopf.on.delete(GROUP, VERSION, PLURAL)
def farewell(name: str, namespace: str, **_: Any) -> None:
    body = {"metadata": {"name": f"{name}-farewell"}, "data": {"said": "goodbye"}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, body)
