"""Which names and addresses a lab has: decided here, without touching anything.

A lab owns a block of four /24 networks out of 10.66.0.0/16: the first joins the machine (.1) and the lab's
router (.2), the second and third hold the hosts in turn, so that neighbours by name live on different
networks and only an overlay makes them flat. The fourth holds the controllers, when there are several. The
invariant: everything follows from (directory, block, index), so a lab found half built is recognised and
completed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

HOST_NAMES = (
    "ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "koi", "lynx", "mole",
    "newt", "owl", "pig", "quail", "ram", "seal", "toad", "urial", "vole", "wasp", "yak", "zebu",
)  # fmt: skip
MAX_HOSTS = len(HOST_NAMES)
MAX_BLOCKS = 64
"""Labs side by side on one machine: 10.66.0.0/16 in blocks of four /24."""

REGISTRY_NAME = "registry.lab"
REGISTRY_PORT = 5000
ZONES = ("a", "b")
MAX_CONTROLLERS = 5
CONTROL_BRIDGE = "br-ctl"
API_PORT, PEER_PORT = 6443, 2380
"""Of each controller, on its own address."""
_CONTROL_PART = 3
_FIRST_HOST_PART = 11


@dataclass(frozen=True, slots=True)
class CableLayout:
    """A network namespace that is cabled to the router: a host's or a controller's."""

    name: str
    index: int
    address: str
    gateway: str
    namespace: str
    """Name of the network namespace, as `ip netns` shows it."""
    port: str
    """The router's end of the host's cable."""
    hardware_address: str
    """Kept through boots, as a real card's is; a new one would leave the neighbours with a stale entry."""
    bridge: str
    """The switch, inside the router, that the cable is plugged into."""


@dataclass(frozen=True, slots=True)
class HostLayout(CableLayout):
    zone: str


@dataclass(frozen=True, slots=True)
class ControllerLayout(CableLayout):
    @property
    def url(self) -> str:
        """Of its API."""
        return f"https://{self.address}:{API_PORT}"

    @property
    def peer(self) -> str:
        """Where the other members reach its member of the store."""
        return f"{self.address}:{PEER_PORT}"


@dataclass(frozen=True, slots=True)
class LabLayout:
    directory: Path
    block: int
    hosts: tuple[HostLayout, ...]
    controllers: tuple[ControllerLayout, ...] = ()
    """Empty while the control side runs on the machine itself."""

    @property
    def mark(self) -> str:
        return mark_of(self.directory)

    @property
    def machine_address(self) -> str:
        """Where the machine listens for the hosts: control plane and registry."""
        return f"{_network(self.block, 0)}.1"

    @property
    def router_address(self) -> str:
        return f"{_network(self.block, 0)}.2"

    @property
    def router_namespace(self) -> str:
        return f"gklab-{self.mark}-router"

    @property
    def machine_link(self) -> str:
        """The machine's end of the cable to the router (at most 15 characters, the kernel's limit)."""
        return f"gklab{self.mark}"

    @property
    def subnets(self) -> tuple[tuple[str, str, str], ...]:
        """(bridge in the router, gateway address, subnet) of each host network."""
        return tuple(
            (f"br-{zone}", f"{_network(self.block, 1 + at)}.1", f"{_network(self.block, 1 + at)}.0/24")
            for at, zone in enumerate(ZONES)
        )

    @property
    def control_subnet(self) -> tuple[str, str, str]:
        """As one of `subnets`, for the controllers."""
        network = _network(self.block, _CONTROL_PART)
        return CONTROL_BRIDGE, f"{network}.1", f"{network}.0/24"

    def bridge_hardware_address(self, bridge: str) -> str:
        """Of a switch's own port. Without one of its own a bridge takes that of a cable, and another when
        that is pulled out: all who know the old one would talk to nobody for a while.
        """
        at = [name for name, _, _ in (*self.subnets, self.control_subnet)].index(bridge)
        return f"02:{self.mark[0:2]}:{self.mark[2:4]}:{self.mark[4:6]}:02:{at + 1:02x}"

    @property
    def registry(self) -> str:
        """The registry's address as the machine reaches it."""
        return f"{self.machine_address}:{REGISTRY_PORT}"

    def host(self, name: str) -> HostLayout | None:
        return next((host for host in self.hosts if host.name == name), None)

    def controller(self, name: str) -> ControllerLayout | None:
        return next((one for one in self.controllers if one.name == name), None)


def mark_of(directory: Path) -> str:
    """What tells this lab's namespaces and links from another's."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:6]


def plan_lab(directory: Path, block: int, hosts: int, controllers: int = 1) -> LabLayout:
    """The layout of a lab.

    Args:
        controllers: 1 is a control side on the machine itself, which a lab has nothing to do with.

    Raises:
        ValueError: more hosts, controllers or blocks than there are names and networks.
    """
    if not 1 <= hosts <= MAX_HOSTS:
        raise ValueError(f"a lab has between 1 and {MAX_HOSTS} hosts, not {hosts}")
    if not 0 <= block < MAX_BLOCKS:
        raise ValueError(f"there are {MAX_BLOCKS} blocks of networks; {block} is none of them")
    if not 1 <= controllers <= MAX_CONTROLLERS:
        raise ValueError(f"a lab has between 1 and {MAX_CONTROLLERS} controllers, not {controllers}")
    mark = mark_of(directory)
    several = range(controllers) if controllers > 1 else ()
    return LabLayout(
        directory,
        block,
        tuple(_plan_host(mark, block, index) for index in range(hosts)),
        tuple(_plan_controller(mark, block, index) for index in several),
    )


def _plan_controller(mark: str, block: int, index: int) -> ControllerLayout:
    name, network = f"ctl-{index + 1}", _network(block, _CONTROL_PART)
    return ControllerLayout(
        name=name,
        index=index,
        address=f"{network}.{_FIRST_HOST_PART + index}",
        gateway=f"{network}.1",
        namespace=f"gklab-{mark}-{name}",
        port=f"to-{name}",
        hardware_address=f"02:{mark[0:2]}:{mark[2:4]}:{mark[4:6]}:01:{_FIRST_HOST_PART + index:02x}",
        bridge=CONTROL_BRIDGE,
    )


def _plan_host(mark: str, block: int, index: int) -> HostLayout:
    name, at = HOST_NAMES[index], index % len(ZONES)
    network = _network(block, 1 + at)
    return HostLayout(
        name=name,
        index=index,
        zone=ZONES[at],
        address=f"{network}.{_FIRST_HOST_PART + index}",
        gateway=f"{network}.1",
        namespace=f"gklab-{mark}-{name}",
        port=f"to-{name}",
        hardware_address=f"02:{mark[0:2]}:{mark[2:4]}:{mark[4:6]}:00:{_FIRST_HOST_PART + index:02x}",
        bridge=f"br-{ZONES[at]}",
    )


def _network(block: int, part: int) -> str:
    return f"10.66.{4 * block + part}"
