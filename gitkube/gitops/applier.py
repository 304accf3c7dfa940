"""Writes objects: in waves by server-side apply, one bad object never stopping the others.

It remembers what each object looked like right after it was applied, so that a change that somebody else
made is told from one's own, and an unchanged object costs nothing. The memory is only a shortcut: with an
empty one (after a restart) everything is applied once more, which changes nothing that is as it should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gitkube.api.client import Client, Propagation
from gitkube.api.errors import StatusError, is_conflict, is_not_found, is_outage
from gitkube.clock import Clock
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import DEFINITIONS, FIELD_MANAGER, WAVES, Desired, digest_of, wave_of
from gitkube.gitops.difference import comparable
from gitkube.gitops.plan import CONCURRENCY, Entry, needs_recreation
from gitkube.objects import conditions, kinds, meta
from gitkube.objects.custom.definition import ESTABLISHED, NAMES_ACCEPTED
from gitkube.objects.types import Object
from gitkube.tasks import together

RECREATE_DEADLINE_S = 30.0
"""How long an old Job may take to go before the new one is tried again later."""
RECREATE_POLL_S = 0.05
ESTABLISH_DEADLINE_S = 15.0
"""How long a new kind may take to be served before its objects are tried, and put into quarantine."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Applied:
    """An object as it was left by the last apply."""

    digest: str
    """Of what was wanted."""
    live_digest: str
    """Of what the API made of it (`_digest_of_live`)."""
    uid: str
    resource_version: int
    is_complete: bool = False
    """A Job that has run to its end; it is left alone from then on."""


@dataclass(frozen=True)
class Quarantined:
    """An object that the API refuses; tried again later, while everything else goes on."""

    digest: str
    message: str


class Applier:
    """Applies and prunes. One task at a time applies a whole commit; workers apply single objects."""

    def __init__(self, client: Client, live: Callable[[Ref], Object | None], *, clock: Clock) -> None:
        """
        Args:
            live: the informers' view of an object.
        """
        self._client = client
        self._live = live
        self._clock = clock
        self.applied: dict[Ref, Applied] = {}
        self.quarantined: dict[Ref, Quarantined] = {}

    async def apply_all(self, desired: Mapping[Ref, Desired]) -> set[Ref]:
        """Apply what is not in force yet, wave after wave.

        Returns:
            The objects that this changed.

        Raises:
            StatusError: the API cannot be asked now (5xx); what was applied so far stays.
        """
        changed: set[Ref] = set()
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(wanted: Desired) -> None:
            async with gate:
                if await self._try(wanted):
                    changed.add(wanted.ref)

        for wave in WAVES:
            todo = [wanted for wanted in desired.values() if wanted.wave == wave and self.is_due(wanted)]
            try:
                await together(map(one, todo))
            except* StatusError as errors:
                raise errors.exceptions[0] from None
            if wave == DEFINITIONS:
                await self._wait_established([wanted.ref for wanted in todo])
        for ref in [ref for ref in self.applied if ref not in desired]:
            del self.applied[ref]
        for ref in [ref for ref in self.quarantined if ref not in desired]:
            del self.quarantined[ref]
        return changed

    def is_due(self, wanted: Desired) -> bool:
        """Whether the object has to be applied: it is new, wanted otherwise than before, or has drifted."""
        seen = self.applied.get(wanted.ref)
        if seen is None or seen.digest != wanted.digest:
            return True
        live = self._live(wanted.ref)
        if live is None:
            return not self._may_be_gone(wanted, seen)
        if meta.is_deleting(live):
            return False  # its deletion will be seen, and then it is made again
        if int(meta.resource_version(live) or 0) <= seen.resource_version:
            return False
        return _digest_of_live(wanted, live) != seen.live_digest

    async def apply_one(self, wanted: Desired) -> bool:
        """Apply one object; returns whether that changed it.

        Raises:
            StatusError: the API refused it, or cannot be asked.
        """
        ref = wanted.ref
        live = await self._current(ref)
        if live is not None and meta.is_deleting(live):
            live = await self._wait_gone(ref, meta.uid(live))
        if live is not None and needs_recreation(wanted, live):
            log.info("job_recreated", namespace=ref.namespace, name=ref.name)
            await self._client.delete(
                ref.kind, ref.name, ref.namespace, propagation=Propagation.BACKGROUND, uid=meta.uid(live)
            )
            live = await self._wait_gone(ref, meta.uid(live))
        result = await self._client.apply(ref.kind, wanted.object, field_manager=FIELD_MANAGER, force=True)
        self.applied[ref] = Applied(
            wanted.digest,
            _digest_of_live(wanted, result),
            meta.uid(result),
            int(meta.resource_version(result) or 0),
            is_complete(result),
        )
        self.quarantined.pop(ref, None)
        return live is None or comparable(live) != comparable(result)

    def note_live(self, ref: Ref, live: Object) -> None:
        """Remember that a Job has come to its end, for when it is cleaned away by its time to live."""
        seen = self.applied.get(ref)
        if seen is not None and not seen.is_complete and is_complete(live):
            self.applied[ref] = replace(seen, is_complete=True)

    async def prune(self, entries: Iterable[Entry]) -> list[Entry]:
        """Delete objects that git has no more; in the opposite order of the waves.

        Returns:
            Those that could not be deleted now.

        Raises:
            StatusError: the API cannot be asked now (5xx).
        """
        left = []
        for entry in sorted(entries, key=lambda entry: -wave_of(entry.ref)):
            try:
                await self._client.delete(
                    entry.ref.kind,
                    entry.ref.name,
                    entry.ref.namespace,
                    propagation=Propagation.BACKGROUND,
                    uid=entry.uid,
                )
                log.info("object_pruned", object=str(entry.ref), origin=entry.origin)
            except StatusError as error:
                if is_not_found(error) or is_conflict(error):
                    continue  # gone already, or another object took the name: not ours
                if is_outage(error):
                    raise
                log.warning("prune_refused", object=str(entry.ref), error=error.message)
                left.append(entry)
        return left

    async def _try(self, wanted: Desired) -> bool:
        """Apply, or put into quarantine."""
        try:
            return await self.apply_one(wanted)
        except StatusError as error:
            if is_outage(error):
                raise
            self.quarantine(wanted, error)
            return False

    def quarantine(self, wanted: Desired, error: StatusError) -> None:
        """Remember that the API refuses an object as it is wanted now."""
        log.warning(
            "object_quarantined", object=str(wanted.ref), origin=str(wanted.place), error=error.message
        )
        self.quarantined[wanted.ref] = Quarantined(wanted.digest, error.message)

    def _may_be_gone(self, wanted: Desired, seen: Applied) -> bool:
        """A completed Job with a time to live is cleaned away by the cluster, and has not to run again."""
        has_ttl = (wanted.object.get("spec") or {}).get("ttlSecondsAfterFinished") is not None
        return wanted.ref.kind == kinds.JOB and has_ttl and seen.is_complete

    async def _wait_established(self, definitions: Iterable[Ref]) -> None:
        """Wait until kinds that were just defined are served; one whose names are taken never is."""
        deadline_s = self._clock.monotonic() + ESTABLISH_DEADLINE_S
        for ref in definitions:
            while self._clock.monotonic() < deadline_s:
                live = await self._current(ref)
                if live is None or conditions.is_true(live, ESTABLISHED):
                    break
                if conditions.status_of(live, NAMES_ACCEPTED) == conditions.FALSE:
                    break
                await self._clock.sleep(RECREATE_POLL_S)

    async def _current(self, ref: Ref) -> Object | None:
        try:
            return await self._client.get(ref.kind, ref.name, ref.namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    async def _wait_gone(self, ref: Ref, uid: str) -> Object | None:
        """Wait until an object that is being deleted is gone; returns one that took its name.

        Raises:
            StatusError: 409 after RECREATE_DEADLINE_S.
        """
        deadline_s = self._clock.monotonic() + RECREATE_DEADLINE_S
        while True:
            live = await self._current(ref)
            if live is None or meta.uid(live) != uid:
                return live
            if self._clock.monotonic() >= deadline_s:
                raise StatusError(409, "Conflict", f"{ref} is still being deleted; it is tried again")
            await self._clock.sleep(RECREATE_POLL_S)


def is_complete(obj: Object) -> bool:
    return obj.get("kind") == "Job" and conditions.is_true(obj, "Complete")


def _digest_of_live(wanted: Desired, live: Object) -> str:
    """Of what must not change in an object while it is in force: all but what every write changes.

    Of a custom resource only what git says. Its operator may write beside that as often as it likes, and an
    apply would take none of it away.
    """
    kept = comparable(live)
    return digest_of(kept if wanted.ref.kind.custom is None else _within(kept, wanted.object))


def _within(live: Any, wanted: Any) -> Any:
    """What `live` has of the fields of `wanted`; lists are taken whole."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {key: _within(live[key], inner) for key, inner in wanted.items() if key in live}
    return live
