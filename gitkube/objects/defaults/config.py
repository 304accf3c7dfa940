"""Defaults of Secrets, Events and Leases. Source: k8s.io/kubernetes/pkg/apis/core/v1."""

from __future__ import annotations

import base64

from gitkube.objects.defaults.reading import fill, fill_zero
from gitkube.objects.types import Object


def default_secret(secret: Object) -> None:
    fill_zero(secret, type="Opaque")
    texts = secret.get("stringData")
    data = secret.get("data", {})
    if not isinstance(texts, dict) or not isinstance(data, dict):
        return
    if not all(isinstance(text, str) for text in texts.values()):
        return  # validation names the value that is no text
    # Text is for writing only: it is stored, and read back, as data.
    secret.pop("stringData")
    encoded = {key: base64.b64encode(text.encode()).decode("ascii") for key, text in texts.items()}
    if data or encoded:
        secret["data"] = {**data, **encoded}


def default_event(event: Object) -> None:
    fill(event, source={}, reportingComponent="", reportingInstance="")


def default_lease(lease: Object) -> None:
    fill(lease, spec={})
