"""Kubernetes' own e2e suite against hollow hosts, where somebody has built it.

`python -m tests.conformance.real_suite` runs it. `E2E_TEST` names a built `e2e.test`, `GINKGO` the `ginkgo`
to run it with (default: on the path, or beside it), `KUBECTL` a kubectl (default: beside it, because some
specs read what the kubectl of their own release says, or else the environment's). Without `E2E_TEST` it says
so and ends with 0: nobody needs Kubernetes' sources to work on this project.

The flow: a lab of hollow hosts, the specs of `e2e-1.20-no-containers.txt` (none of them needs a container),
ginkgo's JUnit reports, a table on the terminal, and the same as `docs/reference/conformance-e2e.md`. Exit
code 1 when a spec did not pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitkube.lab.hollow import HollowLab
from tests.conformance.token_secrets import token_secrets
from tests.support.live_cluster import kubectl_path

SPECS = Path(__file__).with_name("e2e-1.20-no-containers.txt")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance-e2e.md"
HOSTS = 2
NODES = 8
"""Specs at once, each in a process; most of them wait most of the time."""
TIMEOUT_S = 3600
PASSED, FAILED, NOT_RUN = "passes", "fails", "not run"


@dataclass(frozen=True, slots=True)
class Result:
    spec: str
    outcome: str
    seconds: float
    message: str = ""


def results_of(reports: Iterable[Path], specs: Iterable[str]) -> list[Result]:
    """What became of each spec, in their order, by ginkgo's JUnit reports (one of each of its nodes)."""
    found: dict[str, Result] = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("skipped") is not None:
                continue
            name, failure = case.get("name", ""), case.find("failure")
            message = "" if failure is None else _first_line(failure.text or "")
            outcome = PASSED if failure is None else FAILED
            found[name] = Result(name, outcome, float(case.get("time") or 0), message)
    return [found.get(spec, Result(spec, NOT_RUN, 0.0)) for spec in specs]


def focus_of(specs: Iterable[str]) -> str:
    """A regular expression (Go's RE2) that matches exactly these."""
    return "|".join(re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", spec) + "$" for spec in specs)


def by_sig(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Grouped by the special interest group that a spec's name opens with."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        sig, _, _ = result.spec.removeprefix("[").partition("]")
        groups.setdefault(sig, []).append(result)
    return dict(sorted(groups.items()))


def page(results: list[Result], facts: Mapping[str, str]) -> str:
    """The page of the reference."""
    passed = sum(one.outcome == PASSED for one in results)
    lines = [
        "# Kubernetes' own e2e suite",
        "",
        f"**{passed} of {len(results)} specs pass.** They are those of Kubernetes 1.20.2's conformance suite",
        "that need no running container, unmodified, against [hollow hosts](../how-to/hollow-hosts.md).",
        "`python -m tests.conformance.real_suite` runs them and writes this page.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
    ]
    for sig, group in by_sig(results).items():
        ours = sum(one.outcome == PASSED for one in group)
        lines += [f"## {sig}: {ours} of {len(group)}", "| spec | result | seconds |", "|---|---|---|"]
        for one in group:
            name = re.sub(r"^\[[^]]*\] |\s*\[(Conformance|Privileged:ClusterAdmin)\]", "", one.spec)
            outcome = one.outcome + (f": {one.message}" if one.message else "")
            lines.append(f"| {_cell(name)} | {_cell(outcome)} | {one.seconds:.0f} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _first_line(text: str) -> str:
    """Of a failure: the sentence, without where in Kubernetes' sources it was said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    useful = [line for line in lines if not re.match(r"^(/|Expected|Unexpected error|<)", line)]
    return (useful or lines or [""])[0][:200]


# ------------------------------------------------------------------ the run


def main() -> int:
    """Run it; 0 when every spec passed or there is no suite to run."""
    parser = argparse.ArgumentParser(description="Kubernetes' own e2e suite against hollow hosts")
    parser.add_argument("--only", default="", help="specs whose name contains this; the page is not written")
    parser.add_argument("--nodes", type=int, default=NODES, help="specs at once")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the result is written")
    parser.add_argument("--keep", type=Path, help="keep the lab's files and the reports in this directory")
    given = parser.parse_args()
    binary = os.environ.get("E2E_TEST", "")
    if not binary:
        print("E2E_TEST is not set: Kubernetes' own e2e suite is not run")
        return 0
    ginkgo = os.environ.get("GINKGO") or shutil.which("ginkgo") or str(Path(binary).with_name("ginkgo"))
    own = Path(binary).with_name("kubectl")
    kubectl = os.environ.get("KUBECTL") or (str(own) if own.exists() else kubectl_path()) or "kubectl"
    specs = [line for line in SPECS.read_text().split("\n") if line and given.only in line]
    directory = given.keep or Path(tempfile.mkdtemp(prefix="gitkube-e2e-"))
    lab = HollowLab(directory / "lab", progress=print)
    reports = directory / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    try:
        lab.up(HOSTS)
        began = time.monotonic()
        command = [
            ginkgo, f"-nodes={given.nodes}", "-noColor", f"-focus={focus_of(specs)}", binary, "--",
            f"--kubeconfig={lab.kubeconfig}", "--provider=skeleton", f"--kubectl-path={kubectl}",
            f"--report-dir={reports}", "--allowed-not-ready-nodes=0", "--disable-log-dump",
        ]  # fmt: skip
        with token_secrets(lab.kubeconfig), (directory / "e2e.log").open("w") as output:
            subprocess.run(command, stdout=output, stderr=output, timeout=TIMEOUT_S, check=False)
        took_s = time.monotonic() - began
        rss_mib = _rss_mib(lab.pid)
    finally:
        if given.keep is None:
            lab.down()
    results = results_of(sorted(reports.glob("junit_*.xml")), specs)
    facts = {
        "suite": "Kubernetes 1.20.2",
        "kubectl": _version_of(kubectl),
        "hosts": f"{HOSTS} hollow ones",
        "time": f"{took_s:.0f} s, {given.nodes} specs at once",
        "memory of the control process at the end": f"{rss_mib:.0f} MiB",
    }
    for one in results:
        print(f"{one.outcome:8} {one.seconds:5.0f} s  {one.spec}{'  ' + one.message if one.message else ''}")
    passed = sum(one.outcome == PASSED for one in results)
    print(f"{passed} of {len(results)} specs pass, in {took_s:.0f} s; control process: {rss_mib:.0f} MiB")
    if not given.only:
        given.page.write_text(page(results, facts))
    print(f"log: {directory / 'e2e.log'}")
    return 0 if passed == len(results) else 1


def _version_of(kubectl: str) -> str:
    """Such as v1.20.2."""
    done = subprocess.run(
        [kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=60, check=True
    )
    return str(json.loads(done.stdout)["clientVersion"]["gitVersion"])


def _rss_mib(pid: int | None) -> float:
    """Of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
