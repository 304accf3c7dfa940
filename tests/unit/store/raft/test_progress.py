"""A follower in its leader's eyes: when more may be sent, and from where."""

from __future__ import annotations

from gitkube.store.raft import Entry, Progress, ProgressState


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(Entry(index, 1, b"") for index in range(first, last + 1))


def replicating(match: int = 5, max_inflight: int = 3) -> Progress:
    progress = Progress(next_index=match + 1, max_inflight=max_inflight)
    progress.accepted(match)
    progress.become_replicate()
    return progress


def test_a_probe_waits_for_its_answer_and_is_repeated_with_the_same_entries() -> None:
    progress = Progress(next_index=8, max_inflight=3)
    assert progress.append_is_owed
    progress.sent(entries(8, 9), committed=0)
    assert progress.is_paused
    assert progress.next == 8
    progress.heard()
    assert not progress.is_paused


def test_a_rejected_probe_goes_back_to_the_hint() -> None:
    progress = Progress(next_index=8, max_inflight=3)
    progress.sent((), committed=0)
    assert progress.rejected(7, 3)
    assert (progress.next, progress.is_paused) == (4, False)


def test_a_rejection_goes_back_at_least_one_and_never_below_what_matches() -> None:
    progress = Progress(next_index=8, max_inflight=3)
    assert progress.rejected(7, 99)
    assert progress.next == 7
    progress.accepted(3)
    assert progress.rejected(6, 0)
    assert progress.next == 4


def test_an_old_rejection_changes_nothing() -> None:
    probing = Progress(next_index=8, max_inflight=3)
    assert not probing.rejected(5, 2)
    assert probing.next == 8
    sending = replicating(match=5)
    assert not sending.rejected(5, 2)
    assert sending.state is ProgressState.REPLICATE


def test_replication_runs_ahead_until_the_window_is_full() -> None:
    progress = replicating(match=5, max_inflight=2)
    progress.sent(entries(6, 7), committed=0)
    assert not progress.is_paused
    progress.sent(entries(8, 8), committed=0)
    assert progress.is_paused
    assert progress.next == 9
    progress.accepted(7)
    assert not progress.is_paused
    assert list(progress.inflight) == [8]


def test_an_empty_append_takes_no_room_in_the_window() -> None:
    progress = replicating(max_inflight=1)
    progress.sent((), committed=0)
    assert not progress.is_paused


def test_a_heartbeats_answer_makes_room_in_a_window_of_lost_appends() -> None:
    progress = replicating(match=5, max_inflight=1)
    progress.sent(entries(6, 6), committed=0)
    progress.heard()
    assert not progress.is_paused


def test_a_rejection_while_replicating_means_that_something_got_lost() -> None:
    progress = replicating(match=5)
    progress.sent(entries(6, 7), committed=0)
    assert progress.rejected(7, 6)
    assert (progress.state, progress.next) == (ProgressState.PROBE, 6)
    assert not progress.inflight


def test_nothing_is_sent_while_a_snapshot_is_under_way_and_then_from_behind_it() -> None:
    progress = replicating(match=5)
    progress.become_snapshot(20)
    assert progress.is_paused
    progress.heard()
    assert progress.is_paused
    progress.become_probe()
    assert progress.next == 21


def test_a_snapshot_that_failed_leads_back_to_what_matched() -> None:
    progress = replicating(match=5)
    progress.become_snapshot(20)
    progress.snapshot_failed()
    progress.become_probe()
    assert progress.next == 6


def test_an_older_answer_is_no_news_and_never_goes_back() -> None:
    progress = replicating(match=5)
    assert progress.accepted(7)
    assert not progress.accepted(6)
    assert (progress.match, progress.next) == (7, 8)


def test_the_commit_index_counts_as_told_only_as_far_as_entries_went_with_it() -> None:
    progress = replicating(match=5)
    progress.sent(entries(6, 7), committed=9)
    assert progress.sent_commit == 7
    progress.become_probe()
    assert progress.sent_commit == 5
