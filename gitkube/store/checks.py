"""What no state could make valid: refused before it is written to the log.

The rules are etcd 3.4's (`checkTxnRequest`, `checkIntervals`), with limits of our own for single keys and
values. Both branches of a transaction are held to them, whichever will run:

- no key is put twice in a branch, and none is both put and deleted, in whatever order;
- deletions may overlap one another;
- a deletion without an upper bound (end b"\\0") is not looked at: there the order of the operations counts.
  That is how etcd behaves, so both a put and a deletion of one key may share a revision.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitkube.store.command import Command, Txn
from gitkube.store.protocol import (
    MAX_KEY_BYTES,
    MAX_TXN_OPERATIONS,
    MAX_VALUE_BYTES,
    NO_LEASE,
    Delete,
    DuplicateKeyError,
    InvalidRequestError,
    Operation,
    Put,
    Target,
)
from gitkube.store.ranges import NO_END, covers


def check_command(command: Command) -> None:
    """Refuse what is wrong whatever the state.

    Raises:
        InvalidRequestError: an empty or too large key, a value too large or given where it is kept, too many
            operations.
        DuplicateKeyError: a key is put twice, or put and deleted.
    """
    if not isinstance(command, Txn):
        return
    for what, count in (
        ("comparisons", len(command.compare)),
        ("operations", len(command.success)),
        ("operations", len(command.failure)),
    ):
        if count > MAX_TXN_OPERATIONS:
            raise InvalidRequestError(f"{count} {what} in one transaction; the limit is {MAX_TXN_OPERATIONS}")
    for compare in command.compare:
        check_key(compare.key)
        if not isinstance(compare.value, bytes if compare.target is Target.VALUE else int):
            raise InvalidRequestError(
                f"key {compare.key!r}: its {compare.target.value} cannot be compared with {compare.value!r}"
            )
    for operations in (command.success, command.failure):
        for operation in operations:
            check_key(operation.key)
            if isinstance(operation, Put):
                _check_put(operation)
        if len(operations) > 1:
            _check_overlaps(operations)


def check_key(key: bytes) -> None:
    """Raises:
    InvalidRequestError: it is empty or too large.
    """
    if not isinstance(key, bytes):
        raise InvalidRequestError(f"a key is bytes, not {key!r}")
    if not key:
        raise InvalidRequestError("a key may not be empty; the first possible key is b'\\0'")
    if len(key) > MAX_KEY_BYTES:
        raise InvalidRequestError(f"a key of {len(key)} bytes; the limit is {MAX_KEY_BYTES}")


def _check_put(put: Put) -> None:
    if not isinstance(put.value, bytes) or not isinstance(put.lease, int):
        raise InvalidRequestError(f"key {put.key!r}: a value is bytes and a lease is a number")
    if len(put.value) > MAX_VALUE_BYTES:
        raise InvalidRequestError(f"a value of {len(put.value)} bytes; the limit is {MAX_VALUE_BYTES}")
    if put.ignore_value and put.value:
        raise InvalidRequestError(f"key {put.key!r}: a value is given and the old one shall be kept")
    if put.ignore_lease and put.lease != NO_LEASE:
        raise InvalidRequestError(f"key {put.key!r}: a lease is given and the old one shall be kept")


def _check_overlaps(operations: Sequence[Operation]) -> None:
    put: set[bytes] = set()
    for operation in operations:
        if isinstance(operation, Put):
            if operation.key in put:
                raise DuplicateKeyError(f"key {operation.key!r} is put twice in one transaction")
            put.add(operation.key)
    for operation in operations:
        if isinstance(operation, Delete) and operation.end != NO_END:
            for key in put:
                if covers(operation.key, operation.end, key):
                    raise DuplicateKeyError(f"key {key!r} is both put and deleted in one transaction")
