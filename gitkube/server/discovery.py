"""What is served, in both of Kubernetes' ways of saying so: a document for each level, or one for all.

Both are made from the records of the registry alone. Clients since 1.26 ask for the aggregated form by
the Accept header, and fall back to the older one when the answer's content type is not exactly that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from aiohttp import web

from gitkube.objects.kinds import SERVED, Kind
from gitkube.objects.registry import Registry
from gitkube.server.answers import json_answer, text_answer
from gitkube.server.negotiation import YAML, check_document, is_json, not_acceptable, parse_accept
from gitkube.server.paths import unknown_path

_READ_WRITE = ("get", "patch", "update")
_SUBRESOURCE_VERBS = {
    "status": _READ_WRITE,
    "scale": _READ_WRITE,
    "approval": _READ_WRITE,
    "ephemeralcontainers": _READ_WRITE,
    "resize": _READ_WRITE,
    "finalize": ("update",),
    "binding": ("create",),
    "eviction": ("create",),
    "token": ("create",),
    "log": ("get",),
    "exec": ("create", "get"),
    "attach": ("create", "get"),
    "portforward": ("create", "get"),
    "proxy": ("create", "delete", "get", "patch", "update"),
}
_SUBRESOURCE_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "exec": ("", "v1", "PodExecOptions"),
    "attach": ("", "v1", "PodAttachOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
}
_GROUP_ORDER = (
    "", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
    "autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io", "policy",
    "rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io",
    "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io", "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)  # fmt: skip
"""As Kubernetes lists them: where two groups have a kind of one name, clients take the first."""
_OWN_GROUPS = frozenset(kind.group for kind in SERVED)
_AGGREGATED_VERSIONS = ("v2", "v2beta1")


class _Served:
    """What is served at one moment, and the documents that say so."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds = sorted(kinds, key=lambda kind: _rank(kind.group))  # stable: versions keep their order
        self.groups = tuple(dict.fromkeys(kind.group for kind in self.kinds if kind.group))
        self._aggregated: dict[tuple[str, str], bytes] = {}

    def aggregated(self, root: str, version: str) -> bytes:
        if (root, version) not in self._aggregated:
            kinds = [kind for kind in self.kinds if bool(kind.group) == (root == "apis")]
            self._aggregated[root, version] = orjson.dumps(_aggregated(kinds, version)) + b"\n"
        return self._aggregated[root, version]


class Discovery:
    """The documents, made anew when the kinds that are served have changed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._version = registry.version
        self._served = _Served(registry.served)

    @property
    def _current(self) -> _Served:
        if self._version != self._registry.version:
            self._version = self._registry.version
            self._served = _Served(self._registry.served)
        return self._served

    def is_built_in(self, group: str) -> bool:
        """Whether a group is the server's own; of others there is not more than their definitions."""
        return group in _OWN_GROUPS

    @property
    def _kinds(self) -> Sequence[Kind]:
        return self._current.kinds

    @property
    def _groups(self) -> tuple[str, ...]:
        return self._current.groups

    def root(self, request: web.Request, root: str) -> web.Response:
        """The answer to `/api` or `/apis`.

        Raises:
            StatusError: 406.
        """
        for offer in parse_accept(request.headers.get("Accept", "*/*")):
            if not is_json(offer.type) and offer.type != YAML:
                continue
            version = offer.parameters.get("v", "")
            if offer.parameters.get("as") == "APIGroupDiscoveryList":
                if offer.parameters.get("g") == "apidiscovery.k8s.io" and version in _AGGREGATED_VERSIONS:
                    return self._answer_aggregated(request, root, version)
                continue
            if "as" not in offer.parameters:
                return json_answer(
                    request, self._versions(request.host) if root == "api" else self._group_list()
                )
        raise not_acceptable()

    def _answer_aggregated(self, request: web.Request, root: str, version: str) -> web.Response:
        body = self._current.aggregated(root, version)
        tag = f'"{hashlib.sha256(body).hexdigest().upper()}"'
        headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        content_type = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        return json_answer(request, body, content_type=content_type, headers=headers)

    def group(self, request: web.Request, group: str) -> web.Response:
        """The answer to `/apis/GROUP`."""
        if group not in self._groups:
            return no_such_page()
        return json_answer(request, {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)})

    def resources(self, request: web.Request, group: str, version: str) -> web.Response:
        """The answer to `/api/v1` or `/apis/GROUP/VERSION`.

        Raises:
            StatusError: 404, 406.
        """
        check_document(request.headers.get("Accept", ""))
        kinds = [kind for kind in self._kinds if (kind.group, kind.version) == (group, version)]
        if not kinds:
            if group and not self.is_built_in(group):
                return no_such_page()
            raise unknown_path()
        resources: list[dict[str, Any]] = []
        for kind in sorted(kinds, key=lambda kind: kind.plural):
            resources.append(_resource(kind))
            names = sorted(kind.subresources) if kind.custom is None else kind.subresources
            resources.extend(_subresource(kind, name) for name in names)
        document: dict[str, Any] = {"kind": "APIResourceList"}
        if group:
            document["apiVersion"] = "v1"
        document["groupVersion"] = kinds[0].api_version
        document["resources"] = resources
        return json_answer(request, document)

    def paths(self) -> list[str]:
        """Of the discovery documents, for the index at `/`."""
        found = ["/api", "/api/v1", "/apis"]
        for group in sorted(self._groups):
            found.append(f"/apis/{group}")
            found.extend(f"/apis/{group}/{version}" for version in _versions(self._kinds, group))
        return found

    def _versions(self, address: str) -> dict[str, Any]:
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}

    def _group_list(self) -> dict[str, Any]:
        groups = [self._group(group) for group in self._groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _group(self, group: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for version in _versions(self._kinds, group)
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def no_such_page() -> web.Response:
    """The answer where no API is."""
    return text_answer("404 page not found\n", status=404)


def _rank(group: str) -> tuple[int, str]:
    return (_GROUP_ORDER.index(group) if group in _GROUP_ORDER else len(_GROUP_ORDER), group)


def _versions(kinds: Iterable[Kind], group: str) -> list[str]:
    return list(dict.fromkeys(kind.version for kind in kinds if kind.group == group))


def _resource(kind: Kind) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind.categories:
        resource["categories"] = list(kind.categories)
    return resource


def _subresource(kind: Kind, name: str) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
    }
    group, version, kind_name = _subresource_kind(kind, name)
    if group != kind.group:
        resource |= {"group": group, "version": version}
    return resource | {"kind": kind_name, "verbs": list(_SUBRESOURCE_VERBS[name])}


def _subresource_kind(kind: Kind, name: str) -> tuple[str, str, str]:
    if name == "proxy":
        return kind.group, kind.version, f"{kind.kind}ProxyOptions"
    return _SUBRESOURCE_KINDS.get(name, (kind.group, kind.version, kind.kind))


def _aggregated(kinds: Sequence[Kind], version: str) -> dict[str, Any]:
    items = []
    for group in dict.fromkeys(kind.group for kind in kinds):
        versions = [
            {
                "version": group_version,
                "resources": [
                    _aggregated_resource(kind)
                    for kind in kinds
                    if (kind.group, kind.version) == (group, group_version)
                ],
                "freshness": "Current",
            }
            for group_version in _versions(kinds, group)
        ]
        metadata: dict[str, Any] = {"creationTimestamp": None}
        if group:
            metadata["name"] = group
        items.append({"metadata": metadata, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(kind: Kind) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind.categories:
        resource["categories"] = list(kind.categories)
    if kind.subresources:
        resource["subresources"] = [_aggregated_subresource(kind, name) for name in kind.subresources]
    return resource


def _aggregated_subresource(kind: Kind, name: str) -> dict[str, Any]:
    group, version, kind_name = _subresource_kind(kind, name)
    return {
        "subresource": name,
        "responseKind": {"group": group, "version": version, "kind": kind_name},
        "verbs": list(_SUBRESOURCE_VERBS[name]),
    }
