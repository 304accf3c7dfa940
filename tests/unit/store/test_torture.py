"""A short torture on every run; `make torture` goes on for minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.torture.__main__ import SMALL
from tests.torture.run import Options, torture
from tests.torture.workload import Load

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "script"), [(1, ["kill all"]), (3, ["kill leader", "cut off leader", "kill all"])]
)
async def test_clients_of_members_that_are_killed_see_what_a_correct_store_answers(
    members: int, script: list[str]
) -> None:
    # Not tmp_path: a unix socket's name must be short.
    with tempfile.TemporaryDirectory(prefix="torture-") as directory:
        options = Options(
            Path(directory), members=members, script=script, load=Load(clients=6, keys=8), settings=SMALL
        )
        summary = await torture(options)
        told = summary.text()
        print(told)
        if not summary.is_good:
            kept = Path(tempfile.mkdtemp(prefix="torture-failure-")) / "history.jsonl"
            summary.history.write(kept)
            told += f"\nkept; judge it again with: python -m tests.torture --check {kept}"
        assert summary.is_good, told
        assert summary.kills >= members
        assert any(attempt.outcome == "ok" and attempt.kind == "add" for attempt in summary.history.attempts)
