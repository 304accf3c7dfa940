"""A push of what people have in their repositories: refused only for what nothing acts on yet."""

from __future__ import annotations

from pathlib import Path

from tests.unit.gitops.conftest import Judge

ROOT = Path(__file__).parents[2] / "corpus"
FOR_REASONS_OF_ITS_OWN = (
    "is not supported yet",
    "no controller acts on a",
    "cannot come from git",
    "is not served at",
    "unknown kind ConfigMapList",
)
OCTAL = "in YAML 1.2 and something else to other tools"
"""0644 is 420 to kubectl and 644 to a reader of YAML 1.2: a push asks for one that all read alike."""


def test_every_good_document_is_read_and_refused_only_for_what_is_still_to_come(judge: Judge) -> None:
    files = {
        str(path.relative_to(ROOT)): path.read_bytes().decode()
        for path in sorted((ROOT / "good").rglob("*"))
        if path.suffix == ".yaml"
    }
    problems = judge(files).problems
    octals = {(problem.place.path, problem.place.line) for problem in problems if OCTAL in problem.message}
    others = [
        problem
        for problem in problems
        if not any(words in problem.message for words in FOR_REASONS_OF_ITS_OWN)
        and (problem.place.path, problem.place.line) not in octals
        and "between 0 and 0777 (octal)" not in problem.message
    ]
    assert not others, "\n".join(f"{problem.place}: {problem.message}" for problem in others)
