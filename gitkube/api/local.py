"""The client for what runs in the same process: the verbs, without HTTP between.

It keeps `Client` exactly, so a controller cannot tell where it runs. What it returns belongs to the cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from gitkube.api.authorization import User
from gitkube.api.client import Client, ObjectList, PatchType, Propagation, WatchEvent
from gitkube.api.requests import Context, DeleteOptions, FieldValidation, ListOptions, WatchOptions
from gitkube.api.verbs import Verbs
from gitkube.objects import meta
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object


class LocalClient:
    """A `Client` that acts as one user."""

    def __init__(self, verbs: Verbs, user: User) -> None:
        self._verbs = verbs
        self._user = user

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return await self._verbs.get(self._context(), kind, namespace, name)

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
        options = ListOptions(
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
        )
        return await self._verbs.list(self._context(), kind, namespace, options)

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        options = WatchOptions(
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            bookmarks=bookmarks,
        )
        async for item in await self._verbs.watch(self._context(), kind, namespace, options):
            yield WatchEvent(item.type, item.object)

    async def create(
        self, kind: Kind, obj: Object, *, field_manager: str = "", dry_run: bool = False
    ) -> Object:
        context = self._context(field_manager, dry_run)
        return await self._verbs.create(context, kind, meta.namespace(obj), obj)

    async def update(
        self,
        kind: Kind,
        obj: Object,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        context = self._context(field_manager, dry_run)
        return await self._verbs.update(
            context, kind, meta.namespace(obj), meta.name(obj), obj, subresource=subresource
        )

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
    ) -> Object:
        context = self._context(field_manager, dry_run)
        return await self._verbs.patch(context, kind, namespace, name, patch, type, subresource=subresource)

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
        context = self._context(field_manager, dry_run)
        applied, _ = await self._verbs.apply(
            context, kind, meta.namespace(obj), meta.name(obj), obj, force=force, subresource=subresource
        )
        return applied

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
        options = DeleteOptions(propagation, grace_period_s, uid, resource_version)
        last, _ = await self._verbs.delete(self._context("", dry_run), kind, namespace, name, options)
        return last

    async def create_subresource(
        self, kind: Kind, name: str, namespace: str, subresource: str, body: Object
    ) -> Object:
        return await self._verbs.create_subresource(self._context(), kind, namespace, name, subresource, body)

    def _context(self, field_manager: str = "", dry_run: bool = False) -> Context:
        # Our own loops write what our own schemas know; what is not known there is a mistake of ours.
        return Context(
            self._user, field_manager, dry_run, FieldValidation.STRICT, named_manager=field_manager
        )


def _keeps_the_protocol(client: LocalClient) -> Client:
    return client
