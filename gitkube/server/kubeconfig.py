"""Kubeconfig files: the address of a server, whom to trust, and who one is, in one file of mode 0600.

Certificates are embedded, so that the file can be copied to where it is needed. It is written as JSON, which
is YAML, so no writer of YAML is needed and no value can be misread.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gitkube.files import replace_durably

CLUSTER_NAME = "gitkube"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """One server that a kubeconfig can be turned to."""

    name: str
    server: str
    """URL such as `https://127.0.0.1:6443`."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """What stands in a kubeconfig of our making."""

    contexts: Sequence[Context]
    """The first is the current one."""
    ca_pem: bytes
    credentials: Credentials


def kubeconfig(
    contexts: Sequence[Context],
    ca_pem: bytes,
    user: str,
    credentials: Credentials,
    *,
    namespace: str = "default",
) -> dict[str, Any]:
    """The content of a kubeconfig with one user, and a cluster and a context for each server.

    Args:
        contexts: at least one; the first is the current one.
    """
    authority = _base64(ca_pem)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": one.name, "cluster": {"server": one.server, "certificate-authority-data": authority}}
            for one in contexts
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(credentials.certificate),
                    "client-key-data": _base64(credentials.key),
                },
            }
        ],
        "contexts": [
            {"name": one.name, "context": {"cluster": one.name, "user": user, "namespace": namespace}}
            for one in contexts
        ],
        "current-context": contexts[0].name,
    }


def write_kubeconfig(path: Path, content: dict[str, Any]) -> None:
    """Write the file, whole or not at all, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_kubeconfig(path: Path) -> Kubeconfig | None:
    """What stands in a file as `write_kubeconfig` makes it; None for any other."""
    try:
        content = orjson.loads(path.read_bytes())
        clusters, user = content["clusters"], content["users"][0]["user"]
        contexts = [Context(one["name"], one["cluster"]["server"]) for one in clusters]
        if content["current-context"] != contexts[0].name:
            return None
        return Kubeconfig(
            contexts,
            base64.b64decode(clusters[0]["cluster"]["certificate-authority-data"]),
            Credentials(
                base64.b64decode(user["client-certificate-data"]), base64.b64decode(user["client-key-data"])
            ),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
