"""What a write comes to: decisions from the cache, made by nobody's leave but the store's.

Fill in what only the server may say; note who owns which fields; ask admission; put back what may not change;
validate. The answer is a `Write` with the comparison that nothing has changed meanwhile. A decision may be
made several times, so it has no effect of its own.
"""

from __future__ import annotations

import random
import uuid

from gitkube.api import errors
from gitkube.api.admission.chain import admit
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.cache import WatchCache
from gitkube.api.custom.identity import check_definition_lives
from gitkube.api.custom.views import KindView
from gitkube.api.decoding import validated
from gitkube.api.deletion import decide_deletion, ends_with_update
from gitkube.api.rbac.escalation import Escalation
from gitkube.api.reads import parse_version
from gitkube.api.refusals import apply_conflict, check_deletion_fields, check_version_given
from gitkube.api.requests import Context, DeleteOptions
from gitkube.api.settings import ApiSettings
from gitkube.api.strategy import count_templates, is_unchanged, prepare_for_create, prepare_for_update
from gitkube.api.subresources import check_part
from gitkube.api.transactions import Write, put, remove
from gitkube.clock import Clock, rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import JOB, Kind
from gitkube.objects.patch.apply import server_side_apply, track_update
from gitkube.objects.patch.errors import ConflictError, PatchError
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""As Kubernetes: no vowels, so that no generated name is a word; no 0, 1, 3, which look like letters."""
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
    "them or set propagationPolicy=Orphan to suppress this warning"
)
_SUFFIX_LENGTH = 5
_MAX_GENERATED_BASE = 58
_NAME_TRIES = 8


class Decisions:
    """One method a kind of write."""

    def __init__(
        self,
        cache: WatchCache,
        *,
        clock: Clock,
        rng: random.Random,
        settings: ApiSettings,
        escalation: Escalation,
    ) -> None:
        self._cache = cache
        self._escalation = escalation
        self._clock = clock
        self._rng = rng
        self._settings = settings

    def create(self, context: Context, kind: Kind, namespace: str, obj: Object, *, tracked: bool) -> Write:
        """`obj` belongs to this call; `tracked` when its managedFields are already as they shall be."""
        now = rfc3339(self._clock.now())
        metadata = obj["metadata"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generate_name(kind, namespace, str(metadata["generateName"]))
        name = str(metadata.get("name") or "")
        count_templates(kind, obj)
        if not tracked:
            self._track(context, kind, obj, None, "")
        uid = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        prepare_for_create(kind, obj, uid=uid, now=now)
        self._escalation.check(context.user, kind, namespace, obj, None)
        request = self._admission(Verb.CREATE, context, kind, namespace, name, obj, None, "")
        admit(request)
        validated(kind, request.obj, None)
        if (present := self._cache.of(kind).get(name, namespace)) is not None:
            error = errors.already_exists(kind.group, kind.plural, name)
            if meta.is_deleting(present):
                error.message = f"object is being deleted: {error.message}"
            raise error
        write = put(kind, namespace, request.obj, None)
        if kind.custom is not None:
            write.compares.append(check_definition_lives(kind, self._cache))
        write.compares += request.compares
        write.operations += request.operations
        return write

    def update(
        self,
        context: Context,
        kind: Kind,
        namespace: str,
        obj: Object,
        old: Object,
        subresource: str,
        *,
        tracked: bool = False,
    ) -> Write:
        """`obj` belongs to this call."""
        metadata, before = obj["metadata"], old["metadata"]
        name = str(before["name"])
        if kind.namespaced:
            metadata["namespace"] = namespace
        version = str(metadata.get("resourceVersion") or "")
        parse_version(version)
        if subresource != "scale" or kind.custom is None:
            check_version_given(kind, version, before)
        if (uid := metadata.get("uid")) and uid != before["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
            resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
            raise errors.conflict(kind.group, resource, name, why)
        if version not in ("", "0", before["resourceVersion"]):
            why = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise errors.conflict(kind.group, kind.plural, name, why)
        metadata["resourceVersion"] = before["resourceVersion"]
        prepare_for_update(kind, obj, old, subresource)
        check_deletion_fields(kind, obj, old)
        if not tracked:
            self._track(context, kind, obj, old, subresource)
        self._escalation.check(context.user, kind, namespace, obj, old)
        request = self._admission(Verb.UPDATE, context, kind, namespace, name, obj, old, subresource)
        admit(request)
        if is_unchanged(request.obj, old) and not self._is_stale(kind, namespace, name):
            return Write(old)
        validated(kind, request.obj, old)
        check_part(kind, request.obj, old, subresource)
        if ends_with_update(kind, request.obj, old):
            write = remove(kind, namespace, request.obj, old)
            gone = self._admission(Verb.DELETE, context, kind, namespace, name, old, None, "")
            admit(gone)
            write.operations += gone.operations
            return write
        write = put(kind, namespace, request.obj, old)
        write.compares += request.compares
        write.operations += request.operations
        return write

    def delete(
        self, context: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> Write:
        """What deleting comes to: the object's end, or a mark that it is to end."""
        old = self.existing(kind, namespace, name)
        request = self._admission(Verb.DELETE, context, kind, namespace, name, old, None, "")
        admit(request)
        deletion = decide_deletion(kind, old, options, self._clock.now())
        if kind is JOB and options.propagation is None and _ORPHANS not in context.warnings:
            context.warnings.append(_ORPHANS)
        if deletion.is_end:
            write = remove(kind, namespace, deletion.object, old)
            write.is_rewritten = deletion.is_rewritten
            write.compares += request.compares
            write.operations += request.operations
            return write
        if is_unchanged(deletion.object, old):
            return Write(old)
        return put(kind, namespace, deletion.object, old)

    def _is_stale(self, kind: Kind, namespace: str, name: str) -> bool:
        objects = self._cache.of(kind)
        return isinstance(objects, KindView) and objects.is_stale(name, namespace)

    def existing(self, kind: Kind, namespace: str, name: str) -> Object:
        old = self._cache.of(kind).get(name, namespace)
        if old is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return old

    def _admission(
        self,
        verb: Verb,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Object,
        old: Object | None,
        subresource: str,
    ) -> AdmissionRequest:
        return AdmissionRequest(
            verb,
            kind,
            namespace,
            name,
            obj,
            old,
            context,
            self._cache,
            self._rng,
            self._settings,
            subresource,
        )

    def _generate_name(self, kind: Kind, namespace: str, base: str) -> str:
        for _ in range(_NAME_TRIES):
            suffix = "".join(self._rng.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH))
            name = base[:_MAX_GENERATED_BASE] + suffix
            if self._cache.of(kind).get(name, namespace) is None:
                return name
        raise errors.already_exists(kind.group, kind.plural, name)

    def _manager(self, context: Context) -> str:
        return context.field_manager or context.user.name

    def _track(self, context: Context, kind: Kind, obj: Object, old: Object | None, subresource: str) -> None:
        """Note in `obj`, in place, which fields this write makes the manager's own."""
        entries = track_update(
            old,
            obj,
            schema_of(kind),
            kind=kind,
            manager=self._manager(context),
            now=rfc3339(self._clock.now()),
            subresource=subresource,
        )
        if entries:
            obj["metadata"]["managedFields"] = entries
        else:
            obj["metadata"].pop("managedFields", None)

    def merge_applied(
        self,
        context: Context,
        kind: Kind,
        old: Object | None,
        applied: Object,
        force: bool,
        subresource: str,
    ) -> Object:
        try:
            return server_side_apply(
                old,
                applied,
                schema_of(kind),
                kind=kind,
                manager=context.field_manager,
                now=rfc3339(self._clock.now()),
                force=force,
                subresource=subresource,
            )
        except ConflictError as conflict:
            raise apply_conflict(conflict) from conflict
        except PatchError as error:
            of = f"{meta.key(applied)}; {kind.api_version}, Kind={kind.kind}"
            text = f"failed to create typed patch object ({of}): {error.message}"
            raise errors.bad_request(text) from error
