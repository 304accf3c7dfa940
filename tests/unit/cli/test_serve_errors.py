"""What somebody reads whose `gitkube serve` cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gitkube.cli import serve
from gitkube.server.settings import SettingsError


def test_what_we_have_a_sentence_for_is_told_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "gitkube.cli.main", "serve", "--hollow", "1"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "file/data")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    *_, logged, sentence = done.stderr.splitlines()
    assert sentence.startswith("gitkube serve: the data directory ") and "Not a directory" in sentence
    event = json.loads(logged)
    assert event["kind"] == "SettingsError"
    assert "exception" not in event


class Log:
    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def critical(self, _event: str, **facts: object) -> None:
        self.events.append(facts)


@pytest.mark.parametrize(
    ("error", "is_traced"), [(SettingsError("a sentence"), False), (KeyError("x"), True)]
)
def test_a_mistake_of_ours_is_traced(
    error: Exception, is_traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text, err: said.append(text))
    log = Log()
    serve._tell(error, log)
    assert said == [f"gitkube serve: {error}"]
    assert log.events[0]["exc_info"] is (error if is_traced else None)
