"""One host of the lab as a machine: its power, its disk, its host key, and the way into it.

A host that is killed keeps its disk (/var/lib/gitkube) and the changes to its root, and loses its memory:
processes, /run, /tmp, and its whole network namespace with all interfaces and rules.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gitkube.lab import netns, processes
from gitkube.lab.boot import BootSpec
from gitkube.lab.errors import LabError
from gitkube.lab.files import fitting_upper, make_key, write_etc
from gitkube.lab.layout import HostLayout, LabLayout

BOOT_TIMEOUT_S = 30.0
_EXEC_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "xterm",
}


class LabHost:
    """See the module's text.

    Args:
        home: everything that belongs to this host.
        lab: the host knows all the others by name.
    """

    def __init__(self, home: Path, layout: HostLayout, lab: LabLayout) -> None:
        self.layout = layout
        self._home = home
        self._lab = lab

    @property
    def pid(self) -> int | None:
        """Of its first process; None while it is off."""
        return processes.running_pid(self._home / "init.pid")

    def make_key(self) -> None:
        """Its SSH host key, once and for ever."""
        make_key(self._host_key, self.layout.name)

    @property
    def public_key(self) -> str:
        """Type and key, as `known_hosts` has them."""
        return " ".join(self._host_key.with_suffix(".pub").read_text().split()[:2])

    def power_on(self, authorized_keys: str) -> bool:
        """Boot it, with its cable in.

        Args:
            authorized_keys: who may log in as root.

        Returns:
            Whether it was off.

        Raises:
            LabError: it does not come up.
        """
        if self.pid is not None:
            return False
        home, layout = self._home, self.layout
        netns.plug(self._lab, layout)
        write_etc(home / "etc", self._lab, layout)
        for name in ("disk", "root"):
            (home / name).mkdir(parents=True, exist_ok=True)
        layer = fitting_upper(home / "layer")
        spec = BootSpec(
            name=layout.name,
            namespace=str(netns.NAMESPACES / layout.namespace),
            group=f"gitkube-lab-{self._lab.mark}/{layout.name}",
            root=str(home / "root"),
            upper=str(layer / "upper"),
            work=str(layer / "work"),
            disk=str(home / "disk"),
            etc=str(home / "etc"),
            authorized_keys=authorized_keys,
            console=str(home / "console.log"),
            pid_file=str(home / "init.pid"),
        )
        netns.run(
            [sys.executable, "-m", "gitkube.lab.boot"],
            stdin=json.dumps(asdict(spec)),
            timeout_s=BOOT_TIMEOUT_S,
        )
        netns.set_cable(self._lab, layout, is_up=True)
        return True

    def power_off(self) -> bool:
        """Every process ends at this instant, and nothing is flushed; whether it was on."""
        was_on = processes.kill(self._home / "init.pid")
        netns.unplug(self._lab, self.layout)
        return was_on

    def exec_argv(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` inside, from this machine.

        Raises:
            LabError: it is off.
        """
        pid = self.pid
        if pid is None:
            raise LabError(f"host {self.layout.name} is off; `gitkube lab start {self.layout.name}` boots it")
        environment = [f"{name}={value}" for name, value in _EXEC_ENVIRONMENT.items()]
        enter = ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return [*enter, "--root", "--wd=/", "--", "env", "-i", *environment, *argv]

    @property
    def _host_key(self) -> Path:
        return self._home / "etc" / "ssh" / "ssh_host_ed25519_key"
