"""Two hashes over the state, by which members find out that one of them has diverged.

- The *running* hash is a chain over every change since the first: a few calls of CRC-32 a write, so it goes
  along in each heartbeat. A chain never comes back to equal once it differs, as each step of CRC-32 is a
  bijection of what was before.
- The hash *at a revision* is over all that can be read there, in the order of the keys (etcd's HashKV). It
  reads everything, so it is for a check on request, and finds what changed in memory after it was written.

Neither guards against somebody who wants to be undetected; they are for mistakes and for broken memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from zlib import crc32

from gitkube.store.protocol import KeyValue

_NUMBERS = struct.Struct("<IqqqQ")
_PAIR = struct.Struct("<BqQ")
_LEASE_MASK = (1 << 64) - 1

LEASE_GRANTED, LEASE_REVOKED, COMPACTED, ALARM_RAISED, ALARM_LIFTED = 1, 2, 3, 4, 5


def hash_version(chain: int, version: KeyValue) -> int:
    """The chain with one more version of a key; a deletion is a version without a value."""
    key, value, create_revision, mod_revision, number, lease = version
    # The length of the key goes in, so that no two pairs of key and value are the same bytes.
    head = _NUMBERS.pack(len(key), create_revision, mod_revision, number, lease & _LEASE_MASK)
    return crc32(value, crc32(key, crc32(head, chain)))


def hash_fact(chain: int, kind: int, number: int, detail: int) -> int:
    """The chain with one more change that is not of a key: of a lease, an alarm, the compaction."""
    return crc32(_PAIR.pack(kind, number, detail & _LEASE_MASK), chain)


def hash_of(versions: Iterable[KeyValue]) -> int:
    """Of a state: what can be read at a revision, in the order of the keys."""
    chain = 0
    for version in versions:
        chain = hash_version(chain, version)
    return chain
