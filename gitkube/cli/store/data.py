"""`gitkube store backup|restore|compact`: the data as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitkube.cli.store.shared import (
    Progress,
    ask,
    confirm,
    data_dir_option,
    is_running,
    size_text,
    yes_option,
)

if TYPE_CHECKING:
    from gitkube.store.protocol import StoreStatus
    from gitkube.store.remote import RemoteStore


@click.command(epilog="Example:  gitkube store backup /backup/gitkube-$(date +%F)")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option
def backup(file: Path, data_dir: Path) -> None:
    """Write the whole state into FILE while everything runs. The file is verified before it gets its name.

    Secrets lie in it sealed, as in the store. The keys do not: copy pki/ of the data directory beside it.
    """
    if file.exists():
        raise click.ClickException(f"{file} is there already; remove it, or choose another name")
    size = ask(data_dir, lambda store: _write_backup(store, file))
    click.echo(f"{file}: {size_text(size)}, verified")


async def _write_backup(store: RemoteStore, file: Path) -> int:
    import os

    from gitkube.files import fsync_directory, write_all
    from gitkube.store.backup import verify
    from gitkube.store.disk import SystemDisk
    from gitkube.store.protocol import StoreError, UnavailableError

    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    progress, size = Progress("written"), 0
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            async for piece in store.backup():
                write_all(descriptor, piece)
                size += len(piece)
                progress.at(size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        verify(SystemDisk(), partial)
        os.link(partial, file)  # never over a file that came meanwhile
        fsync_directory(file.parent)
    except FileExistsError as error:
        raise click.ClickException(f"{file} was made meanwhile; choose another name") from error
    except OSError as error:
        raise click.ClickException(
            f"{file} cannot be written: {error.strerror}; nothing is left of it"
        ) from error
    except UnavailableError as error:
        raise click.ClickException(
            f"no backup can be made now: {error} To keep what this member has, stop its `gitkube serve` and "
            "copy the directory `store`."
        ) from error
    except StoreError as error:
        raise click.ClickException(f"the backup is not good: {error}; nothing is left of it") from error
    finally:
        partial.unlink(missing_ok=True)
    return size


@click.command(epilog="Example:  gitkube store restore /backup/gitkube-2026-11-26 --data-dir new --yes")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="Of the first controller.  [default: as it was, or the host's]")
@yes_option
@data_dir_option
def restore(file: Path, name: str, yes: bool, data_dir: Path) -> None:
    """Make a new cluster of one member out of a backup. Nothing may run on the data directory."""
    import random
    from datetime import datetime

    from gitkube.server.joining import forget_joining
    from gitkube.server.settings import SettingsError, identity_of
    from gitkube.store import backup as backups
    from gitkube.store.disk import SystemDisk
    from gitkube.store.membership import lone_parts
    from gitkube.store.protocol import StoreError

    store_dir = data_dir / "store"
    if is_running(data_dir):
        raise click.ClickException(f"a member runs in {data_dir}; stop its `gitkube serve` first")
    if store_dir.exists():
        raise click.ClickException(
            f"{store_dir} is there; move it away first: mv {store_dir} {store_dir}.old"
        )
    disk = SystemDisk()
    try:
        found = backups.verify(disk, file)
    except StoreError as error:
        # What it says from here on is for a member whose data are damaged, not for who has a backup in hand.
        what = str(error).partition(" Nothing was changed")[0]
        raise click.ClickException(
            f"{what} It is no whole backup, and nothing was changed; restore another one"
        ) from error
    made = datetime.fromtimestamp(found.created_s).astimezone()
    keys = "the keys in pki/"
    if not (data_dir / "pki" / "ca.key").exists():
        keys = "new keys (pki/ is not there, without which sealed Secrets cannot be opened)"
    confirm(
        [
            f"restore   {file}: made by {found.source.name} at {made:%Y-%m-%d %H:%M:%S}, revision "
            f"{found.revision}, {size_text(found.size_bytes)}",
            f"into      {store_dir}, a new cluster of one member, with {keys}",
            "leaves    all members of the old cluster behind: none of them may run beside this one",
        ],
        yes=yes,
    )
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        own_name, _ = identity_of(data_dir, name)
        forget_joining(data_dir)
        rng = random.SystemRandom()
        backups.restore(disk, store_dir, file, name=own_name, rng=rng, member_parts=lone_parts)
    except (StoreError, SettingsError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{store_dir} cannot be written: {error}; run this again") from error
    click.echo(f"restored as {own_name}; start it: gitkube serve --data-dir {data_dir} …")


@click.command(epilog="Example:  gitkube store compact --yes")
@click.option("--revision", type=click.IntRange(min=1), help="Forget what is older.  [default: the newest]")
@yes_option
@data_dir_option
def compact(revision: int | None, yes: bool, data_dir: Path) -> None:
    """Forget the history before a revision, and lift the NOSPACE alarm if there is room again.

    The store does this by itself; by hand it is needed when the quota was reached.
    """
    from gitkube.store.protocol import Revision

    seen = ask(data_dir, lambda store: store.status())
    target = Revision(revision or seen.revision)
    confirm(
        [
            f"forget    the history before revision {target} (now readable: {seen.compact_revision} "
            f"to {seen.revision})",
            "costs     watchers that are further behind must read everything again",
        ],
        yes=yes,
    )

    is_full = "NOSPACE" in seen.alarms

    async def act(store: RemoteStore) -> StoreStatus:
        # A store that was full before may have nothing left to forget; its alarm is lifted all the same.
        if revision is not None or target > seen.compact_revision:
            await store.compact(target)
        if is_full:
            await store.disarm()
        return await store.status()

    left = ask(data_dir, act)
    click.echo(f"compacted at revision {target}")
    if is_full:
        click.echo(
            f"the alarm NOSPACE is lifted; the store holds {size_text(left.live_bytes)} of "
            f"{size_text(left.quota_bytes)}. If that is too little room, delete more, or start "
            "`gitkube serve` with a larger --store-quota"
        )
