"""What every controller is given, and the shape that it has.

Informers are shared: ten controllers that look at pods keep one copy of them and one watch. A controller asks
for its informers while it is made, so that all handlers are in place before the first event comes.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_conflict, is_not_found
from gitkube.api.events import EventRecorder
from gitkube.api.informer import Informer
from gitkube.api.informers import Informers
from gitkube.api.workqueue import WorkQueue, run_workers
from gitkube.clock import Clock
from gitkube.control.settings import ControlSettings
from gitkube.objects import meta
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry
from gitkube.objects.types import Object

BY_CONTROLLER = "controller"
"""Index of every shared informer: the uid of the owner that controls the object, "" without one, prefixed
by the namespace and a slash."""


@dataclass(slots=True)
class Context:
    client: Client
    clock: Clock
    rng: random.Random
    settings: ControlSettings
    informers: Informers
    registry: Registry = field(default_factory=Registry)
    """The kinds that are served, those of definitions among them."""

    def informer(self, kind: Kind) -> Informer:
        """The shared copy of a kind."""
        informer = self.informers.of(kind)
        informer.add_index(BY_CONTROLLER, _controller_key)
        return informer

    def recorder(self, component: str) -> EventRecorder:
        return EventRecorder(self.client, component, clock=self.clock)


class Controller(abc.ABC):
    """A loop over keys. Subclasses register handlers that `enqueue`, and say how to `reconcile`."""

    name: str

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client
        self.clock = context.clock
        self.queue: WorkQueue[str] = WorkQueue(context.clock, context.rng)

    def enqueue(self, obj: Object) -> None:
        self.queue.add(meta.key(obj))

    def enqueue_changed(self, before: Object | None, after: Object | None) -> None:
        """A handler: look at the object that changed."""
        obj = after if after is not None else before
        assert obj is not None
        self.enqueue(obj)

    @abc.abstractmethod
    async def reconcile(self, key: str) -> float | None:
        """Bring one object closer to what it should be; a number asks for another look after seconds."""

    async def run(self) -> None:
        """Reconcile for ever."""
        await run_workers(self.queue, self.reconcile, workers=self.context.settings.workers, name=self.name)


def controller_key(namespace: str, uid: str) -> str:
    """What to look up in BY_CONTROLLER."""
    return f"{namespace}/{uid}"


def _controller_key(obj: Object) -> list[str]:
    controller = meta.controller_of(obj)
    return [controller_key(meta.namespace(obj), str(controller["uid"]) if controller is not None else "")]


async def unless_changed(write: Awaitable[object], retry_s: float) -> float | None:
    """Do a write that is refused when somebody else has written meanwhile.

    Returns:
        After how long to look again: `retry_s` when it was refused for that; None when it is done, or the
        object is gone and needs nothing.
    """
    try:
        await write
    except StatusError as error:
        if is_conflict(error):
            return retry_s
        if not is_not_found(error):
            raise
    return None
