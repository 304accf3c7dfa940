"""`gitkube render`: what a repository renders to, with the place of each object. Needs no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import output_option, print_data

if TYPE_CHECKING:
    from gitkube.gitops.check import Checked, CheckResult


@click.command(epilog="Example:  gitkube render --output yaml --filter Deployment")
@click.option(
    "--path",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    help="A clone, or a bare repository.  [default: here]",
)
@click.option("--commit", "revision", default="", help="Render this commit instead of the working directory.")
@click.option("--filter", "wanted", default="", help="Only objects whose kind, name or file contains this.")
@output_option
def render(path: Path, revision: str, wanted: str, output: str) -> None:
    """Show what a repository renders to, with the file and line of each object."""
    from gitkube.cli.files import read_tree
    from gitkube.gitops.check import check
    from gitkube.gitops.problem import count
    from gitkube.gitops.render import Renderer

    tree, name, _ = read_tree(path, revision)
    renderer = Renderer()
    try:
        rendered = renderer.render(tree)
    finally:
        renderer.close()
    result = check(rendered)
    shown = [one for one in result.objects if not wanted or wanted in f"{one.ref} {one.place}"]
    if output == "table":
        for line in _table(shown):
            click.echo(line)
        click.echo(f"{count(len(result.objects), 'object')} from {count(rendered.files, 'file')} · {name}")
    elif output == "yaml":
        from gitkube.cli.shared import to_yaml

        for one in shown:
            click.echo(f"---\n# {one.place}")
            click.echo(to_yaml(one.object), nl=False)
    else:
        print_data({"objects": [_data(one) for one in shown], "problems": _problems(result)}, output)
    _tell_problems(result, output)


def _table(shown: list[Checked]) -> list[str]:
    from gitkube.gitops.problem import printable

    names = [str(one.ref) for one in shown]
    width = max(map(len, names), default=0)
    return [printable(f"{name:<{width}}  {one.place}") for name, one in zip(names, shown, strict=True)]


def _data(one: Checked) -> dict[str, Any]:
    return {"origin": {"file": one.place.path, "line": one.place.line}, "object": one.object}


def _problems(result: CheckResult) -> list[dict[str, Any]]:
    from gitkube.cli.plan import problem_data

    return [problem_data(problem) for problem in result.problems]


def _tell_problems(result: CheckResult, output: str) -> None:
    from gitkube.gitops.problem import format_problems, summary_of

    if result.problems and output == "table":
        click.echo()
    for line in format_problems(result.problems):
        click.echo(line, err=output != "table")
    if result.has_errors:
        click.echo(summary_of(result.problems), err=True)
        raise SystemExit(1)
