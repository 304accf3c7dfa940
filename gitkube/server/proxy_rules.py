"""What the proxy of pods, services and nodes goes by: whom a name means, and what is changed on the way.

Pure functions. A name is `[SCHEME:]NAME[:PORT]`, the port a number or a name. Headers that belong to one
connection only, and those that say who asks the API, end here; a redirect that stays on the other side is
led back through the proxy. Sources: Kubernetes' `SplitSchemeNamePort`, the `ResourceLocation` of its pods and
services, and its proxy transport; RFC 9110, section 7.6.1, for the headers.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from multidict import CIMultiDict

from gitkube.api.errors import StatusError, bad_request
from gitkube.objects import meta
from gitkube.objects.types import Object

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
ONLY_FOR_US = ("host", "authorization", "impersonate-")
"""Who asks whom is our business: a pod gets nobody's token."""
Headers = CIMultiDict[str]


@dataclass(frozen=True, slots=True)
class Named:
    """What a name asks for."""

    scheme: str
    name: str
    port: str
    """"" is the first there is."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A pod, and the port on it."""

    namespace: str
    pod: str
    port: int


def split_name(text: str, resource: str) -> Named:
    """The parts of a name.

    Args:
        resource: "pod", "service" or "node", for the refusal.

    Raises:
        StatusError: 400.
    """
    parts = text.split(":")
    if len(parts) == 3:
        scheme, name, port = parts
    else:
        scheme, name, port = "", *(parts if len(parts) == 2 else [text, ""])
    if len(parts) > 3 or scheme not in ("", "http", "https") or not name:
        raise bad_request(f'invalid {resource} request "{text}"')
    return Named(scheme or "http", name, port)


def pod_backend(pod: Object, named: Named) -> Backend:
    """The port of a pod: the one that is asked for, or the first that it declares.

    Raises:
        StatusError: 400, it has no address, or the port is none.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if not _is_proxyable(str(status.get("podIP") or "")):
        raise bad_request("address not allowed")
    declared = [port for container in spec.get("containers") or [] for port in container.get("ports") or []]
    if not named.port:
        port = int(declared[0]["containerPort"]) if declared else _DEFAULT_PORTS[named.scheme]
        return Backend(meta.namespace(pod), meta.name(pod), port)
    for one in declared:
        if one.get("name") == named.port:
            return Backend(meta.namespace(pod), meta.name(pod), int(one["containerPort"]))
    if not named.port.isdecimal() or not 0 < int(named.port) < 65536:
        text = f'pod "{meta.name(pod)}" has no port "{named.port}"; '
        raise bad_request(text + "give its number, or a name of one of its containers' ports")
    return Backend(meta.namespace(pod), meta.name(pod), int(named.port))


def service_backend(service: Object, slices: Sequence[Object], named: Named, rng: random.Random) -> Backend:
    """One of the pods that are ready behind a Service, and its port there.

    Raises:
        StatusError: 404 when nobody keeps the Service's endpoints, 503 when it has no such port or none of
            them is ready.
    """
    name = meta.name(service)
    wanted = named.port
    if wanted.isdecimal():
        ports = (service.get("spec") or {}).get("ports") or []
        found = next((port for port in ports if int(port["port"]) == int(wanted)), None)
        if found is None:
            raise _unavailable(f'no service port {wanted} found for service "{name}"')
        wanted = str(found.get("name") or "")
    if not slices:
        details = {"name": name, "kind": "services"}
        raise StatusError(404, "NotFound", f'services "{name}" not found', details=details)
    backends = [backend for one in slices for backend in _ready(one, wanted, is_any=not named.port)]
    if not backends:
        raise _unavailable(f'no endpoints available for service "{name}"')
    return rng.choice(backends)


def _ready(endpoint_slice: Object, port_name: str, *, is_any: bool) -> Iterable[Backend]:
    ports = endpoint_slice.get("ports") or []
    named = [one for one in ports if (one.get("name") or "") == port_name]
    port = next(iter(named or (ports if is_any else [])), None)
    if port is None or not port.get("port"):
        return
    for endpoint in endpoint_slice.get("endpoints") or []:
        target = endpoint.get("targetRef") or {}
        is_ready = (endpoint.get("conditions") or {}).get("ready") is not False
        if is_ready and target.get("kind") == "Pod":
            namespace = target.get("namespace") or meta.namespace(endpoint_slice)
            yield Backend(namespace, str(target["name"]), int(port["port"]))


def end_to_end(headers: Mapping[str, str], without: tuple[str, ...] = ()) -> Headers:
    """Without those that belong to one connection.

    Args:
        without: further ones to leave out, by how their names begin, in lower case.
    """
    options = headers.get("Connection", "").split(",")
    dropped = _HOP_BY_HOP | {word.strip().lower() for word in options}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in dropped and not name.lower().startswith(without or ("\0",))
    )


def onward_headers(
    headers: Mapping[str, str], *, host: str, uri: str, scheme: str, client: str = ""
) -> Headers:
    """The headers of a request as the backend gets them.

    Args:
        host: by which the client called us.
        uri: the path by which it called us.
        client: its address, which goes behind those of the proxies before us; "" is not known.
    """
    kept = end_to_end(headers, without=ONLY_FOR_US)
    if client:
        before = headers.get("X-Forwarded-For", "")
        kept["X-Forwarded-For"] = f"{before}, {client}" if before else client
    # Another proxy before us knows better.
    kept.setdefault("X-Forwarded-Host", host)
    kept.setdefault("X-Forwarded-Uri", uri)
    kept.setdefault("X-Forwarded-Proto", scheme)
    return kept


def backward_headers(headers: Mapping[str, str], *, prefix: str, backend_host: str) -> Headers:
    """The headers of an answer as the client gets them.

    Args:
        prefix: of the proxy's paths, without a slash at its end.
        backend_host: by which the backend was called.
    """
    kept = end_to_end(headers)
    if "Location" in kept:
        kept["Location"] = led_back(kept["Location"], prefix, backend_host)
    return kept


def led_back(location: str, prefix: str, backend_host: str) -> str:
    """A redirect's address: through the proxy when it stays on the backend, and as it is otherwise."""
    parts = urlsplit(location)
    is_elsewhere = parts.netloc and parts.netloc != backend_host
    if is_elsewhere or not parts.path.startswith("/") or parts.path.startswith(prefix + "/"):
        return location
    rest = f"?{parts.query}" if parts.query else ""
    return prefix + parts.path + rest + (f"#{parts.fragment}" if parts.fragment else "")


def _is_proxyable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # Not is_global: the pods' own network is a private one.
    is_special = parsed.is_unspecified or parsed.is_loopback or parsed.is_link_local or parsed.is_multicast
    return not is_special


def _unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)
