"""`gitkube store check`: are the files whole, and do the members agree?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import output_option, print_data
from gitkube.cli.store.shared import ask, data_dir_option, is_running

if TYPE_CHECKING:
    from gitkube.store.remote import RemoteStore

TRIES = 5
"""A member may be compacted, or fall behind, between two questions."""


@click.command(epilog="Example:  gitkube store check --data-dir /var/lib/gitkube")
@data_dir_option
@output_option
def check(data_dir: Path, output: str) -> None:
    """Verify the store.

    While a member runs in the data directory: compare the hashes of all members' states at one revision.
    When none runs: read every file of the log and the snapshots, and verify each checksum.
    """
    if is_running(data_dir):
        found = ask(data_dir, lambda store: compare_members(store, data_dir))
        is_good = all(row["verdict"] == "agrees" for row in found)
        lines = [f"{row['name']:<12} {row['verdict']}  {row['detail']}" for row in found]
    else:
        found = _read_files(data_dir)
        is_good = not any(row["fatal"] for row in found)
        lines = [
            f"{'' if row['fatal'] else 'note: '}{_place(row)}{row['what']}\n    {row['remedy']}"
            for row in found
        ]
        if is_good:
            lines.insert(0, f"every file in {data_dir / 'store'} is whole")
    if output != "table":
        print_data({"good": is_good, "found": found}, output)
    else:
        for line in lines:
            click.echo(line)
    if not is_good:
        raise SystemExit(1)


def _place(row: dict[str, Any]) -> str:
    """Most errors begin with it, and it is not said twice."""
    return "" if row["place"] in row["what"] else f"{row['place']}: "


def _read_files(data_dir: Path) -> list[dict[str, Any]]:
    from gitkube.store import checking
    from gitkube.store.disk import SystemDisk
    from gitkube.store.membership import PART
    from gitkube.store.mvcc import KeySpace
    from gitkube.store.protocol import StoreError

    def load(parts: Iterator[list[Any]]) -> object:
        return KeySpace.load(part for part in parts if part[0] != PART)

    if not (data_dir / "store").is_dir():
        raise click.ClickException(f"there is no store in {data_dir}; name another --data-dir")
    try:
        findings = checking.check(SystemDisk(), data_dir / "store", load=load)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    return [
        {"place": str(one.place), "what": one.what, "remedy": one.remedy, "fatal": one.is_fatal}
        for one in findings
    ]


async def compare_members(store: RemoteStore, data_dir: Path) -> list[dict[str, Any]]:
    """What each member's state hashes to at a revision that all of them have."""
    from gitkube.clock import SystemClock
    from gitkube.server.cluster import ClusterClient
    from gitkube.server.pki import Pki, PkiError

    try:
        pki = Pki.open(data_dir / "pki", clock=SystemClock())
    except PkiError as error:
        raise click.ClickException(str(error)) from error
    client = ClusterClient(pki.controller_context)
    rows: list[dict[str, Any]] = []
    for _ in range(TRIES):
        rows = await _compare_once(store, client)
        if all(row["verdict"] != "differs" for row in rows):
            break
    return rows


async def _compare_once(store: RemoteStore, client: Any) -> list[dict[str, Any]]:
    from gitkube.server.cluster import ClusterError
    from gitkube.store.protocol import Revision

    own = await store.status()
    members = sorted(await store.members(), key=lambda one: one.name)
    silent: dict[int, str] = {}
    revisions = {own.member_id: int(own.revision)}
    for member in members:
        if member.id == own.member_id:
            continue
        try:
            revisions[member.id] = (await client.store(member.client_urls))["status"]["revision"]
        except ClusterError as error:
            silent[member.id] = str(error)
    revision = Revision(min(revisions.values()))
    mine = await store.hash(revision)
    rows = []
    for member in members:
        found = {"hash": mine.hash, "compact_revision": mine.compact_revision}
        if member.id in silent:
            rows.append({"name": member.name, "verdict": "silent", "detail": silent[member.id], "hash": ""})
            continue
        if member.id != own.member_id:
            try:
                found = (await client.store(member.client_urls, revision))["hash"]
            except ClusterError as error:
                rows.append({"name": member.name, "verdict": "silent", "detail": str(error), "hash": ""})
                continue
        agrees = (found["hash"], found["compact_revision"]) == (mine.hash, mine.compact_revision)
        detail = (
            f"hash {found['hash']:016x} at revision {revision}, readable from {found['compact_revision']}"
        )
        if not agrees:
            detail += "; if this stays, remove that member and add it anew: docs/how-to/disaster.md"
        rows.append(
            {
                "name": member.name,
                "verdict": "agrees" if agrees else "differs",
                "detail": detail,
                "hash": f"{found['hash']:016x}",
            }
        )
    return rows
