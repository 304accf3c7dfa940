"""The verbs for everything that is served: what comes in is turned into the stored version, and back.

For nearly all kinds the served version is the stored one, and a call goes through as it is. A patch is made
for the version that its client sees, so it is done on that one; the outcome is written over just what was
read, or all is done again. Questions, which are never stored, are answered here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import orjson

from gitkube.api import errors
from gitkube.api.authorization import Attributes, Authorizer, system_user
from gitkube.api.client import ObjectList, PatchType
from gitkube.api.decoding import accept, accept_patched
from gitkube.api.patching import apply_patch
from gitkube.api.refusals import refusal
from gitkube.api.requests import Context, DeleteOptions, ListOptions, VerbsApi, WatchItem, WatchOptions
from gitkube.api.reviews import REVIEWS, review
from gitkube.api.tokens import Tokens
from gitkube.objects.conversion import from_stored, to_stored, to_stored_selector
from gitkube.objects.fields import FieldSelectorError
from gitkube.objects.kinds import BINDING, POD, Kind, stored_kind
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object

_TRIES = 8


class _Converted:
    """A watch's event in another version."""

    __slots__ = ("forms", "object", "type")

    def __init__(self, type: str, object: Object) -> None:
        self.type = type
        self.object = object
        self.forms: dict[Any, bytes] = {}

    @property
    def encoded(self) -> bytes:
        return b'{"type":"%s","object":%s}\n' % (self.type.encode(), orjson.dumps(self.object))


async def _converted(kind: Kind, items: AsyncIterator[WatchItem]) -> AsyncIterator[WatchItem]:
    async for item in items:
        yield _Converted(item.type, from_stored(kind, item.object))


def _asked(context: Context, kind: Kind, verb: str = "") -> Context:
    """The context for the stored kind, of a request that is about this one."""
    return dataclasses.replace(context, asked_as=kind, asked_verb=verb) if kind.stored_as else context


def _reading(context: Context) -> Context:
    """For reading what is to be changed: who may change a thing need not have the right to see it."""
    return dataclasses.replace(context, user=system_user("apiserver"))


class Versions:
    """`VerbsApi` for all served kinds, over one for the stored ones."""

    def __init__(self, verbs: VerbsApi, authorizer: Authorizer, tokens: Tokens) -> None:
        self._verbs = verbs
        self._tokens = tokens
        self._authorizer = authorizer

    async def get(
        self, context: Context, kind: Kind, namespace: str, name: str, *, resource_version: str = ""
    ) -> Object:
        found = await self._verbs.get(
            _asked(context, kind), stored_kind(kind), namespace, name, resource_version=resource_version
        )
        return from_stored(kind, found)

    async def list(self, context: Context, kind: Kind, namespace: str, options: ListOptions) -> ObjectList:
        if not kind.stored_as:
            return await self._verbs.list(context, kind, namespace, options)
        found = await self._verbs.list(
            _asked(context, kind), stored_kind(kind), namespace, _selection(kind, options)
        )
        return _list(kind, found)

    async def watch(
        self, context: Context, kind: Kind, namespace: str, options: WatchOptions
    ) -> AsyncIterator[WatchItem]:
        options = dataclasses.replace(options, field_selector=_selector(kind, options.field_selector))
        items = await self._verbs.watch(_asked(context, kind), stored_kind(kind), namespace, options)
        return _converted(kind, items) if kind.stored_as else items

    async def create(self, context: Context, kind: Kind, namespace: str, obj: Object) -> Object:
        if kind is BINDING:
            name = str((obj.get("metadata") or {}).get("name") or "")
            return await self._verbs.create_subresource(context, POD, namespace, name, "binding", obj)
        if kind in REVIEWS:
            attributes = Attributes(
                context.user, "create", kind.group, kind.version, kind.plural, namespace=namespace
            )
            decision = self._authorizer.decide(attributes)
            if not decision.allowed:
                raise refusal(attributes, decision)
            accepted = accept(kind, obj, context)
            return review(self._authorizer, self._tokens, kind, namespace, context.user, accepted)
        if not kind.stored_as:
            return await self._verbs.create(context, kind, namespace, obj)
        stored = to_stored(kind, accept(kind, obj, context))
        return from_stored(
            kind, await self._verbs.create(_asked(context, kind), stored_kind(kind), namespace, stored)
        )

    async def update(
        self, context: Context, kind: Kind, namespace: str, name: str, obj: Object, *, subresource: str = ""
    ) -> Object:
        if not kind.stored_as:
            return await self._verbs.update(context, kind, namespace, name, obj, subresource=subresource)
        old = await self._verbs.get(_reading(context), stored_kind(kind), namespace, name)
        new = to_stored(kind, accept(kind, obj, context), old)
        written = await self._verbs.update(
            _asked(context, kind), stored_kind(kind), namespace, name, new, subresource=subresource
        )
        return from_stored(kind, written)

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
        if not kind.stored_as:
            return await self._verbs.patch(
                context, kind, namespace, name, patch, type, subresource=subresource
            )
        for attempt in range(_TRIES):
            old = await self._verbs.get(_reading(context), stored_kind(kind), namespace, name)
            view = from_stored(kind, old)
            patched = apply_patch(kind, view, patch, type, schema=schema_of(kind))
            new = to_stored(kind, accept_patched(kind, patched, patch, context), old)
            try:
                written = await self._verbs.update(
                    _asked(context, kind, "patch"),
                    stored_kind(kind),
                    namespace,
                    name,
                    new,
                    subresource=subresource,
                )
            except errors.StatusError as error:
                if not errors.is_conflict(error) or attempt == _TRIES - 1:
                    raise
            else:
                return from_stored(kind, written)
        raise AssertionError("the last attempt returns or raises")

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
        stored = stored_kind(kind)
        if kind.stored_as:
            obj = to_stored(kind, accept(kind, obj, context, is_apply=True))
        applied, is_new = await self._verbs.apply(
            _asked(context, kind), stored, namespace, name, obj, force=force, subresource=subresource
        )
        return from_stored(kind, applied), is_new

    async def delete(
        self, context: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        last, is_gone = await self._verbs.delete(
            _asked(context, kind), stored_kind(kind), namespace, name, options
        )
        return from_stored(kind, last), is_gone

    async def delete_collection(
        self, context: Context, kind: Kind, namespace: str, selection: ListOptions, options: DeleteOptions
    ) -> ObjectList:
        selection = _selection(kind, selection)
        deleted = await self._verbs.delete_collection(
            _asked(context, kind), stored_kind(kind), namespace, selection, options
        )
        return _list(kind, deleted) if kind.stored_as else deleted

    async def get_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str
    ) -> Object:
        found = await self._verbs.get_subresource(
            _asked(context, kind), stored_kind(kind), namespace, name, subresource
        )
        return from_stored(kind, found)

    async def create_subresource(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        return await self._verbs.create_subresource(
            _asked(context, kind), stored_kind(kind), namespace, name, subresource, body
        )


def _selection(kind: Kind, options: ListOptions) -> ListOptions:
    return dataclasses.replace(options, field_selector=_selector(kind, options.field_selector))


def _selector(kind: Kind, text: str) -> str:
    try:
        return to_stored_selector(kind, text)
    except FieldSelectorError as error:
        raise errors.bad_request(str(error)) from error


def _list(kind: Kind, found: ObjectList) -> ObjectList:
    return dataclasses.replace(found, items=[from_stored(kind, obj) for obj in found.items])


def _keeps_the_protocol(versions: Versions) -> VerbsApi:
    return versions
