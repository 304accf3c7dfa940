"""The receiving end of another member's state: bytes in pieces, onto a disk that may fail meanwhile.
meanwhile.

Several may come at once, from a leader and its successor. What the bytes are worth is the product's business
(`SnapshotReceiver`); here is only who is told what: the sender hears when the receiver is gone or cannot take
more.

Invariant: a run that has crashed takes nothing more, and its half-received state is its disk's business.
"""

from __future__ import annotations

from collections.abc import Callable

from gitkube.store.raft import Message
from gitkube.store.replica import Replica
from gitkube.store.snapshot import SnapshotReceiver


class Incoming:
    """A `network.Stream`; see the module's text.

    Args:
        do: runs a piece of work in the member's run, now or when it goes on; False when that run is over.
    """

    def __init__(self, replica: Replica, message: Message, do: Callable[..., bool]) -> None:
        assert message.snapshot is not None
        self._replica = replica
        self._message = message
        self._meta = message.snapshot
        self._do = do
        self._receiver: SnapshotReceiver | None = None
        self._is_over = False

    def on_piece(self, piece: bytes) -> bool:
        return self._do(self._write, piece) and not self._is_over

    def on_end(self) -> bool:
        return self._do(self._end) and not self._is_over

    def on_cut(self) -> None:
        self._do(self._abort)

    def _write(self, piece: bytes) -> None:
        if self._is_over:
            return
        try:
            if self._receiver is None:
                self._receiver = self._replica.snapshot_receiver(self._meta)
            self._receiver.add(self._receiver.received_bytes, piece)
        except OSError:  # the disk is full: nothing is left of it, and the sender hears so
            self._is_over = True

    def _end(self) -> None:
        if self._receiver is not None and not self._is_over:
            self._replica.receive(self._receiver, self._message)

    def _abort(self) -> None:
        if self._receiver is not None and not self._is_over:
            self._receiver.abort()
        self._is_over = True
