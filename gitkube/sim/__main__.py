"""`python -m gitkube.sim`: live seeds, print what failed and how to see it again.

    python -m gitkube.sim --seeds 1000 --jobs auto       a thousand lives
    python -m gitkube.sim --hours 8 --jobs auto          as many as there is time for, from a random seed on
    python -m gitkube.sim --seed 4711 --trace            one life, with all that happens in it
    python -m gitkube.sim --seeds 200 --bug stale-read   the same with a mistake planted

Exit status: 0 all was well, 1 some life failed, 2 wrong usage.
"""

from __future__ import annotations

import sys

import click

from gitkube.sim.bugs import BUGS, planted
from gitkube.sim.life import Life, Outcome
from gitkube.sim.runner import Summary, available_jobs, live_many, replay_command


def _jobs(context: click.Context, parameter: click.Parameter, value: str) -> int:
    if value == "auto":
        return available_jobs()
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("a number of processes, or auto")
    return int(value)


@click.command()
@click.option("--seed", type=int, help="Live this one seed.")
@click.option("--seeds", type=click.IntRange(1), help="Live so many.")
@click.option("--hours", type=click.FloatRange(0.0), help="Live as many as there is time for.")
@click.option("--start", type=click.IntRange(0), help="The first of them; random by default.")
@click.option("--jobs", default="1", callback=_jobs, help="Processes: a number, or auto.", metavar="N|auto")
@click.option("--bug", type=click.Choice(sorted(BUGS)), default=None, help="Plant a known mistake first.")
@click.option("--trace", is_flag=True, help="Tell all that happens; with --seed.")
@click.option(
    "--steps", type=click.IntRange(1), help="With --seed: end after so many steps, whatever is missing."
)
def main(
    seed: int | None,
    seeds: int | None,
    hours: float | None,
    start: int | None,
    jobs: int,
    bug: str | None,
    trace: bool,
    steps: int | None,
) -> None:
    """Simulate the store: real consensus, log and key space on a pretended clock, disk and network."""
    if seed is not None:
        sys.exit(_live_one(seed, bug or "", trace=trace, steps=steps))
    if seeds is None and hours is None:
        raise click.UsageError("say which: --seed N, --seeds N, or --hours H")
    if start is None:
        start = random_start()
    click.echo(f"from seed {start} on, {jobs} process{'es' if jobs > 1 else ''}")
    summary = live_many(
        start,
        seeds=seeds,
        budget_s=None if hours is None else hours * 3600,
        jobs=jobs,
        bug=bug or "",
        on_failure=lambda outcome: click.echo(failure_line(outcome, bug or "")),
        on_minute=lambda summary: click.echo(f"so far {summary}"),
    )
    _end(summary)


def random_start() -> int:
    """A seed that nobody has lived yet, most likely."""
    import secrets

    return secrets.randbelow(1 << 40)


def failure_line(outcome: Outcome, bug: str = "") -> str:
    """A failure in one line, with the command that shows it again."""
    what = outcome.failure.splitlines()[0][:240]
    return (
        f"seed {outcome.seed} failed at step {outcome.steps}: {what}\n    {replay_command(outcome.seed, bug)}"
    )


def _live_one(seed: int, bug: str, *, trace: bool, steps: int | None) -> int:
    with planted(bug):
        life = Life(seed, tell=click.echo if trace else None)
        click.echo(f"seed {seed}: {life.plan}")
        outcome = life.run(max_steps=steps)
    if outcome.failure:
        click.echo(f"failed at step {outcome.steps}, {outcome.virtual_s:.3f} s: {outcome.failure}")
        if outcome.details:
            click.echo(outcome.details)
    summary = Summary()
    summary.add(outcome)
    click.echo(f"{summary}; {outcome.virtual_s:.1f} s of virtual time, fingerprint {outcome.fingerprint:08x}")
    return 1 if outcome.failure else 0


def _end(summary: Summary) -> None:
    click.echo(str(summary))
    sys.exit(1 if summary.failures else 0)


if __name__ == "__main__":
    main()
