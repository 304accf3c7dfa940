"""A container's environment and arguments, out of its spec and what that refers to. Pure.

Order and rules are Kubernetes': `envFrom` first, then `env`, a later name over an earlier one; `$(NAME)` in
values, command and args stands for what was defined before, `$$(NAME)` for itself, and a name nobody
defined stays as it is written.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitkube.node.kube import Object, init_containers_of, quantity

_REFERENCE = re.compile(r"\$(\$|\(([^()\s]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The spec refers to something that is missing or cannot be: `CreateContainerConfigError`."""


@dataclass(frozen=True)
class References:
    """What the pods of this host may refer to, by "namespace/name"."""

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    node: Object = field(default_factory=dict)
    tokens: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Uid of a pod -> what its volumes ask for (`wire.token_key`) -> token."""
    api: tuple[str, int] | None = None
    """Address and port of the Service `kubernetes`."""

    def token(self, uid: str, key: str) -> str | None:
        return (self.tokens.get(uid) or {}).get(key)

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self.config_maps.get(f"{namespace}/{name}")

    def secret(self, namespace: str, name: str) -> Object | None:
        return self.secrets.get(f"{namespace}/{name}")


@dataclass(frozen=True)
class PodFacts:
    """What is known of a pod only once it is on the host."""

    pod_ip: str = ""
    host_ip: str = ""


def secret_value(secret: Object, key: str) -> bytes | None:
    """A secret's value, decoded; None when it has no such key."""
    data = secret.get("data") or {}
    if key not in data:
        return None
    try:
        return base64.b64decode(data[key] or "")
    except binascii.Error as error:
        raise ConfigError(f"key {key!r} of secret {secret['metadata']['name']!r} is not base64") from error


def config_value(config_map: Object, key: str) -> bytes | None:
    """A ConfigMap's value as bytes; None when it has no such key."""
    if key in (config_map.get("data") or {}):
        return str(config_map["data"][key]).encode()
    if key in (config_map.get("binaryData") or {}):
        return base64.b64decode(config_map["binaryData"][key] or "")
    return None


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by what is known under that name."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return known.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replace, text)


def field_value(pod: Object, path: str, facts: PodFacts) -> str:
    """What a `fieldRef` stands for.

    Raises:
        ConfigError: there is no such field for containers.
    """
    meta, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((meta.get(subscript.group(1)) or {}).get(subscript.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = meta.get(path.split(".")[1]) or {}
        return "\n".join(f"{key}={_quote(str(value))}" for key, value in sorted(entries.items()))
    simple = {
        "metadata.name": meta.get("name", ""),
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path not in simple:
        raise ConfigError(f"fieldRef {path!r} is not a field that a container can be given")
    return str(simple[path])


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def resource_value(pod: Object, container: Object, reference: Object, references: References) -> str:
    """What a `resourceFieldRef` stands for; a missing limit is what the node can allocate.

    Raises:
        ConfigError: no such container or resource.
    """
    name = reference.get("containerName") or container.get("name")
    for candidate in [*(pod["spec"].get("containers") or []), *init_containers_of(pod)]:
        if candidate.get("name") == name:
            container = candidate
            break
    else:
        raise ConfigError(f"resourceFieldRef names container {name!r}, which the pod does not have")
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ConfigError(f"resourceFieldRef {reference.get('resource')!r} is not limits.X or requests.X")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(resource)
    if value is None and kind == "limits":
        status = references.node.get("status") or {}
        value = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
    divisor = quantity(reference.get("divisor") or "1") or quantity("1")
    return str(math.ceil(quantity(value or "0") / divisor))


def environment(pod: Object, container: Object, references: References, facts: PodFacts) -> dict[str, str]:
    """The variables that the spec asks for, without the image's own.

    Raises:
        ConfigError: a ConfigMap, Secret or key that is not optional is missing; the text names it.
    """
    namespace = str(pod["metadata"].get("namespace", ""))
    result = _api_variables(references.api)
    for source in container.get("envFrom") or []:
        result.update(_from_source(namespace, source, references))
    for variable in container.get("env") or []:
        name = str(variable["name"])
        if variable.get("valueFrom"):
            value = _from_reference(pod, container, variable["valueFrom"], references, facts)
            if value is None:
                continue
        else:
            value = expand(str(variable.get("value") or ""), result)
        result[name] = value
    return result


def _api_variables(api: tuple[str, int] | None) -> dict[str, str]:
    """Where the API is, for programs that ask it from inside of a pod; as the kubelet gives them."""
    if api is None:
        return {}
    address, port = api
    url = f"tcp://{address}:{port}"
    return {
        "KUBERNETES_SERVICE_HOST": address,
        "KUBERNETES_SERVICE_PORT": str(port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
        "KUBERNETES_PORT": url,
        f"KUBERNETES_PORT_{port}_TCP": url,
        f"KUBERNETES_PORT_{port}_TCP_PROTO": "tcp",
        f"KUBERNETES_PORT_{port}_TCP_PORT": str(port),
        f"KUBERNETES_PORT_{port}_TCP_ADDR": address,
    }


def _from_source(namespace: str, source: Object, references: References) -> dict[str, str]:
    prefix = str(source.get("prefix") or "")
    reference = source.get("configMapRef")
    if reference:
        config_map = references.config_map(namespace, reference["name"])
        if config_map is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'configmap "{reference["name"]}" not found')
        return {prefix + key: str(value) for key, value in (config_map.get("data") or {}).items()}
    reference = source.get("secretRef")
    if not reference:
        return {}
    secret = references.secret(namespace, reference["name"])
    if secret is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'secret "{reference["name"]}" not found')
    return {
        prefix + key: (secret_value(secret, key) or b"").decode(errors="replace")
        for key in secret.get("data") or {}
    }


def _from_reference(
    pod: Object, container: Object, source: Object, references: References, facts: PodFacts
) -> str | None:
    namespace = str(pod["metadata"].get("namespace", ""))
    if source.get("fieldRef"):
        return field_value(pod, str(source["fieldRef"].get("fieldPath", "")), facts)
    if source.get("resourceFieldRef"):
        return resource_value(pod, container, source["resourceFieldRef"], references)
    for kind, find, read in (
        ("configMapKeyRef", references.config_map, config_value),
        ("secretKeyRef", references.secret, secret_value),
    ):
        reference = source.get(kind)
        if not reference:
            continue
        word = "configmap" if kind == "configMapKeyRef" else "secret"
        holder = find(namespace, reference["name"])
        value = read(holder, reference["key"]) if holder is not None else None
        if value is not None:
            return value.decode(errors="replace")
        if reference.get("optional"):
            return None
        if holder is None:
            raise ConfigError(f'{word} "{reference["name"]}" not found')
        keys = ", ".join(sorted({**(holder.get("data") or {}), **(holder.get("binaryData") or {})})) or "none"
        raise ConfigError(
            f"couldn't find key {reference['key']} in {word} {namespace}/{reference['name']} (it has: {keys})"
        )
    raise ConfigError(f"an env valueFrom has none of the known sources: {', '.join(sorted(source))}")
