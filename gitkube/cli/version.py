"""`gitkube version`: which gitkube this is, and what it speaks."""

from __future__ import annotations

import json

import click

from gitkube import __version__
from gitkube.wire import PROTOCOL_VERSION

KUBERNETES_VERSION = "1.37"


@click.command(epilog="Example:  gitkube version --output json")
@click.option("--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def version(output: str) -> None:
    """Print the version, that of the Kubernetes API spoken, and that of the protocol with the hosts."""
    facts = {"gitkube": __version__, "kubernetes": KUBERNETES_VERSION, "agentProtocol": PROTOCOL_VERSION}
    if output == "json":
        click.echo(json.dumps(facts))
    elif output == "yaml":
        click.echo("\n".join(f"{name}: {json.dumps(value)}" for name, value in facts.items()))
    else:
        click.echo(
            f"gitkube {__version__} · Kubernetes API {KUBERNETES_VERSION} · agent protocol {PROTOCOL_VERSION}"
        )
