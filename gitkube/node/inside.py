"""Paths that come from an image or a volume, resolved inside their root and never beyond it.

Image layers and volumes hold links written by strangers. Every path in them is walked one component at a
time with O_NOFOLLOW on directory descriptors; a symbolic link is read and its target walked the same way,
where `/` and `..` end at the root, as chroot would do it. The answer is a descriptor, so that nothing that
happens to the tree afterwards can move it outside.
"""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 40
"""As the kernel's own limit: more is a loop."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Escape(OSError):
    """A path that cannot be resolved inside its root."""


def split(path: str) -> list[str]:
    """The components of a path, without the empty ones and `.`."""
    return [part for part in path.split("/") if part not in ("", ".")]


def open_directory(root_fd: int, path: str, *, create: bool = False) -> int:
    """A descriptor of the directory at `path` inside the root; the caller closes it.

    Args:
        create: make what is missing, owned by root with mode 0755.

    Raises:
        Escape: too many symbolic links.
        OSError: it does not exist or is not a directory.
    """
    stack = [os.dup(root_fd)]
    pending = split(path)[::-1]
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            here = stack[-1]
            try:
                stack.append(os.open(part, _DIRECTORY, dir_fd=here))
                continue
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, 0o755, dir_fd=here)
                stack.append(os.open(part, _DIRECTORY, dir_fd=here))
                continue
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_link(part, here):
                    raise
            links += 1
            if links > MAX_LINKS:
                raise Escape(errno.ELOOP, "too many symbolic links", path)
            target = os.readlink(part, dir_fd=here)
            if target.startswith("/"):
                while len(stack) > 1:
                    os.close(stack.pop())
            pending += split(target)[::-1]
        return stack.pop()
    finally:
        for fd in stack:
            os.close(fd)


def _is_link(name: str, dir_fd: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def open_file(root_fd: int, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of what lies at `path` inside the root, links followed inside it; the caller closes it.

    Raises:
        Escape: too many symbolic links.
        OSError: it does not exist or cannot be opened.
    """
    for _ in range(MAX_LINKS):
        parts = split(path)
        if not parts or parts[-1] == "..":
            return open_directory(root_fd, path)
        parent_fd = open_directory(root_fd, "/".join(parts[:-1]))
        try:
            if not _is_link(parts[-1], parent_fd):
                return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
            target = os.readlink(parts[-1], dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
        path = target if target.startswith("/") else "/".join([*parts[:-1], target])
    raise Escape(errno.ELOOP, "too many symbolic links", path)


def read_inside(root: str, path: str, limit_bytes: int) -> bytes:
    """The beginning of a regular file inside a root; b"" where there is none."""
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_file(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    finally:
        os.close(root_fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, limit_bytes)
    finally:
        os.close(fd)
