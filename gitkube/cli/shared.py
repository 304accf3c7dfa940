"""What the reading commands have in common: where the kubeconfig is, and how an answer is printed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gitkube.api.http import HttpClient

F = TypeVar("F", bound=Callable[..., Any])

ANSWER_S = 2.0
"""How long one of several controllers gets to answer before the next is asked."""
_NOT_READY = 500
"""What `/readyz` answers then; who is out of reach gives another code."""
OUTPUTS = ("table", "json", "yaml")
CONTROL_COLOURS = {"healthy": "green", "failed": "red", "degraded": "yellow", "unknown": "yellow"}


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Where `gitkube serve` keeps everything when it is not told (XDG Base Directory, $XDG_STATE_HOME)."""
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "gitkube"


def kubeconfig_option(command: F) -> F:
    """Adds `--kubeconfig`."""
    return click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False, path_type=Path),
        help="How to reach the cluster.  "
        "[default: $KUBECONFIG, .lab/kubeconfig here or above, that of gitkube serve, ~/.kube/config]",
    )(command)


def output_option(command: F) -> F:
    """Adds `--output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(OUTPUTS),
        default="table",
        show_default=True,
        help="Form of the answer.",
    )(command)


def find_kubeconfig(given: Path | None, *, environment: Mapping[str, str] | None = None) -> Path:
    """The kubeconfig to use.

    Raises:
        ClickException: there is none; the message names the places that were looked at.
    """
    if given is not None:
        if not given.is_file():
            raise click.ClickException(f"{given} is not there")
        return given
    variables = os.environ if environment is None else environment
    named = [Path(part) for part in variables.get("KUBECONFIG", "").split(os.pathsep) if part]
    here = Path.cwd()
    labs = [directory / ".lab" / "kubeconfig" for directory in (here, *here.parents)]
    clones = [directory / "kubeconfig" for directory in (here, *here.parents) if directory.name == ".lab"]
    served = default_data_dir(variables) / "kubeconfig"
    for path in [*named, *labs, *clones, served, Path.home() / ".kube" / "config"]:
        if path.is_file():
            return path
    raise click.ClickException(
        "there is no kubeconfig: not in $KUBECONFIG, not as .lab/kubeconfig here or above, not as "
        f"{served} or ~/.kube/config. Name one with --kubeconfig, or start a control plane: gitkube serve"
    )


@asynccontextmanager
async def open_client(config: Path) -> AsyncIterator[HttpClient]:
    """A client for the first controller of a kubeconfig that answers: the current context's, or else another
    of those that it has for the same cluster's authority. When none is ready, one that can say why is better
    than one that is gone.

    Raises:
        KubeconfigError: the file cannot be used.
    """
    from gitkube.api.errors import StatusError
    from gitkube.api.http import HttpClient
    from gitkube.api.kubeconfig import contexts_of

    current, *others = contexts_of(config)
    speaks: str | None = None
    for context in (current, *others) if others else ():
        client = HttpClient.from_kubeconfig(config, context=context)
        try:
            async with asyncio.timeout(ANSWER_S):
                await client.raw("/readyz")
        except (StatusError, OSError, TimeoutError) as error:
            await client.close()
            if speaks is None and isinstance(error, StatusError) and error.code == _NOT_READY:
                speaks = context
            continue
        async with client:
            yield client
        return
    async with HttpClient.from_kubeconfig(config, context=speaks or current) as client:
        yield client  # whoever asks tells what is wrong with it


def print_data(data: Any, output: str) -> None:
    """Print as JSON or YAML."""
    if output == "json":
        import json

        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        click.echo(to_yaml(data), nl=False)


def to_yaml(data: Any) -> str:
    """YAML in block style, with text quoted where it could be taken for something else."""
    import io

    from ruamel.yaml import YAML

    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.width = 110
    stream = io.StringIO()
    writer.dump(data, stream)
    return stream.getvalue()


def colour(state: str) -> str | None:
    """The colour of a state on a terminal."""
    return CONTROL_COLOURS.get(state)
