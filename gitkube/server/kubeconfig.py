"""Kubeconfig files: the address of a server, whom to trust, and who one is, in one file of mode 0600.

Certificates are embedded, so that the file can be copied to where it is needed. It is written as JSON, which
is YAML, so no writer of YAML is needed and no value can be misread.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gitkube.server.pki import ADMIN_GROUP, ADMIN_USER, Credentials, Pki
from gitkube.store.files import replace_durably

CLUSTER_NAME = "gitkube"


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


def ensure_kubeconfig(
    pki: Pki,
    path: Path,
    server: str,
    *,
    user: str = ADMIN_USER,
    groups: Sequence[str] = (ADMIN_GROUP,),
) -> Path:
    """Write a kubeconfig of `user`, or leave the one that is there when it still holds.

    It is left only if it is of our making: for that server, our authority, that user, not near its end.
    """
    kept = _read_ours(path)
    if kept is not None:
        found_server, found_ca, credentials = kept
        if found_server == server and found_ca == pki.ca_pem and pki.is_current(credentials, user, groups):
            return path
    content = kubeconfig(server, pki.ca_pem, user, pki.client_certificate(user, groups))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def _read_ours(path: Path) -> tuple[str, bytes, Credentials] | None:
    """Server, authority and credentials of a file as `kubeconfig` makes it; None for any other."""
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
