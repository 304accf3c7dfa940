"""What the subcommands have in common: the member they speak with, the plan before a deed, progress."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitkube.cli.shared import default_data_dir

if TYPE_CHECKING:
    from gitkube.store.protocol import MemberInfo
    from gitkube.store.remote import RemoteStore

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
PROGRESS_S = 1.0


def data_dir_option(command: F) -> F:
    """Adds `--data-dir`."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: default_data_dir(os.environ),
        show_default="~/.local/state/gitkube",
        help="The controller's data directory.",
    )(command)


def yes_option(command: F) -> F:
    """Adds `--yes`."""
    return click.option("--yes", is_flag=True, help="Do it; without this only say what would be done.")(
        command
    )


def ask(data_dir: Path, question: Callable[[RemoteStore], Coroutine[Any, Any, T]]) -> T:
    """Ask the member that runs in a data directory.

    Raises:
        ClickException: none runs there, or it refused; the message says which and why.
    """
    from gitkube.clock import SystemClock
    from gitkube.server.settings import STORE_SOCKET
    from gitkube.store.protocol import StoreError
    from gitkube.store.remote import RemoteStore

    socket = data_dir.resolve() / STORE_SOCKET
    if not is_running(data_dir):
        raise click.ClickException(_why_not_running(data_dir))

    async def work() -> T:
        store = RemoteStore(socket, clock=SystemClock())
        try:
            return await question(store)
        finally:
            await store.close()

    try:
        return asyncio.run(work())
    except StoreError as error:
        raise click.ClickException(str(error)) from error


def _why_not_running(data_dir: Path) -> str:
    from gitkube.server.data_directory import owner_of
    from gitkube.server.settings import etcd_of

    if (etcd := etcd_of(data_dir)) is not None:
        return f"the store of this control plane is the etcd at {etcd[1]}: etcdctl asks and manages it"
    owner = owner_of(data_dir)
    if owner is None:
        return f"no member runs in {data_dir}: start `gitkube serve` there, or name another --data-dir"
    return (
        f"the store's member in {data_dir} does not run just now. Its `gitkube serve` (process {owner}) "
        "starts it again every few seconds, and its log says what is in the way, such as a full disk"
    )


def is_running(data_dir: Path) -> bool:
    """Whether a member answers in a data directory.

    Raises:
        ClickException: one is there, and belongs to another user.
    """
    import socket

    from gitkube.server.settings import STORE_SOCKET

    path = data_dir.resolve() / STORE_SOCKET
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except PermissionError as error:
        raise click.ClickException(f"{path} belongs to another user; run this as that user") from error
    except OSError:
        return False
    finally:
        connection.close()
    return True


def member_named(members: Sequence[MemberInfo], wanted: str) -> MemberInfo:
    """By its name, or its id as `gitkube store members` shows it.

    Raises:
        ClickException: there is none, or several have the name.
    """
    found = [one for one in members if wanted in (one.name, f"{one.id:016x}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.ClickException(f"several members are named {wanted}; name one by its id")
    known = ", ".join(one.name for one in members)
    raise click.ClickException(f"there is no member {wanted}; there are: {known}")


def confirm(plan: Sequence[str], *, yes: bool) -> None:
    """Show what will be done, and go on only if it is wanted.

    Raises:
        SystemExit: 1, it is not.
    """
    for line in plan:
        click.echo(line)
    if yes:
        return
    if sys.stdin.isatty():
        if click.confirm("do it?"):
            return
    else:
        click.echo("nothing was done; to do it, add --yes", err=True)
    raise SystemExit(1)


class Progress:
    """Says on standard error how far something is, once it takes longer than a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = self._told = time.monotonic()

    def at(self, size_bytes: int) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_S:
            self._told = now
            click.echo(f"{now - self._begun:4.0f} s  {self._what}: {size_text(size_bytes)}", err=True)


def counted(number: int, noun: str) -> str:
    """Such as "1 voter" and "2 voters"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size_bytes: int) -> str:
    """As a person reads it."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be; the last one is not padded."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())
