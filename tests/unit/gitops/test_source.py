"""Git's object store, read directly: names are checked, links refused, nothing is checked out."""

from __future__ import annotations

import pygit2
import pytest

from gitkube.gitops.source import CommitId, Repository, SourceError, working_tree


def commit_tree(repo, entries):
    """A commit whose tree is written by hand, with names that git's porcelain would refuse."""
    import subprocess

    lines = b"".join(f"{mode} blob {blob}\t".encode() + name + b"\0" for mode, blob, name in entries)
    made = subprocess.run(
        ["git", "mktree", "-z", "--missing"], cwd=repo.bare, input=lines, capture_output=True, check=True
    )
    tree = made.stdout.decode().strip()
    git = pygit2.Repository(str(repo.bare))
    author = pygit2.Signature("ada", "ada@example.org")
    return CommitId(str(git.create_commit(None, author, author, "x", tree, [])))


def blob(repo, data=b"x: 1\n"):
    return str(pygit2.Repository(str(repo.bare)).create_blob(data))


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        (b"..", "100644", "could lead out of the repository"),
        (b"a\\b", "100644", "could lead out of the repository"),
        (b".GIT", "100644", "a directory named .git"),
        (b"caf\xe9.yaml", "100644", "not UTF-8"),
        (b"a\x1bb.yaml", "100644", "control characters"),
        (b"n" * 300, "100644", "longer than 255 bytes"),
        (b"link.yaml", "120000", "symbolic links are not followed"),
    ],
)
def test_a_bad_name_is_refused_and_not_read(repo, name, mode, words):
    commit = commit_tree(repo, [(mode, blob(repo), name), ("100644", blob(repo), b"good.yaml")])
    tree = Repository(repo.bare).tree(commit)
    assert list(tree.files) == ["good.yaml"]
    assert len(tree.problems) == 1 and words in tree.problems[0].message
    assert tree.problems[0].place.path.isprintable()


def test_a_submodule_is_refused(repo):
    import subprocess

    line = b"160000 commit " + b"1" * 40 + b"\tsub\0"
    made = subprocess.run(
        ["git", "mktree", "-z", "--missing"], cwd=repo.bare, input=line, capture_output=True
    )
    git = pygit2.Repository(str(repo.bare))
    author = pygit2.Signature("ada", "ada@example.org")
    commit = git.create_commit(None, author, author, "x", made.stdout.decode().strip(), [])
    assert "submodules are not read" in Repository(repo.bare).tree(CommitId(str(commit))).problems[0].message


def test_a_huge_file_is_not_read(repo):
    big = blob(repo, b"x" * (5 * 1024 * 1024))
    commit = commit_tree(repo, [("100644", big, b"big.yaml")])
    repository = Repository(repo.bare)
    with pytest.raises(SourceError, match="are the limit"):
        repository.read(repository.tree(commit).files["big.yaml"])


def test_history_is_known(repo):
    first = CommitId(repo.commit({"a.yaml": "a: 1\n"}, "first\n\nlonger"))
    second = CommitId(repo.commit({"a.yaml": "a: 2\n"}, "second"))
    repository = Repository(repo.clone)
    assert repository.head("main") == second and repository.head("nope") is None
    assert repository.commit(first).subject == "first" and repository.commit(first).author == "ada"
    assert repository.is_ancestor(first, second) and not repository.is_ancestor(second, first)
    assert repository.count_commits(first, second) == 1 and repository.count_commits(None, second) == 2


def test_what_is_no_repository_or_commit_is_said(repo, tmp_path):
    with pytest.raises(SourceError, match="cannot be opened as a git repository"):
        Repository(tmp_path / "nothing")
    with pytest.raises(SourceError):
        Repository(repo.bare).commit(CommitId("1" * 40))


def test_a_working_directory_is_read_as_it_is_now(repo):
    repo.commit({"a.yaml": "a: 1\n", "gone.yaml": "x: 1\n", ".gitignore": "secret.yaml\n"})
    repo.write({"a.yaml": "a: 2\n", "new.yaml": "n: 1\n", "gone.yaml": None, "secret.yaml": "s: 1\n"})
    tree, branch = working_tree(repo.clone)
    assert branch == "main"
    assert set(tree.files) == {"a.yaml", "new.yaml", ".gitignore"}
    assert tree.read(tree.files["a.yaml"]) == b"a: 2\n"
