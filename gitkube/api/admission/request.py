"""What an admission rule gets to see and may change."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gitkube.api.cache import WatchCache
from gitkube.api.requests import Context
from gitkube.api.settings import ApiSettings
from gitkube.objects.cel import Budget
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.store.protocol import Compare, Operation

MAX_UNITS = 10_000_000
"""For all expressions about one object; what takes them all blocks the server for about three seconds."""


def _all_units() -> Budget:
    return Budget(MAX_UNITS)


class Verb(enum.Enum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(slots=True)
class AdmissionRequest:
    """One write on its way to the store. A rule may change `obj` in place, it belongs to the request."""

    verb: Verb
    kind: Kind
    namespace: str
    name: str
    obj: Object
    """As it is to be stored; for a DELETE as it is stored."""
    old: Object | None
    context: Context
    cache: WatchCache
    rng: random.Random
    settings: ApiSettings
    subresource: str = ""
    body: tuple[str, str] = ("", "")
    """apiVersion and kind of `obj` where it is not of `kind`, as the Scale of a Deployment."""
    delete_options: Object | None = None
    """Of a DELETE."""
    is_collection: bool = False
    """One of the objects of a request that named none."""
    is_of_interest: bool = False
    """Whether rules that are objects themselves could be about it, as was found when it was first shown to
    rules."""
    waited_s: float = 0.0
    """For webhooks, so far."""
    units: Budget = field(default_factory=_all_units)
    """Left for all expressions of policies and webhooks together."""
    compares: list[Compare] = field(default_factory=list)
    """What must hold when the object is written; if not, the whole request is decided anew."""
    operations: list[Operation] = field(default_factory=list)
    """What is written in the same transaction, such as the address that a Service takes."""

    @property
    def asked(self) -> Kind:
        """The kind that the client named: another version of `kind`, or `kind`."""
        return self.context.asked_as or self.kind

    @property
    def new(self) -> Object | None:
        """What will be there, as webhooks and policies see it."""
        return None if self.verb is Verb.DELETE else self.obj

    @property
    def before(self) -> Object | None:
        """What is there, as webhooks and policies see it."""
        return self.obj if self.verb is Verb.DELETE else self.old

    def again(self) -> None:
        """Forget what rules have added: they are asked once more."""
        self.compares.clear()
        self.operations.clear()


class Extensions(Protocol):
    """Rules that are objects themselves: webhooks and policies."""

    def concern(self, kind: Kind, subresource: str) -> bool:
        """Whether any could be about such a resource. Must be cheap: it is asked for every write."""
        ...

    async def mutate(self, request: AdmissionRequest, again: Callable[[], None]) -> bool:
        """Let them change `request.obj`.

        Args:
            again: asks the rules that come before once more, of the changed object.

        Returns:
            Whether it was changed.

        Raises:
            StatusError: it is refused.
        """
        ...

    async def validate(self, request: AdmissionRequest) -> None:
        """Raises `StatusError` when it is refused."""
        ...


class AdmissionRule(Protocol):
    def __call__(self, request: AdmissionRequest) -> None:
        """Raises `StatusError` to refuse."""
        ...
