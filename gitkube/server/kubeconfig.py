"""Kubeconfig files: the address of a server, whom to trust, and who one is, in one file of mode 0600.

Certificates are embedded, so that the file can be copied to where it is needed. It is written as JSON, which
is YAML, so no writer of YAML is needed and no value can be misread.
"""

from __future__ import annotations

import base64
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


def kubeconfig(
    server: str, ca_pem: bytes, user: str, credentials: Credentials, *, namespace: str = "default"
) -> dict[str, Any]:
    """The content of a kubeconfig with one cluster, one user and one context.

    Args:
        server: URL such as `https://127.0.0.1:6443`.
    """
    context = {"cluster": CLUSTER_NAME, "user": user, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CLUSTER_NAME,
                "cluster": {"server": server, "certificate-authority-data": _base64(ca_pem)},
            }
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
        "contexts": [{"name": CLUSTER_NAME, "context": context}],
        "current-context": CLUSTER_NAME,
    }


def write_kubeconfig(path: Path, content: dict[str, Any]) -> None:
    """Write the file, whole or not at all, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_kubeconfig(path: Path) -> tuple[str, bytes, Credentials] | None:
    """Server, authority and credentials of a file as `write_kubeconfig` makes it; None for any other."""
    try:
        content = orjson.loads(path.read_bytes())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        credentials = Credentials(
            base64.b64decode(user["client-certificate-data"]), base64.b64decode(user["client-key-data"])
        )
        return cluster["server"], base64.b64decode(cluster["certificate-authority-data"]), credentials
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
