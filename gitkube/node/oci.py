"""The OCI runtime configuration of a container, out of its spec, its image and its sandbox. Pure.

One dict in, one dict out (opencontainers/runtime-spec, config.md), so that every rule of security and
resources can be read and tested here. What it is given has been resolved before: users are numbers, volumes
are directories, variables have values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitkube.node.env import ConfigError, expand
from gitkube.node.kube import Object, milli, security_of, whole
from gitkube.node.users import User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000
MIN_CPU_QUOTA_US = 1_000
MIN_CPU_SHARES, MAX_CPU_SHARES = 2, 262_144
MAX_PROCESSES = 16_384
"""Per container; a fork bomb ends there and takes nobody with it."""

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
    "CAP_SYS_CHROOT",
)  # fmt: skip
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the kernel's order: the index is the bit."""

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True)
class Mount:
    """A directory or file of the host, shown inside the container."""

    source: str
    destination: str
    read_only: bool = False
    options: tuple[str, ...] = ("rbind", "rprivate")


@dataclass(frozen=True)
class Host:
    """What the machine allows."""

    capabilities: frozenset[str] = frozenset(ALL_CAPABILITIES)
    oom_score_adj_floor: int = -1000  # lower is refused without CAP_SYS_RESOURCE
    devices: tuple[Mapping[str, Any], ...] = ()  # for privileged containers
    seccomp: Mapping[str, Any] | None = None  # the profile RuntimeDefault stands for
    memory_bytes: int = 0


@dataclass(frozen=True)
class Request:
    """Everything a configuration is made of."""

    pod: Object
    container: Object
    image_config: Mapping[str, Any]  # `config` of the OCI image: Entrypoint, Cmd, Env, WorkingDir
    environment: Mapping[str, str]  # what the spec asks for
    user: User
    rootfs: str
    cgroups_path: str
    namespaces: Mapping[str, str]  # type -> path; "" makes a new one; a type not named is the host's
    mounts: Sequence[Mount] = ()
    host: Host = field(default_factory=Host)
    shm: str = ""


def container_config(request: Request) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        ConfigError: neither the image nor the spec says what to run.
    """
    security = security_of(request.pod, request.container)
    privileged = bool(security.get("privileged"))
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": request.rootfs, "readonly": bool(security.get("readOnlyRootFilesystem"))},
        "process": _process(request, security, privileged),
        "mounts": _mounts(request, privileged),
        "linux": {
            "cgroupsPath": request.cgroups_path,
            "namespaces": [
                {"type": kind, "path": path} if path else {"type": kind}
                for kind, path in sorted(request.namespaces.items())
            ],
            "resources": resources(request.container, privileged),
            "rootfsPropagation": "private",
        },
    }
    linux = config["linux"]
    if privileged:
        linux["devices"] = [dict(device) for device in request.host.devices]
    else:
        if security.get("procMount") != "Unmasked":
            linux["maskedPaths"] = list(MASKED_PATHS)
            linux["readonlyPaths"] = list(READONLY_PATHS)
        profile = (security.get("seccompProfile") or {}).get("type")
        if profile == "RuntimeDefault" and request.host.seccomp is not None:
            linux["seccomp"] = dict(request.host.seccomp)
    return config


def _process(request: Request, security: Object, privileged: bool) -> dict[str, Any]:
    container = request.container
    env = merged_environment(request)
    capabilities = sorted(capability_set(security, privileged) & request.host.capabilities)
    return {
        "terminal": bool(container.get("tty")),
        "user": {
            "uid": request.user.uid,
            "gid": request.user.gid,
            "additionalGids": [gid for gid in request.user.groups if gid != request.user.gid],
        },
        "args": arguments(container, request.image_config, env),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": container.get("workingDir") or request.image_config.get("WorkingDir") or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": security.get("allowPrivilegeEscalation") is False,
        "oomScoreAdj": max(
            oom_score_adj(request.pod, container, request.host.memory_bytes), request.host.oom_score_adj_floor
        ),
    }


def merged_environment(request: Request) -> dict[str, str]:
    """The image's variables, then the pod's name, then what the spec asks for."""
    env = {"PATH": DEFAULT_PATH}
    for line in request.image_config.get("Env") or []:
        name, _, value = str(line).partition("=")
        env[name] = value
    hostname = str(request.pod["spec"].get("hostname") or request.pod["metadata"]["name"])
    env["HOSTNAME"] = hostname[:63]
    if request.container.get("tty"):
        env.setdefault("TERM", "xterm")
    env.update(request.environment)
    return env


def arguments(container: Object, image_config: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """What is executed: `command` stands for the image's Entrypoint and drops its Cmd, `args` for Cmd.

    Raises:
        ConfigError: there is nothing to execute.
    """
    command = [expand(str(part), env) for part in container.get("command") or []]
    args = [expand(str(part), env) for part in container.get("args") or []]
    if not command:
        command = [str(part) for part in image_config.get("Entrypoint") or []]
        if not args:
            args = [str(part) for part in image_config.get("Cmd") or []]
    if not command + args:
        raise ConfigError("no command specified: the image has no Entrypoint or Cmd, and the spec no command")
    return command + args


def capability_set(security: Object, privileged: bool) -> set[str]:
    """The capabilities a container holds: the default set with `add` and `drop` applied, drop first."""
    if privileged:
        return set(ALL_CAPABILITIES)
    changes = security.get("capabilities") or {}
    chosen = set(DEFAULT_CAPABILITIES)
    dropped = {_capability(name) for name in changes.get("drop") or []}
    added = {_capability(name) for name in changes.get("add") or []}
    chosen = set() if "CAP_ALL" in dropped else chosen - dropped
    return set(ALL_CAPABILITIES) - dropped if "CAP_ALL" in added else chosen | added


def _capability(name: str) -> str:
    upper = str(name).upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def resources(container: Object, privileged: bool) -> dict[str, Any]:
    """`linux.resources`, in version 1's terms, which crun translates for version 2."""
    spec = container.get("resources") or {}
    limits, requests = spec.get("limits") or {}, spec.get("requests") or {}
    cpu: dict[str, int] = {}
    wanted = requests.get("cpu", limits.get("cpu"))
    shares = milli(wanted) * 1024 // 1000 if wanted is not None else MIN_CPU_SHARES
    cpu["shares"] = min(MAX_CPU_SHARES, max(MIN_CPU_SHARES, shares))
    if limits.get("cpu") is not None and milli(limits["cpu"]) > 0:
        cpu["period"] = CPU_PERIOD_US
        cpu["quota"] = max(MIN_CPU_QUOTA_US, milli(limits["cpu"]) * CPU_PERIOD_US // 1000)
    result: dict[str, Any] = {"cpu": cpu, "pids": {"limit": MAX_PROCESSES}}
    if limits.get("memory") is not None and whole(limits["memory"]) > 0:
        result["memory"] = {"limit": whole(limits["memory"])}
    result["devices"] = [{"allow": privileged, "access": "rwm"}]
    return result


def quality_of_service(pod: Object) -> str:
    """`status.qosClass`: Guaranteed when every container limits CPU and memory and asks for just that."""
    some, guaranteed = False, True
    for container in [*(pod["spec"].get("containers") or []), *(pod["spec"].get("initContainers") or [])]:
        spec = container.get("resources") or {}
        limits, requests = spec.get("limits") or {}, spec.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, wanted = limits.get(name), requests.get(name, limits.get(name))
            some = some or limit is not None or wanted is not None
            if limit is None or milli(wanted) != milli(limit):
                guaranteed = False
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def oom_score_adj(pod: Object, container: Object, memory_bytes: int) -> int:
    """How willingly the kernel kills this container when the machine is out of memory, as kubelet has it."""
    quality = quality_of_service(pod)
    if quality == "Guaranteed":
        return -997
    requests = (container.get("resources") or {}).get("requests") or {}
    if quality == "BestEffort" or memory_bytes <= 0:
        return 1000
    score = 1000 - 1000 * whole(requests.get("memory", 0)) // memory_bytes
    return min(999, max(3, score))


def _mounts(request: Request, privileged: bool) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    system: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": [*quiet, "rw" if privileged else "ro"],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*quiet, "relatime", "rw" if privileged else "ro"],
        },
    ]
    if request.shm:
        system.append(
            {
                "destination": "/dev/shm",
                "type": "bind",
                "source": request.shm,
                "options": ["rbind", "rprivate"],
            }
        )
    if "network" not in request.namespaces and not privileged:
        # Only in a network namespace of one's own may sysfs be mounted afresh.
        system[4] = {
            "destination": "/sys",
            "type": "bind",
            "source": "/sys",
            "options": ["rbind", *quiet, "ro"],
        }
        del system[5]
    volumes: list[dict[str, Any]] = [
        {
            "destination": mount.destination,
            "type": "bind",
            "source": mount.source,
            "options": [*mount.options, "ro" if mount.read_only else "rw"],
        }
        for mount in sorted(request.mounts, key=lambda mount: mount.destination.rstrip("/").count("/"))
    ]
    overridden = {str(volume["destination"]).rstrip("/") for volume in volumes}
    return [entry for entry in system if entry["destination"] not in overridden] + volumes


__all__ = [
    "ALL_CAPABILITIES",
    "DEFAULT_CAPABILITIES",
    "ConfigError",
    "Host",
    "Mount",
    "Request",
    "arguments",
    "capability_set",
    "container_config",
    "merged_environment",
    "oom_score_adj",
    "quality_of_service",
    "resources",
]
