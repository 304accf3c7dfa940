"""What gitkube costs: the start of a Pod, memory of both sides, CPU of an idle control side.

Three hosts and 30 Pods (busybox, image on the host). The start of a Pod is the time between two events of one
watch: bound to a host, and running.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from cluster import HOSTS, agent_pids, control_pids, cpu_s, demo_cluster, rss_mb, wait_pods, within
from gitkube.api.http import HttpClient
from gitkube.lab.demo import Demo
from gitkube.objects.kinds import DEPLOYMENT, NODE, POD
from gitkube.objects.types import Object
from harness import Row, against, options, percentile, report

PODS = 30
IMAGE = "registry.lab:5000/busybox:1"
START_GOAL_MS, CONTROL_GOAL_MB, AGENT_GOAL_MB, IDLE_GOAL_PERCENT = 300.0, 200.0, 40.0, 3.0


def pod_spec() -> Object:
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "100000"]}
    return {"containers": [container], "terminationGracePeriodSeconds": 0}


def running(count: int, pods: list[Object]) -> bool:
    return sum(pod.get("status", {}).get("phase") == "Running" for pod in pods) >= count


async def start_times(demo: Demo, rounds: int) -> list[float]:
    """Milliseconds from bound to running of Pods started one after another."""
    found: list[float] = []
    async with HttpClient.from_kubeconfig(demo.kubeconfig) as client:
        for number in range(rounds):
            name = f"start-{number}"
            version = (await client.list(POD, "default")).resource_version
            events = client.watch(POD, "default", resource_version=version, bookmarks=False)
            body = {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": pod_spec(),
            }  # fmt: skip
            await client.create(POD, body)
            bound = None
            async for event in events:
                if event.object["metadata"]["name"] != name:
                    continue
                if bound is None and event.object["spec"].get("nodeName"):
                    bound = time.perf_counter()
                if bound is not None and event.object["status"].get("phase") == "Running":
                    found.append((time.perf_counter() - bound) * 1000)
                    break
            await client.delete(POD, name, "default", grace_period_s=0)
    return found


async def fill(demo: Demo) -> None:
    """A Deployment that makes it 30 Pods with the sample's own, and one Pod on each host before that."""
    async with HttpClient.from_kubeconfig(demo.kubeconfig) as client:
        have = len((await client.list(POD)).items)
        assert len((await client.list(NODE)).items) == HOSTS
        body = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "filler", "namespace": "default"},
            "spec": {
                "replicas": PODS - have,
                "selector": {"matchLabels": {"app": "filler"}},
                "template": {"metadata": {"labels": {"app": "filler"}}, "spec": pod_spec()},
            },
        }  # fmt: skip
        await client.create(DEPLOYMENT, body)
    await wait_pods(demo, "default", "app=filler", lambda pods: running(PODS - have, pods))


def main() -> None:
    arguments = options(__doc__ or "")
    with demo_cluster() as demo:
        within(60, fill(demo))
        starts = asyncio.run(start_times(demo, 10 if arguments.quick else 30))
        print(f"starts: {[round(each) for each in starts]}", file=sys.stderr)
        time.sleep(3)
        pids = control_pids(demo)
        seconds = 10.0 if arguments.quick else 30.0
        before = sum(map(cpu_s, pids))
        time.sleep(seconds)
        idle_percent = (sum(map(cpu_s, pids)) - before) / seconds * 100
        control_mb = sum(map(rss_mb, pids))
        agents = [rss_mb(pid) for pid in agent_pids()]
        rows = [
            against(
                "Pod start, bound to running, p50", statistics.median(starts), "ms", START_GOAL_MS, "goal"
            ),
            Row("Pod start, bound to running, p90", percentile(starts, 0.9), "ms"),
            against("control process, RSS", rss_mb(pids[0]), "MB", CONTROL_GOAL_MB, "goal"),
            Row("control process and its store, RSS", control_mb, "MB"),
            against("agent, RSS, largest", max(agents), "MB", AGENT_GOAL_MB, "goal"),
            against("idle control side, CPU of one core", idle_percent, "%", IDLE_GOAL_PERCENT, "goal"),
        ]
    report(rows, f"{HOSTS} hosts, {PODS} Pods; idle over {seconds:.0f} s", arguments.json)


if __name__ == "__main__":
    main()
