"""Ten seconds of torture on every run; `make torture` goes on for minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.torture.__main__ import SMALL
from tests.torture.run import Options, torture
from tests.torture.workload import Load


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
async def test_what_clients_saw_while_members_were_killed_is_what_a_correct_store_answers(
    members: int,
) -> None:
    with tempfile.TemporaryDirectory(
        prefix="torture-"
    ) as directory:  # tmp_path is too long for a unix socket
        options = Options(
            Path(directory),
            members=members,
            seconds=8,
            seed=members,
            load=Load(clients=6, keys=8),
            settings=SMALL,
        )
        summary = await torture(options)
        told = summary.text()
        print(told)
        if not summary.is_good:
            kept = Path(tempfile.mkdtemp(prefix="torture-failure-")) / "history.jsonl"
            summary.history.write(kept)
            told += f"\nkept; judge it again with: python -m tests.torture --check {kept}"
        assert summary.is_good, told
        assert summary.kills > 0
        assert any(attempt.outcome == "ok" and attempt.kind == "add" for attempt in summary.history.attempts)
