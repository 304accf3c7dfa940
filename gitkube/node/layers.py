"""One image layer, out of its blob into a directory that overlayfs can stack.

Runs in a process of its own (`gitkube-node unpack`), so that a hostile archive can cost that process its
memory limit and nothing else. The blob's digest is checked before a byte is unpacked; every name is walked
with `inside`, so no link of the layer leads out of it; whiteouts become overlayfs's; devices, escapes and
bombs are refused. The directory appears under its final name only when it is whole and on the disk.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import IO, cast

from gitkube.node import inside

MAX_LAYER_BYTES = 32 * 1024**3
"""Unpacked; a compressed bomb ends here."""
MAX_ENTRIES = 2_000_000
MAX_NAME_BYTES = 4096
MAX_MEMORY_BYTES = 1024**3
"""Address space of the unpacking process: the tar module keeps a whole extended header in memory."""

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_COPY_BYTES = 1024 * 1024


class LayerError(Exception):
    """The layer is damaged or not to be trusted. The text says which entry and why."""


def verify_digest(file: IO[bytes], digest: str) -> None:
    """Read the whole blob and compare; leaves the file at its beginning.

    Raises:
        LayerError: the content is not what the digest names.
    """
    algorithm, _, expected = digest.partition(":")
    if algorithm not in ("sha256", "sha512"):
        raise LayerError(f"digest {digest} uses an algorithm that is not known")
    hasher = hashlib.new(algorithm)
    for chunk in iter(lambda: file.read(_COPY_BYTES), b""):
        hasher.update(chunk)
    if hasher.hexdigest() != expected:
        raise LayerError(f"the blob's content has digest {algorithm}:{hasher.hexdigest()}, not {digest}")
    file.seek(0)


def unpack_blob(blob: Path, digest: str, target: Path) -> None:
    """Unpack a layer blob to `target`, atomically. A target that exists is taken to be right.

    Raises:
        LayerError: the blob is not to be trusted.
        OSError: the disk said no.
    """
    if target.exists():
        return
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o755)
    scratch.chmod(0o755)
    try:
        with blob.open("rb") as file:
            verify_digest(file, digest)
            root_fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _unpack_stream(file, root_fd)
                _sync_filesystem(root_fd)
            finally:
                os.close(root_fd)
        os.rename(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _sync_filesystem(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), "syncfs failed")


def _unpack_stream(file: IO[bytes], root_fd: int) -> None:
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(file, "rb") as plain:
            _guarded(cast("IO[bytes]", plain), root_fd)
    elif magic == b"\x28\xb5\x2f\xfd":
        program = shutil.which("zstd")
        if program is None:
            raise LayerError("the layer is compressed with zstd: install the package zstd on this host")
        with subprocess.Popen([program, "-dcq"], stdin=file, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            _guarded(process.stdout, root_fd)
            if process.wait() != 0:
                raise LayerError("the layer's zstd stream is damaged")
    else:
        _guarded(file, root_fd)


def _guarded(plain: IO[bytes], root_fd: int) -> None:
    try:
        unpack(plain, root_fd)
        while plain.read(_COPY_BYTES):  # a checksum at the end of the stream must be reached to be checked
            pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise LayerError(f"the layer's archive is damaged: {error}") from error


def unpack(plain: IO[bytes], root_fd: int, *, max_bytes: int = MAX_LAYER_BYTES) -> None:
    """Unpack a tar stream into the directory `root_fd`.

    Raises:
        LayerError: an entry is refused.
        tarfile.TarError: not a tar stream.
    """
    total_bytes = 0
    opaque: set[str] = set()
    directories: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=plain, mode="r|", errorlevel=2) as archive:
        for _ in range(MAX_ENTRIES):
            member = archive.next()
            if member is None:
                break
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
            total_bytes += max(0, member.size)
            if total_bytes > max_bytes:
                raise LayerError(f"the layer unpacks to more than {max_bytes} bytes")
            _unpack_member(archive, member, root_fd, opaque, directories)
        else:
            raise LayerError(f"the layer has more than {MAX_ENTRIES} entries")
    for name, member in reversed(directories):
        fd = inside.open_directory(root_fd, name)
        try:
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)


def _unpack_member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    root_fd: int,
    opaque: set[str],
    directories: list[tuple[str, tarfile.TarInfo]],
) -> None:
    name = checked_name(member.name)
    parts = inside.split(name)
    if not parts:
        _finish(root_fd, member)
        return
    parent = "/".join(parts[:-1])
    parent_fd = inside.open_directory(root_fd, parent, create=True)
    try:
        leaf = parts[-1]
        if leaf.startswith(WHITEOUT):
            _whiteout(leaf, parent_fd, member)
        elif member.isdir():
            fd = _make_directory(leaf, parent_fd)
            try:
                _finish(fd, member)
            finally:
                os.close(fd)
            directories.append((name, member))
        else:
            _remove(leaf, parent_fd)
            _make_leaf(archive, member, leaf, parent_fd, root_fd, in_dev=parts[0] == "dev")
    finally:
        os.close(parent_fd)


def checked_name(name: str) -> str:
    """An entry's name, when it can only lie below the root.

    Raises:
        LayerError: it is absolute, climbs, or is too long.
    """
    if name.startswith("/"):
        raise LayerError(f"entry {name[:200]!r} is absolute; layers hold relative names only")
    if ".." in name.split("/"):
        raise LayerError(f"entry {name[:200]!r} climbs out with '..'")
    if len(os.fsencode(name)) > MAX_NAME_BYTES or "\0" in name:
        raise LayerError(f"entry {name[:60]!r}… has a name that no file can have")
    return name


def _whiteout(leaf: str, parent_fd: int, member: tarfile.TarInfo) -> None:
    if leaf == OPAQUE:
        os.setxattr(parent_fd, "trusted.overlay.opaque", b"y")
        return
    hidden = leaf[len(WHITEOUT) :]
    if leaf.startswith(WHITEOUT * 2):
        return  # aufs's own bookkeeping
    if hidden in ("", ".", ".."):
        raise LayerError(f"entry {member.name[:200]!r} is a whiteout of nothing")
    _remove(hidden, parent_fd)
    os.mknod(hidden, stat.S_IFCHR | 0o000, os.makedev(0, 0), dir_fd=parent_fd)


def _make_directory(leaf: str, parent_fd: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(leaf, flags, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    except OSError:
        _remove(leaf, parent_fd)
    os.mkdir(leaf, 0o755, dir_fd=parent_fd)
    return os.open(leaf, flags, dir_fd=parent_fd)


def _remove(leaf: str, parent_fd: int) -> None:
    try:
        os.unlink(leaf, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(f"/proc/self/fd/{parent_fd}/{leaf}")


def _make_leaf(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    leaf: str,
    parent_fd: int,
    root_fd: int,
    *,
    in_dev: bool,
) -> None:
    if member.isreg():
        fd = os.open(
            leaf, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent_fd
        )
        try:
            source = archive.extractfile(member)
            if source is not None:
                with os.fdopen(os.dup(fd), "wb") as sink:
                    shutil.copyfileobj(source, sink, _COPY_BYTES)
            _finish(fd, member)
        finally:
            os.close(fd)
    elif member.issym():
        if len(os.fsencode(member.linkname)) > MAX_NAME_BYTES:
            raise LayerError(f"entry {member.name[:200]!r} links to a name that no file can have")
        os.symlink(member.linkname, leaf, dir_fd=parent_fd)
        if os.geteuid() == 0:
            os.chown(leaf, member.uid, member.gid, dir_fd=parent_fd, follow_symlinks=False)
    elif member.islnk():
        _hard_link(member, leaf, parent_fd, root_fd)
    elif member.isfifo():
        os.mkfifo(leaf, stat.S_IMODE(member.mode), dir_fd=parent_fd)
    elif member.ischr() or member.isblk():
        # The container's own /dev lies over the image's, so what an image keeps there is never seen.
        if not in_dev:
            raise LayerError(f"entry {member.name[:200]!r} is a device, which an image must not bring")
    else:
        raise LayerError(f"entry {member.name[:200]!r} is of a type that is not known")


def _hard_link(member: tarfile.TarInfo, leaf: str, parent_fd: int, root_fd: int) -> None:
    target = inside.split(checked_name(member.linkname))
    if not target:
        raise LayerError(f"entry {member.name[:200]!r} is a hard link to the root")
    try:
        source_fd = inside.open_directory(root_fd, "/".join(target[:-1]))
    except OSError as error:
        raise LayerError(
            f"entry {member.name[:200]!r} is a hard link to what the layer does not hold"
        ) from error
    try:
        os.link(target[-1], leaf, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
    except OSError as error:
        raise LayerError(
            f"entry {member.name[:200]!r} is a hard link to what the layer does not hold"
        ) from error
    finally:
        os.close(source_fd)


def _finish(fd: int, member: tarfile.TarInfo) -> None:
    """Owner, then mode (chown clears set-user-id), then what of the extended attributes may be kept."""
    if os.geteuid() == 0:
        os.fchown(fd, member.uid, member.gid)
    os.fchmod(fd, stat.S_IMODE(member.mode))
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr."):
            name = key[len("SCHILY.xattr.") :]
            # Not `trusted.`: with overlayfs's own attributes a layer could show files of other layers.
            if name == "security.capability" or name.startswith("user."):
                os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
    if not member.isdir():
        os.utime(fd, (member.mtime, member.mtime))
