"""URL paths to what they name: a kind, perhaps a namespace, a name, a subresource.

The grammar is Kubernetes': `/api/v1` or `/apis/GROUP/VERSION`, then
`[watch/][namespaces/NS/]PLURAL[/NAME[/SUBRESOURCE]]`; the first is an old way to ask for a watch, which is
deprecated and still served. Parts are split before they are percent-decoded, so that an encoded slash can
never become a separator. What follows `/proxy` is another server's path, and is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote

from gitkube.api.errors import StatusError, not_found
from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry

MAX_PATH = 4096
_BUILT_IN = Registry()


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    kind: Kind
    namespace: str = ""
    """"" is all namespaces, or a kind that has none."""
    name: str = ""
    """"" is the collection."""
    subresource: str = ""
    is_watch: bool = False
    """It is asked for a watch by the path alone."""
    rest: str = ""
    """Of a proxy: the path behind it, as it was sent, with its first slash; "" when there is none."""


@dataclass(frozen=True, slots=True)
class GroupVersion:
    """The path of a whole group and version: its discovery document."""

    group: str
    version: str


def parse_path(raw_path: str, registry: Registry = _BUILT_IN) -> Target | GroupVersion:
    """What a path below `/api/` or `/apis/` names.

    Raises:
        StatusError: 404, nothing that is served.
    """
    if len(raw_path) > MAX_PATH:
        raise unknown_path()
    raw_path, rest_of_proxy = _without_proxied(raw_path) if "/proxy" in raw_path else (raw_path, "")
    parts = [unquote(part) for part in raw_path.removesuffix("/").split("/")[1:]]
    if not all(parts) or any("/" in part or part in (".", "..") for part in parts):
        raise unknown_path()
    if parts[0] == "api" and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise unknown_path()
    if not rest:
        return GroupVersion(group, version)
    if rest[0] == "watch" and len(rest) > 1:
        target = _resource(registry, group, version, rest[1:])
        if target.subresource or "watch" not in target.kind.verbs:
            raise unknown_path()
        return replace(target, is_watch=True)
    target = _resource(registry, group, version, rest)
    return replace(target, rest=rest_of_proxy) if rest_of_proxy else target


def _without_proxied(raw_path: str) -> tuple[str, str]:
    """The path up to `/proxy`, and what comes behind that."""
    parts = raw_path.split("/")
    for at, before, words in ((5, 3, _PROXIED_CLUSTER), (7, 5, _PROXIED_NAMESPACED)):
        is_core = parts[1:2] == ["api"] and (at == 5 or parts[3:4] == ["namespaces"])
        if is_core and len(parts) > at and parts[at] == "proxy" and parts[before] in words:
            head, rest = parts[: at + 1], parts[at + 1 :]
            return "/".join(head), "/" + "/".join(rest) if rest else ""
    return raw_path, ""


_PROXIED_CLUSTER = ("nodes",)
_PROXIED_NAMESPACED = ("pods", "services")


def _resource(registry: Registry, group: str, version: str, parts: list[str]) -> Target:
    namespace = ""
    # /namespaces/NS/PLURAL… but /namespaces/NS, /namespaces/NS/status and /finalize are the Namespace itself.
    if parts[0] == "namespaces" and len(parts) >= 3:
        is_namespace_itself = not group and parts[2] in kinds.NAMESPACE.subresources
        if not is_namespace_itself:
            namespace, parts = parts[1], parts[2:]
    kind = registry.by_resource(group, version, parts[0])
    name, subresource = (*parts[1:], "", "")[:2]
    if kind is None or len(parts) > 3:
        raise unknown_path()
    if subresource and subresource not in kind.subresources:
        if kind.custom is not None:
            raise not_found(kind.group, kind.plural, name)  # as of an object that is not there
        raise unknown_path()
    if namespace and not kind.namespaced:
        raise unknown_path()
    if kind.namespaced and name and not namespace:
        raise unknown_path()
    return Target(kind, namespace, name, subresource)


def unknown_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed(details: dict[str, str] | None = None) -> StatusError:
    return StatusError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        details=details or {},
    )
