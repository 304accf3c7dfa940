"""The verbs: what happens between a request and the store, the same for every kind.

A write is: ask the authorizer; take the object apart from what only the server may say; fill in defaults;
decide from the cache what shall be stored (`decisions.py`); store it with the comparison that nothing has
changed meanwhile, or decide again (`transactions.py`).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from gitkube.api import errors
from gitkube.api.admission.request import Extensions, Verb
from gitkube.api.authorization import Attributes, Authorizer
from gitkube.api.cache import WatchCache
from gitkube.api.client import ObjectList, PatchType
from gitkube.api.custom.conversion import with_conversion
from gitkube.api.decisions import Decisions
from gitkube.api.decoding import accept, accept_patched, check_identity, fill_defaults
from gitkube.api.eviction import add_to_deletion, budget_after
from gitkube.api.expiry import ExpiringLease
from gitkube.api.patching import apply_patch
from gitkube.api.rbac.escalation import Escalation
from gitkube.api.rbac.nodes import check_node_made, check_node_token
from gitkube.api.reads import Reads, selected_name
from gitkube.api.refusals import check_served, check_uid, refusal
from gitkube.api.requests import Context, DeleteOptions, ListOptions, VerbsApi, WatchOptions
from gitkube.api.settings import ApiSettings
from gitkube.api.subresources import (
    applied_scale,
    bind,
    check_scale,
    eviction_options,
    scale_of,
    wanted_replicas,
    with_scale,
)
from gitkube.api.token_requests import answer_request
from gitkube.api.tokens import Tokens
from gitkube.api.transactions import Transactor, Write, put
from gitkube.api.watch_events import Item
from gitkube.clock import Clock, rfc3339
from gitkube.objects import meta
from gitkube.objects.kinds import EVENT, NAMESPACE, POD, POD_DISRUPTION_BUDGET, TOKEN_REQUEST, Kind
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object
from gitkube.store.protocol import NO_LEASE, Store

_BODIES = {"binding": ("v1", "Binding"), "eviction": ("policy/v1", "Eviction")}
"""apiVersion and kind of what is sent to a subresource, when it does not say."""
READ_SUBRESOURCES = ("status", "scale", "approval", "ephemeralcontainers", "resize")
WRITTEN_SUBRESOURCES = ("", "finalize", *READ_SUBRESOURCES)


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
        escalation: Escalation,
        tokens: Tokens,
        extensions: Extensions,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._authorizer = authorizer
        self._tokens = tokens
        self._decide = Decisions(
            cache, clock=clock, rng=rng, settings=settings, escalation=escalation, extensions=extensions
        )
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
        name, selector = selected_name(options.field_selector), options.field_selector
        self.authorize(context, "list", kind, namespace, name, field_selector=selector)
        return await self._reads.list(kind, namespace, options)

    async def watch(
        self, context: Context, kind: Kind, namespace: str, options: WatchOptions
    ) -> AsyncIterator[Item]:
        name, selector = selected_name(options.field_selector), options.field_selector
        self.authorize(context, "watch", kind, namespace, name, field_selector=selector)
        return await self._reads.watch(kind, namespace, options)

    async def get_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str
    ) -> Object:
        self.authorize(context, "get", kind, namespace, name, subresource)
        check_served(kind, subresource, READ_SUBRESOURCES)
        obj = await self._reads.get(kind, namespace, name)
        return scale_of(kind, obj) if subresource == "scale" else obj

    # ------------------------------------------------------------------ writing

    async def create(self, context: Context, kind: Kind, namespace: str, obj: Object) -> Object:
        # The name is not on the request but in the object, so that no rule by name can allow it.
        self.authorize(context, "create", kind, namespace)
        accepted = accept(kind, obj, context)
        check_identity(kind, accepted, namespace, "")
        if accepted["metadata"].get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        check_node_made(context.user, accepted)
        write = await self._write(
            context,
            kind,
            lambda: self._decide.create(
                context, kind, namespace, fill_defaults(kind, accepted), tracked=False
            ),
        )
        return write.result

    async def update(
        self, context: Context, kind: Kind, namespace: str, name: str, obj: Object, *, subresource: str = ""
    ) -> Object:
        self.authorize(context, "update", kind, namespace, name, subresource)
        check_served(kind, subresource, WRITTEN_SUBRESOURCES)
        if subresource == "scale":
            if kind.namespaced:
                check_scale(obj, name)
            return await self._update_scale(context, kind, namespace, name, lambda _: obj)
        accepted = accept(kind, obj, context)
        check_identity(kind, accepted, namespace, name)

        async def decide() -> Write:
            old = self._decide.existing(kind, namespace, name)
            new = fill_defaults(kind, accepted)
            return await self._decide.update(context, kind, namespace, new, old, subresource)

        write = await self._write(context, kind, decide, subresource)
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
        check_served(kind, subresource, WRITTEN_SUBRESOURCES)
        if subresource == "scale":

            def patched_scale(scale: Object) -> Object:
                return apply_patch(kind, scale, patch, type, schema=None)

            return await self._update_scale(context, kind, namespace, name, patched_scale)

        async def decide() -> Write:
            old = self._decide.existing(kind, namespace, name)
            patched = apply_patch(kind, old, patch, type, schema=schema_of(kind))
            accepted = accept_patched(kind, patched, patch, context)
            check_identity(kind, accepted, namespace, name)
            check_uid(kind, accepted, old)
            accepted = fill_defaults(kind, accepted)
            return await self._decide.update(context, kind, namespace, accepted, old, subresource)

        write = await self._write(context, kind, decide, subresource)
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
        check_served(kind, subresource, ("", *READ_SUBRESOURCES))
        if not context.field_manager:
            raise errors.bad_request("PatchOptions.meta.k8s.io: fieldManager is required for apply patch")
        if subresource == "scale":
            return await self._apply_scale(context, kind, namespace, name, obj, force)
        applied = accept(kind, obj, context, is_apply=True)
        if self._cache.of(kind).has(name, namespace):
            applied["metadata"].setdefault("name", name)
        check_identity(kind, applied, namespace, name)
        if applied["metadata"].get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")

        async def decide() -> Write:
            old = self._cache.of(kind).get(name, namespace)
            metadata = applied["metadata"]
            if old is None:
                self.authorize(context, "create", kind, namespace, name)
                if subresource:
                    raise errors.not_found(kind.group, kind.plural, name)
                if metadata.get("uid"):
                    why = f"uid mismatch: the provided object specified uid {metadata['uid']}, "
                    raise errors.conflict(
                        kind.group, kind.plural, name, why + "and no existing object was found"
                    )
            else:
                check_uid(kind, applied, old)
            new = self._decide.merge_applied(context, kind, old, applied, force, subresource)
            new = fill_defaults(kind, new)
            if old is None:
                return await self._decide.create(context, kind, namespace, new, tracked=True)
            return await self._decide.update(context, kind, namespace, new, old, subresource, tracked=True)

        write = await self._write(context, kind, decide, subresource)
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
                where = meta.namespace(obj)
                await self._delete(context, kind, where, meta.name(obj), options, is_collection=True)
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
        check_served(kind, subresource, ("binding", "eviction", "token"))
        if subresource == "token":
            request = accept(TOKEN_REQUEST, body, context)
            request = await self._decide.admit_body(
                Verb.CREATE, context, kind, namespace, name, subresource, request
            )
            await self._cache.reach_current()
            check_node_token(context.user, self._cache, namespace, name, request)
            return answer_request(self._tokens, self._cache, namespace, name, request)
        word = _BODIES[subresource]
        body = await self._decide.admit_body(
            Verb.CREATE,
            context,
            kind,
            namespace,
            name,
            subresource,
            {"apiVersion": word[0], "kind": word[1], **body},
        )
        if subresource == "eviction":
            await self._evict(context, namespace, name, body)
            return _success(201)

        async def decide() -> Write:
            old = self._decide.existing(kind, namespace, name)
            return put(kind, namespace, bind(old, body, rfc3339(self._clock.now())), old)

        await self._write(context, kind, decide)
        return _success(201)

    async def admit_connect(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str, options: Object
    ) -> None:
        """Ask policies and webhooks about a connection to a thing, such as `exec`.

        Args:
            options: a document such as PodExecOptions.

        Raises:
            StatusError: it is refused.
        """
        await self._decide.admit_body(Verb.CONNECT, context, kind, namespace, name, subresource, options)

    # ------------------------------------------------------------------ parts

    async def _delete(
        self,
        context: Context,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions,
        *,
        is_collection: bool = False,
        is_admitted: bool = False,
    ) -> tuple[Object, bool]:
        def decide() -> Awaitable[Write]:
            return self._decide.delete(
                context,
                kind,
                namespace,
                name,
                options,
                is_collection=is_collection,
                is_admitted=is_admitted,
            )

        write = await self._write(context, kind, decide)
        return write.result, write.is_end

    async def _evict(self, context: Context, namespace: str, name: str, eviction: Object) -> None:
        options = eviction_options(eviction, namespace, name)
        if (eviction.get("deleteOptions") or {}).get("dryRun"):
            context = replace(context, dry_run=True)

        async def decide() -> Write:
            pod, now_s = self._decide.existing(POD, namespace, name), self._clock.now()
            budgets = (one for _, one in self._cache.of(POD_DISRUPTION_BUDGET).select(namespace))
            budget = budget_after(pod, budgets, now_s)
            write = await self._decide.delete(context, POD, namespace, name, options, is_admitted=True)
            return add_to_deletion(write, pod, budget, now_s)

        await self._write(context, POD, decide)

    async def _update_scale(
        self, context: Context, kind: Kind, namespace: str, name: str, change: Callable[[Object], Object]
    ) -> Object:
        async def decide() -> Write:
            old = self._decide.existing(kind, namespace, name)
            new = with_scale(kind, old, change(scale_of(kind, old, must_be_there=False)))
            return await self._decide.update(context, kind, namespace, new, old, "scale")

        write = await self._write(context, kind, decide, "scale")
        return scale_of(kind, write.result)

    async def _apply_scale(
        self, context: Context, kind: Kind, namespace: str, name: str, scale: Object, force: bool
    ) -> tuple[Object, bool]:
        """An apply of a Scale is one of the workload's number, through this door."""
        if (scale.get("spec") or {}).get("replicas") is None:
            raise errors.bad_request("the Scale says no spec.replicas")

        async def decide() -> Write:
            old = self._decide.existing(kind, namespace, name)
            wanted = wanted_replicas(kind, old, scale)
            applied = applied_scale(kind, name, wanted)
            new = fill_defaults(kind, self._decide.merge_applied(context, kind, old, applied, force, "scale"))
            return await self._decide.update(context, kind, namespace, new, old, "scale", tracked=True)

        write = await self._write(context, kind, decide, "scale")
        return scale_of(kind, write.result), False

    async def _write(
        self, context: Context, kind: Kind, decide: Callable[[], Awaitable[Write]], subresource: str = ""
    ) -> Write:
        lease = await self._event_lease.current() if kind is EVENT and not context.dry_run else NO_LEASE
        asks_others = self._decide.asks_others(kind, subresource)
        return await self._transactor.run(
            lambda: with_conversion(decide), dry_run=context.dry_run, lease=lease, asks_others=asks_others
        )

    def authorize(
        self,
        context: Context,
        verb: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        subresource: str = "",
        *,
        field_selector: str = "",
    ) -> None:
        """Raises `StatusError` 403 unless the user may do this."""
        user = context.user
        kind, verb = context.asked_as or kind, context.asked_verb or verb
        if kind is NAMESPACE and name:
            namespace = name  # a namespace is a thing of its own: a Role in it may open it
        attributes = Attributes(
            user, verb, kind.group, kind.version, kind.plural, subresource, namespace, name, field_selector
        )
        decision = self._authorizer.decide(attributes)
        if not decision.allowed:
            raise refusal(attributes, decision)


def _success(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


def _keeps_the_protocol(verbs: Verbs) -> VerbsApi:
    return verbs
