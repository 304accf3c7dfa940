"""Programs that are missing, brought by the machine's package manager.

A fresh machine has empty or old package lists, so a failed install is tried once more after a refresh. What
then still fails is told by its cause, which apt hides well: a mirror out of reach shows as a package that
does not exist. Waiting is left to the control side, which tries again with growing pauses and shows the
sentence meanwhile.
"""

import re
import shutil
import time
from typing import Any

from gitkube.fleet.on_host.base import ENVIRONMENT, Refusal, call, said_by, say

TIMEOUT_S = 800.0
"""For all calls of apt together; the control side waits a little longer."""
LOCK_WAIT_S = 5
"""Another package manager is often done in a moment; a longer wait should be seen by a person."""
APT = [
    "apt-get", "-y", "-q",
    "-o", f"DPkg::Lock::Timeout={LOCK_WAIT_S}",
    "-o", "Acquire::Retries=1",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
]  # fmt: skip

_LOCKED = re.compile(r"Could not get lock (\S+?)\.?(?: It is held by process (\d+)(?: \(([^)]*)\))?|$| -|\s)")
_UNREACHABLE = (
    "Temporary failure resolving", "Could not resolve", "Could not connect", "Cannot initiate the connection",
    "Unable to connect", "Network is unreachable", "Connection timed out", "Connection failed",
)  # fmt: skip
_UNKNOWN = re.compile(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate")
_FULL = ("No space left on device", "You don't have enough free space")


def missing_packages(packages: "list[dict[str, Any]]", facts: "dict[str, Any]") -> "list[str]":
    """Those of which no program is there."""
    missing = []
    for package in packages:
        if package.get("withoutKernelWireguard") and facts["kernelWireguard"]:
            continue
        found = (shutil.which(name, path=ENVIRONMENT["PATH"]) for name in package["programs"])
        if not any(found):
            missing.append(str(package["name"]))
    return missing


def install(missing: "list[str]", facts: "dict[str, Any]") -> None:
    """Raises Refusal: they could not be installed; the sentence says why and what to do."""
    if not facts["apt"]:
        raise Refusal(
            f"{facts['os']} has no apt, which is the package manager that gitkube knows; install these"
            f" yourself, then it goes on: {' '.join(missing)}"
        )
    deadline = time.monotonic() + TIMEOUT_S
    command = [*APT, "--no-install-recommends", "install", "--", *missing]
    say({"progress": "installing " + " ".join(missing)})
    done = call(command, deadline - time.monotonic())
    lines = said_by(done)
    if done.returncode != 0 and not is_lasting(lines):
        say({"progress": "refreshing the package lists"})
        lines = said_by(call([*APT, "update"], deadline - time.monotonic()))
        # An update that reached only some of the mirrors may have failed, and yet be enough.
        say({"progress": "installing " + " ".join(missing)})
        done = call(command, deadline - time.monotonic())
        lines += said_by(done)
    if done.returncode != 0:
        raise Refusal(explain(missing, facts, lines))


def require_programs(packages: "list[dict[str, Any]]", facts: "dict[str, Any]") -> None:
    """Raises Refusal: apt thinks that a package is there, and its program is not."""
    still = missing_packages(packages, facts)
    if still:
        names = " ".join(still)
        raise Refusal(
            f"the host has {names} installed as far as apt knows, but without the program;"
            f" run there: sudo apt-get install --reinstall {names}"
        )


def is_lasting(lines: "list[str]") -> bool:
    """Whether fresh package lists would not help."""
    return any(
        _LOCKED.search(line) or "dpkg was interrupted" in line or _has(line, (*_FULL, *_UNREACHABLE))
        for line in lines
    )


def explain(missing: "list[str]", facts: "dict[str, Any]", lines: "list[str]") -> str:
    """Why apt failed, in a sentence that says what to do. Pure."""
    names = " ".join(missing)
    text = "\n".join(lines)
    locked = _LOCKED.search(text)
    if locked:
        holder = f" (process {locked.group(2)}, {locked.group(3) or 'unknown'})" if locked.group(2) else ""
        return (
            f"another package manager{holder} is at work on the host and holds {locked.group(1)};"
            f" {names} will be installed when it is done"
        )
    if "dpkg was interrupted" in text:
        return "an earlier installation on the host was cut off; run there: sudo dpkg --configure -a"
    if _has(text, _FULL):
        return f"the host's disk has no room for {names}; make some"
    unreachable = [line for line in lines if _has(line, _UNREACHABLE)]
    if unreachable:
        return (
            f"the host does not reach its package mirror, so {names} cannot be installed"
            f" ({_cut(unreachable[-1])}); give it a way there, or install these yourself"
        )
    unknown = sorted({first or second for first, second in _UNKNOWN.findall(text)})
    if unknown:
        return (
            f"the package sources of the host ({facts['os']}) have no {', '.join(unknown)}; gitkube knows the"
            " packages of Debian 12 and Ubuntu 24.04 (with universe). Add a source, or install"
            f" {'it' if len(unknown) == 1 else 'them'} yourself"
        )
    told = [line for line in lines if line.startswith("E:")] or lines or ["it said nothing"]
    return f"apt-get could not install {names}: {_cut(' | '.join(told[-3:]))}"


def _has(text: str, marks: "tuple[str, ...]") -> bool:
    return any(mark in text for mark in marks)


def _cut(text: str) -> str:
    text = re.sub(r"^[EW]: ", "", text)
    return text if len(text) <= 400 else text[:399] + "…"
