"""`gitkube demo`: the whole path on this machine, one line a step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gitkube.lab.demo import Demo


@click.command(epilog="Example:  sudo gitkube demo --hosts 3")
@click.option("--hosts", type=click.IntRange(min=1), help="How many.  [default: as it is, or 3]")
@click.option(
    "--controllers",
    type=click.IntRange(min=1, max=5),
    help="How many, each in a network of its own when there are several.  [default: as it is, or 1]",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".lab"),
    show_default=True,
    help="Where everything is kept.",
)
@click.option(
    "--listen", default="127.0.0.1:6443", show_default=True, help="Address of the API of a lone controller."
)
@click.option("--down", is_flag=True, help="Remove all that the demo made, the clone included.")
def demo(hosts: int | None, controllers: int | None, directory: Path, listen: str, down: bool) -> None:
    """Start a lab of three hosts and a control plane, push the sample, show that it runs. Needs root."""
    from rich.console import Console

    from gitkube.lab.demo import Demo
    from gitkube.lab.errors import LabError

    console = Console(highlight=False)

    def say(line: str) -> None:
        console.print(f"    {line}", markup=False, soft_wrap=True)

    it = Demo(directory, listen=listen, say=say)
    try:
        if down:
            _step(console.print, "remove", it.remove)
            return
        _step(console.print, "hosts", lambda: it.start_hosts(hosts, controllers))
        _step(console.print, "images", it.fill_registry)
        _step(console.print, "control", it.start_control)
        _step(console.print, "agents", it.wait_for_hosts)
        _step(console.print, "clone", it.make_clone)
        _step(console.print, "push", it.push)
        it.hand_over()
    except LabError as error:
        raise click.ClickException(str(error)) from error
    _show(it)


def _step(show: Callable[[str], None], name: str, work: Callable[[], str]) -> None:
    started = time.monotonic()
    result = work()
    show(f"[green]✓[/green] {name:<8} {result}  [dim]{time.monotonic() - started:.1f} s[/dim]")


def _show(it: Demo) -> None:
    status = subprocess.run(
        [sys.executable, "-m", "gitkube.cli.main", "status", "--wait", "120", "--kubeconfig", it.kubeconfig],
        check=False,
    )
    gitkube = _program("gitkube")
    kubectl = f"{_program('kubectl')} --kubeconfig {_short(it.kubeconfig)}"
    directory = "" if it.directory == Path(".lab").resolve() else f" --dir {_short(it.directory)}"
    fault = "bee"
    if it.lab.controllers():
        fault = it.leader() or "ctl-1"
    dies = "a host dies  " if fault == "bee" else "leader dies  "
    click.echo(
        f"""
the guestbook:  {it.guestbook_url()}

try next:
  1. another version    cd {_short(it.clone)}
                        sed -i 's/version: 1/version: 2/' apps/guestbook/values.yaml
                        git commit -am 'web: 1 -> 2' && git push lab main
  2. {dies}      {gitkube} lab kill {fault}{directory}, then {gitkube} status
                        and back: {gitkube} lab start {fault}{directory}
  3. with kubectl       {kubectl} get pods -A -o wide

all of it goes with:  make demo-down"""
    )
    raise SystemExit(status.returncode)


def _program(name: str) -> str:
    """As the person can type it: beside our own Python when it is there, else from their PATH."""
    beside = Path(sys.executable).parent / name
    return _short(beside) if beside.exists() else name


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
