"""Who is asked a second time about one object: those that wish it, if it was changed after they were
asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rounds:
    """What is remembered of one request between its first and its second round."""

    asked: set[str] = field(default_factory=set)
    """Those that wish to be asked again, and were asked since the last change."""
    due: set[str] = field(default_factory=set)
    """Those of them after which the object was changed."""

    def note_change(self) -> None:
        self.due |= self.asked
        self.asked = set()
