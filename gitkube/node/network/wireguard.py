"""The mesh between hosts: one WireGuard interface, the kernel's when it has one, else `wireguard-go`.

The private key is born here, lies in a file that only root reads, and never leaves the host. Peers are
brought to the desired set by differences: who is unchanged is not mentioned, so its session goes on. An
endpoint is told only when the wish for it changed: one that WireGuard learnt by itself (a host that roams,
or sits behind NAT) is state, and stays.

`wireguard-go` is started in a session of its own and outlives the agent, so that a restarted agent finds the
tunnel as it was. Both kinds are spoken to with `wg`, which knows the kernel's and the socket's protocol.
"""

from __future__ import annotations

import base64
import binascii
import errno
import ipaddress
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitkube.node import files, procs
from gitkube.node.network.commands import run
from gitkube.node.network.errors import NetworkError
from gitkube.node.network.netlink import Netlink
from gitkube.wire import Peer

INTERFACE = "gitkube-wg"
MTU = 1420
"""1500 of Ethernet less what WireGuard adds over IPv6, the larger case."""
KEEPALIVE_S = 25
"""Keeps a NAT's mapping open; WireGuard's documentation proposes it."""
START_TIMEOUT_S = 10.0
PEERS_A_CALL = 200
"""Keeps each argument list far below the kernel's limit."""


@dataclass(frozen=True)
class CurrentPeer:
    """A peer as the interface has it."""

    endpoint: str
    allowed: frozenset[str]


def read_dump(dump: str) -> dict[str, CurrentPeer]:
    """The peers in what `wg show INTERFACE dump` prints, by public key. Pure."""
    peers = {}
    for line in dump.splitlines()[1:]:
        fields = line.split("\t")
        if len(fields) >= 4:
            allowed = frozenset() if fields[3] == "(none)" else frozenset(fields[3].split(","))
            peers[fields[0]] = CurrentPeer("" if fields[2] == "(none)" else fields[2], allowed)
    return peers


def check_peer(peer: Peer) -> None:
    """Refuse what WireGuard would.

    Raises:
        NetworkError: naming the peer and the field.
    """
    name = peer["name"]
    try:
        length = len(base64.b64decode(peer["publicKey"], validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if length != 32:
        raise NetworkError(f"host {name} gave no WireGuard key that could be one")
    try:
        network = ipaddress.IPv4Network(peer["podCIDR"])
    except ValueError as error:
        raise NetworkError(f"host {name} has no pod network: {error}") from error
    if network.prefixlen < 8:
        raise NetworkError(f"host {name} claims {network}, which is more than a host's share")
    if peer["endpoint"]:
        address, colon, port = peer["endpoint"].rpartition(":")
        try:
            ipaddress.ip_address(address[1:-1] if address.startswith("[") else address)
            if not colon or not 1 <= int(port) <= 65535:
                raise ValueError("the port is out of range")
        except ValueError as error:
            raise NetworkError(
                f"host {name} has the endpoint {peer['endpoint']!r}, which is not address:port"
            ) from error


def plan_peers(
    current: Mapping[str, CurrentPeer], desired: Sequence[Peer], told: Mapping[str, str]
) -> list[list[str]]:
    """The arguments of `wg set`, one list for each peer that differs. Pure.

    Args:
        told: the endpoint that each public key was given last.
    """
    changes = [
        ["peer", key, "remove"] for key in current if key not in {peer["publicKey"] for peer in desired}
    ]
    for peer in desired:
        key, allowed = peer["publicKey"], str(ipaddress.IPv4Network(peer["podCIDR"]))
        has = current.get(key)
        change = ["peer", key]
        if has is None:
            change += ["persistent-keepalive", str(KEEPALIVE_S)]
        if peer["endpoint"] and (has is None or told.get(key) != peer["endpoint"]):
            change += ["endpoint", peer["endpoint"]]
        if has is None or has.allowed != {allowed}:
            change += ["allowed-ips", allowed]
        if len(change) > 2:
            changes.append(change)
    return changes


class WireGuard:
    """This host's end of the mesh. Blocking; used by one thread at a time.

    Args:
        state: a directory that survives a reboot; holds the key.
        run_dir: one that does not; holds what is known of the running interface.
    """

    def __init__(self, state: Path, run_dir: Path) -> None:
        self._key = state / "wireguard.key"
        self._told = run_dir / "endpoints.json"
        self._pid_file = run_dir / "wireguard-go.json"
        self._log = run_dir / "wireguard-go.log"
        self._public_key = ""
        self._child: subprocess.Popen[bytes] | None = None

    def public_key(self) -> str:
        """This host's public key, base64. Makes the key pair the first time.

        Raises:
            NetworkError: `wg` is missing, or the key file cannot be used.
        """
        if not self._public_key:
            if not self._key.exists():
                self._key.parent.mkdir(parents=True, exist_ok=True)
                private = run(["wg", "genkey"], package="wireguard-tools")
                files.write_atomically(self._key, private.encode(), mode=0o600)
            private = files.read_text(self._key, 100)
            self._public_key = run(["wg", "pubkey"], stdin=private, package="wireguard-tools").strip()
        return self._public_key

    def apply(self, listen_port: int, peers: Sequence[Peer]) -> int:
        """Bring interface and peers to what is desired.

        Returns:
            The interface's index, for routes.

        Raises:
            NetworkError: there can be no interface, or `wg` refused.
        """
        self.public_key()
        is_new = self._ensure_interface()
        dump = run(["wg", "show", INTERFACE, "dump"], package="wireguard-tools")
        told = {} if is_new else (files.read_json(self._told) or {})
        own = dump.split("\n", 1)[0].split("\t")
        if len(own) < 3 or own[1] != self._public_key or own[2] != str(listen_port):
            run(["wg", "set", INTERFACE, "listen-port", str(listen_port), "private-key", str(self._key)])
        changes = plan_peers(read_dump(dump), peers, told)
        for start in range(0, len(changes), PEERS_A_CALL):
            arguments = [word for change in changes[start : start + PEERS_A_CALL] for word in change]
            run(["wg", "set", INTERFACE, *arguments])
        files.write_json(self._told, {peer["publicKey"]: peer["endpoint"] for peer in peers}, durable=False)
        with Netlink() as netlink:
            link = netlink.link(INTERFACE)
            if link is None:
                raise NetworkError(f"{INTERFACE} vanished while it was set up; it is tried again")
            if not link.is_up or link.mtu != MTU:
                netlink.set_link(link.index, mtu=MTU)
            return link.index

    def is_alive(self) -> bool:
        """Whether the interface is there, and the process behind it, if it needs one."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None  # collected: it must not stay as a zombie
        with Netlink() as netlink:
            link = netlink.link(INTERFACE)
        if link is None:
            return False
        return link.kind == "wireguard" or procs.is_alive(self._recorded_process())

    # ------------------------------------------------------------ the interface

    def _ensure_interface(self) -> bool:
        """Returns whether it was made just now."""
        if self.is_alive():
            return False
        with Netlink() as netlink:
            netlink.delete_link(INTERFACE)
            try:
                netlink.add_link(INTERFACE, "wireguard", mtu=MTU)
                return True
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENODEV):
                    raise NetworkError(
                        f"the kernel makes no WireGuard interface: {error.strerror}"
                    ) from error
        self._start_user_space()
        return True

    def _start_user_space(self) -> None:
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self._log, "wb") as log:
                self._child = subprocess.Popen(
                    ["wireguard-go", "-f", INTERFACE],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LOG_LEVEL": "error"},
                    start_new_session=True,
                )
        except FileNotFoundError as error:
            raise NetworkError(
                "this host's kernel has no WireGuard and `wireguard-go` is missing; install wireguard-go"
            ) from error
        process = procs.identify(self._child.pid)
        if process is not None:
            record = {"pid": process.pid, "start": process.start_ticks, "boot": process.boot_id}
            files.write_json(self._pid_file, record, durable=False)
        for _ in self._until_deadline():
            if self._child.poll() is not None:
                break
            try:
                run(["wg", "show", INTERFACE, "dump"])
                return
            except NetworkError:
                continue
        last = files.read_text(self._log)[-300:].strip() or "nothing"
        raise NetworkError(f"wireguard-go does not come up; the last it said was: {last}")

    def _until_deadline(self) -> Iterator[None]:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            yield
            time.sleep(0.01)

    def _recorded_process(self) -> procs.ProcessId | None:
        record = files.read_json(self._pid_file)
        if not isinstance(record, dict):
            return None
        return procs.ProcessId(int(record["pid"]), int(record["start"]), str(record["boot"]))
