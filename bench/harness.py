"""What all benchmarks share: their options, their table, their JSON.

A row is `{name, value, unit, reference, ratio}`: `reference` says beside what the value stands (a goal of
ours, or something measured in the same run), `ratio` is value / reference where that means something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float
    unit: str
    reference: str = ""
    ratio: float | None = None


def against(name: str, value: float, unit: str, reference: float, what: str) -> Row:
    """A row that stands beside a figure of the same unit."""
    return Row(
        name, value, unit, f"{_number(reference)} {unit} ({what})", value / reference if reference else None
    )


def options(
    description: str, more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """Every benchmark's options, --quick and --json FILE, and those that `more` adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    if more is not None:
        more(parser)
    return parser.parse_args()


async def either(event: asyncio.Event, work: asyncio.Future[Any]) -> None:
    """Wait for an event that some work brings about; what fails in the work is raised here, at once."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        work.result()


def report(rows: Sequence[Row], how: str, file: Path | None) -> None:
    """Print the table and how it was measured, and write the JSON file if asked for."""
    header = ("measure", "value", "unit", "reference", "ratio")
    cells = [
        (
            row.name,
            _number(row.value),
            row.unit,
            row.reference,
            "" if row.ratio is None else f"{row.ratio:.2f}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [header, *cells]) for column in range(len(header))]
    for line in [header, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\nhow: {how}")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
