"""Empties a namespace that is being deleted, and then lets it go.

Every namespaced kind is listed live (a copy may lag) and deleted: pods first, and nothing else before they
are gone, so that what protects them (NetworkPolicies) or what they write to does not go from under them. As
long as something is left, the status says what, so that a namespace that hangs says on whom it waits. When
nothing is left, the finalizer `kubernetes` is taken off `spec.finalizers`, which ends it.
Source: Kubernetes' namespaced resources deleter.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.control.context import Context, Controller
from gitkube.objects import conditions, meta
from gitkube.objects.kinds import EVENT, NAMESPACE, POD, Kind
from gitkube.objects.types import Object

FINALIZER = "kubernetes"
RETRY_S = 1.0
POD_RETRY_S = 2.0
"""Pods need their grace period; asking more often would not make it shorter."""


@dataclass(slots=True)
class Remaining:
    """What a pass over a namespace has left behind."""

    kinds: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class NamespaceController(Controller):
    name = "namespace-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = context.informer(NAMESPACE)
        self._namespaces.add_handler(self._on_namespace)

    async def reconcile(self, key: str) -> float | None:
        """One pass over one namespace."""
        namespace = self._namespaces.get(key)
        if namespace is None or not meta.is_deleting(namespace):
            return None
        remaining = Remaining()
        await self._empty(POD, key, remaining)
        if not remaining.kinds and not remaining.failures:
            # Events last: deleting the others makes some.
            for kind in sorted(self.context.registry.stored, key=lambda kind: kind is EVENT):
                if kind.namespaced and kind is not POD:
                    await self._empty(kind, key, remaining)
        await self._write_status(namespace, remaining)
        if remaining.kinds or remaining.failures:
            return POD_RETRY_S if _counted_as(POD) in remaining.kinds else RETRY_S
        await self._finalize(key, meta.uid(namespace))
        return None

    async def _empty(self, kind: Kind, namespace: str, remaining: Remaining) -> None:
        try:
            listing = await self.client.list(kind, namespace)
            for obj in listing.items:
                if not meta.is_deleting(obj):
                    await self._delete(kind, obj)
            if listing.items:
                listing = await self.client.list(kind, namespace)
        except StatusError as error:
            remaining.failures.append(f"{kind}: {error.message}")
            return
        for obj in listing.items:
            remaining.kinds[_counted_as(kind)] += 1
            remaining.finalizers.update(meta.finalizers(obj))

    async def _delete(self, kind: Kind, obj: Object) -> None:
        try:
            await self.client.delete(
                kind,
                meta.name(obj),
                meta.namespace(obj),
                uid=meta.uid(obj),
                propagation=Propagation.BACKGROUND,
            )
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise

    async def _write_status(self, namespace: Object, remaining: Remaining) -> None:
        wanted = status_conditions(namespace, remaining, self.clock.now())
        if wanted == conditions.conditions(namespace):
            return
        patch = {"metadata": {"uid": meta.uid(namespace)}, "status": {"conditions": wanted}}
        try:
            await self.client.patch(NAMESPACE, meta.name(namespace), "", patch, subresource="status")
        except StatusError as error:
            if not is_not_found(error):
                raise

    async def _finalize(self, name: str, uid: str) -> None:
        try:
            current = await self.client.get(NAMESPACE, name)
            if meta.uid(current) != uid or not meta.is_deleting(current):
                return
            left = [one for one in current["spec"].get("finalizers") or () if one != FINALIZER]
            after = {**current, "spec": {**current["spec"], "finalizers": left}}
            await self.client.update(NAMESPACE, after, subresource="finalize")
        except StatusError as error:
            if not is_not_found(error):
                raise

    def _on_namespace(self, before: Object | None, after: Object | None) -> None:
        if after is not None and meta.is_deleting(after):
            self.enqueue(after)


def _counted_as(kind: Kind) -> str:
    """Kubernetes writes the dot before the group also where there is none: `pods.`."""
    return f"{kind.plural}.{kind.group}"


def status_conditions(namespace: Object, remaining: Remaining, now_s: float) -> list[dict[str, Any]]:
    """What the status says of a pass, in Kubernetes' words."""
    present = conditions.conditions(namespace)
    content = ", ".join(
        f"{kind} has {count} resource instances" for kind, count in sorted(remaining.kinds.items())
    )
    finalizers = ", ".join(
        f"{name} in {count} resource instances" for name, count in sorted(remaining.finalizers.items())
    )
    for condition in (
        conditions.make(
            "NamespaceDeletionDiscoveryFailure",
            False,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        conditions.make(
            "NamespaceDeletionGroupVersionParsingFailure",
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        conditions.make(
            "NamespaceDeletionContentFailure",
            bool(remaining.failures),
            "ContentDeletionFailed" if remaining.failures else "ContentDeleted",
            "; ".join(remaining.failures)
            or "All content successfully deleted, may be waiting on finalization",
        ),
        conditions.make(
            "NamespaceContentRemaining",
            bool(content),
            "SomeResourcesRemain" if content else "ContentRemoved",
            f"Some resources are remaining: {content}" if content else "All content successfully removed",
        ),
        conditions.make(
            "NamespaceFinalizersRemaining",
            bool(finalizers),
            "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
            f"Some content in the namespace has finalizers remaining: {finalizers}"
            if finalizers
            else "All content-preserving finalizers finished",
        ),
    ):
        present = conditions.with_condition(present, condition, now_s)
    return present
