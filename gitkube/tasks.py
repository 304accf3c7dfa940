"""Work that belongs together, in loops that catch its failures and go on.

`asyncio.TaskGroup` is right wherever a failure ends the program. In a loop it is not: until Python 3.13 a
cancellation that comes while the group still ends its other tasks after a failure is forgotten, and only the
failure raised (https://github.com/python/cpython/issues/116720). The loop would catch that, and never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run all of it at once; when one fails the others are cancelled.

    Raises:
        BaseExceptionGroup: what has failed.
        CancelledError: it was cancelled, whether something has failed or not.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failures:
        raise BaseExceptionGroup("some of what ran together has failed", failures)
