"""What an admission rule gets to see and may change."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Protocol

from gitkube.api.cache import WatchCache
from gitkube.api.requests import Context
from gitkube.api.settings import ApiSettings
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.store.protocol import Compare, Operation


class Verb(enum.Enum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


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
    compares: list[Compare] = field(default_factory=list)
    """What must hold when the object is written; if not, the whole request is decided anew."""
    operations: list[Operation] = field(default_factory=list)
    """What is written in the same transaction, such as the address that a Service takes."""


class AdmissionRule(Protocol):
    def __call__(self, request: AdmissionRequest) -> None:
        """Raises `StatusError` to refuse."""
        ...
