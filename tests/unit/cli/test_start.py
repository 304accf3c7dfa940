"""What `gitkube serve` and its member load before they are ready: seconds and megabytes for everybody."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = {
    "paramiko": "when the first host is dialled",
    "grpc": "when the door for etcd's clients is opened",
    "kubernetes_validate": "never: its schemas are read without it",
    "jinja2": "when the first template is rendered",
    "ruamel": "never by serve",
}


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["gitkube.server.acting", "gitkube.store.process"])
def test_what_is_needed_later_is_loaded_later(module: str) -> None:
    assert loaded_by(module) & LATER.keys() == set()


def test_the_member_is_begun_before_the_api_is_loaded_and_that_before_what_acts() -> None:
    before_the_member = loaded_by("gitkube.server.control_plane")
    assert not {"aiohttp", "gitkube.api.machinery"} & before_the_member
    before_the_api_answers = loaded_by("gitkube.server.serving")
    assert {"aiohttp", "gitkube.api.machinery"} <= before_the_api_answers
    rooms = {name.partition("gitkube.")[2].partition(".")[0] for name in before_the_api_answers}
    assert not {"gitops", "scheduler"} & rooms
    assert not {"numpy", "pygit2", "watchdog"} & before_the_api_answers


@pytest.mark.parametrize("module", ["gitkube.cli.serve", "gitkube.store.process"])
def test_logging_loads_no_console_library(module: str) -> None:
    assert "structlog" in (loaded := loaded_by(module, "gitkube.logs, structlog.dev"))
    assert "rich" not in loaded


def test_the_control_plane_leaves_the_stores_engine_to_the_members_process() -> None:
    assert not {"gitkube.store.member", "gitkube.store.engine"} & loaded_by("gitkube.server.acting")


def test_the_member_knows_nothing_of_the_api() -> None:
    rooms = {name.split(".")[1] for name in loaded_by("gitkube.store.process") if name.startswith("gitkube.")}
    assert rooms <= {"clock", "collector", "files", "logs", "store"}
