"""`gitkube lab`: pretend hosts on this machine, and faults for them.

A directory holds a lab of one kind: hosts in namespaces of their own, or hollow ones; what it holds decides
which of the two classes a command speaks with.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gitkube.cli.hollow import hollow_arguments, hollow_options

# `gitkube.lab` is imported in the commands: `gitkube --help` shall not wait for it.

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".lab"),
    show_default=True,
    help="Where the lab is kept.",
)


@click.group(epilog="Example:  sudo gitkube lab up --hosts 3")
def lab() -> None:
    """Pretend hosts on this machine: real sshd, disks, networks. Needs root, except for --hollow."""


@lab.command(epilog="Example:  sudo gitkube lab up --hosts 5 --dir /srv/lab")
@click.option("--hosts", type=click.IntRange(min=1), help="How many.  [default: as it is, or 3]")
@click.option(
    "--controllers",
    type=click.IntRange(min=1, max=5),
    help="How many. With 1 the lab starts none: run gitkube serve.  [default: as it is, or 1]",
)
@hollow_options
@_directory
def up(
    hosts: int | None,
    controllers: int | None,
    hollow: int | None,
    delays_ms: dict[str, int],
    directory: Path,
) -> None:
    """Make the lab, or bring back whatever of it is missing.

    With --hollow the hosts are pretended altogether, and the control side is started, too.
    """
    is_hollow = hollow is not None or _is_hollow(directory)
    if is_hollow and (hosts or controllers):
        raise click.UsageError(
            "a hollow lab has --hollow N hosts and one controller; for a lab of another kind in this place, "
            f"first: gitkube lab down --dir {directory}"
        )
    if delays_ms and not is_hollow:
        raise click.UsageError("--hollow-…-ms is for --hollow N")
    with _lab(directory, is_hollow=is_hollow) as it:
        status = it.up(hollow, hollow_arguments(delays_ms)) if is_hollow else it.up(hosts, controllers)
    if is_hollow:
        click.echo(f"{len(status.hosts)} hollow hosts on · kubeconfig: {directory / 'kubeconfig'}")
        return
    click.echo(f"{len(status.hosts)} hosts on · inventory: {directory / 'inventory.yaml'}")
    if status.controllers:
        click.echo(f"{len(status.controllers)} controllers on · kubeconfig: {directory / 'kubeconfig'}")


@lab.command(epilog="Example:  sudo gitkube lab down")
@_directory
def down(directory: Path) -> None:
    """Remove the lab: processes, namespaces, mounts and files."""
    with _lab(directory) as it:
        there_was_one = it.down()
    if not there_was_one:
        click.echo(f"there is no lab in {directory}")


@lab.command(epilog="Example:  gitkube lab status --output json")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_directory
def status(output: str, directory: Path) -> None:
    """Show the hosts and controllers, and whether they are on, off or cut."""
    with _lab(directory) as it:
        seen = it.status()
    if output == "json":
        click.echo(json.dumps(asdict(seen), default=str, indent=2))
    elif not seen.exists:
        click.echo(f"there is no lab in {directory} · make one: sudo gitkube lab up --dir {directory}")
    else:
        width = max(6, *(len(one.name) for one in (*seen.hosts, *seen.controllers)))
        for host in seen.hosts:
            click.echo(f"{host.name:<{width}} {host.state:<4} {host.address:<13} zone {host.zone}")
        for one in seen.controllers:
            click.echo(f"{one.name:<{width}} {one.state:<4} {one.address:<13} {one.url}")
        if not _is_hollow(directory):
            click.echo(f"registry {seen.registry or 'off'} · this machine is {seen.machine_address}")
    if not seen.exists or any(one.state != "on" for one in (*seen.hosts, *seen.controllers)):
        raise SystemExit(1)


@lab.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Example:  sudo gitkube lab exec ant -- ip route",
)
@_directory
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(directory: Path, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on HOST, past SSH; its exit code becomes ours. HOST may be a controller's name, too."""
    with _lab(directory) as it:
        argv = it.exec_argv(host, command)
    os.execvp(argv[0], argv)


def _fault(name: str, text: str, done: str) -> None:
    @lab.command(name, help=text, epilog=f"Example:  sudo gitkube lab {name} bee")
    @_directory
    @click.argument("host")
    def command(directory: Path, host: str) -> None:
        with _lab(directory) as it:
            act: Callable[[str], None] = getattr(it, name)
            act(host)
        click.echo(f"{host} {done}")


_fault("kill", "Power cut: all processes of HOST (or controller) end at once; its disk is kept.", "is off")
_fault("start", "Boot HOST (or controller) after a kill, with the disk it had.", "is on")
_fault("cut", "Pull out the network cable of HOST (or controller); it runs on alone.", "is cut off")
_fault("join", "Put the network cable of HOST (or controller) back.", "is joined")


def _is_hollow(directory: Path) -> bool:
    from gitkube.lab.hollow import HollowLab

    return HollowLab.is_in(directory)


@contextmanager
def _lab(directory: Path, *, is_hollow: bool | None = None) -> Iterator[Any]:
    """The lab of a directory; its progress is printed with the seconds it took, its errors in one line."""
    from gitkube.lab.errors import LabError
    from gitkube.lab.hollow import HollowLab
    from gitkube.lab.lab import Lab

    begun = time.monotonic()

    def tell(sentence: str) -> None:
        click.echo(f"{time.monotonic() - begun:5.1f} s  {sentence}")

    try:
        kind = HollowLab if (_is_hollow(directory) if is_hollow is None else is_hollow) else Lab
        yield kind(directory, progress=tell)
    except LabError as error:
        raise click.ClickException(str(error)) from error
