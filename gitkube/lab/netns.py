"""The lab's cables: network namespaces, the router between them, the links.

Thin edge over `ip`, always with argument lists. Each function leaves things as its name says and may be
called again on what it made before, finished or not.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from gitkube.lab.errors import LabError
from gitkube.lab.layout import CableLayout, LabLayout

NAMESPACES = Path("/run/netns")
COMMAND_TIMEOUT_S = 30.0
CARRIER_TIMEOUT_S = 5.0


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a program and give back what it printed.

    Raises:
        LabError: it is not installed, failed, or took too long.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"`{argv[0]}` is not installed; `make demo` installs what the lab needs") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise LabError(f"`{' '.join(argv)}` failed: {said}")
    return done.stdout


def has_namespace(name: str) -> bool:
    return (NAMESPACES / name).exists()


def remove_namespace(name: str) -> None:
    """Let go of a namespace; the kernel frees it with its links when its last process has gone."""
    if has_namespace(name):
        run(["ip", "netns", "delete", name])


def links(namespace: str | None = None) -> dict[str, bool]:
    """The links of a namespace (the machine's own for None), and whether each is set up."""
    inside = ["-n", namespace] if namespace else []
    listed = json.loads(run(["ip", *inside, "-j", "link", "show"]) or "[]")
    return {link["ifname"]: "UP" in link["flags"] for link in listed}


def build_router(layout: LabLayout) -> None:
    """The router, its two switches, and the cable to the machine.

    Built completely or, when it is found half built, anew. Only the router forwards: the machine's own
    `ip_forward` is left as it is.
    """
    if layout.machine_link in links() and has_namespace(layout.router_namespace):
        return
    remove_router(layout)
    router = layout.router_namespace
    run(["ip", "netns", "add", router])
    inside = ["ip", "-n", router]
    run([*inside, "link", "set", "lo", "up"])
    for bridge, gateway, _ in layout.subnets:
        address = layout.bridge_hardware_address(bridge)
        run([*inside, "link", "add", bridge, "address", address, "type", "bridge"])
        run([*inside, "address", "add", f"{gateway}/24", "dev", bridge])
        run([*inside, "link", "set", bridge, "up"])
    run(["ip", "netns", "exec", router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    # The cable comes last: its presence is what says that the router is whole.
    run([
        "ip", "link", "add", layout.machine_link, "type", "veth",
        "peer", "name", "uplink", "netns", router,
    ])  # fmt: skip
    run([*inside, "address", "add", f"{layout.router_address}/24", "dev", "uplink"])
    run([*inside, "link", "set", "uplink", "up"])
    run(["ip", "address", "add", f"{layout.machine_address}/24", "dev", layout.machine_link])
    run(["ip", "link", "set", layout.machine_link, "up"])
    for _, _, subnet in layout.subnets:
        run([
            "ip", "route", "replace", subnet, "via", layout.router_address,
            "dev", layout.machine_link, "src", layout.machine_address,
        ])  # fmt: skip


def build_control_network(layout: LabLayout) -> None:
    """The controllers' switch in the router, and the machine's way to it.

    Controllers reach hosts; a host, and so a pod, opens no connection to a controller.
    """
    router, (bridge, gateway, subnet) = layout.router_namespace, layout.control_subnet
    if bridge in links(router):
        return
    run(["ip", "netns", "exec", router, "nft", "-f", "-"], stdin=_CONTROL_RULES.format(bridge=bridge))
    run([
        "ip", "route", "replace", subnet, "via", layout.router_address,
        "dev", layout.machine_link, "src", layout.machine_address,
    ])  # fmt: skip
    # The switch comes last: its presence is what says that this network is whole.
    hardware_address = layout.bridge_hardware_address(bridge)
    run(["ip", "-n", router, "link", "add", bridge, "address", hardware_address, "type", "bridge"])
    run(["ip", "-n", router, "address", "add", f"{gateway}/24", "dev", bridge])
    run(["ip", "-n", router, "link", "set", bridge, "up"])


_CONTROL_RULES = """\
table inet gitkube-lab
delete table inet gitkube-lab
table inet gitkube-lab {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    iifname "br-*" iifname != "{bridge}" oifname "{bridge}" drop
  }}
}}
"""


def remove_router(layout: LabLayout) -> None:
    if layout.machine_link in links():
        run(["ip", "link", "delete", layout.machine_link])
    remove_namespace(layout.router_namespace)


def plug(layout: LabLayout, host: CableLayout) -> None:
    """A fresh network namespace for a host or controller that is about to start, cabled to its switch."""
    unplug(layout, host)
    router = layout.router_namespace
    run(["ip", "netns", "add", host.namespace])
    run([
        "ip", "-n", router, "link", "add", host.port, "type", "veth",
        "peer", "name", "eth0", "netns", host.namespace,
    ])  # fmt: skip
    run(["ip", "-n", router, "link", "set", host.port, "master", host.bridge, "up"])
    inside = ["ip", "-n", host.namespace]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{host.address}/24", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "address", host.hardware_address, "up"])
    run([*inside, "route", "add", "default", "via", host.gateway])


def unplug(layout: LabLayout, host: CableLayout) -> None:
    # The cable goes first: freeing a namespace is the kernel's own time, and the name must be free again.
    if has_namespace(layout.router_namespace) and host.port in links(layout.router_namespace):
        run(["ip", "-n", layout.router_namespace, "link", "delete", host.port])
    remove_namespace(host.namespace)


def set_cable(layout: LabLayout, host: CableLayout, *, is_up: bool) -> None:
    """Pull a cable out of its switch, or put it back and wait until it carries.

    Raises:
        LabError: no carrier in time.
    """
    router = layout.router_namespace
    run(["ip", "-n", router, "link", "set", host.port, "up" if is_up else "down"])
    if not is_up:
        return
    # The kernel passes the carrier on in its own time, up to a second later: to the card, and to a switch
    # that had no other port. What is sent before that is lost.
    ends = [(router, host.port), (router, host.bridge), (host.namespace, "eth0")]
    deadline = time.monotonic() + CARRIER_TIMEOUT_S
    while not all(_carries(namespace, link) for namespace, link in ends):
        if time.monotonic() > deadline:
            raise LabError(f"the cable of {host.name} has no carrier; is it still there?")
        time.sleep(0.01)


def _carries(namespace: str, link: str) -> bool:
    shown = json.loads(run(["ip", "-n", namespace, "-j", "link", "show", link]))
    return bool(shown[0]["operstate"] == "UP")
