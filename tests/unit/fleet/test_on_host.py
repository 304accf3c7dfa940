"""What is decided on a host, without one: apt's failures by their cause, and an agent's trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitkube.fleet import on_host
from gitkube.fleet.on_host import packages, service, trial
from gitkube.fleet.prepare import BOOTSTRAP, LOADER, modules

FACTS = {"os": "Debian GNU/Linux 12 (bookworm)"}

SAID = {
    "held by a process": (
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)",
        "another package manager (process 7, unattended-upgr) is at work on the host and holds"
        " /var/lib/dpkg/lock-frontend;",
    ),
    "held, older words": (
        "E: Could not get lock /var/lib/apt/lists/lock - open (11: Resource temporarily unavailable)",
        "another package manager is at work on the host and holds /var/lib/apt/lists/lock;",
    ),
    "cut off": (
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
        "run there: sudo dpkg --configure -a",
    ),
    "full": ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk has no room for crun"),
    "no name server": (
        "E: Failed to fetch http://deb.debian.org/x.deb  Temporary failure resolving 'deb.debian.org'",
        "does not reach its package mirror, so crun cannot be installed (Failed to fetch http://deb",
    ),
    "no route": (
        "Err:1 http://deb.debian.org bookworm InRelease Cannot initiate the connection to deb.debian.org:80",
        "does not reach its package mirror",
    ),
    "unknown": ("E: Unable to locate package crun", "(Debian GNU/Linux 12 (bookworm)) have no crun;"),
    "no candidate": ("E: Package 'crun' has no installation candidate", "have no crun;"),
    "something else": (
        "E: Sub-process /usr/bin/dpkg returned an error code (1)",
        "apt-get could not install crun: Sub-process /usr/bin/dpkg returned",
    ),
    "nothing": ("", "apt-get could not install crun: it said nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_apt_says_becomes_a_sentence_for_the_person_who_must_act(case: str) -> None:
    said, expected = SAID[case]
    lines = ["Reading package lists...", said] if said else []
    assert expected in packages.explain(["crun"], FACTS, lines)


def test_a_mirror_out_of_reach_is_the_cause_of_an_unknown_package() -> None:
    lines = [
        "W: Failed to fetch http://m/InRelease  Could not connect to m:80",
        "E: Unable to locate package crun",
    ]
    assert "does not reach its package mirror" in packages.explain(["crun"], FACTS, lines)


def test_fresh_lists_are_not_fetched_where_they_cannot_help() -> None:
    lasting = {case for case, (said, _) in SAID.items() if packages.is_lasting([said])}
    assert lasting == {
        "held by a process",
        "held, older words",
        "cut off",
        "full",
        "no name server",
        "no route",
    }


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trial, "TRIAL", str(tmp_path / "trial"))
    monkeypatch.setattr(trial, "REFUSED", str(tmp_path / "refused"))
    return tmp_path


def test_a_trial_ends_with_its_confirmation_and_with_no_other(bin_dir: Path) -> None:
    trial.begin("new", "old", 60)
    assert (bin_dir / "trial").read_text() == "new old 60\n"
    assert trial.on_trial("new") and not trial.on_trial("old") and not trial.on_trial("")
    assert not trial.confirm("other") and trial.on_trial("new")
    assert trial.confirm("new") and not trial.on_trial("new") and not trial.confirm("new")


def test_an_agent_on_trial_is_not_gone_back_to(bin_dir: Path) -> None:
    trial.begin("new", "old", 60)
    trial.begin("newer", "new", 60)
    assert (bin_dir / "trial").read_text() == "newer old 60\n"
    trial.begin("old", "newer", 60)
    assert not (bin_dir / "trial").exists(), "the confirmed one is back: nothing is left to try"


def test_a_refused_agent_gets_another_chance_after_a_while(bin_dir: Path) -> None:
    refused = bin_dir / "refused"
    refused.write_text("new old 60\n")
    assert trial.was_refused("new") and not trial.was_refused("other")
    long_ago = time.time() - trial.REFUSED_FOR_S - 1
    os.utime(refused, (long_ago, long_ago))
    assert not trial.was_refused("new")


def test_damaged_files_are_as_none(bin_dir: Path) -> None:
    (bin_dir / "trial").write_bytes(b"\xff\xfe")
    (bin_dir / "refused").write_bytes(b"")
    assert not trial.on_trial("new") and not trial.was_refused("new")


def test_what_is_sent_becomes_modules_wherever_python_is(tmp_path: Path) -> None:
    last = "from gitkube.fleet.on_host import ready\ndef main(given): print(ready.__name__, given)"
    given = {
        "loader": LOADER,
        "package": on_host.__name__,
        "modules": [*modules(), ("last", last)],
        "parameters": {"a": 1},
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BOOTSTRAP], input=json.dumps(given), cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "gitkube.fleet.on_host.ready {'a': 1}\n"


def test_the_start_script_is_one_for_a_plain_shell() -> None:
    subprocess.run(["sh", "-n"], input=service.START_TEXT, text=True, check=True)
