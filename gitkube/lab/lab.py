"""The lab as a whole: brought up as asked, and what can happen to its hosts.

Everything is found again from the directory: `lab.json` says how many hosts and which block of networks, the
rest follows (see `layout`). So each command looks at what is there, does what is missing, and may be
interrupted and repeated. `down` removes what this lab made, and nothing else.

With several controllers these are machines of the lab like the hosts (see `hosts`, `controllers`): the same
faults can happen to them.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from gitkube.lab import netns
from gitkube.lab.blocks import release_block, taken_block
from gitkube.lab.controllers import LabController
from gitkube.lab.errors import LabError
from gitkube.lab.files import inventory_text, known_hosts_text, make_key
from gitkube.lab.hosts import LabHost
from gitkube.lab.layout import (
    REGISTRY_NAME,
    REGISTRY_PORT,
    ControllerLayout,
    HostLayout,
    LabLayout,
    plan_lab,
)
from gitkube.lab.registry import Registry
from gitkube.lab.removal import remove_cgroups, remove_files
from gitkube.lab.status import ControllerStatus, HostStatus, LabStatus

DEFAULT_HOSTS = 3
EXEC_TIMEOUT_S = 300.0
BOOTS_AT_ONCE = 4
_STATE = "lab.json"
_UNMOUNT_DETACHED = 2


class Lab:
    """One lab; `directory` holds everything that belongs to it.

    Args:
        directory: made by `up`, for instance `.lab`.
        progress: told what is being done, one short sentence at a time, perhaps from several threads.
    """

    def __init__(self, directory: Path, *, progress: Callable[[str], None] | None = None) -> None:
        self.directory = directory.resolve()
        self._progress_lock = threading.Lock()
        self._tell = progress or (lambda sentence: None)
        if any(character in str(self.directory) for character in ",:\\"):
            raise LabError(
                f"{self.directory}: overlayfs takes no ',', ':' or '\\' in a path; choose another directory"
            )

    # ------------------------------------------------------------ files for those who use the lab

    @property
    def identity_file(self) -> Path:
        """The private key that opens root's account on every host."""
        return self.directory / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def inventory(self) -> Path:
        """The inventory file, as `gitkube serve --inventory` reads it."""
        return self.directory / "inventory.yaml"

    @property
    def kubeconfig(self) -> Path:
        """With a context for each controller of the lab."""
        return self.directory / "kubeconfig"

    def controllers(self) -> list[LabController]:
        """Those of the lab; none while the control side runs on the machine itself."""
        layout = self._recorded_layout()
        return [self._controller(one) for one in layout.controllers] if layout is not None else []

    def layout(self) -> LabLayout:
        """Names and addresses.

        Raises:
            LabError: there is no lab in this directory.
        """
        layout = self._recorded_layout()
        if layout is None:
            raise LabError(
                f"there is no lab in {self.directory}; `gitkube lab up --dir {self.directory}` makes one"
            )
        return layout

    # ------------------------------------------------------------ the whole

    def up(self, hosts: int | None = None, controllers: int | None = None) -> LabStatus:
        """Make everything be there and on: network, registry, hosts, controllers. What was cut is joined.

        Args:
            hosts: how many; None keeps the number that the lab has, or makes three.
            controllers: how many; 1 leaves the control side to whoever starts it on the machine; None keeps
                the number, or is 1.

        Raises:
            LabError: not root, a program is missing, or fewer are asked for than exist.
        """
        self._need_root()
        with self._locked(create=True):
            layout = self._plan(hosts, controllers)
            if not self._is_whole(layout):
                self._build(layout)
            return self.status()

    def down(self) -> bool:
        """Remove the lab: processes, namespaces, mounts, control groups, files.

        Returns:
            Whether there was one.

        Raises:
            LabError: not root, or something does not go away.
        """
        self._need_root()
        if not self.directory.exists():
            return False
        with self._locked(create=False):
            layout = self._recorded_layout()
            if layout is None:
                return False
            for controller in layout.controllers:
                self._controller(controller).stop()
            if layout.controllers:
                self._say("controllers stopped")
            registry = self._registry(layout)
            self._on_each(self._hosts(layout), self._power_off)
            registry.stop()
            self._say("registry stopped")
            netns.remove_router(layout)
            for name in sorted(p.name for p in netns.NAMESPACES.glob(f"gklab-{layout.mark}-*")):
                netns.remove_namespace(name)
            remove_cgroups(layout)
            self._say("network removed")
            files = [self.inventory(), self.known_hosts, self.directory / _STATE, self.directory / ".lock"]
            if layout.controllers:
                files.append(self.kubeconfig)
            remove_files(self.directory, files)
            release_block(self.directory)
            self._say("files removed")
        if not any(self.directory.iterdir()):
            self.directory.rmdir()
        return True

    def status(self) -> LabStatus:
        """What is there, as seen now. Only root sees that a cable is cut; others see such a host as on."""
        layout = self._recorded_layout()
        if layout is None:
            return LabStatus(self.directory, False, "", "", ())
        ports = self._router_ports(layout)
        hosts = tuple(self._status_of(layout, host, ports) for host in layout.hosts)
        is_serving = self._registry(layout).is_running()
        registry = f"{REGISTRY_NAME}:{REGISTRY_PORT}" if is_serving else ""
        controllers = tuple(self._controller_status(one, ports) for one in layout.controllers)
        return LabStatus(self.directory, True, layout.machine_address, registry, hosts, controllers)

    def push_images(self, layouts: Mapping[str, Path]) -> list[str]:
        """Fill the registry: "name:tag" -> OCI image layout. What is there already is not copied.

        Returns:
            The names that were copied.

        Raises:
            LabError: the registry does not run, or an image cannot be copied.
        """
        return self._registry(self.layout()).push(layouts)

    # ------------------------------------------------------------ one host

    def exec(
        self,
        host: str,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        timeout_s: float = EXEC_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host, past SSH (so it works on a host that is cut).

        Raises:
            LabError: no such host, it is off, or the program took too long.
        """
        command = self.exec_argv(host, argv)
        try:
            return subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{argv[0]} on {host} did not end within {timeout_s:.0f} s") from error

    def exec_argv(self, host: str, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` on a host from this machine, for callers with a terminal. A
        controller is only a network of its own."""
        self._need_root()
        controller = self.layout().controller(host)
        if controller is not None:
            return ["nsenter", f"--net={netns.NAMESPACES / controller.namespace}", "--", *argv]
        return self._host_named(host).exec_argv(argv)

    def kill(self, host: str) -> None:
        """Power cut: every process of the host or controller ends at this instant, and nothing is flushed."""
        self._need_root()
        with self._locked(create=False):
            layout = self.layout()
            controller = layout.controller(host)
            if controller is not None:
                self._stop_controller(layout, controller)
            else:
                self._power_off(self._host_named(host))

    def start(self, host: str) -> None:
        """Boot a host or start a controller that is off; one that is on is left alone."""
        self._need_root()
        with self._locked(create=False):
            layout = self.layout()
            controller = layout.controller(host)
            if controller is not None:
                self._start_controller(layout, controller)
            else:
                self._power_on(self._host_named(host))

    def cut(self, host: str) -> None:
        """Pull out the host's network cable; it runs on."""
        self._set_cable(host, is_up=False)

    def join(self, host: str) -> None:
        """Put the host's network cable back."""
        self._set_cable(host, is_up=True)

    # ------------------------------------------------------------ building

    def _plan(self, hosts: int | None, controllers: int | None) -> LabLayout:
        recorded = self._recorded_layout()
        had = max(1, len(recorded.controllers)) if recorded else 1
        several = controllers or had
        if several < had:
            raise LabError(
                f"the lab in {self.directory} has {had} controllers and is not made smaller; "
                f"`gitkube lab down --dir {self.directory}` first"
            )
        wanted = hosts or (len(recorded.hosts) if recorded else DEFAULT_HOSTS)
        if recorded is not None and wanted < len(recorded.hosts):
            raise LabError(
                f"the lab in {self.directory} has {len(recorded.hosts)} hosts and is not made smaller,"
                f" because their disks would be lost; `gitkube lab down --dir {self.directory}` first"
            )
        before = recorded.block if recorded else None
        with taken_block(self.directory, state_name=_STATE, wanted=before) as block:
            try:
                layout = plan_lab(self.directory, block, wanted, several)
            except ValueError as error:
                raise LabError(str(error)) from error
            state = self.directory / _STATE
            record = {"block": layout.block, "hosts": len(layout.hosts), "controllers": several}
            state.write_text(json.dumps(record))
        return layout

    def _is_whole(self, layout: LabLayout) -> bool:
        if not netns.has_namespace(layout.router_namespace) or not self._registry(layout).is_running():
            return False
        ports = self._router_ports(layout)
        states = {self._status_of(layout, host, ports).state for host in layout.hosts}
        states |= {self._controller_status(one, ports).state for one in layout.controllers}
        return states == {"on"} and self.inventory().exists()

    def _build(self, layout: LabLayout) -> None:
        netns.build_router(layout)
        self._say(f"network ready: this machine is {layout.machine_address} beside the hosts")
        make_key(self.identity_file, "gitkube-lab")
        hosts = self._hosts(layout)
        for host in hosts:
            host.make_key()
        self._write_user_files(layout)
        self._registry(layout).start()
        self._say(f"registry ready: {REGISTRY_NAME}:{REGISTRY_PORT}")
        self._on_each(hosts, self._power_on)
        for host in hosts:
            netns.set_cable(layout, host.layout, is_up=True)
        for controller in layout.controllers:
            self._start_controller(layout, controller)
            netns.set_cable(layout, controller, is_up=True)

    def _start_controller(self, layout: LabLayout, place: ControllerLayout) -> None:
        controller = self._controller(place)
        if controller.pid is not None:
            return
        netns.build_control_network(layout)
        netns.plug(layout, place)
        netns.set_cable(layout, place, is_up=True)
        others = [self._controller(one) for one in layout.controllers if one.name != place.name]
        controller.start([one for one in others if one.pid is not None and one.has_begun])
        members = [one for one in others if one.has_begun]
        is_majority = 1 + sum(one.pid is not None for one in members) > (1 + len(members)) // 2
        if is_majority:  # else it waits for the others, as it must
            controller.wait_ready()
        self._say(f"controller {place.name} {'ready' if is_majority else 'started'}: {place.url}")

    def _stop_controller(self, layout: LabLayout, place: ControllerLayout) -> None:
        was_on = self._controller(place).kill()
        netns.unplug(layout, place)
        if was_on:
            self._say(f"controller {place.name} off")

    def _power_on(self, host: LabHost) -> None:
        if host.power_on(self.identity_file.with_suffix(".pub").read_text()):
            self._say(f"host {host.layout.name} ready: {host.layout.address}, zone {host.layout.zone}")

    def _power_off(self, host: LabHost) -> None:
        if host.power_off():
            self._say(f"host {host.layout.name} off")

    def _set_cable(self, host: str, *, is_up: bool) -> None:
        self._need_root()
        with self._locked(create=False):
            layout = self.layout()
            controller = layout.controller(host)
            machine = self._controller(controller) if controller else self._host_named(host)
            if machine.pid is None:
                raise LabError(f"{host} is off; `gitkube lab start {host}` starts it")
            netns.set_cable(layout, machine.layout, is_up=is_up)

    def _write_user_files(self, layout: LabLayout) -> None:
        host_keys = {host.layout.name: host.public_key for host in self._hosts(layout)}
        self.inventory().write_text(inventory_text(layout, host_keys, self.identity_file))
        self.known_hosts.write_text(known_hosts_text(layout, host_keys))
        # With sudo the lab is root's, but the control plane that uses it is the person's.
        owner, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
        if owner and group:
            keys = (self.identity_file, self.identity_file.with_suffix(".pub"))
            for path in (self.directory, *keys, keys[0].parent, self.inventory(), self.known_hosts):
                os.chown(path, int(owner), int(group))

    # ------------------------------------------------------------ looking

    def _recorded_layout(self) -> LabLayout | None:
        state = self.directory / _STATE
        try:
            record = json.loads(state.read_text())
            controllers = int(record.get("controllers", 1))
            return plan_lab(self.directory, int(record["block"]), int(record["hosts"]), controllers)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(
                f"{state} is damaged ({error}); remove it after `ip netns` shows no gklab-*"
            ) from error

    def _status_of(self, layout: LabLayout, host: HostLayout, ports: Mapping[str, bool]) -> HostStatus:
        pid = self._host(layout, host).pid
        state = "off" if pid is None else "on" if ports.get(host.port, False) else "cut"
        return HostStatus(host.name, host.address, host.zone, state, pid)

    def _controller_status(self, place: ControllerLayout, ports: Mapping[str, bool]) -> ControllerStatus:
        pid = self._controller(place).pid
        state = "off" if pid is None else "on" if ports.get(place.port, False) else "cut"
        return ControllerStatus(place.name, place.address, place.url, state, pid)

    def _router_ports(self, layout: LabLayout) -> dict[str, bool]:
        if os.geteuid() != 0:
            return {place.port: True for place in (*layout.hosts, *layout.controllers)}
        if not netns.has_namespace(layout.router_namespace):
            return {}
        return netns.links(layout.router_namespace)

    def _host(self, layout: LabLayout, place: HostLayout) -> LabHost:
        return LabHost(self.directory / "hosts" / place.name, place, layout)

    def _hosts(self, layout: LabLayout) -> list[LabHost]:
        return [self._host(layout, place) for place in layout.hosts]

    def _host_named(self, name: str) -> LabHost:
        layout = self.layout()
        place = layout.host(name)
        if place is None:
            known = ", ".join(each.name for each in (*layout.hosts, *layout.controllers))
            raise LabError(f"the lab has no host {name!r}; it has {known}")
        return self._host(layout, place)

    def _controller(self, place: ControllerLayout) -> LabController:
        home = self.directory / "controllers" / place.name
        kubeconfig = self.kubeconfig if place.index == 0 else home / "kubeconfig"
        return LabController(home, place, inventory=self.inventory(), kubeconfig=kubeconfig)

    def _registry(self, layout: LabLayout) -> Registry:
        return Registry(self.directory / "registry", layout.registry)

    # ------------------------------------------------------------ helpers

    def _say(self, sentence: str) -> None:
        with self._progress_lock:
            self._tell(sentence)

    def _on_each(self, hosts: Sequence[LabHost], act: Callable[[LabHost], None]) -> None:
        with ThreadPoolExecutor(BOOTS_AT_ONCE, thread_name_prefix="lab-host") as pool:
            for done in [pool.submit(act, host) for host in hosts]:
                done.result()

    @contextmanager
    def _locked(self, *, create: bool) -> Iterator[None]:
        """One command at a time; another one waits for its turn."""
        if create:
            self.directory.mkdir(parents=True, exist_ok=True)
        elif not self.directory.is_dir():
            self.layout()
        with (self.directory / ".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield

    def _need_root(self) -> None:
        if os.geteuid() != 0:
            raise LabError(
                "a lab is made of network namespaces and mounts, which need root; run this with sudo"
            )
