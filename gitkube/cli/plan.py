"""`gitkube plan`: what a push of the present state would change. Asks the cluster, and changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.shared import find_kubeconfig, kubeconfig_option, open_client, output_option, print_data

if TYPE_CHECKING:
    from gitkube.api.client import Client
    from gitkube.gitops.check import CheckResult
    from gitkube.gitops.plan import Plan
    from gitkube.gitops.problem import Problem
    from gitkube.gitops.source import Tree


@click.command(epilog="Example:  gitkube plan --commit HEAD~1 --output json")
@click.option(
    "--path",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    help="A clone, or a bare repository.  [default: here]",
)
@click.option("--commit", "revision", default="", help="Plan this commit instead of the working directory.")
@click.option("--source", default="main", show_default=True, help="The Source that holds the inventory.")
@kubeconfig_option
@output_option
def plan(path: Path, revision: str, source: str, kubeconfig: Path | None, output: str) -> None:
    """Show what a push would create, change and delete. Nothing is changed."""
    from gitkube.api.errors import StatusError
    from gitkube.cli.files import read_tree
    from gitkube.gitops.problem import errors, format_problems, summary_of

    tree, name, message = read_tree(path, revision)
    config = find_kubeconfig(kubeconfig)
    try:
        result, found = asyncio.run(_asked(tree, message, source, config))
    except (StatusError, OSError) as error:
        raise click.ClickException(f"the cluster of {config} cannot be asked: {error}") from error
    problems = [*result.problems, *(found.problems if found else ())]
    if output != "table":
        print_data(_data(found, problems), output)
    else:
        _show(found, name)
        for line in format_problems(problems):
            click.echo(line)
    if errors(problems):
        click.echo(summary_of(problems), err=True)
        raise SystemExit(1)


async def _asked(tree: Tree, message: str, source: str, config: Path) -> tuple[CheckResult, Plan | None]:
    async with open_client(config) as client:
        return await plan_of(client, tree, message=message, source=source)


async def plan_of(
    client: Client, tree: Tree, *, message: str, source: str
) -> tuple[CheckResult, Plan | None]:
    """What is wrong with files, and what a push of them would change; None when it would be refused.

    Kinds that the cluster's definitions make are known as built-in ones are.

    Raises:
        StatusError: the cluster cannot be asked.
    """
    from gitkube.api.errors import StatusError, is_not_found
    from gitkube.gitops.check import check
    from gitkube.gitops.desired import desired_objects
    from gitkube.gitops.plan import make_plan
    from gitkube.gitops.render import Renderer
    from gitkube.gitops.state import inventory_of
    from gitkube.objects import kinds, meta
    from gitkube.objects.registry import Registry

    namespaces = [meta.name(one) for one in (await client.list(kinds.NAMESPACE)).items]
    registry = Registry()
    for definition in (await client.list(kinds.CUSTOM_RESOURCE_DEFINITION)).items:
        registry.define(definition)
    renderer = Renderer()
    try:
        rendered = await asyncio.to_thread(renderer.render, tree)
    finally:
        renderer.close()
    result = check(rendered, live_namespaces=namespaces, live_kinds=registry.custom)
    if result.has_errors:
        return result, None
    try:
        status = (await client.get(kinds.SOURCE, source)).get("status") or {}
    except StatusError as error:
        if not is_not_found(error):
            raise
        status = {}
    found = await make_plan(
        client,
        desired_objects(result.objects),
        inventory_of(status, registry.by_gvk),
        message=message,
        stored_kinds=registry.stored,
    )
    return result, found


def _show(found: Plan | None, name: str) -> None:
    from gitkube.gitops.plan import format_plan
    from gitkube.gitops.problem import count

    if found is None:
        click.echo(f"{name}: would be refused")
        click.echo()
        return
    for line in format_plan(found):
        sign = line[:1]
        click.echo(click.style(line, fg={"+": "green", "-": "red", "~": "yellow", "±": "yellow"}.get(sign)))
    click.echo(f"{count(found.unchanged, 'object')} unchanged · {name}")


def _data(found: Plan | None, problems: list[Problem]) -> dict[str, Any]:
    changes = [
        {
            "action": change.action,
            "kind": change.ref.kind.kind,
            "namespace": change.ref.namespace,
            "name": change.ref.name,
            "file": change.place.path,
            "line": change.place.line,
            "fields": [
                {"field": field.label, "before": field.before, "after": field.after}
                for field in change.fields
            ],
        }
        for change in (found.changes if found else ())
    ]
    return {
        "changes": changes,
        "unchanged": found.unchanged if found else 0,
        "problems": [problem_data(problem) for problem in problems],
    }


def problem_data(problem: Problem) -> dict[str, Any]:
    """A problem with stable names."""
    return {
        "severity": "error" if problem.is_error else "warning",
        "file": problem.place.path,
        "line": problem.place.line,
        "column": problem.place.column,
        "object": problem.subject,
        "message": problem.message,
        "hint": problem.hint,
    }
