"""What git has: commits, branches and files, read straight from the object store.

There is no work tree on the control side, so there is nothing a symlink, a filter, a hook or a path could
trick: a commit is a mapping of checked names to blob ids, and a blob is bytes. While a push is being
judged its objects lie in git's quarantine; the same reader takes that directory as an extra source.
Invariant: a `Tree` without errors holds only regular files whose names `_name_problem` accepts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

import pygit2

from gitkube.gitops.problem import Place, Problem, printable

CommitId = NewType("CommitId", str)
BlobId = NewType("BlobId", str)

MAX_FILES = 50_000
"""In one commit; the largest cluster repositories known have some ten thousand."""
MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of one file that is read."""
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_TREE_DEPTH = 64
MAX_RANGE = 1_000
"""Commits counted in one push."""
MAX_CACHED_TREES = 20_000

_TREE, _LINK, _SUBMODULE = 0o040000, 0o120000, 0o160000


class SourceError(Exception):
    """The repository cannot be read as asked. The text is for people."""


@dataclass(frozen=True, slots=True)
class Commit:
    id: CommitId
    subject: str
    message: str
    author: str
    time_s: int
    tree: str

    @property
    def short(self) -> str:
        return self.id[:7]

    def __str__(self) -> str:
        return printable(f'{self.short} "{self.subject}" by {self.author}')


@dataclass(frozen=True)
class Tree:
    """The files of a commit (or of a working directory)."""

    files: Mapping[str, BlobId]
    read: Callable[[BlobId], bytes]
    """Raises SourceError: the blob is missing or too large."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    mode: int
    id: str
    problem: str = ""


HOOK_SOCKET = "gitkube.sock"
"""In the repository: whoever may push to it must reach it."""

# libgit2 refuses repositories of another user, as git does since a repository's config can name programs to
# run. It runs none itself, and `serve` may well have another user than the one who pushes.
pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, False)


class Repository:
    """One bare (or any) repository on this machine. May be used from several threads."""

    def __init__(self, path: Path, *, extra_objects: Sequence[Path] = ()) -> None:
        """Open it.

        Args:
            extra_objects: more object directories to read from, such as a push's quarantine.

        Raises:
            SourceError: there is no repository that this user may read.
        """
        try:
            self._git = pygit2.Repository(str(path))
            for directory in extra_objects:
                self._git.odb.add_disk_alternate(str(directory))
        except (pygit2.GitError, KeyError, OSError) as error:
            raise SourceError(f"{path} cannot be opened as a git repository: {error}") from error
        self.path = path
        self._lock = threading.Lock()
        self._trees: dict[str, list[_Entry]] = {}

    @property
    def objects_directory(self) -> Path:
        return Path(self._git.path) / "objects"

    def head(self, branch: str) -> CommitId | None:
        """The commit a branch is at, or None when it does not exist."""
        with self._lock:
            try:
                reference = self._git.references.get(f"refs/heads/{branch}")
                return None if reference is None else CommitId(str(reference.resolve().target))
            except (pygit2.GitError, KeyError, ValueError) as error:
                raise SourceError(f"the branch {branch} cannot be read: {error}") from error

    def resolve(self, revision: str) -> CommitId:
        """The commit that a name such as `HEAD~1` means.

        Raises:
            SourceError: there is none.
        """
        with self._lock:
            try:
                return CommitId(str(self._git.revparse_single(revision).peel(pygit2.Commit).id))
            except (pygit2.GitError, KeyError, ValueError) as error:
                raise SourceError(f"there is no commit {printable(revision)} in {self.path}") from error

    def commit(self, commit_id: CommitId) -> Commit:
        """Raises SourceError: there is no such commit."""
        with self._lock:
            found = self._object(commit_id)
            if isinstance(found, pygit2.Tag):
                found = found.peel(pygit2.Commit)
            if not isinstance(found, pygit2.Commit):
                raise SourceError(f"{commit_id} is not a commit")
            message = found.raw_message.decode("utf-8", "replace")
            author = found.author.raw_name.decode("utf-8", "replace") if found.author else ""
            return Commit(
                CommitId(str(found.id)),
                message.strip().split("\n", 1)[0][:200],
                message,
                author or "nobody",
                int(found.commit_time),
                str(found.tree_id),
            )

    def is_ancestor(self, ancestor: CommitId, descendant: CommitId) -> bool:
        """Whether one can fast-forward from `ancestor` to `descendant`."""
        with self._lock:
            if ancestor == descendant:
                return True
            try:
                return bool(self._git.descendant_of(descendant, ancestor))
            except (pygit2.GitError, KeyError, ValueError) as error:
                raise SourceError(f"the history of {descendant[:7]} cannot be read: {error}") from error

    def count_commits(self, old: CommitId | None, new: CommitId) -> int:
        """How many commits `new` has that `old` has not, at most MAX_RANGE."""
        with self._lock:
            walker = self._git.walk(new)
            if old is not None:
                walker.hide(old)
            return sum(1 for _, _ in zip(walker, range(MAX_RANGE), strict=False))

    def tree(self, commit_id: CommitId) -> Tree:
        """All files of a commit, with what is wrong with their names.

        Raises:
            SourceError: the commit or one of its trees cannot be read.
        """
        root = self.commit(commit_id).tree
        files: dict[str, BlobId] = {}
        problems: list[Problem] = []
        with self._lock:
            for path, entry in self._walk(root, "", 0):
                problem = entry.problem or _kind_problem(entry.mode)
                if not problem and len(path.encode()) > MAX_PATH_BYTES:
                    problem = f"the path is longer than {MAX_PATH_BYTES} bytes"
                if problem:
                    problems.append(Problem(Place(path), problem))
                    continue
                files[path] = BlobId(entry.id)
                if len(files) > MAX_FILES:
                    raise SourceError(f"the commit has more than {MAX_FILES} files")
        return Tree(files, self.read, tuple(problems))

    def read(self, blob: BlobId) -> bytes:
        """The content of a blob.

        Raises:
            SourceError: it is not there, or larger than MAX_FILE_BYTES.
        """
        with self._lock:
            try:
                _kind, size = self._git.odb.read_header(blob)
            except (KeyError, ValueError, pygit2.GitError) as error:
                raise SourceError(f"the object {blob} is not in {self.path}") from error
            if size > MAX_FILE_BYTES:
                raise SourceError(f"the file has {size} bytes; {MAX_FILE_BYTES} are the limit")
            found = self._object(blob)
            if not isinstance(found, pygit2.Blob):
                raise SourceError(f"{blob} is not a file")
            return bytes(found.data)

    def _object(self, object_id: str) -> Any:
        try:
            return self._git[object_id]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise SourceError(f"the object {object_id} is not in {self.path}") from error

    def _walk(self, tree_id: str, prefix: str, depth: int) -> Iterator[tuple[str, _Entry]]:
        if depth > MAX_TREE_DEPTH:
            raise SourceError(f"directories are nested deeper than {MAX_TREE_DEPTH} levels")
        for entry in self._entries(tree_id):
            path = prefix + entry.name
            if entry.mode == _TREE and not entry.problem:
                yield from self._walk(entry.id, path + "/", depth + 1)
            else:
                yield path, entry

    def _entries(self, tree_id: str) -> list[_Entry]:
        """A tree's entries; trees never change, so what was read once is kept."""
        known = self._trees.get(tree_id)
        if known is not None:
            return known
        entries = []
        for item in self._object(tree_id):
            raw: bytes = item.raw_name
            name = printable(raw.decode("utf-8", "replace"))
            entries.append(_Entry(name, int(item.filemode), str(item.id), _name_problem(raw)))
        if len(self._trees) >= MAX_CACHED_TREES:
            self._trees.clear()
        self._trees[tree_id] = entries
        return entries


def working_tree(path: Path) -> tuple[Tree, str]:
    """The files that a commit of the present state of a working directory would have, and the branch's name.

    For trying out what is not committed yet: what git ignores is left out, symlinks are refused, and files
    are opened without following links.

    Raises:
        SourceError: `path` is in no working directory.
    """
    found = pygit2.discover_repository(str(path))
    if found is None:
        raise SourceError(f"{path} is in no git repository")
    git = pygit2.Repository(found)
    if git.is_bare or git.workdir is None:
        raise SourceError(f"{found} has no working directory")
    root = Path(git.workdir)
    problems: list[Problem] = []
    files: dict[str, BlobId] = {}
    if not git.head_is_unborn:
        committed = Repository(Path(found)).tree(CommitId(str(git.head.target)))
        files.update(committed.files)
        problems += committed.problems
    changed: dict[BlobId, bytes] = {}
    for name in git.status(untracked_files="all"):
        files.pop(name, None)
        full = root / name
        if not os.path.lexists(full):
            continue
        problem = next(filter(None, (_name_problem(part.encode()) for part in name.split("/"))), "")
        if full.is_symlink():
            problem = _kind_problem(_LINK)
        if problem:
            problems.append(Problem(Place(name), problem))
        elif full.is_file():
            data = _read_file(full)
            blob = BlobId(str(pygit2.hash(data)))
            changed[blob] = data
            files[name] = blob
    stored = Repository(Path(found))

    def read(blob: BlobId) -> bytes:
        return changed[blob] if blob in changed else stored.read(blob)

    branch = "" if git.head_is_unborn or git.head_is_detached else git.head.shorthand
    return Tree(files, read, tuple(problems)), branch


def _read_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _name_problem(raw: bytes) -> str:
    """Why a name in a tree is refused, or ""."""
    if raw in (b"", b".", b"..") or b"/" in raw or b"\\" in raw:
        return "this name could lead out of the repository; rename it"
    if raw.lower() == b".git":
        return "a directory named .git cannot be part of a commit"
    if len(raw) > MAX_NAME_BYTES:
        return f"the name is longer than {MAX_NAME_BYTES} bytes"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "the name is not UTF-8; rename it"
    if printable(text) != text:
        return "the name has control characters; rename it"
    return ""


def _kind_problem(mode: int) -> str:
    if mode == _LINK:
        return "symbolic links are not followed; put the file itself here"
    if mode == _SUBMODULE:
        return "submodules are not read; copy the files in, or push them to a repository of their own"
    return ""


def make_repository(path: Path, branch: str) -> None:
    """Make a bare repository to push to, unless there is one.

    Raises:
        SourceError: it cannot be made there.
    """
    if path.exists() and any(path.iterdir()):
        return
    try:
        made = pygit2.init_repository(str(path), bare=True, initial_head=branch)
        # What is read here trusts no name in a tree; whoever clones it should not have to either.
        made.config["receive.fsckObjects"] = True
    except (pygit2.GitError, OSError) as error:
        raise SourceError(f"no git repository can be made at {path}: {error}") from error
