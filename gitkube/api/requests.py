"""What a request to the verbs carries besides its object.

The HTTP server makes these from URL, query and headers, `LocalClient` from its arguments; `Verbs` reads them.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gitkube.api.authorization import User
from gitkube.api.client import ObjectList, PatchType, Propagation
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object


class FieldValidation(enum.Enum):
    """What happens to fields that the schema does not know."""

    STRICT = "Strict"
    WARN = "Warn"
    IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, and how the answer is wanted."""

    user: User
    field_manager: str = ""
    """"" becomes the user's name."""
    dry_run: bool = False
    field_validation: FieldValidation = FieldValidation.WARN
    asked_as: Kind | None = None
    """The kind by which the client asks, where it is another version of what is stored: its rights count."""
    asked_verb: str = ""
    """The verb by which it asks, where it is done by another one."""
    warnings: list[str] = field(default_factory=list)
    """Filled by the verbs; the HTTP server sends each as a Warning header."""
    strict_problems: list[str] = field(default_factory=list)
    """What the reader of a body found wrong; under Strict, it is refused with what its fields have wrong."""
    audit_annotations: dict[str, str] = field(default_factory=dict)
    """Filled by admission: what webhooks and policies note for the audit log."""
    named_manager: str = ""
    """The manager if the client named one, else "": what others are told of the request's options."""


@dataclass(frozen=True, slots=True)
class ListOptions:
    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    """"", "Exact" or "NotOlderThan"."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    """"" and "0" start with an ADDED for each object that is there, unless `send_initial_events` says no."""
    bookmarks: bool = False
    send_initial_events: bool | None = None
    """True: ADDED for each object that is there, then a bookmark annotated `k8s.io/initial-events-end`."""
    timeout_s: float = 0.0
    """When the watcher will go; a moment before, it gets a last bookmark. 0: not known."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    propagation: Propagation | None = None
    grace_period_s: int | None = None
    uid: str = ""
    resource_version: str = ""


class WatchItem(Protocol):
    """One event of a watch; shared by all watchers, so that its bytes are made once."""

    @property
    def type(self) -> str:
        """ADDED, MODIFIED, DELETED or BOOKMARK."""
        ...

    @property
    def object(self) -> Object: ...

    @property
    def forms(self) -> dict[Any, bytes]:
        """Its bytes in other forms (tables, metadata alone), as whoever made them first has put them here."""
        ...

    @property
    def encoded(self) -> bytes:
        """`{"type":…,"object":…}` and a newline, as JSON watches send it."""
        ...


class VerbsApi(Protocol):
    """What the HTTP server may ask of `Api.verbs`. All methods raise `StatusError`.

    Authorization is asked inside. `namespace` is "" for cluster-scoped kinds and for all namespaces.
    """

    async def get(
        self, context: Context, kind: Kind, namespace: str, name: str, *, resource_version: str = ""
    ) -> Object: ...

    async def list(
        self, context: Context, kind: Kind, namespace: str, options: ListOptions
    ) -> ObjectList: ...

    async def watch(
        self, context: Context, kind: Kind, namespace: str, options: WatchOptions
    ) -> AsyncIterator[WatchItem]:
        """The events of a watch, which tells of everything that is written after this has returned.

        Raises what a refused watch answers (403, 410 …).
        """
        ...

    async def create(self, context: Context, kind: Kind, namespace: str, obj: Object) -> Object: ...

    async def update(
        self, context: Context, kind: Kind, namespace: str, name: str, obj: Object, *, subresource: str = ""
    ) -> Object: ...

    async def patch(
        self,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        type: PatchType,
        *,
        subresource: str = "",
    ) -> Object: ...

    async def apply(
        self,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Object,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> tuple[Object, bool]:
        """The object, and whether it was created (201 instead of 200)."""
        ...

    async def delete(
        self, context: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        """The object as it was last, and whether it is gone (else it is only marked as being deleted)."""
        ...

    async def delete_collection(
        self, context: Context, kind: Kind, namespace: str, selection: ListOptions, options: DeleteOptions
    ) -> ObjectList: ...

    async def get_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str
    ) -> Object:
        """GET of `status` (the object itself) or `scale` (an autoscaling/v1 Scale)."""
        ...

    async def create_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        """POST to `binding` or `eviction`, whose answer is a `v1.Status`, or to `token`, whose answer has the
        token."""
        ...
