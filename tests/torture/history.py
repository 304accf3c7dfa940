"""What clients and watchers of a run saw, and what was done to the members meanwhile; as data, and as a file.

Times are seconds since the run began, of one clock in one process. Keys and values are text. A value is
written at most once in a run, so each tells who wrote it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["read", "stale", "write", "swap", "add", "delete"]
"""`stale` is a serializable read; `add` writes a key of its own, which nobody touches again."""
WRITES: tuple[Kind, ...] = ("write", "swap", "add", "delete")
Outcome = Literal["ok", "failed", "unknown"]
"""`failed` is a swap that found something else: it changed nothing."""


@dataclass(slots=True)
class Attempt:
    """One request of one client."""

    client: int
    member: int
    kind: Kind
    key: str
    call: float
    returned: float | None = None
    """None: no answer."""
    outcome: Outcome = "unknown"
    value: str | None = None
    """What was written, or for reads and failed swaps what was found; None is no such key."""
    expected: str | None = None
    revision: int = 0
    """Of the answer: the write's own, or the store's when it was read."""
    mod_revision: int = 0
    """Of what was found by a read."""


@dataclass(slots=True)
class Watched:
    """What one watcher got, from `start` on, through and with `through`."""

    watcher: str
    member: int
    start: int
    through: int = 0
    """0: nothing yet, and so nothing is promised."""
    events: list[tuple[int, str, str | None]] = field(default_factory=list)
    """Revision, key, and value or None for a deletion."""


@dataclass(slots=True)
class Fault:
    what: str
    """Such as "kill leader"; the same words for the same kind of fault."""
    members: list[int]
    begin: float
    able: float = 0.0
    """From when on the cluster had what it needs to go on: at once if a majority was left in peace."""
    end: float = 0.0
    kills: int = 0


@dataclass(slots=True)
class Ending:
    """The state of one member when all is quiet."""

    member: int
    revision: int
    hash: int
    keys: dict[str, tuple[str, int]]
    """Value and mod revision."""


@dataclass(slots=True)
class History:
    seed: int
    attempts: list[Attempt] = field(default_factory=list)
    watches: list[Watched] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    """What went wrong in the run itself: a member that ended by itself, a cluster that did not come back."""

    def write(self, path: Path) -> None:
        """As one JSON object a line, the kind first."""
        with path.open("w") as file:
            file.write(json.dumps(["run", {"seed": self.seed, "incidents": self.incidents}]) + "\n")
            for kind, items in (
                ("attempt", self.attempts),
                ("watched", self.watches),
                ("fault", self.faults),
                ("ending", self.endings),
            ):
                file.writelines(json.dumps([kind, asdict(item)]) + "\n" for item in items)  # type: ignore[call-overload]

    @classmethod
    def read(cls, path: Path) -> History:
        """What `write` wrote."""
        history = cls(0)
        with path.open() as file:
            for line in file:
                kind, item = json.loads(line)
                history._add(kind, item)
        return history

    def _add(self, kind: str, item: dict[str, Any]) -> None:
        match kind:
            case "run":
                self.seed, self.incidents = item["seed"], item["incidents"]
            case "attempt":
                self.attempts.append(Attempt(**item))
            case "watched":
                events = [(revision, key, value) for revision, key, value in item.pop("events")]
                self.watches.append(Watched(**item, events=events))
            case "fault":
                self.faults.append(Fault(**item))
            case "ending":
                keys = {key: (value, revision) for key, (value, revision) in item.pop("keys").items()}
                self.endings.append(Ending(**item, keys=keys))
            case _:
                raise ValueError(f"a line of a history is of an unknown kind: {kind!r}")
