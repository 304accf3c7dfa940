"""What connections to other members need of the member that they serve: the other side of `peer_side.py`.

Invariant: whoever implements this never waits for the network, but in answers and in the bytes of a state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from gitkube.store.protocol import IdentityError
from gitkube.store.raft.types import MemberId, Message


class StateReceiver(Protocol):
    """Takes the bytes of a state; see `snapshot.SnapshotReceiver`."""

    received_bytes: int

    def add(self, offset: int, data: bytes) -> None: ...

    def complete(self) -> None: ...

    def abort(self) -> None: ...


class Local(Protocol):
    """See the module's text."""

    def addresses(self) -> Mapping[int, str]:
        """Where the other members are reached, by id: `HOST:PORT`."""
        ...

    def is_removed(self, member: int) -> bool: ...

    def on_messages(self, messages: Iterable[Message]) -> None: ...

    def on_unreachable(self, member: MemberId) -> None: ...

    def on_state_sent(self, member: MemberId, *, ok: bool) -> None: ...

    def on_refused(self, error: IdentityError) -> None:
        """Another member says that this one has no place in its cluster."""
        ...

    def state_pieces(self, message: Message, piece_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of the state that a SNAPSHOT message announces."""
        ...

    def receiver_of(self, message: Message) -> StateReceiver: ...

    async def on_state(self, message: Message) -> None:
        """The state of the receiver made last has arrived whole."""
        ...

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        """Answer another member's question; `StoreError`s travel."""
        ...
