"""`gitkube user`: a way in for somebody, as a kubeconfig with a certificate of its own.

The certificate only says who its holder is; what they may, roles and bindings say. It is signed with the
authority in the data directory, so the command runs where that is, as its user, and needs no server.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from gitkube.cli.shared import default_data_dir

MAX_DAYS = 365


@click.group(epilog="Example:  gitkube user add jane --group developers")
def user() -> None:
    """Give people a way in: a certificate and a kubeconfig."""


@user.command(epilog="Example:  gitkube user add jane --group developers --days 30")
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group of theirs; may be repeated.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where to write the kubeconfig.  [default: NAME.kubeconfig]",
)
@click.option(
    "--days", type=click.IntRange(1, MAX_DAYS), default=90, show_default=True, help="How long it holds."
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="URL",
    help="Of the API; may be repeated.  [default: as in the administrator's kubeconfig]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: default_data_dir(os.environ),
    show_default="~/.local/state/gitkube",
    help="Of the controller.",
)
def add(
    name: str, groups: tuple[str, ...], out: Path | None, days: int, servers: tuple[str, ...], data_dir: Path
) -> None:
    """Write a kubeconfig that makes its holder NAME. It grants nothing: bind a role to NAME or a group."""
    from gitkube.clock import SystemClock
    from gitkube.server.kubeconfig import CLUSTER_NAME, Context, kubeconfig, read_kubeconfig, write_kubeconfig
    from gitkube.server.pki import API, Pki, PkiError

    if name.startswith("system:"):
        raise click.UsageError(f"{name}: names that begin with system: are the cluster's own parts")
    target = out or Path(f"{name.replace('/', '_')}.kubeconfig")
    if target.exists():
        raise click.ClickException(f"{target} is there already; choose another with --out")
    directory = data_dir / "pki"
    if not (directory / f"{API}.key").exists():
        raise click.ClickException(
            f"{directory} holds no authority; run this on a controller, as the user of gitkube serve, or "
            "name its --data-dir"
        )
    if servers:
        contexts = [
            Context(CLUSTER_NAME if not number else f"{CLUSTER_NAME}-{number + 1}", server)
            for number, server in enumerate(servers)
        ]
    else:
        administrators = read_kubeconfig(data_dir / "kubeconfig")
        if administrators is None:
            raise click.ClickException(f"{data_dir / 'kubeconfig'} is not there; say the API's --server URL")
        contexts = list(administrators.contexts)
    try:
        pki = Pki.open(directory, clock=SystemClock())
        credentials = pki.client_certificate(name, groups, valid_days=days)
    except (PkiError, OSError) as error:
        raise click.ClickException(str(error)) from error
    write_kubeconfig(target, kubeconfig(contexts, pki.ca_pem, name, credentials))
    who = f"{name} in {', '.join(groups)}" if groups else name
    click.echo(f"{target}: {who}, for {days} days")
