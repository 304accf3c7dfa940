"""What the machine is: `NodeStatus.nodeInfo`, capacity and conditions, and what it allows containers."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

from gitkube import __version__
from gitkube.node import oci
from gitkube.node.containers import host_devices
from gitkube.node.files import read_json, read_text
from gitkube.node.kube import rfc3339

MAX_PODS = 110
DISK_PRESSURE_FREE_SHARE = 0.10
DISK_CLEANUP_FREE_SHARE = 0.15
"""Below this much free space, images that nothing uses are removed; below the one above, pods are warned."""
MEMORY_PRESSURE_BYTES = 100 * 1024 * 1024
PID_PRESSURE_SHARE = 0.9
SECCOMP_PROFILE = Path("/usr/share/containers/seccomp.json")

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """The machine's architecture by Go's names, as Kubernetes has it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def node_info() -> dict[str, str]:
    """`NodeStatus.nodeInfo`."""
    release = {}
    for line in read_text(Path("/etc/os-release")).splitlines():
        key, _, value = line.partition("=")
        release[key] = value.strip().strip('"')
    return {
        "machineID": read_text(Path("/etc/machine-id")).strip(),
        "systemUUID": read_text(Path("/sys/class/dmi/id/product_uuid")).strip()
        if os.access("/sys/class/dmi/id/product_uuid", os.R_OK)
        else "",
        "bootID": read_text(Path("/proc/sys/kernel/random/boot_id")).strip(),
        "kernelVersion": platform.release(),
        "osImage": release.get("PRETTY_NAME", "Linux"),
        "containerRuntimeVersion": "crun://" + _crun_version(),
        "kubeletVersion": f"v{__version__}",
        "kubeProxyVersion": f"v{__version__}",
        "operatingSystem": "linux",
        "architecture": architecture(),
    }


def _crun_version() -> str:
    import subprocess

    program = shutil.which("crun")
    if program is None:
        return "missing"
    text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    match = re.search(r"version (\S+)", text)
    return match.group(1) if match else "unknown"


def memory_bytes() -> int:
    return _meminfo().get("MemTotal", 0)


def _meminfo() -> dict[str, int]:
    found = {}
    for line in read_text(Path("/proc/meminfo")).splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1].isdigit():
            found[fields[0].rstrip(":")] = int(fields[1]) * 1024
    return found


def capacity(root: Path) -> dict[str, str]:
    """`NodeStatus.capacity`."""
    disk = shutil.disk_usage(root)
    return {
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_bytes() // 1024}Ki",
        "pods": str(MAX_PODS),
        "ephemeral-storage": f"{disk.total // 1024}Ki",
    }


def free_disk_share(root: Path) -> float:
    disk = shutil.disk_usage(root)
    return disk.free / disk.total if disk.total else 1.0


def conditions(root: Path, now_s: float) -> list[dict[str, Any]]:
    """The node's pressure conditions. Whether it is Ready, the control side knows by the link."""
    meminfo = _meminfo()
    low_memory = meminfo.get("MemAvailable", MEMORY_PRESSURE_BYTES) < MEMORY_PRESSURE_BYTES
    low_disk = free_disk_share(root) < DISK_PRESSURE_FREE_SHARE
    running = sum(1 for name in os.listdir("/proc") if name.isdigit())
    limit = read_text(Path("/proc/sys/kernel/pid_max")).strip()
    low_pids = limit.isdigit() and running > int(limit) * PID_PRESSURE_SHARE
    result = []
    for kind, is_low, reasons, message in (
        ("MemoryPressure", low_memory, ("HasInsufficientMemory", "HasSufficientMemory"), "memory available"),
        ("DiskPressure", low_disk, ("HasDiskPressure", "HasNoDiskPressure"), "disk space free"),
        ("PIDPressure", low_pids, ("HasInsufficientPID", "HasSufficientPID"), "process ids available"),
    ):
        result.append(
            {
                "type": kind,
                "status": "True" if is_low else "False",
                "reason": reasons[0] if is_low else reasons[1],
                "message": f"the host has {'too little' if is_low else 'enough'} {message}",
                "lastHeartbeatTime": rfc3339(now_s),
                "lastTransitionTime": rfc3339(now_s),
            }
        )
    return result


def runtime_host() -> oci.Host:
    """What this machine allows containers, for `oci`."""
    status = read_text(Path("/proc/self/status"))
    match = re.search(r"^CapPrm:\s*([0-9a-f]+)", status, re.MULTILINE)
    mask = int(match.group(1), 16) if match else 0
    held = frozenset(name for bit, name in enumerate(oci.ALL_CAPABILITIES) if mask >> bit & 1)
    own = read_text(Path("/proc/self/oom_score_adj")).strip()
    floor = -1000 if "CAP_SYS_RESOURCE" in held else int(own or 0)
    return oci.Host(
        capabilities=held,
        oom_score_adj_floor=floor,
        devices=host_devices(),
        seccomp=seccomp_profile(read_json(SECCOMP_PROFILE), held),
        memory_bytes=memory_bytes(),
    )


def seccomp_profile(profile: Any, held: frozenset[str]) -> dict[str, Any] | None:
    """The distribution's profile for containers, in the form the OCI runtime takes; None without one.

    The file (containers-common, same form as Docker's) has conditions by capability and architecture; those
    that speak of capabilities outside the default set do not apply to us.
    """
    if not isinstance(profile, dict) or not profile.get("syscalls"):
        return None
    default = set(oci.DEFAULT_CAPABILITIES)
    here = architecture()
    rules = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("caps") and not set(includes["caps"]) <= default & held:
            continue
        if excludes.get("caps") and set(excludes["caps"]) & default & held:
            continue
        if includes.get("arches") and here not in includes["arches"]:
            continue
        if here in (excludes.get("arches") or []):
            continue
        wanted = ("names", "action", "args", "errnoRet")
        kept = {key: rule[key] for key in wanted if rule.get(key) not in (None, [], "")}
        rules.append(kept)
    result: dict[str, Any] = {
        "defaultAction": profile.get("defaultAction", "SCMP_ACT_ERRNO"),
        "syscalls": rules,
    }
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result
