"""The options of hollow hosts, which `gitkube serve` and `gitkube lab up` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gitkube.sim.hollow.settings import HollowSettings

F = TypeVar("F", bound=Callable[..., Any])

DELAYS = {
    "pull": (0, "the first pod of an image on a host takes longer to start"),
    "start": (100, "a pod takes to start"),
    "stop": (100, "a deleted pod takes to go, within its grace period"),
    "run": (1000, "a pod that is meant to end runs"),
}
"""Option --hollow-<name>-ms -> default in milliseconds, and what takes so long."""


def hollow_options(command: F) -> F:
    """Adds `--hollow` and the delays, as `hollow` and `delays_ms` (with only what was given)."""

    def collect(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
        if value is not None and parameter.name is not None:
            context.params.setdefault("delays_ms", {})[parameter.name] = value
        context.params.setdefault("delays_ms", {})

    for name, (default_ms, text) in reversed(DELAYS.items()):
        command = click.option(
            f"--hollow-{name}-ms",
            name,
            type=click.IntRange(min=0),
            metavar="MS",
            callback=collect,
            expose_value=False,
            help=f"How much {text}.  [default: {default_ms}]"
            if name == "pull"
            else f"How long {text}.  [default: {default_ms}]",
        )(command)
    return click.option(
        "--hollow",
        type=click.IntRange(min=1, max=10_000),
        metavar="N",
        help="N pretend hosts that speak the agent's protocol and run no containers. Needs no root.",
    )(command)


def hollow_settings(delays_ms: Mapping[str, int]) -> HollowSettings:
    """What the hosts are told."""
    from gitkube.sim.hollow.settings import HollowSettings

    delays_s = {name: delays_ms.get(name, default_ms) / 1000 for name, (default_ms, _) in DELAYS.items()}
    return HollowSettings(
        pull_s=delays_s["pull"], start_s=delays_s["start"], stop_s=delays_s["stop"], run_s=delays_s["run"]
    )


def hollow_arguments(delays_ms: Mapping[str, int]) -> list[str]:
    """The same options, for another process."""
    return [word for name, ms in delays_ms.items() for word in (f"--hollow-{name}-ms", str(ms))]
