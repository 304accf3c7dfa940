"""`gitkube store`: the members of the store, and its data. Works while the API is down.

Most subcommands speak with the member that runs in `--data-dir`, over its unix socket; `restore` and, when
nothing runs there, `check` read the files themselves.
"""

from __future__ import annotations

import click

from gitkube.cli.store.check import check
from gitkube.cli.store.data import backup, compact, restore
from gitkube.cli.store.members import add, members, promote, remove, transfer
from gitkube.cli.store.rotate_key import rotate_key
from gitkube.cli.store.status import status


@click.group(epilog="Example:  gitkube store members")
def store() -> None:
    """The store: its members, its data, its health. Run it on a controller, as the controller's user."""


for _command in (
    status,
    members,
    add,
    promote,
    remove,
    transfer,
    backup,
    restore,
    compact,
    check,
    rotate_key,
):
    store.add_command(_command)
