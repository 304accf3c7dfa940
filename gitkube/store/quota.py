"""How much the key space may grow, and the alarms that say so.

The check against the quota is the caller's, before it proposes (`would_exceed`): members may have different
quotas, and a command in the log must mean the same to all. Whoever finds its quota passed proposes an
`Alarm`; from that entry of the log on every member refuses what would grow the key space, until the alarm is
lifted. Deletions, compaction and the end of leases go on: they are the way out. (etcd: `quotaKVServer`,
`applierV3Capped`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitkube.store.command import Alarm, AlarmKind, Command, LeaseGrant, Txn
from gitkube.store.protocol import NoSpaceError, Operation, Put
from gitkube.store.versions import VERSION_OVERHEAD_BYTES

LEASE_BYTES = 256
"""What a lease costs in memory, about."""


def cost_bytes(command: Command) -> int:
    """By how much a command may grow the key space: of a transaction, its larger branch."""
    if isinstance(command, Txn):
        return max(_cost_of(command.success), _cost_of(command.failure))
    if isinstance(command, LeaseGrant):
        return LEASE_BYTES
    return 0


def _cost_of(operations: Iterable[Operation]) -> int:
    cost = 0
    for operation in operations:
        if isinstance(operation, Put):
            cost += len(operation.key) + len(operation.value) + VERSION_OVERHEAD_BYTES
    return cost


def grows(command: Command) -> bool:
    """Whether a command may grow the key space, in either branch."""
    if isinstance(command, Txn):
        for operations in (command.success, command.failure):
            for operation in operations:
                if isinstance(operation, Put):
                    return True
        return False
    return isinstance(command, LeaseGrant)


class Alarms:
    """Which alarms are raised, by which members."""

    def __init__(self) -> None:
        self._raised: set[tuple[AlarmKind, int]] = set()
        self.is_out_of_space = False
        """Derived: whether any member has raised NOSPACE."""

    def apply(self, alarm: Alarm) -> bool:
        """Whether the command changed anything."""
        before = len(self._raised)
        if alarm.is_raised:
            self._raised.add((alarm.kind, alarm.member))
        else:
            self._raised = {
                (kind, member)
                for kind, member in self._raised
                if kind is not alarm.kind or alarm.member not in (0, member)
            }
        self.is_out_of_space = any(kind is AlarmKind.NOSPACE for kind, _ in self._raised)
        return len(self._raised) != before

    def raised(self) -> list[Alarm]:
        """In a fixed order."""
        return [
            Alarm(kind, member)
            for kind, member in sorted(self._raised, key=lambda each: (each[0].value, each[1]))
        ]

    def dump(self) -> list[list[int]]:
        return [[alarm.kind.value, alarm.member] for alarm in self.raised()]

    def load(self, items: Sequence[Sequence[int]]) -> None:
        for kind, member in items:
            self.apply(Alarm(AlarmKind(kind), member))


def no_space() -> NoSpaceError:
    return NoSpaceError(
        "the store's quota is used up (alarm NOSPACE). Delete what is not needed and compact, or raise the "
        "quota; then lift the alarm"
    )
