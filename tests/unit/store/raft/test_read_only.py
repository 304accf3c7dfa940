"""Rounds that confirm reads."""

from __future__ import annotations

from gitkube.store.raft import MemberId
from gitkube.store.raft.read_only import Read, ReadOnly


def waiting(*contexts: bytes) -> ReadOnly:
    reads = ReadOnly()
    reads.waiting += [Read(MemberId(1), context) for context in contexts]
    return reads


def test_one_round_takes_all_reads_that_wait() -> None:
    reads = waiting(b"a", b"b")
    reads.start_round(7)
    assert not reads.waiting
    assert reads.confirmed(1) == [(7, Read(MemberId(1), b"a")), (7, Read(MemberId(1), b"b"))]
    assert not reads.round_is_open


def test_an_answer_to_a_later_round_confirms_the_earlier_ones() -> None:
    reads = waiting(b"a")
    reads.start_round(7)
    reads.waiting.append(Read(MemberId(2), b"b"))
    reads.start_round(8)
    assert len(reads) == 2
    assert reads.note_answer(MemberId(2), reads.context())
    assert reads.answered == {2: 2}
    assert [index for index, _ in reads.confirmed(2)] == [7, 8]


def test_an_answer_to_an_earlier_round_confirms_no_later_one() -> None:
    reads = waiting(b"a")
    reads.start_round(7)
    first = reads.context()
    reads.waiting.append(Read(MemberId(2), b"b"))
    reads.start_round(8)
    assert reads.note_answer(MemberId(2), first)
    assert [read.context for _, read in reads.confirmed(1)] == [b"a"]
    assert not reads.note_answer(MemberId(2), first)


def test_an_answer_to_a_round_that_never_was_is_ignored() -> None:
    reads = waiting(b"a")
    reads.start_round(7)
    assert not reads.note_answer(MemberId(2), (9).to_bytes(8, "big"))
    assert not reads.note_answer(MemberId(2), b"nonsense and more")
    assert not reads.note_answer(MemberId(2), b"")
    assert reads.answered == {}
