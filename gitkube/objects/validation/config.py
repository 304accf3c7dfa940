"""Checks of ConfigMaps, Secrets, Events and Leases. No value of a Secret ever gets into a message."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

MAX_SIZE_BYTES = 1024 * 1024
"""Of all values together, as in Kubernetes: what is larger does not belong into a replicated log."""
_IMMUTABLE_MESSAGE = "field is immutable when `immutable` is set"
_REDACTED = "<secret contents redacted>"
_REQUIRED_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_DOCKER_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


def check_config_map(causes: Causes, config_map: Object) -> None:
    data, binary = config_map.get("data") or {}, config_map.get("binaryData") or {}
    size_bytes = 0
    for key, text in data.items():
        causes.invalids(f"data[{key}]", key, names.config_key(key))
        if key in binary:
            causes.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size_bytes += len((text or "").encode())
    for key, text in binary.items():
        causes.invalids(f"binaryData[{key}]", key, names.config_key(key))
        size_bytes += len(text or "") * 3 // 4
    if size_bytes > MAX_SIZE_BYTES:
        causes.too_long("", f"may not be more than {MAX_SIZE_BYTES} bytes")


def check_config_map_update(causes: Causes, config_map: Object, old: Object) -> None:
    if not old.get("immutable"):
        return
    if not config_map.get("immutable"):
        causes.forbidden("immutable", _IMMUTABLE_MESSAGE)
    for field in ("data", "binaryData"):
        if (config_map.get(field) or {}) != (old.get(field) or {}):
            causes.forbidden(field, _IMMUTABLE_MESSAGE)


def check_secret(causes: Causes, secret: Object) -> None:
    data = secret.get("data") or {}
    size_bytes = 0
    for key, text in data.items():
        causes.invalids(f"data[{key}]", key, names.config_key(key))
        size_bytes += len(text or "") * 3 // 4
    if size_bytes > MAX_SIZE_BYTES:
        causes.too_long("data", f"may not be more than {MAX_SIZE_BYTES} bytes")
    kind = secret.get("type") or ""
    for key in _REQUIRED_KEYS.get(kind, ()):
        if key not in data:
            causes.required(f"data[{key}]")
        elif kind in _DOCKER_TYPES and not _is_json(data[key]):
            causes.invalid(f"data[{key}]", _REDACTED, "must be base64 of a JSON document")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        causes.required("data[password]")
        causes.required("data[username]")
    if kind == "kubernetes.io/service-account-token":
        annotations = (secret.get("metadata") or {}).get("annotations") or {}
        if not annotations.get("kubernetes.io/service-account.name"):
            causes.required("metadata.annotations[kubernetes.io/service-account.name]")


def check_secret_update(causes: Causes, secret: Object, old: Object) -> None:
    causes.immutable("type", secret.get("type"), old.get("type"))
    if not old.get("immutable"):
        return
    if not secret.get("immutable"):
        causes.forbidden("immutable", _IMMUTABLE_MESSAGE)
    if (secret.get("data") or {}) != (old.get("data") or {}):
        causes.forbidden("data", _IMMUTABLE_MESSAGE)


def _is_json(text: Any) -> bool:
    try:
        orjson.loads(base64.b64decode(text))
    except (binascii.Error, orjson.JSONDecodeError, TypeError):
        return False
    return True


def check_event(causes: Causes, event: Object) -> None:
    namespace = (event.get("metadata") or {}).get("namespace") or ""
    involved = (event.get("involvedObject") or {}).get("namespace") or ""
    if involved != namespace and not (not involved and namespace in ("default", "kube-system")):
        causes.invalid("involvedObject.namespace", involved, "does not match event.namespace")
    if event.get("eventTime"):
        # Events with a time of their own are of the newer sort, and complete.
        for field in ("reportingComponent", "reportingInstance", "action", "reason"):
            if not event.get(field):
                causes.required(field)
        causes.one_of("type", event.get("type"), ("Normal", "Warning"))


def check_lease(causes: Causes, lease: Object) -> None:
    spec = lease.get("spec") or {}
    duration_s = spec.get("leaseDurationSeconds")
    if duration_s is not None and duration_s <= 0:
        causes.invalid("spec.leaseDurationSeconds", duration_s, "must be greater than 0")
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0")
