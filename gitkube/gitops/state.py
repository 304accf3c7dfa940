"""The `Source` object: what the sync knows of itself, kept where a `kill -9` cannot take it.

Its status names the branch's tip, the commit in force and the inventory of every object that came from git.
Invariant: an object that the sync may have made stands in the stored inventory, because the inventory is
widened before anything is applied and narrowed only after everything else is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists, is_not_found
from gitkube.clock import Clock, rfc3339
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import FIELD_MANAGER
from gitkube.gitops.plan import Entry
from gitkube.gitops.source import Commit, CommitId
from gitkube.objects import conditions, kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object

DEFAULT_NAME = "main"
MAX_MESSAGE_CHARS = 2_000


class SourceState:
    """Reads and writes one Source. The sync is its only writer."""

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        repository: str,
        branch: str,
        clock: Clock,
        registry: Registry | None = None,
    ) -> None:
        self._client = client
        self._registry = registry or Registry()
        self._name = name
        self._repository = repository
        self._branch = branch
        self._clock = clock
        self._status: dict[str, Any] = {}
        self._writing = asyncio.Lock()

    @property
    def status(self) -> Mapping[str, Any]:
        return self._status

    @property
    def inventory(self) -> list[Entry]:
        return inventory_of(self._status, self._registry.by_gvk)

    @property
    def applied(self) -> CommitId | None:
        """The commit in force."""
        found = (self._status.get("applied") or {}).get("id")
        return CommitId(found) if found else None

    async def load(self) -> None:
        """Make the object if it is not there, bring its spec up to date, and read its status.

        Raises:
            StatusError: the API cannot be asked.
        """
        kind = kinds.SOURCE
        spec = {"repository": self._repository, "branch": self._branch}
        try:
            found = await self._client.get(kind, self._name)
        except StatusError as error:
            if not is_not_found(error):
                raise
            found = await self._create(spec)
        if {key: (found.get("spec") or {}).get(key) for key in spec} != spec:
            found = await self._client.patch(
                kind, self._name, "", {"spec": spec}, field_manager=FIELD_MANAGER
            )
        self._status = dict(found.get("status") or {})

    async def write(self, *, set_conditions: Sequence[Mapping[str, Any]] = (), **changes: Any) -> None:
        """Set fields of the status; nothing is sent when nothing changes.

        Args:
            set_conditions: of the status; the other conditions stay.

        Raises:
            StatusError: the API refused it or cannot be asked.
        """
        if "message" in changes:
            changes["message"] = str(changes["message"])[:MAX_MESSAGE_CHARS]
        # One at a time: deploying and publishing both write, and each builds on what the other has written.
        async with self._writing:
            if set_conditions:
                changes["conditions"] = self._conditions_with(set_conditions)
            wanted = {key: value for key, value in changes.items() if self._status.get(key) != value}
            if not wanted:
                return
            wanted["observedAt"] = rfc3339(self._clock.now())
            try:
                result = await self._patch(wanted)
            except StatusError as error:
                if not is_not_found(error):
                    raise
                # Somebody deleted it under our feet.
                await self._create({"repository": self._repository, "branch": self._branch})
                result = await self._patch({**self._status, **wanted})
            self._status = {**self._status, **wanted, **(result.get("status") or {})}

    def _conditions_with(self, changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        found = self._status.get("conditions") or []
        for change in changes:
            complete = {"reason": "Unknown", "message": "", **change}
            found = conditions.with_condition(found, complete, self._clock.now())
        return found

    async def _create(self, spec: Mapping[str, Any]) -> Object:
        obj = {
            "apiVersion": kinds.SOURCE.api_version,
            "kind": kinds.SOURCE.kind,
            "metadata": {"name": self._name},
            "spec": dict(spec),
        }
        try:
            return await self._client.create(kinds.SOURCE, obj, field_manager=FIELD_MANAGER)
        except StatusError as error:
            if not is_already_exists(error):
                raise
            return await self._client.get(kinds.SOURCE, self._name)

    async def _patch(self, status: Mapping[str, Any]) -> Object:
        return await self._client.patch(
            kinds.SOURCE,
            self._name,
            "",
            {"status": dict(status)},
            subresource="status",
            field_manager=FIELD_MANAGER,
        )


def commit_fields(commit: Commit) -> dict[str, Any]:
    """A commit as the status holds it."""
    return {
        "id": commit.id,
        "message": commit.subject,
        "author": commit.author,
        "time": rfc3339(commit.time_s),
    }


def inventory_of(
    status: Mapping[str, Any], by_gvk: Callable[[str, str], Kind | None] = kinds.by_gvk
) -> list[Entry]:
    """The objects that came from git, by a Source's status. Kinds that are served no more are left out."""
    entries = []
    for item in status.get("inventory") or ():
        kind = by_gvk(item["apiVersion"], item["kind"])
        if kind is not None:
            ref = Ref(kind, item.get("namespace") or "", item["name"])
            entries.append(Entry(ref, item.get("uid") or "", item.get("origin") or ""))
    return entries


def inventory_fields(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """The inventory as the status holds it, in a stable order."""
    return [_entry_fields(entry) for entry in sorted(entries, key=_order)]


def _entry_fields(entry: Entry) -> dict[str, str]:
    fields = {"apiVersion": entry.ref.kind.api_version, "kind": entry.ref.kind.kind, "name": entry.ref.name}
    optional = {"namespace": entry.ref.namespace, "uid": entry.uid, "origin": entry.origin}
    return {**fields, **{key: value for key, value in optional.items() if value}}


def _order(entry: Entry) -> tuple[str, str, str]:
    return (entry.ref.namespace, entry.ref.kind.kind, entry.ref.name)
