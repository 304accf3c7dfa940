"""Keeps a door open beside a member that must not depend on it.

A door that cannot be opened, because its address is taken or a certificate cannot be read, is tried again
until it can. One that falls shut is opened again: grpc.aio ends its server for good when it cannot read a
method's name, which any client can cause (grpcio 1.85; a path that is no UTF-8).

Invariant: whatever happens to the door is said in the log and ends here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from gitkube.clock import Clock
from gitkube.store.door.server import Door
from gitkube.store.protocol import StoreError

log = structlog.get_logger()

RETRY_S = 10.0


async def keep_door(open_door: Callable[[], Awaitable[Door]], clock: Clock) -> None:
    """Open a door and keep it open until cancelled, and then close it.

    Args:
        open_door: opens it, or says why that cannot be.
    """
    while True:
        try:
            door = await open_door()
        except Exception as error:
            is_expected = isinstance(error, StoreError)
            log.error("door_not_opened", error=str(error), again_in_s=RETRY_S, exc_info=not is_expected)
            await clock.sleep(RETRY_S)
            continue
        try:
            await door.wait_failed()
            log.error("door_fell_shut", address=door.address)
        except Exception as error:
            log.error("door_fell_shut", address=door.address, error=str(error))
        finally:
            await door.close()
