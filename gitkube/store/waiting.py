"""Who waits for something that becomes known later, and is told it once.

An `asyncio.Future` is such a one; whoever awaits it goes on a turn of the loop later, as a task of its own. A
client's request needs neither the turn nor the task: it is answered at the moment its answer is known
(`served.py`). Both are told by the same three methods, so nobody who tells needs to know the difference.

Invariant: nobody is told anything after `done`, be it that he was told or that he has left.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from gitkube.store.protocol import StoreError

T_contra = TypeVar("T_contra", contravariant=True)


class Waiter(Protocol[T_contra]):
    """See the module's text. What is told may not raise: whoever tells has others to tell, too."""

    def done(self) -> bool: ...

    def set_result(self, result: T_contra, /) -> None: ...

    def set_exception(self, exception: StoreError, /) -> None: ...
