"""What a write comes to: decisions from the cache, made by nobody's leave but the store's.

Note who owns which fields; ask admission, which may change the object; fill in what only the server may say
and put back what may not change; validate; ask those whose word is the last. The answer is a `Write` with
the comparison that nothing has changed meanwhile. A decision may be made several times, so it has no effect
of its own; only webhooks hear of each.

Nothing waits but for webhooks, and only where one could be about the object (`Extensions.concern`).
"""

from __future__ import annotations

import random

from gitkube.api import errors
from gitkube.api.admission.chain import admit, allocate, judge
from gitkube.api.admission.quotas import charge_for
from gitkube.api.admission.request import AdmissionRequest, Extensions, Verb
from gitkube.api.cache import WatchCache
from gitkube.api.custom.identity import check_definition_lives
from gitkube.api.custom.views import KindView
from gitkube.api.decoding import validated, warn
from gitkube.api.deletion import decide_deletion, ends_with_update
from gitkube.api.rbac.escalation import Escalation
from gitkube.api.reads import parse_version
from gitkube.api.refusals import apply_conflict, check_deletion_fields, check_version_given
from gitkube.api.requests import Context, DeleteOptions
from gitkube.api.settings import ApiSettings
from gitkube.api.strategy import (
    count_generation,
    count_templates,
    is_unchanged,
    prepare_for_create,
    prepare_for_update,
)
from gitkube.api.subresources import check_part, delete_options_document, scale_of, with_scale
from gitkube.api.transactions import Write, put, remove
from gitkube.clock import Clock, rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import JOB, Kind
from gitkube.objects.patch.apply import server_side_apply, track_update
from gitkube.objects.patch.copying import clone
from gitkube.objects.patch.errors import ConflictError, PatchError
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object
from gitkube.objects.uids import new_uid
from gitkube.objects.warnings import warnings_of

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""As Kubernetes: no vowels, so that no generated name is a word; no 0, 1, 3, which look like letters."""
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
    "them or set propagationPolicy=Orphan to suppress this warning"
)
_SUFFIX_LENGTH = 5
_MAX_GENERATED_BASE = 58
_NAME_TRIES = 8


def _nothing() -> None:
    """What the built-in rules do about a body that is not stored."""


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
        extensions: Extensions,
    ) -> None:
        self._cache = cache
        self._extensions = extensions
        self._escalation = escalation
        self._clock = clock
        self._rng = rng
        self._settings = settings

    def asks_others(self, kind: Kind, subresource: str = "") -> bool:
        """Whether deciding about such an object may wait for others than the store."""
        return self._extensions.concern(kind, subresource)

    async def create(
        self, context: Context, kind: Kind, namespace: str, obj: Object, *, tracked: bool
    ) -> Write:
        """`obj` belongs to this call; `tracked` when its managedFields are already as they shall be."""
        now = rfc3339(self._clock.now())
        metadata = obj["metadata"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        count_templates(kind, obj)
        if not tracked:
            self._track(context, kind, obj, None, "")
        name = str(metadata.get("name") or "")
        request = self._admission(Verb.CREATE, context, kind, namespace, name, obj, None, "")
        await self._mutate(request)
        obj = request.obj
        metadata = obj["metadata"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generate_name(kind, namespace, str(metadata["generateName"]))
        name = request.name = str(metadata.get("name") or "")
        uid = new_uid(self._rng)
        prepare_for_create(kind, obj, uid=uid, now=now)
        self._escalation.check(context.user, kind, namespace, obj, None)
        allocate(request)
        validated(kind, obj, None)
        warn(context, warnings_of(kind, obj, None))
        judge(request)
        await self._validate(request)
        if (present := self._cache.of(kind).get(name, namespace)) is not None:
            error = errors.already_exists(kind.group, kind.plural, name)
            if meta.is_deleting(present):
                error.message = f"object is being deleted: {error.message}"
            raise error
        write = await self._put(kind, namespace, obj, None)
        if kind.custom is not None:
            write.compares.append(check_definition_lives(kind, self._cache))
        return self._charged(write, request)

    async def update(
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
        request = self._admission(Verb.UPDATE, context, kind, namespace, name, obj, old, subresource)
        if await self._mutate(request):
            request.obj["metadata"]["resourceVersion"] = before["resourceVersion"]
            prepare_for_update(kind, request.obj, old, subresource)
            check_deletion_fields(kind, request.obj, old)
        obj = request.obj
        self._escalation.check(context.user, kind, namespace, obj, old)
        allocate(request)
        count_generation(kind, obj, old, subresource)
        has_changed = not is_unchanged(obj, old) or self._is_stale(kind, namespace, name)
        if has_changed:
            validated(kind, obj, old)
            check_part(kind, obj, old, subresource)
            if not subresource:
                warn(context, warnings_of(kind, obj, old))
            judge(request)
        await self._validate(request)
        if not has_changed:
            return Write(old)
        if ends_with_update(kind, obj, old):
            write = remove(kind, namespace, obj, old)
            gone = self._admission(Verb.DELETE, context, kind, namespace, name, old, None, "")
            admit(gone)
            allocate(gone)
            write.operations += gone.operations
            return write
        write = await self._put(kind, namespace, obj, old)
        return self._charged(write, request)

    async def delete(
        self,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions,
        *,
        is_collection: bool = False,
        is_admitted: bool = False,
    ) -> Write:
        """What deleting comes to: the object's end, or a mark that it is to end.

        Args:
            is_collection: the request names no object.
            is_admitted: others have been asked already, by another name of the request.
        """
        old = self.existing(kind, namespace, name)
        request = self._admission(Verb.DELETE, context, kind, namespace, name, old, None, "")
        request.is_collection = is_collection
        request.delete_options = delete_options_document(options)
        if is_admitted:
            admit(request)
        else:
            await self._mutate(request)
            await self._validate(request)
        allocate(request)
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
        return await self._put(kind, namespace, deletion.object, old)

    async def _put(self, kind: Kind, namespace: str, obj: Object, old: Object | None) -> Write:
        objects = self._cache.of(kind)
        stored = await objects.to_stored(obj) if isinstance(objects, KindView) else None
        return put(kind, namespace, obj, old, stored)

    def _charged(self, write: Write, request: AdmissionRequest) -> Write:
        """The write with what the rules of admission have added, and what it costs the namespace's quotas."""
        write.compares += request.compares
        write.operations += request.operations
        write.charge = charge_for(request, self._clock.now())
        return write

    def _is_stale(self, kind: Kind, namespace: str, name: str) -> bool:
        objects = self._cache.of(kind)
        return isinstance(objects, KindView) and objects.is_stale(name, namespace)

    async def admit_body(
        self,
        verb: Verb,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        subresource: str,
        body: Object,
    ) -> Object:
        """Ask policies and webhooks about what is sent to a subresource that is not stored as it comes.

        Returns:
            The body as they leave it.

        Raises:
            StatusError: it is refused.
        """
        request = self._admission(verb, context, kind, namespace, name, body, None, subresource)
        request.body = (str(body.get("apiVersion")), str(body.get("kind")))
        if not self._extensions.concern(request.kind, request.subresource):
            return body
        request.obj = clone(body)
        await self._extensions.mutate(request, _nothing)
        await self._extensions.validate(request)
        return request.obj

    async def _mutate(self, request: AdmissionRequest) -> bool:
        """Ask all rules that may change the object; whether one that is an object itself has."""
        admit(request)
        request.is_of_interest = self._extensions.concern(request.kind, request.subresource)
        if not request.is_of_interest:
            return False

        def again() -> None:
            request.again()
            admit(request)

        if request.subresource != "scale":
            return await self._extensions.mutate(request, again)
        scale = self._as_scale(request)
        if not await self._extensions.mutate(scale, _nothing):
            return False
        request.obj = with_scale(request.kind, request.obj, scale.obj)
        return True

    async def _validate(self, request: AdmissionRequest) -> None:
        """Ask the rules that are objects themselves about what will be stored."""
        if request.is_of_interest:
            is_scale = request.subresource == "scale"
            await self._extensions.validate(self._as_scale(request) if is_scale else request)

    def _as_scale(self, request: AdmissionRequest) -> AdmissionRequest:
        """The same request as others see it: a change of the workload's Scale."""
        old = scale_of(request.kind, request.old) if request.old is not None else None
        new = scale_of(request.kind, request.obj)
        scale = self._admission(
            request.verb, request.context, request.kind, request.namespace, request.name, new, old, "scale"
        )
        scale.body = ("autoscaling/v1", "Scale")
        return scale

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
            if not self._cache.of(kind).has(name, namespace):
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
