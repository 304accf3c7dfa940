"""What runs inside a lab host: from a cabled network namespace to a booted machine with sshd.

Started by `lab` as `python -m gitkube.lab.boot`, with a `BootSpec` as JSON on its standard input. It enters
the host's network namespace and cgroups, makes the other namespaces, forks, and the child (PID 1 in there)
builds the root file system, starts what is to start at boot, and then reaps for ever. The invariant: all
processes of the host hang below that PID 1, so killing it is a power cut.

Everything is imported before the root changes; from then on the machine's Python files may be out of sight.
Standard library only, because it stays resident in each host.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gitkube.lab import cgroups
from gitkube.lab.processes import write_pid_file

SSHD_TIMEOUT_S = 10.0
RESTART_DELAY_S = 1.0
READY = b"ready"
START_PROGRAM = "/var/lib/gitkube/bin/start"
"""Started at boot when there; on a machine with systemd a unit does this."""
HOST_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x20000000, 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class BootSpec:
    """All that a host needs to know to boot."""

    name: str
    namespace: str
    """Path of the network namespace."""
    group: str
    """Path of the control group below each hierarchy's root."""
    root: str
    """An empty directory that the host's root is mounted on."""
    upper: str
    work: str
    """Where the root overlay keeps what the host changes."""
    disk: str
    """A directory of the real disk; the host's /var/lib/gitkube."""
    etc: str
    """A directory whose files are laid over the host's /etc."""
    authorized_keys: str
    console: str
    """A file for what the host's processes print."""
    pid_file: str


def main() -> int:
    """Boot; return when the host is up (0) or say on stderr why it is not (1)."""
    spec = BootSpec(**json.load(sys.stdin))
    try:
        mounts = cgroups.machine_mounts()
        _setns(spec.namespace, CLONE_NEWNET)
        cgroups.enter(mounts, spec.group)
        _check(_libc.unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP), "unshare")
    except OSError as error:
        print(f"host {spec.name} cannot be given namespaces and cgroups: {error}", file=sys.stderr)
        return 1
    news, teller = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(news)
        _be_the_host(spec, mounts, teller)
    os.close(teller)
    write_pid_file(Path(spec.pid_file), pid)
    with os.fdopen(news, "rb") as pipe:
        said = pipe.read()
    if said != READY:
        print(
            said.decode(errors="replace") or f"host {spec.name} ended while booting; see {spec.console}",
            file=sys.stderr,
        )
        return 1
    return 0


def _be_the_host(spec: BootSpec, mounts: cgroups.CgroupMounts, teller: int) -> None:
    """PID 1 of the host. Never returns."""
    try:
        os.setsid()
        # Only here: with the parent in the same mount namespace, pivot_root would take it along.
        _check(_libc.unshare(CLONE_NEWNS), "unshare of mounts")
        console = os.open(spec.console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(console, 1)
        os.dup2(console, 2)
        cgroups.settle(mounts, spec.group)
        hostname = spec.name.encode()
        _check(_libc.sethostname(hostname, len(hostname)), "sethostname")
        _build_root(spec, mounts)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        sshd = _start(["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"])
        if os.access(START_PROGRAM, os.X_OK):
            _start([START_PROGRAM])
        _wait_for_sshd()
    except BaseException as error:
        # Whatever it was, the one who waits at the other end of the pipe must hear it.
        os.write(teller, f"host {spec.name} did not boot: {error}".encode())
        os._exit(1)
    os.write(teller, READY)
    os.close(teller)
    _reap(sshd)


def _build_root(spec: BootSpec, mounts: cgroups.CgroupMounts) -> None:
    """A root of its own over the machine's, which is only read, and everything mounted that a machine has."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    overlay = f"lowerdir=/,upperdir={spec.upper},workdir={spec.work}"
    _mount("overlay", spec.root, "overlay", 0, overlay)
    root = Path(spec.root)
    for name in ("proc", "sys", "dev", "run", "tmp", "var/lib/gitkube"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount_cgroups(f"{root}/sys/fs/cgroup", mounts)
    _mount("/dev", f"{root}/dev", None, MS_BIND)
    _mount(
        "devpts", f"{root}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"
    )
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m")
    _mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256m")
    _mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=1g")
    _mount(spec.disk, f"{root}/var/lib/gitkube", None, MS_BIND)
    _lay_files(spec, root)
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the machine's root")
    os.chdir("/")


def _mount_cgroups(place: str, mounts: cgroups.CgroupMounts) -> None:
    if not mounts.v1:
        _mount("cgroup2", place, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        return
    _mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for hierarchy in mounts.v1:
        name = Path(hierarchy.mount_point).name
        Path(place, name).mkdir()
        _mount("cgroup", f"{place}/{name}", "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, hierarchy.options)
        for controller in hierarchy.options.split(","):
            alias = Path(place, controller)
            if controller in cgroups.CONTROLLERS and not alias.exists():
                alias.symlink_to(name)


def _lay_files(spec: BootSpec, root: Path) -> None:
    source = Path(spec.etc)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = root / "etc" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link, such as Ubuntu's /etc/resolv.conf, would be followed out of this root.
        target.unlink(missing_ok=True)
        target.write_bytes(file.read_bytes())
        target.chmod(file.stat().st_mode & 0o777)
    keys = root / "root" / ".ssh"
    keys.mkdir(mode=0o700, exist_ok=True)
    (keys / "authorized_keys").unlink(missing_ok=True)
    (keys / "authorized_keys").write_text(spec.authorized_keys)
    (keys / "authorized_keys").chmod(0o600)
    # What a person's shell starts with on the machine (say, a pyenv that rehashes) is no part of a host: each
    # command over SSH would pay for it, and wait for what it locks.
    shell = root / "root" / ".bashrc"
    shell.unlink(missing_ok=True)
    shell.touch(mode=0o644)
    _unlock_root(root / "etc" / "shadow")
    (root / "run" / "sshd").mkdir(mode=0o755)
    # The kernel's boot id is the machine's; a host that boots must show another one each time.
    boot_id = root / "run" / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    _mount(str(boot_id), f"{root}/proc/sys/kernel/random/boot_id", None, MS_BIND)


def _unlock_root(shadow: Path) -> None:
    """Where root's password is locked with `!`, sshd refuses the account even with a key."""
    lines = shadow.read_text().splitlines()
    unlocked = [
        ":".join(["root", "*", *line.split(":")[2:]]) if line.startswith("root:!") else line for line in lines
    ]
    if unlocked != lines:
        shadow.write_text("\n".join(unlocked) + "\n")


def _start(argv: list[str]) -> int:
    return os.posix_spawn(argv[0], argv, HOST_ENVIRONMENT)


def _wait_for_sshd() -> None:
    deadline = time.monotonic() + SSHD_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", 22), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"sshd does not answer after {SSHD_TIMEOUT_S:.0f} s") from error
            time.sleep(0.01)


def _reap(sshd: int) -> None:
    """Put away every process that ends, as PID 1 must; without sshd the host would be lost, so it returns."""
    while True:
        try:
            pid, _ = os.wait()
        except ChildProcessError:
            pid = sshd
        if pid == sshd:
            print("sshd ended and is started again", flush=True)
            time.sleep(RESTART_DELAY_S)
            sshd = _start(["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"])


def _setns(path: str, kind: int) -> None:
    with open(path, "rb") as file:
        _check(_libc.setns(file.fileno(), kind), f"entering {path}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encode: Callable[[str | None], bytes | None] = lambda text: None if text is None else os.fsencode(text)  # noqa: E731
    result = _libc.mount(
        encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), os.fsencode(options) or None
    )
    _check(result, f"mounting {kind or source} on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
