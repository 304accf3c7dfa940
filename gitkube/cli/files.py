"""Which files a command reads: a working directory as it is now, or a commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gitkube.gitops.source import Tree


def read_tree(path: Path, revision: str) -> tuple[Tree, str, str]:
    """The files, a name for what they are, and the message of the commit ("" for a working directory).

    Raises:
        ClickException: there is no repository, or no such commit.
    """
    from gitkube.gitops.source import Repository, SourceError, working_tree

    try:
        if not revision:
            try:
                tree, branch = working_tree(path)
                return tree, f"working directory on {branch}" if branch else "working directory", ""
            except SourceError:
                revision = "HEAD"  # a bare repository has no working directory
        repository = Repository(_discover(path))
        commit_id = repository.resolve(revision)
        commit = repository.commit(commit_id)
        return repository.tree(commit_id), str(commit), commit.message
    except SourceError as error:
        raise click.ClickException(str(error)) from error


def _discover(path: Path) -> Path:
    import pygit2

    found = pygit2.discover_repository(str(path))
    if found is None:
        raise click.ClickException(f"{path.resolve()} is in no git repository; name one with --path")
    return Path(found)
