"""What the transport may ask of its member, and tell it: the side of an `Engine` that faces the others.

Messages go into the core as they come; everything that follows from them is the driver's. Invariant: at most
one state is being received at a time, and it is handed to the replica only when it is whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gitkube.store.peer_local import StateReceiver
from gitkube.store.protocol import IdentityError, RemovedError, StoreError, UnavailableError
from gitkube.store.raft.types import MemberId, Message, MessageKind
from gitkube.store.snapshot import SnapshotReceiver

if TYPE_CHECKING:
    from gitkube.store.engine import Engine


class PeerSide:
    """See the module's text; it is a `peer_local.Local`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._receiving: SnapshotReceiver | None = None

    def addresses(self) -> Mapping[int, str]:
        engine = self._engine
        own = engine.replica.identity.member_id
        known = {info.id: info.peer_address for info in engine.replica.membership.members.values()}
        if not known and engine.peers is not None:
            known = dict(engine.peers.seeds)
        return {member: address for member, address in known.items() if member != own and address}

    def is_removed(self, member: int) -> bool:
        return member in self._engine.replica.membership.removed

    def on_messages(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.kind is MessageKind.HEARTBEAT_ANSWER:
                self._engine.rounds.answered(message.sender, message.term, message.context)
            self._step(partial(self._engine.replica.step, message))

    def on_unreachable(self, member: MemberId) -> None:
        self._engine.replica.node.report_unreachable(member)

    def on_state_sent(self, member: MemberId, *, ok: bool) -> None:
        self._engine.replica.node.report_snapshot(member, ok=ok)
        self._engine.wake()

    def on_refused(self, error: IdentityError) -> None:
        # One wrong address must not stop a member that has its place; one that was removed has none.
        if isinstance(error, RemovedError) or not self._engine.replica.membership.members:
            self._engine.fail(error)

    def state_pieces(self, message: Message, piece_bytes: int) -> AsyncIterator[bytes]:
        return self._engine.upkeep.state_pieces(message, piece_bytes)

    def receiver_of(self, message: Message) -> StateReceiver:
        assert message.snapshot is not None
        if self._receiving is not None and self._receiving.is_open:
            raise UnavailableError("another state is being received; it will be asked for again if need be")
        self._receiving = self._engine.replica.snapshot_receiver(message.snapshot)
        return self._receiving

    async def on_state(self, message: Message) -> None:
        receiver, self._receiving = self._receiving, None
        if receiver is not None:
            self._step(partial(self._engine.replica.receive, receiver, message))

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        return await self._engine.answer(method, arguments)

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StoreError as error:  # the leader has another state: this member must not answer any more
            self._engine.fail(error)
        self._engine.wake()
