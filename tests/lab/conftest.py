"""A test of a lab that fails shows why: what the fixtures that it used have to say of themselves.

A fixture that has something to say has a method `evidence`, which gives texts by their titles. They stand
below the failure in the report, from whichever process the test ran in.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for name, fixture in getattr(item, "funcargs", {}).items():
            evidence = getattr(fixture, "evidence", None)
            if evidence is not None:
                report.sections.extend((f"{name}: {title}", text) for title, text in _told(evidence).items())
    return report


def _told(evidence: Any) -> dict[str, str]:
    try:
        return dict(evidence())
    except Exception as error:  # the failure itself must be seen, whatever state the lab is in
        return {"no evidence": repr(error)}
