"""Python's garbage collector, kept from looking through the whole cache again and again.

Objects of the API are trees: when nobody holds one any more it is freed at once, without the collector. But a
full collection walks over all of them, which is a second for 30,000 pods in which nobody is answered, and
writes bring it about every minute or so. So what has survived a young collection is declared permanent every
few seconds; cycles are found while they are young. The few that escape are looked for a few times a day.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from gitkube.clock import Clock

YOUNG_OBJECTS = 20_000
"""Made more than freed before a young collection: a request makes a few hundred, and frees nearly all."""
FREEZE_EVERY_S = 5.0
FULL_EVERY_S = 6 * 3600.0


@contextmanager
def no_collections() -> Iterator[None]:
    """While what is stored is read: all of it stays, so looking through it again and again finds nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


async def keep_collections_short(clock: Clock) -> None:
    """Until cancelled; then the collector is as it was."""
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, 50, 1000)
    full_at_s = clock.monotonic() + FULL_EVERY_S
    try:
        while True:
            gc.collect(1)
            gc.freeze()
            await clock.sleep(FREEZE_EVERY_S)
            if clock.monotonic() >= full_at_s:
                full_at_s = clock.monotonic() + FULL_EVERY_S
                gc.unfreeze()
                gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
