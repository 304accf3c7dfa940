"""What a real API server 1.20 answered, replayed to ours, file by file.

Where ours answers differently, `differences/FILE.txt` names the case under a heading that says why. A case
that differs and is not listed fails the test; so does one that is listed and is equal, or is there no more:
the lists stay true.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.oracle import ROOT, Connection, Replay, cases, known_differences, server
from tests.support.webhook_server import webhook_server

FILES = sorted(path.name.removesuffix(".jsonl.gz") for path in ROOT.glob("*.jsonl.gz"))


@pytest.mark.parametrize("name", FILES)
async def test_recorded_answers_are_ours(name: str, tmp_path: Path, say: Callable[[str], None]) -> None:
    known = known_differences(name)
    unexpected: list[str] = []
    equal: list[str] = []
    played = cases(name)
    async with (
        server(tmp_path) as (socket, compact),
        webhook_server(tmp_path / "webhook") as webhook,
    ):
        connection = Connection(socket)
        for case in played:
            replay = Replay(connection, case, webhook, compact)
            difference = await replay.difference(may_retry=case["name"] not in known)
            if not difference:
                equal.append(case["name"])
            elif case["name"] not in known:
                unexpected.append(f"{case['name']} | {difference}")
        connection.close()
    say(f"answers recorded in {name}: {len(equal)} of {len(played)} equal")
    assert not unexpected, "\n".join(unexpected)
    assert not known.keys() & set(equal), "listed as different, but equal: take them off the list"
    assert known.keys() <= {case["name"] for case in played}, "listed, but there is no such case"
