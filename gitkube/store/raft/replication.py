"""The leader's side of replication: entries out, answers in, and what they commit (Raft, 5.3 and 5.4.2).

Proposals only lengthen the log and set `append_is_due`. When the next Ready is made, `send_appends` sends
each follower all that it may have, so that whatever came in one turn of the caller's loop (proposals, room in
a window) shares one APPEND. The answers raise `match`; the index that a majority's `match` has reached is
committed, if its entry is of the leader's own term. The leader's own disk counts like any other member's:
when `advance` says that it has written.

A new commit index rides with the next entries, which under load come at once: a message of its own to each
follower would cost a lone writer a third of its speed. A follower that passed on a proposal or a read waits
for it and is told at once; for all others the caller says when it has been quiet for too long
(`tell_commit`), and each heartbeat brings it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from gitkube.store.raft import reading, transfer
from gitkube.store.raft.progress import Progress, ProgressState
from gitkube.store.raft.state import RaftState
from gitkube.store.raft.types import Entry, EntryKind, MemberId, Message, MessageKind, ProposalDropped, Role

_PROBE, _REPLICATE, _SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT
_APPEND, _NORMAL = MessageKind.APPEND, EntryKind.NORMAL


# ---------------------------------------------------------------------- proposals
def propose(state: RaftState, datas: Sequence[bytes]) -> None:
    """Take proposals into the log.

    Raises:
        ProposalDropped: none of them was taken.
    """
    refuse_while_transferring(state)
    size_bytes = sum(map(len, datas))
    limit_bytes = state.config.max_uncommitted_bytes
    if state.uncommitted_bytes and state.uncommitted_bytes + size_bytes > limit_bytes:
        raise ProposalDropped(
            f"{state.uncommitted_bytes} bytes of proposals wait to be committed, and {size_bytes} more would "
            f"be above the limit of {limit_bytes}: the members are too slow or too few; try again later"
        )
    append(state, datas)


def refuse_while_transferring(state: RaftState) -> None:
    """Raises: ProposalDropped, while the leadership is handed over: the new leader must catch up (3.10)."""
    if state.transferee:
        raise ProposalDropped(f"the leadership is just going to member {state.transferee}; try again")


def append(state: RaftState, datas: Sequence[bytes], kind: EntryKind = _NORMAL) -> None:
    """Write entries of our term behind our log."""
    log = state.log
    first = log.last_index + 1
    indexes = range(first, first + len(datas))
    if kind is _NORMAL:
        log.append(list(map(Entry, indexes, repeat(state.term), datas)))
    else:
        log.append(list(map(Entry, indexes, repeat(state.term), datas, repeat(kind))))
    state.uncommitted_bytes += sum(map(len, datas))
    state.append_is_due = True


# ---------------------------------------------------------------------- sending
def send_appends(state: RaftState) -> None:
    """Send every follower what it lacks, as far as it may be sent; called once for each Ready."""
    state.append_is_due = False
    log = state.log
    last_index, committed = log.last_index, log.committed
    for member, progress in state.others:
        if progress.needs_snapshot:
            if not progress.is_paused:
                _send_snapshot(state, member, progress)
            continue
        while not progress.is_paused and (
            progress.next <= last_index or progress.append_is_owed or progress.wants_commit(committed)
        ):
            if not _send_append(state, member, progress):
                break


def tell_commit(state: RaftState, index: int) -> bool:
    """Let all followers hear of commits up to `index`; whether one of them can be told something now."""
    is_news = False
    for _, progress in state.others:
        progress.awaits_commit = max(progress.awaits_commit, index)
        is_news |= not progress.is_paused and progress.wants_commit(state.log.committed)
    state.append_is_due |= is_news
    return is_news


def await_commit(state: RaftState, member: MemberId, index: int) -> None:
    """Somebody at `member` waits for the commit of `index`."""
    progress = state.progress.get(member)
    if progress is not None:
        progress.awaits_commit = max(progress.awaits_commit, index)
        state.append_is_due |= progress.wants_commit(state.log.committed)


def _send_append(state: RaftState, member: MemberId, progress: Progress) -> bool:
    """AppendEntries, or a snapshot where the entries are compacted; whether anything was sent."""
    log = state.log
    first = progress.next
    previous_term = log.term(first - 1)
    if previous_term is None:
        return _send_snapshot(state, member, progress)
    entries = log.slice(first, state.config.max_append_bytes)
    state.early_messages.append(
        Message(_APPEND, member, state.id, state.term, previous_term, first - 1, entries, log.committed)
    )
    progress.sent(entries, log.committed)
    return True


def _send_snapshot(state: RaftState, member: MemberId, progress: Progress) -> bool:
    """InstallSnapshot (Raft, section 7), if the member is there and we have a state that helps."""
    meta = state.snapshot
    if not progress.recent_active or meta.index <= progress.match or meta.index < state.log.offset:
        return False
    state.early_messages.append(Message(MessageKind.SNAPSHOT, member, state.id, state.term, snapshot=meta))
    progress.become_snapshot(meta.index)
    return True


def regular_heartbeat(state: RaftState) -> None:
    """The heartbeat of each interval; it also carries the round for reads that wait."""
    reading.start_round(state)
    for _, progress in state.others:
        progress.heartbeat_is_open = True
    send_heartbeats(state)


def send_heartbeats(state: RaftState) -> None:
    """An empty word to all: this term still has its leader (Raft, section 5.2)."""
    context = state.reads.context()
    state_index, state_hash = state.applied_hash
    for member, progress in state.others:
        state.early_messages.append(
            Message(
                MessageKind.HEARTBEAT,
                member,
                state.id,
                state.term,
                # Only what it surely has: a heartbeat has no consistency check of its own.
                commit=min(progress.match, state.log.committed),
                context=context,
                state_index=state_index,
                state_hash=state_hash,
            )
        )


# ---------------------------------------------------------------------- answers
def on_append_answer(state: RaftState, message: Message) -> None:
    """A follower has written entries, or has refused because what goes before doesn't fit."""
    log = state.log
    progress = state.progress.get(message.sender)
    if progress is None or message.index > log.last_index:
        return
    progress.recent_active = True
    if message.reject:
        _on_rejection(state, progress, message)
        return
    was_paused = progress.is_paused
    is_news = progress.accepted(message.index)
    # In PROBE and after a snapshot this is the place where the logs part; send ahead from here.
    if progress.state is not _REPLICATE and message.index >= max(progress.match, progress.pending_snapshot):
        progress.become_replicate()
    if was_paused or progress.next <= log.last_index or progress.wants_commit(log.committed):
        state.append_is_due = True
    if is_news:
        commit_what_a_majority_has(state)
        if state.transferee == message.sender:
            transfer.finish_if_level(state, progress)


def _on_rejection(state: RaftState, progress: Progress, message: Message) -> None:
    """Go back to where the logs may agree: a whole term at a time (Raft, end of section 5.3)."""
    if message.index == 0 and progress.match == 0:
        # Every log agrees at 0: only a member without any configuration refuses there.
        progress.needs_snapshot = True
        progress.probe_is_out = False
        state.append_is_due = True
        return
    retry_at = message.reject_hint
    if message.log_term > 0:
        retry_at, _ = state.log.last_index_of_term_at_most(message.log_term, retry_at)
    if progress.rejected(message.index, retry_at):
        state.append_is_due = True


def commit_what_a_majority_has(state: RaftState) -> bool:
    """Raise the commit index; whether it rose.

    Only an entry of the own term is committed by counting; those before it come along. One of an older term
    could still be replaced, though a majority has it (Raft, figure 8).
    """
    index = state.agreed_match()
    log = state.log
    if index <= log.committed or log.term(index) != state.term:
        return False
    if log.committed < state.pending_conf_index <= index:
        tell_commit(state, index)  # who takes part must be known to all at once, also to whom it removes
    log.commit_to(index)
    state.append_is_due = True
    return True


def own_entries_are_durable(state: RaftState) -> None:
    """Our disk has written: it counts as ours, like a follower's answer."""
    own = state.progress.get(state.id)
    if own is not None and own.accepted(state.log.stable):
        commit_what_a_majority_has(state)


def on_heartbeat_answer(state: RaftState, message: Message) -> None:
    """A follower is there; it confirms reads, and shows whether something got lost on the way to it."""
    progress = state.progress.get(message.sender)
    if progress is None:
        return
    progress.recent_active = True
    progress.heard()
    if progress.heartbeat_is_open:
        # Once an interval: if it is still behind, an APPEND, empty if need be, finds out what is missing.
        progress.heartbeat_is_open = False
        if progress.match < state.log.last_index or progress.state is _PROBE:
            progress.append_is_owed = True
            state.append_is_due = True
    reading.on_heartbeat_answer(state, message)


# ---------------------------------------------------------------------- reports of the transport
def report_unreachable(state: RaftState, member: MemberId) -> None:
    """APPENDs to it are probably lost: send no more ahead until it answers.

    The transport may say so of a message that was sent while this member still led; then it means nothing.
    """
    if state.role is not Role.LEADER:
        return
    progress = state.progress.get(member)
    if progress is not None and member != state.id and progress.state is _REPLICATE:
        progress.become_probe()
        state.append_is_due = True


def report_snapshot(state: RaftState, member: MemberId, *, ok: bool) -> None:
    """The state that a SNAPSHOT message announced was handed over, or was not.

    Either way the next word is the member's: its answer to the snapshot, or to a heartbeat.
    """
    progress = state.progress.get(member)
    if progress is None or progress.state is not _SNAPSHOT:
        return
    if not ok:
        progress.snapshot_failed()
    progress.become_probe()
    progress.probe_is_out = True
