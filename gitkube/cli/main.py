"""The command `gitkube`: one file a command, and nothing loaded before it is asked for.

A command lives in `gitkube/cli/<name>.py` as the attribute of the same name. Its module is imported when the
command runs; its line in the overview stands here, so that `gitkube --help` and shell completion answer at
once. Errors that a person can act on are printed as one sentence and end with 1; wrong use ends with 2.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

COMMANDS = {
    "serve": "Run the control plane: API, controllers, scheduler, fleet links and git.",
    "status": "Say which commit is in force, what is healthy, and what is wrong and why.",
    "render": "Show what a repository renders to, with the file and line of each object.",
    "plan": "Show what a push would create, change and delete.",
    "user": "Give people a way in: a certificate and a kubeconfig.",
    "crds": "Print definitions of kinds that are often needed, such as the Gateway API's.",
    "store": "The members of the store, its data, its health; backup and restore.",
    "lab": "Pretend hosts on this machine, and faults for them.",
    "demo": "The whole of it on this machine: a lab, a control plane, a first push.",
    "version": "Print the version.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"gitkube.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:  gitkube status --wait 60",
)
def cli() -> None:
    """Git holds what should run; gitkube makes the machines in your SSH inventory run exactly that."""


def main() -> None:
    """Entry point of the console script. Exit codes: 0 done, 1 failed, 2 wrong use."""
    try:
        cli(prog_name="gitkube")
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
