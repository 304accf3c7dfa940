"""For all tests: what property tests try, which tests share a process, and what a test has to say in the end.

Property tests look for new examples on a developer's machine, and repeat themselves in CI: a change must not
be refused for an example that a random generator found in somebody else's; who works on the code shall meet
it.

With several processes (`-n 3 --dist loadfile`) a file's tests stay in one of them, since most files share a
server or a lab that is made once. `_TOGETHER` names directories whose files share one, `_ALONE` files whose
tests share nothing. The invariant: nothing that a test makes on the machine (directory, port, namespace,
control group) has a name that the test of another process could take, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

_TOGETHER = ("tests/lab/path/", "tests/lab/node/")
_ALONE = ("tests/oracle/", "tests/sim/", "tests/api/test_corpus.py", "tests/api/test_etcdctl.py")
_LONGEST = (
    "tests/lab/path/",
    "tests/lab/fleet/test_trial.py",
    "tests/lab/control/",
    "tests/lab/network/",
    "tests/lab/node/",
    "tests/lab/fleet/",
    "tests/oracle/",
    "tests/api/test_corpus.py",
)
"""What takes longest begins first, so that the processes end at about the same time."""
_SAID = "said in the end"


class _Shared(LoadScopeScheduling):
    """Gives tests to processes by what they share."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_ALONE):
            return nodeid
        together = next((place for place in _TOGETHER if nodeid.startswith(place)), "")
        return together or nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Shared | None:
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return _Shared(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/unit/") and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    found = (at for at, place in enumerate(_LONGEST) if item.nodeid.startswith(place))
    return next(found, len(_LONGEST))


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say a line that stands in the summary, whichever process the test runs in."""
    return lambda line: record_property(_SAID, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    for report in reports:
        for name, line in report.user_properties if report.when == "call" else ():
            if name == _SAID:
                terminalreporter.write_line(line)
