"""The verbs: what happens between a request and the store, the same for every kind.

A write is: ask the authorizer; take the object apart from what only the server may say; fill in defaults;
note who owns which fields; ask admission; put back what may not change; validate; store it with the
comparison that nothing has changed meanwhile. All of it but the last step is a decision from the cache
(`transactions.py`), so it may be made several times and must have no effect of its own.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from gitkube.api import errors
from gitkube.api.admission.chain import admit
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.authorization import Attributes, Authorizer
from gitkube.api.cache import Item, WatchCache
from gitkube.api.client import ObjectList, PatchType
from gitkube.api.decoding import accept, accept_patched, check_identity, fill_defaults, validated
from gitkube.api.deletion import decide_deletion, ends_with_update
from gitkube.api.expiry import ExpiringLease
from gitkube.api.patching import apply_patch
from gitkube.api.reads import Reads, parse_version
from gitkube.api.refusals import apply_conflict, check_deletion_fields, check_served, check_uid
from gitkube.api.requests import Context, DeleteOptions, ListOptions, VerbsApi, WatchOptions
from gitkube.api.settings import ApiSettings
from gitkube.api.strategy import is_unchanged, prepare_for_create, prepare_for_update
from gitkube.api.subresources import bind, eviction_options, scale_of, with_scale
from gitkube.api.transactions import Transactor, Write, put, remove
from gitkube.clock import Clock, rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import EVENT, POD, Kind
from gitkube.objects.patch.apply import server_side_apply, track_update
from gitkube.objects.patch.copying import clone
from gitkube.objects.patch.errors import ConflictError, PatchError
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object
from gitkube.store.protocol import NO_LEASE, Store

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""As Kubernetes: no vowels, so that no generated name is a word; no 0, 1, 3, which look like letters."""
_SUFFIX_LENGTH = 5
_MAX_GENERATED_BASE = 58
_NAME_TRIES = 8


class Verbs:
    """Implements `VerbsApi` (requests.py says what each method does)."""

    def __init__(
        self,
        store: Store,
        cache: WatchCache,
        *,
        clock: Clock,
        rng: random.Random,
        settings: ApiSettings,
        authorizer: Authorizer,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._authorizer = authorizer
        self._reads = Reads(store, cache, settings)
        self._transactor = Transactor(store, cache, settings)
        self._event_lease = ExpiringLease(store, clock, settings)

    # ------------------------------------------------------------------ reading

    async def get(
        self, context: Context, kind: Kind, namespace: str, name: str, *, resource_version: str = ""
    ) -> Object:
        self.authorize(context, "get", kind, namespace, name)
        return await self._reads.get(kind, namespace, name, resource_version)

    async def list(self, context: Context, kind: Kind, namespace: str, options: ListOptions) -> ObjectList:
        self.authorize(context, "list", kind, namespace)
        return await self._reads.list(kind, namespace, options)

    async def watch(
        self, context: Context, kind: Kind, namespace: str, options: WatchOptions
    ) -> AsyncIterator[Item]:
        self.authorize(context, "watch", kind, namespace)
        async for item in self._reads.watch(kind, namespace, options):
            yield item

    async def get_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str
    ) -> Object:
        self.authorize(context, "get", kind, namespace, name, subresource)
        check_served(kind, subresource, ("status", "scale"))
        obj = await self._reads.get(kind, namespace, name)
        return scale_of(kind, obj) if subresource == "scale" else obj

    # ------------------------------------------------------------------ writing

    async def create(self, context: Context, kind: Kind, namespace: str, obj: Object) -> Object:
        self.authorize(context, "create", kind, namespace, str((obj.get("metadata") or {}).get("name") or ""))
        accepted = accept(kind, obj, context)
        check_identity(kind, accepted, namespace, "")
        if accepted["metadata"].get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        accepted = fill_defaults(kind, accepted)
        write = await self._write(
            context,
            kind,
            lambda: self._decide_create(context, kind, namespace, clone(accepted), tracked=False),
        )
        return write.result

    async def update(
        self, context: Context, kind: Kind, namespace: str, name: str, obj: Object, *, subresource: str = ""
    ) -> Object:
        self.authorize(context, "update", kind, namespace, name, subresource)
        check_served(kind, subresource, ("", "status", "scale", "finalize"))
        if subresource == "scale":
            return await self._update_scale(context, kind, namespace, name, lambda _: obj)
        accepted = accept(kind, obj, context)
        check_identity(kind, accepted, namespace, name)
        accepted = fill_defaults(kind, accepted)

        def decide() -> Write:
            old = self._existing(kind, namespace, name)
            return self._decide_update(context, kind, namespace, clone(accepted), old, subresource)

        write = await self._write(context, kind, decide)
        return write.result

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
    ) -> Object:
        self.authorize(context, "patch", kind, namespace, name, subresource)
        check_served(kind, subresource, ("", "status", "scale", "finalize"))
        if subresource == "scale":

            def patched_scale(scale: Object) -> Object:
                return apply_patch(kind, scale, patch, type, schema=None)

            return await self._update_scale(context, kind, namespace, name, patched_scale)

        def decide() -> Write:
            old = self._existing(kind, namespace, name)
            patched = apply_patch(kind, old, patch, type, schema=schema_of(kind))
            accepted = accept_patched(kind, patched, patch, context)
            check_identity(kind, accepted, namespace, name)
            check_uid(kind, accepted, old)
            accepted = fill_defaults(kind, accepted)
            return self._decide_update(context, kind, namespace, accepted, old, subresource)

        write = await self._write(context, kind, decide)
        return write.result

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
        self.authorize(context, "patch", kind, namespace, name, subresource)
        check_served(kind, subresource, ("", "status", "scale"))
        if not context.field_manager:
            raise errors.bad_request("PatchOptions.meta.k8s.io: fieldManager is required for apply patch")
        if subresource == "scale":
            raise errors.bad_request("apply is not served for scale; patch it, or apply the object itself")
        applied = accept(kind, obj, context, is_apply=True)
        check_identity(kind, applied, namespace, name)
        if applied["metadata"].get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")

        def decide() -> Write:
            old = self._cache.of(kind).get(name, namespace)
            metadata = applied["metadata"]
            if old is None:
                if subresource:
                    raise errors.not_found(kind.group, kind.plural, name)
                if metadata.get("uid"):
                    why = f"uid mismatch: the provided object specified uid {metadata['uid']}, "
                    raise errors.conflict(
                        kind.group, kind.plural, name, why + "and no existing object was found"
                    )
            else:
                check_uid(kind, applied, old)
            new = self._merge_applied(context, kind, old, applied, force, subresource)
            new = fill_defaults(kind, new)
            if old is None:
                return self._decide_create(context, kind, namespace, new, tracked=True)
            return self._decide_update(context, kind, namespace, new, old, subresource, tracked=True)

        write = await self._write(context, kind, decide)
        return write.result, write.is_creation

    async def delete(
        self, context: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        self.authorize(context, "delete", kind, namespace, name)
        return await self._delete(context, kind, namespace, name, options)

    async def delete_collection(
        self, context: Context, kind: Kind, namespace: str, selection: ListOptions, options: DeleteOptions
    ) -> ObjectList:
        self.authorize(context, "deletecollection", kind, namespace)
        selected = await self._reads.list(kind, namespace, selection)
        deleted: list[Object] = []
        for obj in selected.items:
            try:
                await self._delete(context, kind, meta.namespace(obj), meta.name(obj), options)
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise
            else:
                deleted.append(obj)
        return ObjectList(deleted, selected.resource_version)

    async def create_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        self.authorize(context, "create", kind, namespace, name, subresource)
        check_served(kind, subresource, ("binding", "eviction"))
        if subresource == "eviction":
            await self._delete(context, POD, namespace, name, eviction_options(body, namespace, name))
            return _success(201)

        def decide() -> Write:
            old = self._existing(kind, namespace, name)
            return put(kind, namespace, bind(old, body, rfc3339(self._clock.now())), old)

        await self._write(context, kind, decide)
        return _success(201)

    # ------------------------------------------------------------------ decisions

    def _decide_create(
        self, context: Context, kind: Kind, namespace: str, obj: Object, *, tracked: bool
    ) -> Write:
        """`obj` belongs to this call; `tracked` when its managedFields are already as they shall be."""
        now = rfc3339(self._clock.now())
        metadata = obj["metadata"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        if not metadata.get("name"):
            metadata["name"] = self._generate_name(kind, namespace, str(metadata.get("generateName") or ""))
        name = str(metadata["name"])
        if not tracked:
            self._track(context, kind, obj, None, "")
        uid = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        prepare_for_create(kind, obj, uid=uid, now=now)
        request = self._admission(Verb.CREATE, context, kind, namespace, name, obj, None, "")
        admit(request)
        validated(kind, request.obj, None)
        if (present := self._cache.of(kind).get(name, namespace)) is not None:
            error = errors.already_exists(kind.group, kind.plural, name)
            if meta.is_deleting(present):
                error.message = f"object is being deleted: {error.message}"
            raise error
        write = put(kind, namespace, request.obj, None)
        write.compares += request.compares
        write.operations += request.operations
        return write

    def _decide_update(
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
        admit(request)
        if is_unchanged(request.obj, old):
            return Write(old)
        validated(kind, request.obj, old)
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

    async def _delete(
        self, context: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        def decide() -> Write:
            old = self._existing(kind, namespace, name)
            request = self._admission(Verb.DELETE, context, kind, namespace, name, old, None, "")
            admit(request)
            deletion = decide_deletion(kind, old, options, self._clock.now())
            if deletion.is_end:
                write = remove(kind, namespace, deletion.object, old)
                write.compares += request.compares
                write.operations += request.operations
                return write
            if is_unchanged(deletion.object, old):
                return Write(old)
            return put(kind, namespace, deletion.object, old)

        write = await self._write(context, kind, decide)
        return write.result, write.is_end

    async def _update_scale(
        self, context: Context, kind: Kind, namespace: str, name: str, change: Callable[[Object], Object]
    ) -> Object:
        def decide() -> Write:
            old = self._existing(kind, namespace, name)
            new = with_scale(kind, old, change(scale_of(kind, old)))
            return self._decide_update(context, kind, namespace, new, old, "scale")

        write = await self._write(context, kind, decide)
        return scale_of(kind, write.result)

    # ------------------------------------------------------------------ parts

    async def _write(self, context: Context, kind: Kind, decide: Callable[[], Write]) -> Write:
        lease = await self._event_lease.current() if kind is EVENT and not context.dry_run else NO_LEASE
        return await self._transactor.run(decide, dry_run=context.dry_run, lease=lease)

    def authorize(
        self,
        context: Context,
        verb: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        subresource: str = "",
    ) -> None:
        """Raises `StatusError` 403 unless the user may do this."""
        user = context.user
        attributes = Attributes(
            user, verb, kind.group, kind.version, kind.plural, subresource, namespace, name
        )
        decision = self._authorizer.decide(attributes)
        if decision.allowed:
            return
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{kind.group}" {where}'
        raise errors.forbidden(
            kind.group, resource, name, f"{why}: {decision.reason}" if decision.reason else why
        )

    def _existing(self, kind: Kind, namespace: str, name: str) -> Object:
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

    def _merge_applied(
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


def _success(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


def _keeps_the_protocol(verbs: Verbs) -> VerbsApi:
    return verbs
