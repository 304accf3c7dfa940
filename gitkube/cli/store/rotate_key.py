"""`gitkube store rotate-key`: another key for the Secrets in the store, while everything runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitkube.cli.store.shared import PROGRESS_S, ask, confirm, data_dir_option, yes_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitkube.api.sealing_rotation import Rotation
    from gitkube.server.key_file import KeyFile
    from gitkube.store.remote import RemoteStore


@click.command(name="rotate-key", epilog="Example:  gitkube store rotate-key --yes")
@click.option(
    "--encrypt",
    multiple=True,
    metavar="KIND",
    help="As `gitkube serve` is told: seal what lies open of this kind, too; may be repeated.",
)
@yes_option
@data_dir_option
def rotate_key(encrypt: tuple[str, ...], yes: bool, data_dir: Path) -> None:
    """Make another key for Secrets in the store, seal all of them anew, and forget the old key.

    Run it on one controller, while all of them run or not. One that was interrupted is gone on with.
    """
    import os

    from gitkube.api.sealing import SealError, Sealing, Wrapping
    from gitkube.api.sealing_rotation import read_ring, rotate
    from gitkube.clock import SystemClock
    from gitkube.server.key_file import KeyFile, sealed_kinds
    from gitkube.server.pki import API, Pki, PkiError

    directory = data_dir / "pki"
    if not (directory / f"{API}.key").exists():
        raise click.ClickException(
            f"{directory} holds no authority; run this on a controller, as the user of gitkube serve, or "
            "name its --data-dir"
        )
    try:
        secret = Pki.open(directory, clock=SystemClock()).shared_secret()
        kinds = sealed_kinds(encrypt)
    except (PkiError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    keeper = _Reader(KeyFile(directory))
    sealing = Sealing(keeper, secret=secret, random_bytes=os.urandom, kinds=kinds)
    wrapping = Wrapping(secret, os.urandom)
    told = [0.0]

    def progress(resealed: int) -> None:
        if time.monotonic() - told[0] >= PROGRESS_S:
            told[0] = time.monotonic()
            click.echo(f"sealed anew: {resealed}", err=True)

    async def act(store: RemoteStore) -> Rotation:
        return await rotate(store, sealing, wrapping, random_bytes=os.urandom, on_progress=progress)

    try:
        ring, _ = ask(data_dir, read_ring)
        begun = [id for id in ring.wrapped if id != ring.writes]
        confirm(
            [
                f"finish    the rotation to key {ring.writes} that was interrupted"
                if begun
                else f"make      a new key instead of {ring.writes}; every controller gets it by the store",
                "seal      all Secrets anew: each gets another resourceVersion",
                "forget    the old key, and the history of the store before; slow watchers read all again",
            ],
            yes=yes,
        )
        done = ask(data_dir, act)
    except SealError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{done.key} is written with; {done.resealed} records sealed anew; "
               f"forgotten: {', '.join(done.retired)}")  # fmt: skip
    for place in done.refused:
        click.echo(f"could not be opened, and lies there as before: {place}", err=True)


class _Reader:
    """The key file, only read: `gitkube serve` writes it when it hears of the new ring."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self.place = file.place

    def read(self) -> Mapping[str, bytes]:
        return self._file.read()

    def write(self, keys: Mapping[str, bytes]) -> None:
        """Nothing."""
