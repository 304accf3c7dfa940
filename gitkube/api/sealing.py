"""Secrets at rest: what lies in the store, its log, its snapshots and backups is sealed under a key.

Between the verbs and the store each value of a sealed kind becomes `gksealed:1:KEY:` and then nonce and
ciphertext of AES-256-GCM (NIST SP 800-38D); the place in the store is authenticated along, so that a record
which is copied to another place cannot be opened there. Who reads gives it back the other way; whatever does
not begin so is a record from before, and is read as it is.

Which key is written with says one record, the ring. It holds every key that may still be needed, wrapped
under a key that only controllers can derive, so a new one reaches all of them by the log itself. Each write
of a sealed value is compared with the ring's revision. Invariants: a record is never in the log before the
ring with its key; once the ring names another key, nothing is written under the old one any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gitkube.api.keys import RING_KEY, kind_prefix
from gitkube.objects.kinds import SECRET, Kind
from gitkube.store.protocol import Compare, KeyValue, Op, Operation, Put, Store, Target

log = structlog.get_logger()

MAGIC = b"gksealed:1:"
KEY_BYTES = 32
NONCE_BYTES = 12
"""Random for each record. NIST SP 800-38D section 8.3 allows 2^32 of them under one key: a thousand writes of
Secrets a second for 49 days."""
MAX_KEYS = 16
"""In the ring: a rotation that was broken off leaves one, and many left behind are a mistake."""
_WRAPPING = b"gitkube sealing keys 1"
RandomBytes = Callable[[int], bytes]


class SealError(Exception):
    """A sealed record or key cannot be opened; the text says which, and what to do."""


class MissingKeyError(SealError):
    """It is sealed under a key that this controller does not have."""

    def __init__(self, id: str, place: str) -> None:
        super().__init__(
            f"Secrets in the store are sealed under the key {id}, which is neither in {place} nor wrapped "
            "under this cluster's authority. Put back the pki/ directory that was copied beside the backup, "
            "or copy it from another controller: docs/how-to/disaster.md"
        )


class KeyKeeper(Protocol):
    """Where this controller keeps the keys themselves: a file (`server/key_file.py`)."""

    @property
    def place(self) -> str:
        """For sentences."""
        ...

    def read(self) -> Mapping[str, bytes]: ...

    def write(self, keys: Mapping[str, bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class Ring:
    """Which keys there are."""

    writes: str
    """Id of the key that is written with."""
    wrapped: Mapping[str, bytes]
    """Key id -> the key, sealed under the wrapping key."""

    def encode(self) -> bytes:
        """As the store has it."""
        keys = {id: base64.b64encode(value).decode() for id, value in self.wrapped.items()}
        return orjson.dumps({"writes": self.writes, "keys": keys})

    @classmethod
    def decode(cls, value: bytes) -> Ring:
        """
        Raises:
            SealError: it is no ring.
        """
        try:
            found = orjson.loads(value)
            keys = {str(id): base64.b64decode(text) for id, text in found["keys"].items()}
            ring = cls(str(found["writes"]), keys)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise SealError(
                f"the record {RING_KEY.decode()} of the store cannot be understood: {error}; restore a backup"
            ) from error
        if ring.writes not in keys or len(keys) > MAX_KEYS:
            raise SealError(
                f"the record {RING_KEY.decode()} of the store contradicts itself; restore a backup"
            )
        return ring


def key_id(key: bytes) -> str:
    """By which records name a key; it tells nothing of it."""
    return hashlib.sha256(b"gitkube sealing key id" + key).hexdigest()[:16]


class Wrapping:
    """Seals the keys themselves, under what all controllers can derive from the authority they share."""

    def __init__(self, secret: bytes, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._cipher = AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, None, _WRAPPING).derive(secret))

    def wrap(self, key: bytes) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, key_id(key).encode())

    def unwrap(self, id: str, wrapped: bytes) -> bytes | None:
        """The key, or None when another authority has wrapped it."""
        try:
            key = self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], id.encode())
        except (InvalidTag, ValueError):
            return None
        return key if key_id(key) == id else None


class Sealing:
    """See the module's text. One for each controller; `load` before anything is read."""

    def __init__(
        self,
        keeper: KeyKeeper,
        *,
        secret: bytes,
        random_bytes: RandomBytes,
        kinds: Collection[Kind] = (SECRET,),
    ) -> None:
        """
        Args:
            secret: what all controllers share and nobody else has.
            random_bytes: the operating system's, for keys and nonces; one that repeats would betray both.
            kinds: whose objects are sealed when they are written.
        """
        self._keeper = keeper
        self._wrapping = Wrapping(secret, random_bytes)
        self._random_bytes = random_bytes
        self.prefixes = tuple(kind_prefix(kind) for kind in kinds)
        self._ciphers: dict[str, AESGCM] = {}
        self._writes = ""
        self._revision = 0

    @property
    def writes(self) -> str:
        """Id of the key that is written with."""
        return self._writes

    # ------------------------------------------------------------------ the ring

    async def load(self, store: Store) -> None:
        """Read the ring; the first controller makes it, and its key.

        Raises:
            SealError: a key is missing.
            StoreError: the store cannot be asked.
        """
        while True:
            found = await store.range(RING_KEY)
            if found.kvs:
                self.take_ring(found.kvs[0])
                return
            keys = dict(self._keeper.read())
            if not keys:
                key = self._random_bytes(KEY_BYTES)
                keys = {key_id(key): key}
                self._keeper.write(keys)  # durable before anything is sealed under it
            first = next(iter(keys))
            ring = Ring(first, {id: self._wrapping.wrap(key) for id, key in keys.items()})
            is_absent = Compare(RING_KEY, Target.VERSION, Op.EQUAL, 0)
            await store.txn([is_absent], [Put(RING_KEY, ring.encode())])

    def take_ring(self, kv: KeyValue) -> None:
        """The ring is now like this: keep its keys, those that are new to us and no others.

        Raises:
            SealError: a key is missing.
        """
        ring = Ring.decode(kv.value)
        kept = dict(self._keeper.read())
        keys: dict[str, bytes] = {}
        for id in (ring.writes, *(one for one in ring.wrapped if one != ring.writes)):
            key = kept.get(id) or self._wrapping.unwrap(id, ring.wrapped[id])
            if key is None:
                raise MissingKeyError(id, self._keeper.place)
            keys[id] = key
        if list(keys.items()) != list(kept.items()):
            self._keeper.write(keys)
        self._ciphers = {id: AESGCM(key) for id, key in keys.items()}
        self._writes, self._revision = ring.writes, kv.mod_revision

    # ------------------------------------------------------------------ records

    def covers(self, key: bytes) -> bool:
        """Whether what is written there is to be sealed."""
        return key.startswith(self.prefixes)

    def seal(self, key: bytes, value: bytes) -> bytes:
        """The record for a place."""
        nonce = self._random_bytes(NONCE_BYTES)
        sealed = self._ciphers[self._writes].encrypt(nonce, value, key)
        return MAGIC + self._writes.encode() + b":" + nonce + sealed

    def sealed(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> tuple[list[Compare], list[Operation]]:
        """A transaction, with the values of sealed kinds sealed and the ring compared."""
        if not any(isinstance(one, Put) and self.covers(one.key) for one in operations):
            return list(compares), list(operations)
        ring = Compare(RING_KEY, Target.MOD, Op.EQUAL, self._revision)
        return [*compares, ring], [
            one._replace(value=self.seal(one.key, one.value))
            if isinstance(one, Put) and self.covers(one.key)
            else one
            for one in operations
        ]

    def open(self, key: bytes, value: bytes) -> bytes:
        """What was sealed, or the value itself when it is not sealed.

        Raises:
            MissingKeyError: there is no key for it.
            SealError: it is not what was sealed for this place.
        """
        if not value.startswith(MAGIC):
            return value
        id, _, rest = value[len(MAGIC) :].partition(b":")
        cipher = self._ciphers.get(id.decode(errors="replace"))
        if cipher is None:
            raise MissingKeyError(id.decode(errors="replace"), self._keeper.place)
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], key)
        except (InvalidTag, ValueError) as error:
            raise SealError(
                f"the record {key.decode(errors='replace')} was not sealed for this place, or was changed"
            ) from error


def sealed_under(value: bytes) -> str:
    """Id of the key that a record is sealed under; "" for one that is not sealed."""
    if not value.startswith(MAGIC):
        return ""
    return value[len(MAGIC) :].partition(b":")[0].decode(errors="replace")
