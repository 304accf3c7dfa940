"""Python's garbage collector, kept from walking over everything that stays again and again.

What the API and the store hold are trees: when nobody holds one any more it is freed at once, without the
collector. But a full collection walks over all of them, which is a second for 30,000 pods and 0.15 s for
100,000 keys, in which nobody is answered, and writes bring it about every minute or so. So what has survived
a young collection is declared permanent every few seconds; cycles are found while they are young. What is
alive at such a moment and a cycle later stays until the next full collection, if there is one.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager

from gitkube.clock import Clock

YOUNG_OBJECTS = 20_000
"""Made more than freed before a young collection: a request makes a few hundred, and frees nearly all."""


@contextmanager
def no_collections() -> Iterator[None]:
    """While what is stored is read: all of it stays, so looking through it again and again finds nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


async def keep_collections_short(
    clock: Clock, *, freeze_every_s: float, full_every_s: float = math.inf
) -> None:
    """Until cancelled; then the collector is as it was.

    Args:
        freeze_every_s: how often what lives is declared permanent.
        full_every_s: how often all of it is looked through for once, in a long pause.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, 50, 1000)
    full_at_s = clock.monotonic() + full_every_s
    try:
        while True:
            gc.collect(1)
            gc.freeze()
            await clock.sleep(freeze_every_s)
            if clock.monotonic() >= full_at_s:
                full_at_s = clock.monotonic() + full_every_s
                gc.unfreeze()
                gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
