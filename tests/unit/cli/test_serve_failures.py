"""What somebody reads when `gitkube serve` ends by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gitkube.cli.serve import _tell

START_TIMEOUT_S = 60


def test_what_was_foreseen_is_a_sentence_without_a_stack(tmp_path: Path) -> None:
    missing = tmp_path / "none.join"
    words = [f"serve --hollow 1 --log-format json --data-dir {tmp_path / 'data'}"]
    words += [f"--listen 127.0.0.1:0 --peer-listen 127.0.0.1:1 --join {missing}"]
    done = subprocess.run(
        [sys.executable, "-c", "from gitkube.cli.main import cli; cli()", *" ".join(words).split()],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
    )
    assert done.returncode == 1
    logged, said = done.stderr.splitlines()
    assert said == f"gitkube serve: the join file {missing} cannot be read: No such file or directory"
    failed = json.loads(logged)
    assert failed["kind"] == "JoinError" and "exception" not in failed
    assert failed["raised_at"].startswith("server/joining.py:")


def test_what_nobody_foresaw_has_its_stack() -> None:
    class Log:
        def __init__(self) -> None:
            self.facts: dict[str, Any] = {}

        def critical(self, event: str, **facts: Any) -> None:
            self.facts = facts

    log = Log()
    try:
        raise ValueError("a bug")
    except ValueError as error:
        _tell(error, log)
        assert log.facts["exc_info"] is error
