"""Commits as bytes: what one repository has and another lacks, packed, and taken in again.

git itself packs and unpacks. It is called with argument lists and a bare environment: no configuration of a
user or the system is read, no hook or filter runs, and object ids are checked before they come near a command
line. A pack that is taken in is verified as a push is (`index-pack --strict`: every object is sound, and
every link leads somewhere); what fails leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gitkube.gitops.source import CommitId, SourceError

MAX_PACK_BYTES = 64 * 1024 * 1024
"""Of one push that goes through the store."""
GIT_TIMEOUT_S = 120.0
QUARANTINE_PREFIX = "incoming-gitkube-"

_ID = re.compile(r"[0-9a-f]{40}\Z")


class PackError(SourceError):
    """A pack cannot be made or is not sound; the text says why."""


class PackTooLargeError(PackError):
    """More than MAX_PACK_BYTES."""


@dataclass(frozen=True, slots=True)
class Pack:
    data: bytes
    commit: CommitId
    base: CommitId | None
    """The receiver must have this one, and all that belongs to it; None: nothing is needed."""

    @property
    def digest(self) -> str:
        return digest_of(self.data)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_pack(
    repository: Path, commit: CommitId, base: CommitId | None, *, extra_objects: Sequence[Path] = ()
) -> Pack:
    """All that `commit` has and `base` has not.

    Args:
        repository: a bare one.
        extra_objects: further object directories to read from, such as a push's quarantine.

    Raises:
        PackTooLargeError: it would have more than MAX_PACK_BYTES.
        PackError: a commit is not there.
    """
    wanted = f"{_checked(commit)}\n" + (f"^{_checked(base)}\n" if base else "")
    environment = _environment()
    if extra_objects:
        environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(map(str, extra_objects))
    command = [
        "git", f"--git-dir={repository}", "pack-objects", "--quiet", "--revs", "--stdout", "--thin",
        "--delta-base-offset", "--threads=1",
    ]  # fmt: skip
    with _process(command, environment) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(wanted.encode())
        process.stdin.close()
        data = process.stdout.read(MAX_PACK_BYTES + 1)
        if len(data) > MAX_PACK_BYTES:
            process.kill()
            raise PackTooLargeError(f"the commits are larger than {MAX_PACK_BYTES >> 20} MiB")
        said = process.stderr.read().decode(errors="replace").strip()
        with _in_time():
            code = process.wait(GIT_TIMEOUT_S)
        if code != 0:
            raise PackError(f"{commit[:7]} cannot be packed: {said or 'git failed'}")
    return Pack(data, commit, base)


def take_pack(repository: Path, data: bytes, *, objects: Path | None = None) -> None:
    """Take in a pack; everything it is based on must be there.

    Args:
        objects: into this object directory rather than the repository's own.

    Raises:
        PackError: it is damaged, or not sound.
    """
    environment = _environment()
    if objects is not None:
        environment["GIT_OBJECT_DIRECTORY"] = str(objects)
        environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(repository / "objects")
    command = ["git", f"--git-dir={repository}", "index-pack", "--strict", "--fix-thin", "--stdin"]
    done = _run(command, environment, data)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise PackError(f"a pack is not sound and was not taken: {said[-500:]}")


def move_branch(repository: Path, branch: str, commit: CommitId, before: CommitId | None) -> None:
    """Set a branch, if it is where it was.

    Args:
        before: where it must be; None: it must not exist.

    Raises:
        PackError: it has moved meanwhile, or another process is moving it.
    """
    command = [
        "git", f"--git-dir={repository}", "update-ref", "-m", "gitkube: as the store has it",
        f"refs/heads/{branch}", _checked(commit), _checked(before) if before else "0" * 40,
    ]  # fmt: skip
    done = _run(command, _environment())
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise PackError(f"the branch {branch} cannot be moved to {commit[:7]}: {said[-500:]}")


def keep_aside(repository: Path, commit: CommitId) -> str:
    """Give a commit a name of its own, so that git does not throw it away; the name.

    Raises:
        PackError: it is not there.
    """
    name = f"refs/gitkube/aside/{_checked(commit)}"
    command = ["git", f"--git-dir={repository}", "update-ref", name, commit]
    done = _run(command, _environment())
    if done.returncode != 0:
        raise PackError(f"{commit[:7]} cannot be kept: {done.stderr.decode(errors='replace').strip()}")
    return name


@contextmanager
def quarantine(repository: Path, data: bytes) -> Iterator[Path]:
    """An object directory in the repository with a pack in it, for as long as the block lasts.

    Raises:
        PackError: the pack is not sound.
    """
    directory = Path(tempfile.mkdtemp(prefix=QUARANTINE_PREFIX, dir=repository / "objects"))
    try:
        (directory / "pack").mkdir()
        take_pack(repository, data, objects=directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(
    command: Sequence[str], environment: dict[str, str], data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    with _in_time():
        return subprocess.run(
            command, input=data, env=environment, capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )


@contextmanager
def _in_time() -> Iterator[None]:
    """Raises:
    PackError: git was given up, as on a disk that stands still.
    """
    try:
        yield
    except subprocess.TimeoutExpired as error:
        raise PackError(f"git did not end in {GIT_TIMEOUT_S:g} s; the disk may be too slow") from error


@contextmanager
def _process(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
    }


def _checked(commit: CommitId) -> str:
    if not _ID.match(commit):
        raise PackError(f"{commit!r} is no commit id")
    return commit
