"""`gitkube status`: one screen, worst first. Ends with 0 only when all is healthy on the pushed commit."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import (
    colour,
    find_kubeconfig,
    kubeconfig_option,
    open_client,
    output_option,
    print_data,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitkube.gitops.overview import Overview
    from gitkube.objects.kinds import Kind

POLL_S = 0.3
SILENCE_S = 2.0
SIGNS = {"healthy": "✓", "failed": "✗", "degraded": "!", "unknown": "?", "waiting": "…", "rolling": "…"}


@click.command(epilog="Example:  gitkube status --wait 60")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(min=0), help="Wait so many seconds for all to be healthy."
)
@click.option("--all", "show_all", is_flag=True, help="Show the healthy ones, too.")
@click.option("--source", default="main", show_default=True, help="The Source to show.")
@kubeconfig_option
@output_option
def status(wait_s: float | None, show_all: bool, source: str, kubeconfig: Path | None, output: str) -> None:
    """Say which commit is in force, what is healthy, and what is wrong and why."""
    from gitkube.api.errors import StatusError

    config = find_kubeconfig(kubeconfig)
    try:
        seen = asyncio.run(_look(config, source, wait_s or 0.0))
    except (StatusError, OSError) as error:
        raise click.ClickException(f"the cluster of {config} cannot be asked: {error}") from error
    if output == "table":
        for line in _lines(seen, show_all):
            click.echo(line)
    else:
        print_data(_data(seen), output)
    if not seen.is_healthy:
        raise SystemExit(1)


async def _look(config: Path, source: str, wait_s: float) -> Overview:
    """Read until all is healthy or the time is over; says now and then what it waits for."""
    from gitkube.api.errors import StatusError

    deadline = time.monotonic() + wait_s
    told, said = time.monotonic(), ""
    while True:
        try:
            async with open_client(config) as client:
                seen = await _read(client, source)
        except (StatusError, OSError):
            if time.monotonic() >= deadline:
                raise
            waits_for = "the API answers"
        else:
            if seen.is_healthy or time.monotonic() >= deadline:
                return seen
            waits_for = seen.waits_for
        if time.monotonic() - told >= SILENCE_S and waits_for != said:
            click.echo(click.style(f"waiting: {waits_for}", dim=True), err=True)
            told, said = time.monotonic(), waits_for
        await asyncio.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


async def _read(client: Any, name: str) -> Overview:
    from gitkube.api.errors import StatusError, is_not_found
    from gitkube.gitops.overview import READ, custom_names, overview
    from gitkube.objects import kinds

    try:
        source = await client.get(kinds.SOURCE, name)
    except StatusError as error:
        if not is_not_found(error):
            raise
        source = None
    custom, unread = await _custom_kinds(client, custom_names(source))
    wanted = (*READ, *custom)
    lists = await asyncio.gather(*(client.list(kind) for kind in wanted))
    live = {kind: found.items for kind, found in zip(wanted, lists, strict=True)}
    spec = (source or {}).get("spec") or {}
    pushed = branch_tip(Path(spec.get("repository", "")), spec.get("branch") or "main")
    return overview(source, live, pushed=pushed, unread=unread)


async def _custom_kinds(
    client: Any, names: Sequence[tuple[str, str]]
) -> tuple[list[Kind], dict[tuple[str, str], str]]:
    """The kinds of definitions that these apiVersions and kinds name; and why others are not known."""
    from gitkube.api.errors import StatusError
    from gitkube.objects import kinds
    from gitkube.objects.registry import Registry

    if not names:
        return [], {}
    registry = Registry()
    try:
        for definition in (await client.list(kinds.CUSTOM_RESOURCE_DEFINITION)).items:
            registry.define(definition)
    except StatusError as error:
        if error.code != 403:
            raise
        return [], dict.fromkeys(names, "you may not list CustomResourceDefinitions")
    found: list[Kind] = []
    unread: dict[tuple[str, str], str] = {}
    for name in names:
        kind = registry.by_gvk(*name)
        if kind is None:
            unread[name] = f"the cluster does not serve {name[1]} of {name[0]}: its definition is gone"
        else:
            found.append(kind)
    return found, unread


def branch_tip(repository: Path, branch: str) -> str:
    """The commit a branch is at, when the repository is on this machine; else ""."""
    try:
        return (repository / "refs" / "heads" / branch).read_text("ascii").strip()
    except (OSError, ValueError):
        pass
    try:
        for line in (repository / "packed-refs").read_text("utf-8", "replace").splitlines():
            commit, _, name = line.partition(" ")
            if name == f"refs/heads/{branch}":
                return commit
    except OSError:
        pass
    return ""


def _lines(seen: Overview, show_all: bool) -> list[str]:
    from gitkube.gitops.problem import count, printable

    commit = seen.commit
    if not commit:
        return ["nothing was pushed yet · git push lab main"]
    head = f'main {commit.get("id", "")[:7]}  "{commit.get("message", "")}" by {commit.get("author", "")}'
    if seen.applied != commit.get("id"):
        head += f", not in force (that is {seen.applied[:7] or 'none'})"
    cores = f"{seen.cpu_used_milli / 1000:.1f} of {seen.cpu_milli / 1000:g} cores"
    sums = f"{count(len(seen.hosts), 'host')}, {count(seen.pods, 'pod')}, {cores}"
    lines = [f"{printable(head):<70}  {sums}", ""]
    if seen.phase == "failed" and not any(item.health.state == "failed" for item in seen.items):
        lines.append(_styled("failed", f"  ✗ {printable(seen.message)}"))
    healthy = [item for item in seen.items if item.health.state == "healthy"]
    for item in seen.items:
        if item in healthy and not show_all:
            continue
        name = item.title
        ready = f"{item.health.ready} of {item.health.wanted} ready" if item.health.wanted else ""
        reason = item.health.reason or item.health.state
        reason = item.health.state if reason == ready else reason
        text = f"  {SIGNS[item.health.state]} {name:<20} {ready:<14} {reason}   {item.origin}"
        lines.append(_styled(item.health.state, printable(text)))
    for host in seen.hosts:
        if not host.is_ready:
            lines.append(
                _styled(
                    "degraded",
                    printable(f"  ! host {host.name:<15} {host.words}{_since(host.since)}: {host.detail}"),
                )
            )
        elif show_all:
            lines.append(_styled("healthy", printable(f"  ✓ host {host.name:<15} ready")))
    if healthy and not show_all:
        others = "" if len(healthy) == len(seen.items) else "other " if len(healthy) == 1 else "others "
        lines.append(
            _styled("healthy", f"  ✓ {len(healthy)} {others}healthy") + f"{'':<40}gitkube status --all"
        )
    return lines


def _since(time: str) -> str:
    """A time of the API as the person's own clock shows it."""
    from datetime import datetime

    if not time:
        return ""
    moment = datetime.fromisoformat(time).astimezone()
    today = moment.date() == datetime.now().astimezone().date()
    return f" since {moment:%H:%M:%S}" if today else f" since {moment:%Y-%m-%d %H:%M}"


def _styled(state: str, text: str) -> str:
    return click.style(text, fg=colour(state))


def _data(seen: Overview) -> dict[str, Any]:
    return {
        "healthy": seen.is_healthy,
        "waitsFor": seen.waits_for,
        "commit": dict(seen.commit),
        "applied": seen.applied,
        "phase": seen.phase,
        "message": seen.message,
        "objects": [
            {
                "kind": item.ref.kind.kind,
                "namespace": item.ref.namespace,
                "name": item.ref.name,
                "state": item.health.state,
                "reason": item.health.reason,
                "ready": item.health.ready,
                "wanted": item.health.wanted,
                "origin": item.origin,
            }
            for item in seen.items
        ],
        "hosts": [
            {"name": host.name, "ready": host.is_ready, "reason": host.reason, "since": host.since}
            for host in seen.hosts
        ],
        "pods": seen.pods,
        "cpu": {"usedMilli": seen.cpu_used_milli, "capacityMilli": seen.cpu_milli},
    }
