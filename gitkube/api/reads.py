"""get, list and watch, served from the watch cache.

How fresh an answer must be follows Kubernetes: without a resourceVersion it has everything written before
the request came; with "0" it is whatever is there; with a number it is at least that new, or exactly of that
revision where the client says so or asks for pages. Pages after the first are read from the store at the
revision of the first, so that a paged list is one consistent picture. When the store has forgotten that, the
client gets a token with which it may go on at the newest revision, knowing that the picture has a seam.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence

import orjson

from gitkube.api import errors
from gitkube.api.cache import WatchCache
from gitkube.api.client import ObjectList
from gitkube.api.custom.conversion import with_conversion
from gitkube.api.custom.views import KindView
from gitkube.api.keys import kind_prefix
from gitkube.api.requests import ListOptions, WatchOptions
from gitkube.api.sealing import SealError
from gitkube.api.settings import ApiSettings
from gitkube.api.watch_events import Item, Matcher, bookmark
from gitkube.objects import meta
from gitkube.objects.fields import FieldSelectorError, parse_field_selector
from gitkube.objects.kinds import Kind
from gitkube.objects.labels import SelectorError, parse_selector
from gitkube.objects.types import Object
from gitkube.store.protocol import (
    CompactedError,
    FutureRevisionError,
    Revision,
    Store,
    UnavailableError,
    prefix_end,
)

_STORE_PAGE = 500
_TOKEN_VERSION = 1
"""Of what stands in a token; one of another release is refused, and never misread."""
_NEWEST = -1
"""The revision in a token for going on with whatever is there, as Kubernetes writes it."""
_TOKEN_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)


def parse_version(text: str) -> int:
    """A resourceVersion as a number; "" is 0.

    Raises:
        StatusError: 400, it is no version.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise errors.bad_request(f'invalid resource version "{text}": it must be one that the server gave')
    return int(text)


def matcher(kind: Kind, label_selector: str, field_selector: str) -> Matcher | None:
    """A test for both selectors, or None when they select everything.

    Raises:
        StatusError: 400, a selector cannot be read.
    """
    try:
        labels = parse_selector(label_selector)
    except SelectorError as error:
        raise errors.bad_request(str(error)) from error
    try:
        fields = parse_field_selector(field_selector)
        fields.check(kind)
    except FieldSelectorError as error:
        raise errors.bad_request(f"{error}") from error
    if labels.is_everything and not fields.terms:
        return None
    if not fields.terms:
        return lambda obj: labels.matches(obj["metadata"].get("labels"))
    return lambda obj: fields.matches(kind, obj) and labels.matches(obj["metadata"].get("labels"))


def selected_name(field_selector: str) -> str:
    """The one object that a list or a watch is about, when its selector names it; else ""."""
    try:
        return parse_field_selector(field_selector).exact("metadata.name")
    except FieldSelectorError:
        return ""  # the list itself says what is wrong with it


class Reads:
    def __init__(self, store: Store, cache: WatchCache, settings: ApiSettings) -> None:
        self._store = store
        self._cache = cache
        self._settings = settings

    async def get(self, kind: Kind, namespace: str, name: str, resource_version: str = "") -> Object:
        await self._be_fresh(resource_version)

        async def read() -> Object | None:
            return self._cache.of(kind).get(name, namespace)

        found = await with_conversion(read)
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    async def list(self, kind: Kind, namespace: str, options: ListOptions) -> ObjectList:
        matches = matcher(kind, options.label_selector, options.field_selector)
        _check_list_options(options)
        if options.continue_token:
            revision, after = _read_token(options.continue_token)
            return await self._list_store(kind, namespace, options, matches, revision, after)
        match, wanted = options.resource_version_match, parse_version(options.resource_version)
        if match == "Exact" or (not match and wanted and options.limit):
            return await self._list_store(kind, namespace, options, matches, wanted, b"")
        await self._be_fresh(options.resource_version)

        async def read() -> ObjectList:
            await self._prepare(kind, namespace)
            return self._page(kind, namespace, options, matches)

        return await with_conversion(read)

    def _page(self, kind: Kind, namespace: str, options: ListOptions, matches: Matcher | None) -> ObjectList:
        """The first page of what is in the cache."""
        items: list[Object] = []
        # Whoever takes what is there takes it at once: an old picture is none to go on with.
        asked = 0 if options.resource_version == "0" else options.limit
        limit = min(asked or self._settings.list_limit_max, self._settings.list_limit_max)
        for key, obj in self._cache.of(kind).select(namespace):
            if matches is not None and not matches(obj):
                continue
            if len(items) == limit:
                last = meta.key(items[-1]).removeprefix(f"{namespace}/" if namespace else "")
                token = _write_token(self._cache.revision, last.encode())
                remaining = None
                if matches is None:
                    remaining = 1 + sum(1 for _ in self._cache.of(kind).select(namespace, key))
                return ObjectList(items, str(self._cache.revision), token, remaining)
            items.append(obj)
        return ObjectList(items, str(self._cache.revision))

    async def watch(self, kind: Kind, namespace: str, options: WatchOptions) -> AsyncIterator[Item]:
        """The items of a watch. When this returns, the watch stands: it tells of all that is written then.

        Raises:
            StatusError: it is refused.
        """
        matches = matcher(kind, options.label_selector, options.field_selector)
        objects = self._cache.of(kind)
        version = parse_version(options.resource_version)
        initial: Sequence[Object] = []
        if options.send_initial_events or version == 0:
            await self._be_fresh(options.resource_version)
            if options.send_initial_events is not False:

                async def read() -> tuple[Sequence[Object], int]:
                    await self._prepare(kind, namespace)
                    selected = objects.select(namespace)
                    there = [obj for _, obj in selected if matches is None or matches(obj)]
                    return there, self._cache.revision

                initial, version = await with_conversion(read)
            else:
                version = self._cache.revision
        elif version > self._cache.revision:
            await self._cache.wait_for(version)
        follow = objects.follow(
            self._cache,
            objects.position_after(version),
            namespace,
            matches,
            bookmarks=options.bookmarks,
            timeout_s=options.timeout_s,
        )
        ends_initial = options.send_initial_events and options.bookmarks
        return _items(
            initial, bookmark(kind, version, ends_initial_events=True) if ends_initial else None, follow
        )

    async def _be_fresh(self, resource_version: str) -> None:
        if resource_version == "0":
            await self._cache.wait_for(self._cache.revision)
            return
        wanted = parse_version(resource_version)
        if not wanted:
            await self._cache.reach_current()
        elif wanted > self._cache.revision:
            await self._cache.reach_current()
            if wanted > self._cache.revision:
                raise _too_new(wanted, self._cache.revision)

    async def _prepare(self, kind: Kind, namespace: str) -> None:
        """Have custom resources converted that this version has not seen yet."""
        objects = self._cache.of(kind)
        if isinstance(objects, KindView):
            await objects.prepare_all(namespace)

    async def _seen(self, kind: Kind, stored: Sequence[Object]) -> Sequence[Object]:
        objects = self._cache.of(kind)
        return await objects.see_many(stored) if isinstance(objects, KindView) else stored

    async def _list_store(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions,
        matches: Matcher | None,
        revision: int,
        after: bytes,
    ) -> ObjectList:
        """A page of the objects as they were at a revision, which `_NEWEST` finds out."""
        prefix = kind_prefix(kind, namespace)
        start = prefix + after + b"\x00" if after else prefix
        limit = min(options.limit or self._settings.list_limit_max, self._settings.list_limit_max)
        items: list[Object] = []
        last = after
        while True:
            wanted = min(_STORE_PAGE, limit - len(items)) if matches is None else _STORE_PAGE
            try:
                page = await self._store.range(
                    start, prefix_end(prefix), limit=wanted, revision=Revision(max(0, revision))
                )
            except CompactedError as error:
                if not options.continue_token:
                    text = "The resourceVersion for the provided list is too old."
                    raise errors.gone(text) from error
                token = _write_token(_NEWEST, after)
                raise errors.gone(_TOKEN_TOO_OLD, token) from error
            except FutureRevisionError as error:
                raise _too_new(revision, self._cache.revision) from error
            except UnavailableError as error:
                raise errors.unavailable(f"the store is not available: {error}") from error
            revision = page.revision if revision == _NEWEST else revision
            seen = 0
            try:
                decoded = [self._cache.decode(kv) for kv in page.kvs]
            except SealError as error:
                # Its key was retired since, or somebody has changed it.
                raise errors.gone(f"the list of that time cannot be read any more: {error}") from error
            objects = await self._seen(kind, decoded)
            for kv, obj in zip(page.kvs, objects, strict=True):
                seen += 1
                last = kv.key[len(prefix) :]
                if matches is None or matches(obj):
                    items.append(obj)
                if len(items) == limit:
                    break
            left = page.count - seen
            if left <= 0:
                return ObjectList(items, str(revision))
            if len(items) == limit:
                token = _write_token(revision, last)
                return ObjectList(items, str(revision), token, left if matches is None else None)
            start = prefix + last + b"\x00"


async def _items(
    initial: Sequence[Object], end_of_initial: Item | None, follow: AsyncIterator[Item]
) -> AsyncIterator[Item]:
    for obj in initial:
        yield Item("ADDED", obj)
    if end_of_initial is not None:
        yield end_of_initial
    async for item in follow:
        yield item


def _too_new(wanted: int, current: int) -> errors.StatusError:
    text = f"Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return errors.StatusError(
        504, "Timeout", f"Timeout: {text}", details={"causes": [cause]}, retry_after_s=1
    )


def _check_list_options(options: ListOptions) -> None:
    match, version = options.resource_version_match, options.resource_version
    reason, wrong = "FieldValueForbidden", ""
    if options.continue_token and match:
        wrong = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    elif options.continue_token and version not in ("", "0"):
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    elif match and not version:
        wrong = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match and match not in ("Exact", "NotOlderThan"):
        reason = "FieldValueNotSupported"
        wrong = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
    elif match == "Exact" and version == "0":
        wrong = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    if wrong:
        cause = {"reason": reason, "message": wrong, "field": "resourceVersionMatch"}
        raise errors.invalid("meta.k8s.io", "ListOptions", "", [cause])


def _write_token(revision: int, after: bytes) -> str:
    parts = {"v": _TOKEN_VERSION, "rv": revision, "after": after.decode()}
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def _read_token(token: str) -> tuple[int, bytes]:
    try:
        parsed = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, after = parsed["rv"], parsed["after"]
        if type(revision) is not int or not isinstance(after, str):
            raise ValueError("its parts have wrong types")
        if not (0 < revision < 2**63 or revision == _NEWEST):
            raise ValueError("it has no revision")
        if parsed["v"] != _TOKEN_VERSION:
            raise ValueError("server does not recognize this encoded version")
        if not after or "\x00" in after:
            raise ValueError("it names no place in the list")
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from error
    return revision, after.encode()
