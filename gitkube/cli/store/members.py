"""`gitkube store members|add|promote|remove|transfer`: who is in the cluster, and who leads it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import output_option, print_data
from gitkube.cli.store.shared import (
    ask,
    confirm,
    counted,
    data_dir_option,
    member_named,
    table,
    yes_option,
)
from gitkube.cli.store.status import role_of

if TYPE_CHECKING:
    from gitkube.server.joining import JoinFile
    from gitkube.store.protocol import MemberInfo
    from gitkube.store.remote import RemoteStore

HEARD_S = 5.0


@click.command(epilog="Example:  gitkube store members --output json")
@data_dir_option
@output_option
def members(data_dir: Path, output: str) -> None:
    """Show the members of the cluster, as it has them recorded."""

    async def look(store: RemoteStore) -> tuple[list[MemberInfo], int]:
        return list(await store.members()), (await store.status()).leader_id

    found, leader = ask(data_dir, look)
    found.sort(key=lambda one: one.name)
    if output != "table":
        print_data([_data(one, leader) for one in found], output)
        return
    rows = [("NAME", "ID", "ROLE", "PEER", "API")]
    for one in found:
        urls = " ".join(one.client_urls) or "-"
        rows.append((one.name, f"{one.id:016x}", role_of(one, leader), one.peer_address or "-", urls))
    table(rows)


def _data(member: MemberInfo, leader: int) -> dict[str, Any]:
    return {
        "name": member.name,
        "id": f"{member.id:016x}",
        "role": role_of(member, leader),
        "peer": member.peer_address,
        "clientUrls": list(member.client_urls),
    }


@click.command(epilog="Example:  gitkube store add ctl-2 --peer 192.0.2.2:2380 --out ctl-2.join")
@click.argument("name")
@click.option("--peer", required=True, metavar="HOST:PORT", help="Where the others will reach its member.")
@click.option("--api", default="", metavar="URL", help="Where its API will be.  [default: it says so itself]")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The join file to write.  [default: NAME.join here]",
)
@data_dir_option
def add(name: str, peer: str, api: str, out: Path | None, data_dir: Path) -> None:
    """Record a new controller NAME, and write the file with which it joins.

    The file holds the cluster's private keys: carry it over SSH, and remove it when the controller has
    joined. It holds for an hour and for one data directory.
    """
    from gitkube.server.joining import JoinError
    from gitkube.server.settings import MAX_NAME_CHARS, SettingsError, can_be_dialled, split_address

    try:
        split_address(peer, "--peer")
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    if not can_be_dialled(peer):
        raise click.UsageError(f"--peer: {peer} is no place that the others could dial; name its address")
    if not 0 < len(name) <= MAX_NAME_CHARS or not all(each.isalnum() or each in ".-" for each in name):
        raise click.UsageError(
            f"NAME has letters, digits, '.' and '-', at most {MAX_NAME_CHARS} of them: {name!r}"
        )
    target = out or Path(f"{name}.join")
    if target.exists():
        raise click.ClickException(f"{target} is there already; remove it, or name another --out")
    if not target.parent.is_dir():
        raise click.ClickException(f"there is no directory {target.parent}")
    try:
        join = ask(data_dir, lambda store: _invite(store, name, peer, api, data_dir))
        join.write(target)
    except JoinError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{target} cannot be written: {error.strerror}; {name} is recorded, run this again"
        ) from error
    click.echo(f"{name} ({join.member_id:016x}) is recorded; {target} is secret and holds for an hour")
    click.echo(f"next:  scp {target} {name}:   and there:")
    click.echo(
        f"       gitkube serve --join {target.name} --peer-listen {peer} --inventory … --listen HOST:PORT"
    )


async def _invite(store: RemoteStore, name: str, peer: str, api: str, data_dir: Path) -> JoinFile:
    from gitkube.clock import SystemClock
    from gitkube.server.joining import invite

    status = await store.status()
    known = list(await store.members())
    # Somebody who was interrupted asks again: a learner of this name and address gets a new file.
    added = next(
        (one for one in known if (one.name, one.peer_address, one.is_learner) == (name, peer, True)), None
    )
    if added is None:
        if not any(one.peer_address for one in known):
            raise click.ClickException(
                "this controller listens for no others; start it with --peer-listen HOST:PORT first"
            )
        added = await store.member_add(name, peer, client_urls=[api] if api else [])
    return await invite(
        store, added, known, cluster_id=status.cluster_id, pki=data_dir / "pki", clock=SystemClock()
    )


@click.command(epilog="Example:  gitkube store promote ctl-2")
@click.argument("member")
@data_dir_option
def promote(member: str, data_dir: Path) -> None:
    """Make the learner MEMBER a voter. A leader does this by itself once a learner has caught up."""

    async def act(store: RemoteStore) -> MemberInfo:
        return await store.member_promote(member_named(await store.members(), member).id)

    done = ask(data_dir, act)
    click.echo(f"{done.name} is a voter")


@click.command(epilog="Example:  gitkube store remove ctl-3 --yes")
@click.argument("member")
@yes_option
@data_dir_option
def remove(member: str, yes: bool, data_dir: Path) -> None:
    """Take MEMBER (a name or an id) out of the cluster for good. It comes back only as a new one."""

    async def look(store: RemoteStore) -> tuple[MemberInfo, list[MemberInfo]]:
        found = list(await store.members())
        return member_named(found, member), found

    chosen, known = ask(data_dir, look)
    voters = [one for one in known if not one.is_learner and one.id != chosen.id]
    if not voters:
        raise click.ClickException(f"{chosen.name} is the only voter: without it there is no cluster")
    needed = len(voters) // 2 + 1
    confirm(
        [
            f"remove    {chosen.name} ({chosen.id:016x}), {'a learner' if chosen.is_learner else 'a voter'}, "
            f"{chosen.peer_address or 'without an address'}",
            f"leaves    {counted(len(voters), 'voter')}, of which {needed} must run: "
            + ", ".join(one.name for one in voters),
        ],
        yes=yes,
    )
    ask(data_dir, lambda store: store.member_remove(chosen.id))
    click.echo(f"{chosen.name} is removed; stop its `gitkube serve`, and remove its data directory")


@click.command(epilog="Example:  gitkube store transfer ctl-2")
@click.argument("member", required=False, default="")
@data_dir_option
def transfer(member: str, data_dir: Path) -> None:
    """Hand the leadership, and with it all work, to MEMBER, or to the one that is furthest."""

    async def act(store: RemoteStore) -> str:
        from gitkube.store.protocol import UnavailableError

        known = await store.members()
        leader = await store.transfer_leadership(member_named(known, member).id if member else 0)
        deadline = time.monotonic() + HEARD_S
        while not leader:  # it is done; our own member has yet to hear of it
            if time.monotonic() > deadline:
                raise UnavailableError("the leadership was handed over, but nobody has taken it yet")
            await asyncio.sleep(0.05)
            leader = (await store.status()).leader_id
        return next((one.name for one in known if one.id == leader), f"{leader:016x}")

    click.echo(f"{ask(data_dir, act)} leads")
