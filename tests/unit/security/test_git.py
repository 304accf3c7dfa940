"""A repository by strangers: names, links, hooks, filters, and words that look like options."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import zlib
from pathlib import Path

import pygit2
import pytest

from gitkube.gitops.problem import format_problems
from gitkube.gitops.source import (
    MAX_PATH_BYTES,
    MAX_TREE_DEPTH,
    CommitId,
    Repository,
    SourceError,
    make_repository,
)
from tests.unit.gitops.conftest import ENVIRONMENT, Repo

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: x}\n"
FILE, TREE, LINK = b"100644", b"40000", b"120000"


def write(repo: Repo, kind: bytes, body: bytes) -> str:
    """An object as it is, past every check of git's own tools."""
    import hashlib

    content = kind + b" %d\0" % len(body) + body
    name = hashlib.sha1(content).hexdigest()
    path = repo.bare / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(zlib.compress(content))
    return name


def tree(repo: Repo, *entries: tuple[bytes, bytes, str]) -> str:
    return write(repo, b"tree", b"".join(m + b" " + n + b"\0" + bytes.fromhex(i) for m, n, i in entries))


def commit(repo: Repo, tree_id: str) -> CommitId:
    who = b"ada <ada@example.org> 1700000000 +0000"
    body = b"tree " + tree_id.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n\nx\n"
    return CommitId(write(repo, b"commit", body))


@pytest.mark.parametrize(
    "name",
    [b"..", b".", b".git", b".GIT", b"/etc", b"a/b", b"a/../../b", b"..\\..\\x", b"", b"\xff\xfe", b"a\nb",
     b"\x1b[2J", "\u202egnp.yaml".encode(), b"n" * 256],
)  # fmt: skip
@pytest.mark.parametrize("mode", [FILE, TREE])
def test_a_name_that_is_none_is_never_read_as_a_file_or_a_directory(
    repo: Repo, name: bytes, mode: bytes
) -> None:
    blob = write(repo, b"blob", b"x: 1\n")
    inner = tree(repo, (FILE, b"inside.yaml", blob))
    made = commit(repo, tree(repo, (mode, name, blob if mode == FILE else inner), (FILE, b"good.yaml", blob)))
    try:
        found = Repository(repo.bare).tree(made)
    except SourceError:
        return  # libgit2 itself refuses to read such a tree
    assert list(found.files) == ["good.yaml"]
    assert len(found.problems) == 1
    assert all(line.isprintable() for line in format_problems(found.problems))


def test_a_path_that_is_too_long_and_directories_without_end_are_refused(repo: Repo) -> None:
    blob = write(repo, b"blob", b"x: 1\n")
    at = tree(repo, (FILE, b"a.yaml", blob))
    for _ in range(MAX_PATH_BYTES // 200 + 1):
        at = tree(repo, (TREE, b"d" * 200, at))
    found = Repository(repo.bare).tree(commit(repo, at))
    assert not found.files and f"longer than {MAX_PATH_BYTES} bytes" in found.problems[0].message
    at = tree(repo, (FILE, b"a.yaml", blob))
    for _ in range(MAX_TREE_DEPTH + 1):
        at = tree(repo, (TREE, b"d", at))
    with pytest.raises(SourceError, match="nested deeper"):
        Repository(repo.bare).tree(commit(repo, at))


def test_a_tree_bomb_ends_at_the_number_of_files(repo: Repo) -> None:
    """Ten levels of ten times the same tree are ten thousand million files in eleven objects."""
    at = write(repo, b"blob", b"x: 1\n")
    for level in range(10):
        at = tree(repo, *((FILE if level == 0 else TREE, b"%d" % n, at) for n in range(10)))
    with pytest.raises(SourceError, match="more than"):
        Repository(repo.bare).tree(commit(repo, at))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "real.yaml", "."])
def test_a_link_is_refused_wherever_it_leads_and_nothing_behind_it_is_read(repo: Repo, target: str) -> None:
    link = write(repo, b"blob", target.encode())
    blob = write(repo, b"blob", b"x: 1\n")
    entries = [(LINK, b"link.yaml", link), (FILE, b"real.yaml", blob)]
    found = Repository(repo.bare).tree(commit(repo, tree(repo, *entries)))
    assert list(found.files) == ["real.yaml"]
    assert "symbolic links are not followed" in found.problems[0].message


async def test_what_git_would_run_or_fetch_is_never_run_or_fetched(repo: Repo, sync, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Submodules, filters, hooks and configuration in the files of a commit are just files, or refused."""
    mark = tmp_path / "ran"
    evil = f"#!/bin/sh\ntouch {mark}\n"
    repo.commit(
        {
            "a.yaml": CONFIG,
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% {mark}\n\tupdate = !x\n',
            "hooks/post-receive": evil,
            "hooks/post-checkout": evil,
            ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {mark}\n',
            "config": f"[core]\n\tfsmonitor = touch {mark}\n\tsshCommand = touch {mark}\n",
        }
    )
    code, text = await repo.push()
    assert code == 0, text
    assert not mark.exists()
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    repo.git("commit", "-q", "-m", "a submodule")
    code, text = await repo.push()
    assert code == 1 and "submodules are not read" in text
    assert not mark.exists()


def test_a_repository_of_ours_has_its_pushes_checked_by_git_too(repo: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "ours.git"
    make_repository(bare, "main")
    blob = write(repo, b"blob", b"x\n")
    made = commit(repo, tree(repo, (TREE, b".git", tree(repo, (FILE, b"config", blob)))))
    (repo.bare / "refs" / "heads" / "main").write_text(made + "\n")
    done = subprocess.run(
        ["git", "push", str(bare), "main"], cwd=repo.bare, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode != 0 and "hasDotgit" in done.stderr
    assert Repository(bare).head("main") is None


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=touch x", "-x", "refs/heads/../../../x", "refs/heads/main\0x", "refs/heads/main ", "",
     "/etc", "refs/heads/\x1b]0;x\x07"],
)  # fmt: skip
async def test_a_ref_that_looks_like_an_option_or_a_path_is_just_another_branch(
    sync,  # type: ignore[no-untyped-def]
    repo: Repo,
    tmp_path: Path,
    ref: str,
) -> None:
    repo.commit({"a.yaml": CONFIG})
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gitops.sock"))
    request = {"hook": "pre-receive", "updates": [["0" * 40, repo.git("rev-parse", "HEAD").strip(), ref]]}
    writer.write(json.dumps(request).encode() + b"\n")
    answers = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    assert answers[-1] == {"exit": 0}
    assert all(answer["line"].isprintable() for answer in answers[:-1])
    assert "is stored; only main deploys" in answers[0]["line"]


@pytest.mark.parametrize(
    "revision", ["--output=/tmp/x", "-x", "", "main:../x", "@{-1}", "ext::sh -c id", "\0", "a" * 5_000]
)
def test_a_revision_is_a_name_in_the_object_store_and_never_an_option(repo: Repo, revision: str) -> None:
    repo.commit({"a.yaml": CONFIG})
    with pytest.raises(SourceError) as caught:
        Repository(repo.clone).resolve(revision)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("ident", ["--help", "0" * 39, "0" * 40 + "\n", "../../HEAD", "g" * 40, ""])
async def test_an_update_names_commits_by_their_whole_id(sync, tmp_path: Path, ident: str) -> None:  # type: ignore[no-untyped-def]
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gitops.sock"))
    request = {"hook": "pre-receive", "updates": [["0" * 40, ident, "refs/heads/main"]]}
    writer.write(json.dumps(request).encode() + b"\n")
    assert b'{"exit": 1}' in await reader.read()
    writer.close()


def test_the_hooks_take_nothing_from_the_environment_or_the_directory_they_run_in(
    repo: Repo, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    """A pusher's PYTHONPATH, or a json.py in the repository, must not become code of the hook."""
    from gitkube.gitops.hook_socket import install_hooks

    install_hooks(repo.bare, tmp_path / "away.sock")
    mark = tmp_path / "ran"
    (tmp_path / "json.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (repo.bare / "json.py").write_text(f"open({str(mark)!r}, 'w')\n")
    repo.commit({"a.yaml": CONFIG})
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")}
    done = subprocess.run(
        ["git", "push", "lab", "main"], cwd=repo.clone, env=environment, capture_output=True, text=True
    )
    assert "the control plane does not answer" in done.stderr
    assert not mark.exists()


def test_no_part_of_the_control_side_gives_text_to_a_shell() -> None:
    """Nor starts git: what is never started cannot be given options."""
    import ast

    import gitkube

    root = Path(gitkube.__file__).parent
    for file in root.rglob("*.py"):
        source = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(source):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("os.system", "os.popen", "eval", "exec", "subprocess.getoutput"), file
            assert not name.endswith("create_subprocess_shell"), file
            assert all(word.arg != "shell" for word in node.keywords), f"{file}:{node.lineno}"
            starts = name.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.List)
            if starts and file.relative_to(root).parts[0] in ("gitops", "server", "api", "fleet"):
                first = ast.unparse(node.args[0].elts[0]) if node.args[0].elts else ""  # type: ignore[attr-defined]
                assert "git" not in first.strip("'"), f"{file}:{node.lineno}"


def test_the_working_directory_is_read_without_following_links(repo: Repo, tmp_path: Path) -> None:
    from gitkube.gitops.source import working_tree

    repo.commit({"a.yaml": CONFIG})
    (tmp_path / "outside.yaml").write_text("secret: 1\n")
    (repo.clone / "b.yaml").symlink_to(tmp_path / "outside.yaml")
    (repo.clone / "d").symlink_to(tmp_path)
    os.mkfifo(repo.clone / "pipe.yaml")
    found, _ = working_tree(repo.clone)
    assert list(found.files) == ["a.yaml"]
    assert {problem.place.path for problem in found.problems} >= {"b.yaml"}
    assert pygit2.Repository(str(repo.clone)).workdir
