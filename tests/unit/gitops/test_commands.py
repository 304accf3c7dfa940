"""`gitkube render`, `plan` and `status` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gitkube.cli.render import render
from gitkube.cli.shared import find_kubeconfig
from gitkube.cli.status import branch_tip
from gitkube.gitops.overview import READ, overview
from gitkube.gitops.render import Renderer
from gitkube.gitops.source import working_tree
from gitkube.objects import kinds

ROOT = Path(__file__).parents[3]
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: x}\n"


def test_render_shows_each_object_with_its_place(repo):
    repo.write({"apps/a.yaml": CONFIG})
    done = CliRunner().invoke(render, ["--path", str(repo.clone)])
    assert done.exit_code == 0, done.output
    assert "ConfigMap default/a  apps/a.yaml:1:1" in done.output


def test_render_ends_with_1_and_the_reason_when_something_is_wrong(repo):
    repo.write({"a.yaml": CONFIG.replace("\ndata", "\ndate")})
    done = CliRunner().invoke(render, ["--path", str(repo.clone), "--output", "json"])
    assert done.exit_code == 1
    problems = json.loads(done.stdout)["problems"]
    assert problems[0]["file"] == "a.yaml" and problems[0]["line"] == 4 and problems[0]["column"] == 1


def test_render_of_a_commit_ignores_the_working_directory(repo):
    repo.commit({"a.yaml": CONFIG})
    repo.write({"a.yaml": "broken: ["})
    done = CliRunner().invoke(render, ["--path", str(repo.clone), "--commit", "HEAD", "--output", "yaml"])
    assert done.exit_code == 0
    assert "# a.yaml:1:1" in done.output and "kind: ConfigMap" in done.output


def test_the_sample_repository_is_without_fault(judge):
    files = {}
    for path in (ROOT / "sample-repo").rglob("*"):
        if path.is_file() and path.suffix in (".yaml", ".j2", ".md"):
            files[path.relative_to(ROOT / "sample-repo").as_posix()] = path.read_bytes()
    result = judge(files)
    assert [str(problem) for problem in result.problems] == []
    assert len(result.objects) == 10


def test_a_kubeconfig_is_found_where_people_have_it(tmp_path, monkeypatch):
    lab = tmp_path / ".lab"
    (lab / "clone" / "apps").mkdir(parents=True)
    (lab / "kubeconfig").write_text("{}")
    for directory in (tmp_path, lab / "clone" / "apps"):
        monkeypatch.chdir(directory)
        assert find_kubeconfig(None, environment={}) == lab / "kubeconfig"
    named = tmp_path / "mine"
    named.write_text("{}")
    assert find_kubeconfig(None, environment={"KUBECONFIG": f"/nope:{named}"}) == named


def test_the_tip_of_a_branch_is_found_loose_and_packed(repo):
    commit = repo.commit({"a.yaml": CONFIG})
    git = repo.clone / ".git"
    assert branch_tip(git, "main") == commit
    repo.git("pack-refs", "--all")
    assert branch_tip(git, "main") == commit
    assert branch_tip(git, "other") == ""


def test_status_waits_for_the_commit_that_was_pushed():
    live = {kind: [] for kind in READ}
    status = {"commit": {"id": "1" * 40}, "applied": {"id": "1" * 40}, "phase": "healthy"}
    source = {"status": status}
    assert overview(source, live).is_healthy
    assert overview(source, live, pushed="2" * 40).waits_for == "commit 2222222 is not in force yet"
    assert overview(None, live).waits_for == "nothing was pushed yet"
    live[kinds.NODE] = [
        {"metadata": {"name": "dog"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    ]
    assert "host dog: unreachable" in overview(source, live).waits_for


def test_the_working_directory_renders_what_its_commit_renders(repo):
    repo.commit({"a.yaml": CONFIG})
    tree, _ = working_tree(repo.clone)
    renderer = Renderer()
    try:
        assert len(renderer.render(tree).manifests) == 1
    finally:
        renderer.close()


@pytest.mark.parametrize("name", ["render", "plan", "status"])
def test_help_has_an_example(name):
    from importlib import import_module

    command = getattr(import_module(f"gitkube.cli.{name}"), name)
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0 and "Example:" in done.output
