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
def test_every_module_of_the_agent_needs_the_standard_library_only(tmp_path: Path) -> None:
    zipped = tmp_path / build_agent_package(tmp_path).name
    with zipfile.ZipFile(zipped) as archive:
        names = [name[:-3].replace("/", ".") for name in archive.namelist() if name.endswith(".py")]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    program = (
        f"import sys; sys.path.insert(0, {str(zipped)!r}); import importlib;"
        f"[importlib.import_module(name) for name in {modules!r}]; import gitkube; print(gitkube.__file__)"
    )
    done = subprocess.run([PYTHON, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert ".pyz" in done.stdout
