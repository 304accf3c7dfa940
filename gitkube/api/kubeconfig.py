"""Reading a kubeconfig: from the file that every Kubernetes tool knows to a server's address and credentials.

Nothing in it can run a command: users that log in by a program (`exec`, `auth-provider`) are refused with a
sentence. Private keys touch the disk only as long as the TLS library needs to read them.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

MAX_KUBECONFIG_BYTES = 4 * 1024 * 1024
KUBECONFIG_VARIABLE = "KUBECONFIG"


class KubeconfigError(Exception):
    """A kubeconfig is missing, cannot be read or lacks something; the text says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a server and who to be there."""

    server: str
    context: ssl.SSLContext | None = None
    token: str = ""
    server_name: str = ""
    """The name to expect in the server's certificate, when it is not the one in the URL."""


def read_connection(path: Path | str | None = None, *, context: str = "") -> Connection:
    """Server and credentials of a kubeconfig.

    Raises:
        KubeconfigError: it cannot be read, or asks for something that this client doesn't do.
    """
    file = _kubeconfig_path(path)
    config = _read_kubeconfig(file)
    context = context or str(config.get("current-context") or "")
    chosen = _named(config, "contexts", "context", context, file)
    cluster = _named(config, "clusters", "cluster", str(chosen.get("cluster") or ""), file)
    user = _named(config, "users", "user", str(chosen.get("user") or ""), file) if chosen.get("user") else {}
    server = str(cluster.get("server") or "")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigError(f"{file}: the server {server!r} is no URL such as https://127.0.0.1:6443")
    for unsupported in ("exec", "auth-provider", "username"):
        if user.get(unsupported):
            raise KubeconfigError(f"{file}: gitkube does not log in by {unsupported!r}; use a certificate")
    token = str(user.get("token") or "")
    if not token and user.get("tokenFile"):
        token = _data(user, "token", "tokenFile", file).decode().strip()
    tls = _tls_context(cluster, user, file) if server.startswith("https://") else None
    return Connection(server, tls, token, str(cluster.get("tls-server-name") or ""))


def contexts_of(path: Path) -> list[str]:
    """The current context, then those that are other servers of the same cluster: same authority, same user.

    Raises:
        KubeconfigError: the file cannot be read.
    """
    config = _read_kubeconfig(path)
    current = str(config.get("current-context") or "")
    authorities = {
        entry["name"]: entry["cluster"].get("certificate-authority-data")
        for entry in config.get("clusters") or ()
        if isinstance(entry, dict) and "name" in entry and isinstance(entry.get("cluster"), dict)
    }
    known: dict[str, tuple[Any, Any]] = {}
    for entry in config.get("contexts") or ():
        if isinstance(entry, dict) and isinstance(entry.get("context"), dict):
            context = entry["context"]
            known[str(entry.get("name"))] = (authorities.get(context.get("cluster")), context.get("user"))
    wanted = known.get(current)
    is_ours = wanted is not None and wanted[0]
    return [current, *(name for name, of in known.items() if is_ours and of == wanted and name != current)]


def _kubeconfig_path(path: Path | str | None) -> Path:
    if path is not None:
        return Path(path)
    # kubectl merges several files; the first that is there is what a person means nearly always.
    for name in os.environ.get(KUBECONFIG_VARIABLE, "").split(os.pathsep):
        if name and Path(name).exists():
            return Path(name)
    return Path.home() / ".kube" / "config"


def _read_kubeconfig(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        text = f"there is no kubeconfig at {file}; name one with --kubeconfig or ${KUBECONFIG_VARIABLE}"
        raise KubeconfigError(text) from error
    except OSError as error:
        raise KubeconfigError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_KUBECONFIG_BYTES:
        raise KubeconfigError(f"{file} is over {MAX_KUBECONFIG_BYTES} bytes: it is no kubeconfig")
    try:
        config = orjson.loads(data)  # as gitkube writes them; a hundred times faster than YAML
    except ValueError:
        config = _yaml(data, file)
    if not isinstance(config, dict):
        raise KubeconfigError(f"{file} is no kubeconfig")
    return config


def _yaml(data: bytes, file: Path) -> Any:
    from gitkube import yaml  # only kubeconfigs of others are YAML, and its parser takes time to load

    try:
        documents = yaml.parse(yaml.decode(data))
    except yaml.YamlError as error:
        text = f"{file}:{error.line}:{error.column} is not YAML that is read here: {error.bare}"
        raise KubeconfigError(text) from error
    return documents[0].data if len(documents) == 1 else None


def _named(config: dict[str, Any], plural: str, singular: str, name: str, file: Path) -> dict[str, Any]:
    entries = config.get(plural)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(singular), dict):
            found: dict[str, Any] = entry[singular]
            return found
    raise KubeconfigError(f"{file} has no {singular} named {name!r}")


def _data(section: dict[str, Any], inline: str, by_file: str, file: Path) -> bytes:
    """Of a field that is either in the file or in another file; b"" when it is in neither."""
    try:
        if section.get(inline):
            return base64.b64decode(section[inline], validate=True)
        if section.get(by_file):
            return (file.parent / str(section[by_file])).read_bytes()
    except (ValueError, TypeError) as error:
        raise KubeconfigError(f"{file}: {inline} is not base64") from error
    except OSError as error:
        raise KubeconfigError(f"{file}: {by_file} {section[by_file]} cannot be read: {error}") from error
    return b""


def _tls_context(cluster: dict[str, Any], user: dict[str, Any], file: Path) -> ssl.SSLContext:
    authority = _data(cluster, "certificate-authority-data", "certificate-authority", file)
    certificate = _data(user, "client-certificate-data", "client-certificate", file)
    key = _data(user, "client-key-data", "client-key", file)
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            _load_client(context, certificate, key)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{file}: a certificate or key cannot be used: {error}") from error
    return context


def _load_client(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module takes files only. These are of mode 0600 and gone before anybody else gets a turn.
    with ExitStack() as files:
        paths = []
        for data in (certificate, key):
            file = files.enter_context(tempfile.NamedTemporaryFile())
            file.write(data)
            file.flush()
            paths.append(file.name)
        context.load_cert_chain(paths[0], paths[1] if key else None)
