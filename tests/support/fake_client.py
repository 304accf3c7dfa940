"""The API in memory, as far as loops can tell: a `Client` for unit tests.

It keeps resource versions, conflicts, uids and generations, finalizers, grace periods, status subresources,
deletion preconditions and propagation finalizers, bindings and watches. It has no schemas, defaults or
admission; the tests that need those run on the real API.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from gitkube.api.client import ObjectList, PatchType, Propagation, WatchEvent
from gitkube.api.errors import already_exists, bad_request, conflict, gone, not_found
from gitkube.clock import Clock, rfc3339
from gitkube.objects.fields import parse_field_selector
from gitkube.objects.kinds import Kind
from gitkube.objects.labels import parse_selector
from gitkube.objects.patch.merge_patch import apply_merge_patch
from gitkube.objects.types import Object

Key = tuple[Kind, str, str]
Reaction = Callable[[str, Kind, Object], None]
"""Called before each write with (verb, kind, object); may raise to make it fail."""


class FakeClient:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.objects: dict[Key, Object] = {}
        self.writes: list[tuple[str, Kind, str, str]] = []
        """(verb, kind, namespace, name) of each write that was done."""
        self.reactions: list[Reaction] = []
        self.compacted = 0
        self._revision = 0
        self._uids = itertools.count(1)
        self._suffixes = itertools.count(1)
        self._history: list[tuple[int, Kind, str, Object]] = []
        self._changed = asyncio.Condition()

    # ------------------------------------------------------------------ reading

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        obj = self.objects.get((kind, namespace, name))
        if obj is None:
            raise not_found(kind.group, kind.plural, name)
        return copy.deepcopy(obj)

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
        items = [
            copy.deepcopy(obj)
            for (kind_of, ns, _), obj in sorted(self.objects.items(), key=lambda item: item[0][1:])
            if kind_of == kind and (not namespace or ns == namespace)
            and self._selected(kind, obj, label_selector, field_selector)
        ]  # fmt: skip
        return ObjectList(items, str(self._revision))

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
        seen = int(resource_version)
        at = 0
        while True:
            if seen < self.compacted:
                raise gone(f"too old resource version: {seen} ({self.compacted})")
            while at < len(self._history):
                revision, kind_of, type_, obj = self._history[at]
                at += 1
                if revision <= seen or kind_of != kind:
                    continue
                seen = revision
                if namespace and obj["metadata"].get("namespace", "") != namespace:
                    continue
                if self._selected(kind, obj, label_selector, field_selector):
                    yield WatchEvent(type_, copy.deepcopy(obj))
            async with self._changed:
                if at >= len(self._history):
                    await self._changed.wait()

    @staticmethod
    def _selected(kind: Kind, obj: Object, label_selector: str, field_selector: str) -> bool:
        return parse_selector(label_selector).matches(obj["metadata"].get("labels")) and parse_field_selector(
            field_selector
        ).matches(kind, obj)

    # ------------------------------------------------------------------ writing

    async def create(
        self, kind: Kind, obj: Object, *, field_manager: str = "", dry_run: bool = False
    ) -> Object:
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._suffixes):05d}"
        self._react("create", kind, obj)
        key = self._key(kind, obj)
        if key in self.objects:
            raise already_exists(kind.group, kind.plural, metadata["name"])
        metadata["uid"] = f"uid-{next(self._uids)}"
        metadata["creationTimestamp"] = rfc3339(self.clock.now())
        metadata["generation"] = 1
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        if kind.kind == "Pod":
            obj.setdefault("status", {}).setdefault("phase", "Pending")
        return await self._store("create", "ADDED", kind, obj)

    async def update(
        self,
        kind: Kind,
        obj: Object,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        obj = copy.deepcopy(obj)
        self._react(f"update {subresource}".strip(), kind, obj)
        current = await self.get(kind, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        given = obj["metadata"].get("resourceVersion")
        if given and given != current["metadata"]["resourceVersion"]:
            raise conflict(kind.group, kind.plural, obj["metadata"]["name"], "the object has been modified")
        return await self._replace(kind, current, obj, subresource)

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
        if type is not PatchType.MERGE:
            raise bad_request("the fake knows merge patches only")
        current = await self.get(kind, name, namespace)
        self._react(f"patch {subresource}".strip(), kind, current)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != current["metadata"]["resourceVersion"]:
            raise conflict(kind.group, kind.plural, name, "the object has been modified")
        uid = (patch.get("metadata") or {}).get("uid")
        if uid and uid != current["metadata"]["uid"]:
            raise conflict(kind.group, kind.plural, name, "another uid")
        return await self._replace(kind, current, apply_merge_patch(current, patch), subresource)

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
        key = self._key(kind, obj)
        if key not in self.objects:
            return await self.create(kind, obj)
        return await self.patch(
            kind, key[2], key[1], {k: v for k, v in obj.items() if k != "metadata"}, subresource=subresource
        )

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
        obj = await self.get(kind, name, namespace)
        self._react("delete", kind, obj)
        metadata = obj["metadata"]
        if uid and metadata["uid"] != uid:
            raise conflict(kind.group, kind.plural, name, f"the uid is {metadata['uid']}, not {uid}")
        if resource_version and metadata["resourceVersion"] != resource_version:
            raise conflict(kind.group, kind.plural, name, "another resourceVersion")
        finalizers = list(metadata.get("finalizers") or [])
        for policy, finalizer in (
            (Propagation.FOREGROUND, "foregroundDeletion"),
            (Propagation.ORPHAN, "orphan"),
        ):
            if propagation is policy and finalizer not in finalizers:
                finalizers.append(finalizer)
        if finalizers:
            metadata["finalizers"] = finalizers
        grace_s = 0
        if kind.kind == "Pod" and (obj.get("spec") or {}).get("nodeName"):
            default = (obj["spec"] or {}).get("terminationGracePeriodSeconds", 30)
            grace_s = default if grace_period_s is None else grace_period_s
            if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                grace_s = 0
        holds = bool(finalizers) or grace_s > 0
        if kind.kind == "Namespace" and obj.get("spec", {}).get("finalizers"):
            obj.setdefault("status", {})["phase"] = "Terminating"
            holds = True
        if holds:
            metadata.setdefault("deletionTimestamp", rfc3339(self.clock.now() + grace_s))
            metadata["deletionGracePeriodSeconds"] = grace_s
            return await self._store("delete", "MODIFIED", kind, obj)
        return await self._store("delete", "DELETED", kind, obj)

    async def create_subresource(
        self, kind: Kind, name: str, namespace: str, subresource: str, body: Object
    ) -> Object:
        obj = await self.get(kind, name, namespace)
        self._react(f"create {subresource}", kind, obj)
        if subresource == "binding":
            if obj["spec"].get("nodeName"):
                raise conflict("", "pods/binding", name, "pod is already assigned to a node")
            obj["spec"]["nodeName"] = body["target"]["name"]
            conditions = obj["status"].setdefault("conditions", [])
            conditions[:] = [c for c in conditions if c["type"] != "PodScheduled"]
            conditions.append({"type": "PodScheduled", "status": "True"})
            await self._store("bind", "MODIFIED", kind, obj)
            return {"kind": "Status", "status": "Success"}
        if subresource == "eviction":
            return await self.delete(kind, name, namespace)
        raise bad_request(f"no subresource {subresource}")

    # ------------------------------------------------------------------ inside

    def _react(self, verb: str, kind: Kind, obj: Object) -> None:
        for reaction in self.reactions:
            reaction(verb, kind, obj)

    @staticmethod
    def _key(kind: Kind, obj: Object) -> Key:
        return kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

    async def _replace(self, kind: Kind, current: Object, obj: Object, subresource: str) -> Object:
        merged = copy.deepcopy(current)
        if subresource == "status":
            if "status" in obj:
                merged["status"] = obj["status"]
        elif subresource == "scale":
            merged["spec"]["replicas"] = obj["spec"]["replicas"]
        else:
            kept = merged.get("status")
            merged = copy.deepcopy(obj)
            if "status" in kind.subresources and subresource == "":
                merged.pop("status", None)
                if kept is not None:
                    merged["status"] = kept
            for field in ("uid", "creationTimestamp", "generation"):
                merged["metadata"][field] = current["metadata"][field]
            if "deletionTimestamp" in current["metadata"]:
                merged["metadata"]["deletionTimestamp"] = current["metadata"]["deletionTimestamp"]
        if merged.get("spec") != current.get("spec"):
            merged["metadata"]["generation"] = current["metadata"].get("generation", 0) + 1
        merged["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        if merged == current:
            return current
        metadata = merged["metadata"]
        done = "deletionTimestamp" in metadata and not metadata.get("finalizers")
        if kind.kind == "Namespace":
            done = done and not merged.get("spec", {}).get("finalizers")
        if kind.kind == "Pod":
            done = done and not metadata.get("deletionGracePeriodSeconds")
        return await self._store(
            f"update {subresource}".strip(), "DELETED" if done else "MODIFIED", kind, merged
        )

    async def _store(self, verb: str, type_: str, kind: Kind, obj: Object) -> Object:
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        key = self._key(kind, obj)
        if type_ == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        self.writes.append((verb, kind, key[1], key[2]))
        self._history.append((self._revision, kind, type_, copy.deepcopy(obj)))
        async with self._changed:
            self._changed.notify_all()
        return copy.deepcopy(obj)
