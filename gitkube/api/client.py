"""One protocol for everybody who reads and writes objects.

`LocalClient` (same process) and `HttpClient` (any Kubernetes-speaking server) both keep it, so a controller
does not know where it runs. Objects are plain dicts and belong to the cache: **never change one in place**,
build a new one.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object


@dataclass(frozen=True, slots=True)
class ObjectList:
    items: list[Object]
    """Complete objects, each with apiVersion and kind."""
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK. (An ERROR is raised as `StatusError`.)"""
    object: Object


class PatchType(enum.Enum):
    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


class Propagation(enum.Enum):
    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


class Client(Protocol):
    """All methods raise `StatusError`. `namespace` is "" for cluster-scoped kinds."""

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object: ...

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ObjectList:
        """`namespace` "" lists all namespaces."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        """What happened after `resource_version`, until the iterator is closed.

        Raises (while iterating):
            StatusError: 410 when the version is too old; list again.
        """
        ...

    async def create(
        self, kind: Kind, obj: Object, *, field_manager: str = "", dry_run: bool = False
    ) -> Object: ...

    async def update(
        self,
        kind: Kind,
        obj: Object,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Replace; with `metadata.resourceVersion` set, only if it is still the current one."""
        ...

    async def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Any,
        *,
        type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object: ...

    async def apply(
        self,
        kind: Kind,
        obj: Object,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: `obj` holds just the fields that the manager wants to own."""
        ...

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        propagation: Propagation | None = None,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Delete, or mark as being deleted when finalizers or a grace period hold it.

        Args:
            uid, resource_version: preconditions; 409 when the object is another one by now.
        """
        ...

    async def create_subresource(
        self, kind: Kind, name: str, namespace: str, subresource: str, body: Object
    ) -> Object:
        """POST to a subresource such as `binding`, `eviction` or `token`."""
        ...
