"""The header that each of etcd's answers carries: who answered, at which revision, in which term.

Cluster and member never change while a member runs, and the term seldom does, so they are kept and looked up
again each `REFRESH_S`; the revision is that of the answer itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from gitkube.clock import Clock
from gitkube.store.etcd import convert
from gitkube.store.etcd.wire import rpc
from gitkube.store.protocol import Revision, Store, StoreError, StoreStatus

log = structlog.get_logger()

REFRESH_S = 1.0
"""How old the term in a header may be. Nobody decides by it: a write that was answered is committed."""


class Headers:
    """See the module's text. `start` it, and `close` it."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._cluster_id = 0
        self._member_id = 0
        self._term = 0
        self._encoded: tuple[tuple[int, int], bytes] = ((-1, -1), b"")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look the ids up, and go on looking.

        Raises:
            UnavailableError: the store does not answer.
        """
        self.learn(await self._store.status())
        self._task = asyncio.create_task(self._refresh(), name="door-headers")

    def at(self, revision: Revision) -> Any:
        """The header of an answer at a revision."""
        return rpc.ResponseHeader(
            cluster_id=self._cluster_id, member_id=self._member_id, revision=revision, raft_term=self._term
        )

    def encoded_at(self, revision: Revision) -> bytes:
        """The same as bytes; a watcher asks for it a thousand times a revision."""
        if self._encoded[0] != (revision, self._term):
            encoded: bytes = self.at(revision).SerializeToString()
            self._encoded = ((revision, self._term), encoded)
        return self._encoded[1]

    async def now(self) -> Any:
        """The header of an answer that is about no revision in particular: this member's newest."""
        return self.at(await self.revision())

    async def revision(self) -> Revision:
        """The newest that this member has applied."""
        return (await self._store.range(convert.ALL, count_only=True, serializable=True)).revision

    def learn(self, status: StoreStatus) -> None:
        self._cluster_id, self._member_id, self._term = status.cluster_id, status.member_id, status.term

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh(self) -> None:
        while True:
            await self._clock.sleep(REFRESH_S)
            try:
                self.learn(await self._store.status())
            except StoreError as error:
                log.warning("door_status_unknown", error=str(error))
