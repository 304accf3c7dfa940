"""From a reachable machine to one whose agent listens: in one round trip when there is nothing to do.

The files of `on_host` go to the host's Python over standard input, together with the parameters as JSON; the
command line is a constant. They look, install what is missing, and report. Only when the host does not have
this agent yet is the zipapp put there over SFTP, under a name nobody can guess, and they run once more to
take it over after its digest was verified. Every step may be cut at any point and run again.

An agent that replaces another is on trial: unless `confirm` is called over a new connection in time, the host
takes it back by itself.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from gitkube.fleet import on_host
from gitkube.fleet.agent_package import AgentPackage
from gitkube.fleet.errors import PrepareError
from gitkube.fleet.hosts import Host
from gitkube.fleet.settings import FleetSettings

if TYPE_CHECKING:
    from gitkube.fleet.ssh import Completed

BOOTSTRAP = 'import json,sys;given=json.load(sys.stdin);exec(given["loader"],{"given":given})'
LOADER = """\
import sys, types
package = ""
for part in given["package"].split("."):
    package = (package + "." + part).lstrip(".")
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, text in given["modules"]:
    module = types.ModuleType(package + "." + name)
    sys.modules[module.__name__] = module
    setattr(sys.modules[package], name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
module.main(given["parameters"])
"""
"""Makes modules of the texts, under the names that they have here."""
RUN_SCRIPT = f"/usr/bin/python3 -I -c '{BOOTSTRAP}'"
LINK = "/var/lib/gitkube/bin/gitkube-node link"
SUDO = "sudo -n -- "

PACKAGES: tuple[dict[str, Any], ...] = (
    {"name": "crun", "programs": ["crun"]},
    {"name": "conmon", "programs": ["conmon"]},
    {"name": "nftables", "programs": ["nft"]},
    {"name": "skopeo", "programs": ["skopeo"]},
    {"name": "wireguard-tools", "programs": ["wg"]},
    {"name": "wireguard-go", "programs": ["wireguard-go", "wireguard"], "withoutKernelWireguard": True},
)
"""Debian's names, and the program that shows that each is there."""


class Shell(Protocol):
    """What preparing needs of a connection."""

    async def run(
        self,
        command: str,
        stdin: bytes,
        *,
        timeout_s: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Completed: ...

    async def upload(self, content: bytes, path: str, *, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A host whose agent listens."""

    facts: dict[str, Any]
    did: tuple[str, ...] = field(default=())
    """What had to be done; () when it was ready already."""
    round_trips: int = 1
    on_trial: bool = False
    """The agent is a new one, and is put back unless it is confirmed over a new connection."""


def command_for(host: Host, command: str) -> str:
    """The constant command, as root."""
    return SUDO + command if host.needs_sudo else command


async def prepare(
    shell: Shell,
    host: Host,
    package: AgentPackage,
    *,
    settings: FleetSettings,
    rng: Random,
    restart: bool = False,
    on_progress: Callable[[str], None] = lambda sentence: None,
) -> Prepared:
    """Make a host ready.

    Args:
        restart: start the agent anew even if it runs, because it was seen not to be this one.
        on_progress: is told what takes its time.

    Raises:
        PrepareError: the host cannot be made ready; the sentence says what to do.
        HostUnreachable: the connection failed under way.
    """
    parameters: dict[str, Any] = {
        "packages": list(PACKAGES),
        "agentName": package.name,
        "agentDigest": package.digest,
        "restart": restart,
        "trialSeconds": settings.trial_s,
    }
    report = await _ask(shell, host, parameters, settings, on_progress)
    if report["needsAgent"]:
        did = report["did"]
        uploaded = f"/tmp/gitkube-node-{package.digest[:12]}-{rng.getrandbits(64):016x}.part"
        on_progress(f"sending the agent ({len(package.content) // 1024} KiB)")
        await shell.upload(package.content, uploaded, timeout_s=settings.install_timeout_s)
        report = await _ask(shell, host, {**parameters, "uploaded": uploaded}, settings, on_progress)
        return _finished(report, did, 3)
    return _finished(report, [], 1)


async def confirm(shell: Shell, host: Host, package: AgentPackage, *, settings: FleetSettings) -> None:
    """Keep the agent that is on trial. To be called over a connection made after it was started.

    Raises:
        PrepareError: it was put back already.
        HostUnreachable: the connection failed under way.
    """
    await _ask(shell, host, {"confirm": package.name}, settings, lambda sentence: None)


def _finished(report: dict[str, Any], did_before: list[str], round_trips: int) -> Prepared:
    if not report["ready"]:
        raise PrepareError("the host took the agent and still asks for it; is its disk full?")
    did = (*did_before, *report["did"])
    return Prepared(report["facts"], did, round_trips, on_trial=report["onTrial"])


async def _ask(
    shell: Shell,
    host: Host,
    parameters: dict[str, Any],
    settings: FleetSettings,
    on_progress: Callable[[str], None],
) -> dict[str, Any]:
    def on_line(line: bytes) -> None:
        message = _json_object(line)
        if message is not None and isinstance(message.get("progress"), str):
            on_progress(message["progress"])

    given = {"loader": LOADER, "package": on_host.__name__, "modules": modules(), "parameters": parameters}
    stdin = json.dumps(given).encode()
    done = await shell.run(
        command_for(host, RUN_SCRIPT), stdin, timeout_s=settings.install_timeout_s, on_line=on_line
    )
    lines = [_json_object(line) for line in done.stdout.splitlines()]
    reports = [line for line in lines if line is not None and "ready" in line]
    if not reports:
        raise PrepareError(explain_failure(host, done))
    report = reports[-1]
    if report["error"]:
        raise PrepareError(str(report["error"]))
    return report


def explain_failure(host: Host, done: Completed) -> str:
    """Why there was no report, in a sentence."""
    said = done.stderr.decode("utf-8", "replace").strip()
    if "password is required" in said or "a terminal is required" in said:
        return (
            f"sudo asks {host.user} for a password; allow it without one on the host:"
            f" echo '{host.user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/gitkube"
        )
    if "not in the sudoers" in said or "may not run sudo" in said or "is not allowed to execute" in said:
        return f"{host.user} may not use sudo on the host; add it to the sudo group, or log in as root"
    if "sudo" in said and "not found" in said:
        return "the host has no sudo; install it, or log in as root (user: root in the inventory)"
    if done.exit_code == 127 or "No such file" in said:
        return "the host has no /usr/bin/python3; install Python 3.9 or newer"
    tail = said.splitlines()[-1][:300] if said else "nothing"
    return f"looking at the host ended with exit code {done.exit_code}, saying: {tail}"


@functools.cache
def modules() -> tuple[tuple[str, str], ...]:
    """Name and text of what runs on the host, in the order in which it is needed."""
    files = importlib.resources.files(on_host)
    return tuple((name, files.joinpath(f"{name}.py").read_text("utf-8")) for name in on_host.MODULES)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None  # such as a banner printed by somebody's login shell
    return value if isinstance(value, dict) else None
