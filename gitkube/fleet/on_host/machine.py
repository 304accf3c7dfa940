"""What kind of machine this is, and whether an agent can live on it."""

import contextlib
import os
import platform
import shutil
import socket
import sys
from typing import Any

from gitkube.fleet.on_host.base import ENVIRONMENT, Refusal, read_lines


def look() -> "dict[str, Any]":
    release: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in read_lines("/etc/os-release"):
            key, _, value = line.strip().partition("=")
            release[key] = value.strip("\"'")
    return {
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "os": release.get("PRETTY_NAME", platform.system()),
        "osId": release.get("ID", ""),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "hostname": socket.gethostname(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "apt": shutil.which("apt-get", path=ENVIRONMENT["PATH"]) is not None,
        "kernelWireguard": has_kernel_wireguard(),
    }


def has_kernel_wireguard() -> bool:
    if os.path.isdir("/sys/module/wireguard"):
        return True
    base = os.path.join("/lib/modules", platform.release())
    for name in ("modules.builtin", "modules.dep"):
        with contextlib.suppress(OSError):
            for line in read_lines(os.path.join(base, name)):
                if "/wireguard.ko" in line.split(":")[0]:
                    return True
    return False


def require(facts: "dict[str, Any]") -> None:
    """Raises Refusal: no agent can live here."""
    if os.geteuid() != 0:
        raise Refusal("this is not root; give the user passwordless sudo, or log in as root")
    if sys.version_info < (3, 9):  # noqa: UP036 - it is the host's Python that is asked
        raise Refusal(
            f"Python is {facts['python']}, and the agent needs 3.9; install a newer /usr/bin/python3"
        )
    if not sys.platform.startswith("linux"):
        raise Refusal(f"the machine runs {sys.platform}; gitkube runs containers on Linux only")
