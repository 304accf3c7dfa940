"""The agent's zipapp: the same bytes each time, small, and run by the distribution's own Python."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gitkube.fleet.agent_package import MAX_PACKAGE_BYTES, build_agent_package

PYTHON = "/usr/bin/python3"


def test_two_builds_are_the_same_bytes_and_small(tmp_path: Path) -> None:
    one, other = build_agent_package(tmp_path), build_agent_package()
    assert one == other
    assert len(one.content) < MAX_PACKAGE_BYTES
    assert (tmp_path / one.name).read_bytes() == one.content


def test_a_build_by_another_process_is_the_same(tmp_path: Path) -> None:
    program = "from gitkube.fleet.agent_package import build_agent_package as b; print(b().digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[3], env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == build_agent_package().digest


@pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason="the machine has no /usr/bin/python3")
def test_the_distributions_python_runs_it_zipped_and_unpacked(tmp_path: Path) -> None:
    package = build_agent_package(tmp_path)
    zipped = tmp_path / package.name
    said = subprocess.run([zipped, "version"], capture_output=True, text=True, check=True, cwd="/")
    assert said.stdout.startswith("gitkube-node ") and package.digest[:12] in said.stdout
    unpacked = tmp_path / package.name.replace(".pyz", ".d")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(unpacked)
    (unpacked / ".complete").touch()
    again = subprocess.run([zipped, "version"], capture_output=True, text=True, check=True, cwd="/")
    assert again.stdout == said.stdout


@pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason="the machine has no /usr/bin/python3")
def test_what_the_agent_uses_of_pyroute2_is_found_in_the_zip(tmp_path: Path) -> None:
    package = build_agent_package(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / package.name)!r});"
        "import pyroute2; from pyroute2 import IPRoute, NetNS, WireGuard, NetlinkError, netns;"
        "assert '.pyz' in pyroute2.__file__; print('pyroute2.dhcp' in sys.modules)"
    )
    done = subprocess.run([PYTHON, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
