"""Mounts and namespaces by system call, since a `mount` process per volume would cost more than the pod.

Each function is one call into libc with its error turned into OSError with the target's name. They block
for microseconds only, yet those that change the calling thread's namespaces or directory do so in a thread
of their own that ends afterwards: nothing of the agent ever runs inside a pod's namespaces.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, TypeVar

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_FS, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x200, 0x20000, 0x4000000, 0x8000000
CLONE_NEWNET, CLONE_NEWPID = 0x40000000, 0x20000000

MAX_MOUNT_DATA_BYTES = 4095
"""The kernel takes one page of options."""

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2).

    Raises:
        OSError: with the target as its file name.
    """
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode(),
            ctypes.c_ulong(flags),
            os.fsencode(data) or None,
        ),
        target,
    )


def bind(source: str, target: str) -> None:
    """Show `source` at `target` as well."""
    mount(source, target, "", MS_BIND)


def unmount(target: Path) -> None:
    """Take the topmost mount at `target` away, now or when its last user ends. None there is fine.

    Raises:
        OSError: the kernel refused for another reason.
    """
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        if number not in (22, 2):  # EINVAL: nothing is mounted there; ENOENT: not even a directory
            raise OSError(number, os.strerror(number), str(target))


def unmount_under(base: Path) -> None:
    """Take away every mount at or below `base`, innermost first."""
    for target in reversed(mounts_under(base)):
        unmount(target)


def mounts_under(base: Path) -> list[Path]:
    """The mount points at or below `base`, in the order in which they were mounted."""
    prefix = os.fsencode(base)
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            target = _unescape(line.split(b" ", 5)[4])
            if target == prefix or target.startswith(prefix + b"/"):
                found.append(Path(os.fsdecode(target)))
    return found


def _unescape(text: bytes) -> bytes:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(code, char)
    return text


def is_mounted(target: Path) -> bool:
    """Whether something is mounted exactly there."""
    return target in mounts_under(target)


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread that ends with it, so that what it does to its own namespaces ends too."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread; only inside `in_thread`."""
    _check(_libc.unshare(flags), "unshare")


def enter(path: str, kind: int) -> None:
    """setns(2) into a namespace held by a file, for the calling thread; only inside `in_thread`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, kind), path)
    finally:
        os.close(fd)


def set_hostname(name: str) -> None:
    """sethostname(2) in the calling thread's UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), name)


def mount_overlay(layers_dir: Path, layers: Sequence[str], upper: Path, work: Path, target: Path) -> None:
    """Stack `layers` (names inside `layers_dir`, the topmost first) under a writable `upper`.

    The options must fit into one page, so the layers are named relative to their directory; the thread's
    own working directory makes that possible.

    Raises:
        OSError: the kernel refused.
        ValueError: more layers than fit into the options.
    """
    data = f"lowerdir={':'.join(layers)},upperdir={upper},workdir={work}"
    if len(data) > MAX_MOUNT_DATA_BYTES:
        raise ValueError(f"an image of {len(layers)} layers has more than overlayfs can stack")

    def body() -> None:
        unshare(CLONE_FS)
        os.chdir(layers_dir)
        mount("overlay", str(target), "overlay", 0, data)

    in_thread(body)
