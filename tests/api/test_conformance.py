"""The conformance checks that take moments, against a server of their own; and that the table is whole.

`make conformance` runs all of them.
"""

from __future__ import annotations

from pathlib import Path

from gitkube.lab.hollow import HollowLab
from tests.conformance import checks
from tests.conformance.harness import CHECKS, SPECS
from tests.conformance.not_yet import problems
from tests.conformance.page import page
from tests.conformance.runner import FAILS, NOT_YET, PASSES, Outcome, run
from tests.support.live_cluster import kubectl_path
from tests.support.tools import needed

checks.load()


def test_each_spec_has_either_a_check_or_a_reason() -> None:
    assert len(SPECS) == len(set(SPECS)) == 444
    assert problems() == []


def test_the_page_counts_and_keeps_its_tables_whole() -> None:
    outcomes = [
        Outcome("[sig-apps] Job should work [Conformance]", PASSES),
        Outcome("[sig-apps] Job should fail | or not [Conformance]", FAILS, "it says <none>"),
        Outcome("[sig-node] Pods should wait [Conformance]", NOT_YET, "needs a container"),
    ]
    text = page(outcomes, "1.37")
    assert "**1 pass, 0 pass in part, 1 fail, 1 are not tried**" in text
    assert "| Job should fail \\| or not | **fails**: it says &lt;none> |" in text
    assert "| [sig-node](#sig-node) | 0 | 0 | 0 | 0 | 1 |" in text


async def test_the_quick_checks_pass_against_a_live_server(tmp_path: Path) -> None:
    kubectl = needed(kubectl_path(), "kubectl")
    quick = [spec for spec, check in CHECKS.items() if check.is_quick]
    assert len(quick) > 60
    lab = HollowLab(tmp_path / "lab")
    try:
        lab.up(1)
        outcomes = await run(lab.kubeconfig, kubectl, quick, at_once=8)
    finally:
        lab.down()
    failed = [f"{one.spec}: {one.why}" for one in outcomes if one.result == FAILS]
    assert not failed, "\n".join(failed)
