"""The branch as the store has it: which commit it is at, and what of git travels through the store.

Keys below `/registry/gitkube.dev/branches/BRANCH/` are small and watched; the packs themselves lie in pieces
below `/gitkube/packs/BRANCH/`, which nobody watches. (The API's own prefix holds the small ones so that its
cache hears of every revision at once, and no read waits for the news that one does not concern it.)

    head               {"push": n, "commit": id}          the truth
    push/N             {"commit", "base", …}              how to come from `base` to `commit`
    have/MEMBER        {"push": n, "commit": id}          what this controller's repository has
    want/MEMBER        {"have": id}                       it lacks more than the pushes can give
    answer/MEMBER      {"want": revision, "commit", …}    a pack made for it by one that has all

Invariant: `head` moves in one transaction with the record of the push, after all pieces of its pack are in
the store; so whoever sees a head can come to it as long as its pushes are kept, and they are kept until every
member has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from gitkube.gitops.packs import Pack, PackError, digest_of
from gitkube.gitops.source import CommitId
from gitkube.store.protocol import Compare, Delete, KeyValue, Op, Operation, Put, Store, Target, prefix_end

PIECE_BYTES = 1_000_000
"""A value of the store, with room for the rest of its message."""
MAX_KEPT_BYTES = 128 * 1024 * 1024
"""Of packs for a member that is away; it asks for what is gone when it is back."""
MAX_KEPT_PUSHES = 256


class LedgerError(Exception):
    """The branch in the store is not what it should be, or has moved meanwhile."""


@dataclass(frozen=True, slots=True)
class Head:
    push: int
    """Number of the push; 1 is the first."""
    commit: CommitId
    revision: int = 0
    """Of its key, when it was read."""


@dataclass(frozen=True, slots=True)
class PackRecord:
    """A pack in pieces."""

    commit: str
    base: str
    """"" when it needs nothing."""
    pieces: int
    size_bytes: int
    digest: str

    @classmethod
    def of(cls, pack: Pack) -> PackRecord:
        pieces = -(-len(pack.data) // PIECE_BYTES)
        return cls(pack.commit, pack.base or "", pieces, len(pack.data), pack.digest)


@dataclass(frozen=True, slots=True)
class Want:
    member: int
    have: str
    revision: int


@dataclass(frozen=True, slots=True)
class Answer:
    want: int
    """The revision of the want that it answers."""
    by: int
    push: int
    record: PackRecord


class Ledger:
    """Reads and writes these keys; decides nothing.

    Args:
        member: id of the controller's own member of the store.
    """

    def __init__(self, store: Store, branch: str, member: int) -> None:
        self._store = store
        self._member = member
        name = quote(branch, safe="")
        self.prefix = f"/registry/gitkube.dev/branches/{name}/".encode()
        """Of all that is worth watching."""
        self._data = f"/gitkube/packs/{name}/".encode()
        self._head_key = self.prefix + b"head"

    def through(self, store: Store) -> Ledger:
        """The same keys, through another store: a leader's, that is fenced."""
        other = Ledger.__new__(Ledger)
        other._store, other._member = store, self._member
        other.prefix, other._data, other._head_key = self.prefix, self._data, self._head_key
        return other

    # ------------------------------------------------------------------ the truth

    async def head(self) -> Head | None:
        """Where the branch is; None: nothing was ever pushed."""
        found = (await self._store.range(self._head_key)).kvs
        return _head(found[0]) if found else None

    async def publish(self, before: Head | None, commit: CommitId, pack: Pack | None) -> Head:
        """Move the head; when this returns a majority has the commits and knows that they are the branch.

        Args:
            before: where it was seen.
            pack: what a repository at `before` lacks; None leaves the others to ask for it.

        Raises:
            LedgerError: the head has moved since.
        """
        number = (before.push if before else 0) + 1
        if pack is not None:
            await self._put_pieces(_numbered(b"pack/", number), pack)
        push = PackRecord.of(pack) if pack else PackRecord(commit, "", 0, 0, "")
        is_same = Compare(self._head_key, Target.MOD, Op.EQUAL, before.revision if before else 0)
        result = await self._store.txn(
            [is_same],
            [
                Put(self.prefix + _numbered(b"push/", number), _json(asdict(push))),
                Put(self._head_key, _json({"push": number, "commit": commit})),
            ],
        )
        if not result.succeeded:
            raise LedgerError("the branch has moved in the store meanwhile")
        return Head(number, commit, result.revision)

    async def pushes(self, after: int) -> list[tuple[int, PackRecord]]:
        """Those that are still kept, from the one after number `after` on."""
        start = self.prefix + _numbered(b"push/", after + 1)
        found = await self._store.range(start, prefix_end(self.prefix + b"push/"))
        pushes = []
        for kv in found.kvs:
            with _reading(kv):
                pushes.append((int(kv.key.rpartition(b"/")[2]), _record(json.loads(kv.value))))
        return pushes

    async def pack_of_push(self, number: int, record: PackRecord) -> bytes:
        """Raises:
        PackError: pieces are gone, or damaged.
        """
        return await self._pieces(_numbered(b"pack/", number), record)

    # ------------------------------------------------------------------ who has what

    async def haves(self) -> dict[int, Head]:
        """What each member's repository has, as it last said."""
        return {_member(kv): _head(kv) for kv in await self._list(b"have/")}

    async def have(self, head: Head) -> None:
        """Say what ours has."""
        value = _json({"push": head.push, "commit": head.commit})
        await self._store.txn([], [Put(self._own(b"have/"), value)])

    async def forget_pushes(self, up_to: int) -> None:
        """Drop the packs of pushes up to and with a number."""
        ranges = (self.prefix + b"push/", self._data + b"pack/")
        await self._store.txn([], [Delete(one, one + b"%010d" % (up_to + 1)) for one in ranges])

    async def forget_members(self, known: Sequence[int]) -> None:
        """Drop what was kept for members that are no more."""
        for kind in (b"have/", b"want/", b"answer/"):
            for kv in await self._list(kind, keys_only=True):
                member = _member(kv)
                if member not in known:
                    await self._store.txn(
                        [], self._forgotten(member) if kind != b"have/" else [Delete(kv.key)]
                    )

    # ------------------------------------------------------------------ what somebody lacks

    async def want(self, have: CommitId | None) -> Want:
        """Ask for a pack; the one who asked before asks still."""
        key = self._own(b"want/")
        value = _json({"have": have or ""})
        found = (await self._store.range(key)).kvs
        if found and found[0].value == value:
            return _want(found[0])
        _, *old_answer = self._forgotten(self._member)
        result = await self._store.txn([], [Put(key, value), *old_answer])
        return Want(self._member, have or "", result.revision)

    async def wants(self) -> list[Want]:
        """Of the others, those that nobody has answered."""
        answered = {one.want for one in await self._answers()}
        wants = [_want(kv) for kv in await self._list(b"want/")]
        return [one for one in wants if one.member != self._member and one.revision not in answered]

    async def answer(self, want: Want, head: Head, pack: Pack) -> bool:
        """Give somebody a pack; False: somebody else was faster, or it is wanted no more."""
        key = self.prefix + b"answer/%016x" % want.member
        pieces = self._answer_pieces(want.member, self._member)
        await self._put_pieces(pieces, pack)
        value = {"want": want.revision, "by": self._member, "push": head.push, **asdict(PackRecord.of(pack))}
        conditions = [
            Compare(self.prefix + b"want/%016x" % want.member, Target.MOD, Op.EQUAL, want.revision),
            Compare(key, Target.VERSION, Op.EQUAL, 0),
        ]
        if (await self._store.txn(conditions, [Put(key, _json(value))])).succeeded:
            return True
        start = self._data + pieces
        await self._store.txn([], [Delete(start, prefix_end(start))])
        return False

    async def answer_to(self, want: Want) -> tuple[Answer, bytes] | None:
        """The pack that was made for us; None: not yet.

        Raises:
            PackError: it is damaged.
        """
        for answer in await self._answers():
            if answer.want == want.revision:
                pieces = self._answer_pieces(self._member, answer.by)
                return answer, await self._pieces(pieces, answer.record)
        return None

    async def want_no_more(self) -> None:
        """Drop our question and the answer."""
        key = self._own(b"want/")
        exists = Compare(key, Target.VERSION, Op.GREATER, 0)
        await self._store.txn([exists], self._forgotten(self._member))

    # ------------------------------------------------------------------ below

    async def _answers(self) -> list[Answer]:
        found = []
        for kv in await self._list(b"answer/"):
            with _reading(kv):
                value = json.loads(kv.value)
                found.append(Answer(value.pop("want"), value.pop("by"), value.pop("push"), _record(value)))
        return found

    def _forgotten(self, member: int) -> list[Operation]:
        pieces = self._data + b"answer/%016x/" % member
        return [
            Delete(self.prefix + b"want/%016x" % member),
            Delete(self.prefix + b"answer/%016x" % member),
            Delete(pieces, prefix_end(pieces)),
        ]

    async def _put_pieces(self, name: bytes, pack: Pack) -> None:
        start = self._data + name + b"/"
        await self._store.txn([], [Delete(start, prefix_end(start))])  # of somebody who died here
        for number, at in enumerate(range(0, len(pack.data), PIECE_BYTES)):
            await self._store.txn([], [Put(start + b"%05d" % number, pack.data[at : at + PIECE_BYTES])])

    async def _pieces(self, name: bytes, record: PackRecord) -> bytes:
        start, pieces = self._data + name + b"/", []
        for number in range(record.pieces):
            found = (await self._store.range(start + b"%05d" % number)).kvs
            if not found:
                raise PackError(f"piece {number} of {record.commit[:7]} is not in the store any more")
            pieces.append(found[0].value)
        data = b"".join(pieces)
        if (len(data), digest_of(data)) != (record.size_bytes, record.digest):
            raise PackError(f"the pack of {record.commit[:7]} in the store is not as it was made")
        return data

    async def _list(self, kind: bytes, *, keys_only: bool = False) -> Sequence[KeyValue]:
        start = self.prefix + kind
        return (await self._store.range(start, prefix_end(start), keys_only=keys_only)).kvs

    def _own(self, kind: bytes) -> bytes:
        return self.prefix + kind + b"%016x" % self._member

    def _answer_pieces(self, member: int, by: int) -> bytes:
        return b"answer/%016x/%016x" % (member, by)


def _numbered(kind: bytes, number: int) -> bytes:
    return kind + b"%010d" % number


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def _reading(kv: KeyValue) -> Iterator[None]:
    """Raises:
    LedgerError: what stands there is not ours.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"the record {kv.key!r} in the store is none of gitkube's ({error}); delete it"
        ) from error


def _head(kv: KeyValue) -> Head:
    with _reading(kv):
        value = json.loads(kv.value)
        return Head(int(value["push"]), CommitId(value["commit"]), kv.mod_revision)


def _want(kv: KeyValue) -> Want:
    with _reading(kv):
        return Want(_member(kv), json.loads(kv.value)["have"], kv.mod_revision)


def _member(kv: KeyValue) -> int:
    """The one that a key is of."""
    with _reading(kv):
        return int(kv.key.rpartition(b"/")[2], 16)


def _record(value: dict[str, Any]) -> PackRecord:
    return PackRecord(**value)
