"""`python -m tests.torture`: see the package's text."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.torture import __doc__ as description
from tests.torture.checks import judge
from tests.torture.history import History
from tests.torture.run import Options, Summary, recoveries, torture
from tests.torture.workload import Load

SMALL = {"snapshot_entries": 300, "keep_entries": 100, "keep_revisions": 1000, "keep_history_s": 10.0}
"""Snapshots and compaction all the time: where stores of this kind have lost writes before."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--runs", type=int, default=1, help="one after the other, with the seeds that follow")
    parser.add_argument("--kills", type=int, default=0, help="end a run after so many")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--membership", action="store_true", help="also replace members")
    parser.add_argument("--keep", type=Path, default=Path("torture-failures"), metavar="DIRECTORY",
                        help="where a failing run's history and logs go")  # fmt: skip
    parser.add_argument("--keep-all", action="store_true", help="keep those of good runs, too")
    parser.add_argument("--check", type=Path, metavar="HISTORY", help="judge a kept history, run nothing")
    arguments = parser.parse_args()
    if arguments.check is not None:
        history = History.read(arguments.check)
        return _tell(Summary(history, judge(history), recoveries(history)))
    failures, kills, acknowledged = 0, 0, 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        with tempfile.TemporaryDirectory(prefix="torture-") as name:
            options = Options(
                Path(name), members=arguments.members, seconds=arguments.seconds, seed=seed,
                max_kills=arguments.kills, with_membership=arguments.membership,
                load=Load(clients=arguments.clients, keys=arguments.keys), settings=SMALL,
            )  # fmt: skip
            summary = uvloop.run(torture(options))
            is_bad = _tell(summary)
            failures += is_bad
            if is_bad or arguments.keep_all:
                _keep(summary, options, arguments.keep)
            kills += summary.kills
            acknowledged += sum(
                each.outcome == "ok" and each.revision > 0 for each in summary.history.attempts
            )
    if arguments.runs > 1:
        print(f"{arguments.runs} runs, {kills:,} kills, {failures} runs with findings")
    return 1 if failures else 0


def _tell(summary: Summary) -> int:
    print(summary.text(), flush=True)
    return 0 if summary.is_good else 1


def _keep(summary: Summary, options: Options, directory: Path) -> None:
    kept = directory / f"seed-{options.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    summary.history.write(kept / "history.jsonl")
    for log in options.directory.glob("*/log"):
        shutil.copy(log, kept / f"{log.parent.name}.log")
    print(f"kept in {kept}; judge it again with: python -m tests.torture --check {kept / 'history.jsonl'}")
    print(
        f"run it again with: python -m tests.torture --members {options.members} "
        f"--seconds {options.seconds:.0f} --seed "
        f"{options.seed}{' --membership' if options.with_membership else ''}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
