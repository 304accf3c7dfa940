"""The credentials for an image out of the pod's pull secrets, as the file that skopeo reads. Pure."""

from __future__ import annotations

import json
from typing import Any

from gitkube.node.env import ConfigError, References, secret_value
from gitkube.node.kube import Object, namespace_of

_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


def auth_of(pod: Object, references: References, reference: str) -> dict[str, Any] | None:
    """`{"auths": …}` for this image's registry and no other, or None when the pod has no credentials.

    A pull secret that is missing is no error, as in kubelet: the image may be public.

    Raises:
        ConfigError: a pull secret is there and cannot be read.
    """
    auths: dict[str, Any] = {}
    registry = registry_of(reference)
    for entry in pod["spec"].get("imagePullSecrets") or []:
        name = str(entry.get("name") or "")  # charts write empty ones, and nobody refuses them
        secret = references.secret(namespace_of(pod), name) if name else None
        if secret is None:
            continue
        key = _KEYS.get(str(secret.get("type")), ".dockerconfigjson")
        content = secret_value(secret, key)
        if content is None:
            raise ConfigError(f'pull secret "{entry.get("name")}" has no key {key}')
        try:
            value = json.loads(content)
        except ValueError as error:
            raise ConfigError(f'pull secret "{entry.get("name")}" is not JSON under {key}') from error
        found = value.get("auths", {}) if key == ".dockerconfigjson" else value
        for name, credentials in found.items():
            if _host_of(name) == registry:
                auths.setdefault(name, credentials)
    return {"auths": auths} if auths else None


def registry_of(reference: str) -> str:
    """The registry of an image name; docker.io where none is named."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def _host_of(name: str) -> str:
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
