"""From `git push` to all changed Pods Ready: three hosts, the image on the host, one changed tag.

Each round commits the other tag of the guestbook's web Deployment (2 Pods, readiness probes) and pushes it.
The clock starts when `git push` is called, and stops when both new Pods are Ready and no old one is left that
is not being ended.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

from cluster import HOSTS, demo_cluster, wait_pods
from gitkube.lab.demo import Demo
from gitkube.objects.types import Object
from harness import Row, against, options, percentile, report

GOAL_MS = 1500.0
TIMEOUT_S = 60.0


def is_rolled_out(image: str, pods: list[Object]) -> bool:
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return len(live) == 2 and all(
        pod["spec"]["containers"][0]["image"] == image
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod.get("status", {}).get("conditions", [])
        )
        for pod in live
    )


def commit_tag(demo: Demo, tag: str) -> None:
    values = demo.clone / "apps" / "guestbook" / "values.yaml"
    before = "2" if tag == "1" else "1"
    text = values.read_text()
    assert f"version: {before}" in text, f"{values} does not say version: {before}"
    values.write_text(text.replace(f"version: {before}", f"version: {tag}"))
    command = ["git", "-C", str(demo.clone), "commit", "--quiet", "--all", "--message", f"web: {tag}"]
    subprocess.run(command, check=True)


async def one_push(demo: Demo, tag: str) -> tuple[float, float]:
    """Milliseconds until all Pods were Ready, and until `git push` itself returned."""
    image = f"registry.lab:5000/guestbook-web:{tag}"
    reached = asyncio.create_task(
        wait_pods(demo, "guestbook", "app=web", lambda pods: is_rolled_out(image, pods))
    )
    await asyncio.sleep(0.3)  # the watch shall be open before the clock starts
    started = time.perf_counter()
    push = await asyncio.create_subprocess_exec(
        "git", "-C", str(demo.clone), "push", "--quiet", "lab", "main",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    await asyncio.wait_for(reached, TIMEOUT_S)
    ready_ms = (time.perf_counter() - started) * 1000
    output, _ = await push.communicate()
    returned_ms = (time.perf_counter() - started) * 1000
    if push.returncode != 0:
        raise SystemExit(output.decode())
    return ready_ms, returned_ms


def main() -> None:
    arguments = options(__doc__ or "")
    rounds = 6 if arguments.quick else 20
    ready: list[float] = []
    returned: list[float] = []
    with demo_cluster() as demo:
        for number in range(rounds + 2):  # the first of each tag brings the image to the hosts
            tag = "2" if number % 2 == 0 else "1"
            commit_tag(demo, tag)
            pair = asyncio.run(one_push(demo, tag))
            print(f"push {number}: ready after {pair[0]:.0f} ms", file=sys.stderr)
            if number >= 2:
                ready.append(pair[0])
                returned.append(pair[1])
            time.sleep(1)
    rows = [
        against("push to all Pods Ready, p50", statistics.median(ready), "ms", GOAL_MS, "goal"),
        Row("push to all Pods Ready, p90", percentile(ready, 0.9), "ms"),
        Row("git push returns (rollout shown), p50", statistics.median(returned), "ms"),
    ]
    report(rows, f"{rounds} pushes, {HOSTS} hosts, 2 Pods, after one push of each tag", arguments.json)


if __name__ == "__main__":
    main()
