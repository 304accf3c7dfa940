"""`gitkube store status`: how the member in this data directory is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import output_option, print_data
from gitkube.cli.store.shared import ask, counted, data_dir_option, size_text

if TYPE_CHECKING:
    from gitkube.store.protocol import MemberInfo, StoreStatus
    from gitkube.store.remote import RemoteStore


@click.command(epilog="Example:  gitkube store status --output json")
@data_dir_option
@output_option
def status(data_dir: Path, output: str) -> None:
    """Say how this controller's member is: its role, its leader, its size, what is wrong."""

    async def look(store: RemoteStore) -> tuple[StoreStatus, list[MemberInfo]]:
        return await store.status(), list(await store.members())

    seen, members = ask(data_dir, look)
    problems = _problems(seen)
    if output != "table":
        print_data(_data(seen, members, problems), output)
    else:
        _show(seen, members, problems)
    if problems:
        raise SystemExit(1)


def role_of(member: MemberInfo, leader: int) -> str:
    """In one word."""
    return "learner" if member.is_learner else "leader" if member.id == leader else "voter"


def _name(members: list[MemberInfo], wanted: int) -> str:
    return next((one.name for one in members if one.id == wanted), f"{wanted:016x}" if wanted else "none")


def _problems(seen: StoreStatus) -> list[str]:
    found = []
    if not seen.leader_id:
        found.append(
            "there is no leader, so nothing can be written: fewer than a majority of the members answer"
        )
    for alarm in seen.alarms:
        found.append(_ALARMS.get(alarm, f"alarm {alarm}"))
    return found


_ALARMS = {
    "NOSPACE": "NOSPACE: the quota is reached and writes are refused; delete, then: gitkube store compact",
    "CORRUPT": "CORRUPT: a member's state differs from the others'; find it with: gitkube store check",
}


def _show(seen: StoreStatus, members: list[MemberInfo], problems: list[str]) -> None:
    own = next((one for one in members if one.id == seen.member_id), None)
    role = role_of(own, seen.leader_id) if own is not None else "member"
    click.echo(f"member    {seen.member} ({seen.member_id:016x}), {role}, term {seen.term}")
    click.echo(
        f"cluster   {seen.cluster_id:016x}, {counted(len(members), 'member')}, "
        f"leader {_name(members, seen.leader_id)}"
    )
    behind = seen.last_index - seen.applied_index
    click.echo(
        f"log       applied {seen.applied_index} of {seen.last_index}"
        + (f", {behind} behind" if behind else "")
    )
    click.echo(f"revision  {seen.revision}, readable from {seen.compact_revision}")
    quota = f" of {size_text(seen.quota_bytes)}" if seen.quota_bytes else ""
    live, on_disk = size_text(seen.live_bytes), size_text(seen.size_bytes)
    click.echo(f"size      {seen.keys} keys, {live}{quota}; {on_disk} on disk")
    for problem in problems:
        click.echo(click.style(f"! {problem}", fg="red"))


def _data(seen: StoreStatus, members: list[MemberInfo], problems: list[str]) -> dict[str, Any]:
    return {
        "member": seen.member,
        "memberId": f"{seen.member_id:016x}",
        "clusterId": f"{seen.cluster_id:016x}",
        "isLeader": seen.is_leader,
        "isLearner": seen.is_learner,
        "leader": _name(members, seen.leader_id) if seen.leader_id else "",
        "term": seen.term,
        "revision": seen.revision,
        "compactRevision": seen.compact_revision,
        "lastIndex": seen.last_index,
        "appliedIndex": seen.applied_index,
        "keys": seen.keys,
        "liveBytes": seen.live_bytes,
        "quotaBytes": seen.quota_bytes,
        "diskBytes": seen.size_bytes,
        "alarms": list(seen.alarms),
        "problems": problems,
    }
