"""What the runner of Kubernetes' own suite makes of its reports; the run itself needs a built suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.real_suite import SPECS, Result, focus_of, main, page, results_of

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite tests="3" failures="1" time="2.5">
  <testcase name="[sig-apps] Job works (well)" classname="e2e" time="1.5"></testcase>
  <testcase name="[sig-apps] Job | fails" classname="e2e" time="1"><failure type="Failure">
/src/test/e2e/job.go:12
the job is not there
</failure></testcase>
  <testcase name="[sig-auth] other" classname="e2e" time="0"><skipped></skipped></testcase>
</testsuite>
"""


def results(tmp_path: Path) -> list[Result]:
    (tmp_path / "junit_01.xml").write_text(REPORT)
    specs = ["[sig-apps] Job works (well)", "[sig-apps] Job | fails", "[sig-auth] other"]
    return results_of([tmp_path / "junit_01.xml"], specs)


def test_a_report_says_what_passed_what_failed_and_why_and_what_was_not_run(tmp_path: Path) -> None:
    assert [(one.outcome, one.seconds, one.message) for one in results(tmp_path)] == [
        ("passes", 1.5, ""),
        ("fails", 1.0, "the job is not there"),
        ("not run", 0.0, ""),
    ]


def test_the_page_counts_by_group_and_keeps_its_tables_whole(tmp_path: Path) -> None:
    text = page(results(tmp_path), {"hosts": "2"})
    assert "**1 of 3 specs pass.**" in text
    assert "## sig-apps: 1 of 2" in text
    assert "| Job \\| fails | fails: the job is not there | 1 |" in text


def test_the_focus_matches_each_spec_and_no_longer_one() -> None:
    specs = [line for line in SPECS.read_text().split("\n") if line]
    assert len(specs) == len(set(specs)) == 72
    for spec in specs:
        assert re.search(focus_of(specs), f"Kubernetes e2e suite {spec}")
        assert not re.search(focus_of([spec]), f"{spec} and more")


def test_without_a_built_suite_it_says_so_and_is_content(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("E2E_TEST", raising=False)
    monkeypatch.setattr("sys.argv", ["real_suite"])
    assert main() == 0
    assert "E2E_TEST is not set" in capsys.readouterr().out
