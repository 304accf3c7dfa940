"""The story of a commit, line by line."""

from __future__ import annotations

import asyncio

from gitkube.gitops.check import Ref
from gitkube.gitops.health import Health
from gitkube.gitops.problem import Place
from gitkube.gitops.rollout import STUCK_S, Rollout, Seen
from gitkube.gitops.source import Commit, CommitId
from gitkube.objects import kinds

COMMIT = Commit(CommitId("4f2c91e" + "0" * 33), "web: 2.2", "web: 2.2\n", "ada", 0, "t")
NEXT = Commit(CommitId("5" * 40), "fix", "fix\n", "ada", 0, "t")
WEB = Ref(kinds.DEPLOYMENT, "shop", "web")
PLACE = Place("apps/web.yaml", 18, 1)


def ready(name, host):
    return {
        "metadata": {"uid": name},
        "spec": {"nodeName": host},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def rollout():
    made = Rollout(COMMIT, started_s=100.0)
    made.starts_with({WEB: {"old"}})
    return made


def test_pods_are_told_as_they_get_ready_and_then_it_is_healthy():
    story = rollout()
    pods = [ready("a", "bee")]
    story.update({WEB: Seen(Health("rolling", "1 of 2 ready", 1, 2), PLACE, pods)}, 100.4)
    pods = [*pods, ready("b", "ant")]
    story.update({WEB: Seen(Health("healthy", "", 2, 2), PLACE, pods)}, 101.3)
    assert story.lines == [
        "rollout  web 1/2  bee ready in 0.4 s",
        "rollout  web 2/2  ant ready in 1.3 s",
        "healthy  4f2c91e everywhere, 1.3 s after the push · undo: git revert 4f2c91e",
    ]
    assert story.result == "healthy"


def test_a_pod_without_a_probe_is_believed_when_it_has_stayed_up():
    story = rollout()
    pod = ready("a", "bee")
    pod["spec"]["containers"] = [{"name": "main"}]
    seen = {WEB: Seen(Health("healthy", "", 1, 1), PLACE, [pod])}
    story.update(seen, 100.2)
    assert story.lines == ["rollout  web 1/1  bee running in 0.2 s"]
    again = {**pod, "status": {**pod["status"], "containerStatuses": [{"restartCount": 1}]}}
    story.update({WEB: Seen(Health("healthy", "", 1, 1), PLACE, [again])}, 101.9)
    story.update({WEB: Seen(Health("healthy", "", 1, 1), PLACE, [again])}, 103.0)
    assert not story.result, "it ended and began anew: its time begins anew, too"
    story.update({WEB: Seen(Health("healthy", "", 1, 1), PLACE, [again])}, 104.0)
    assert story.result == "healthy"


def test_a_failure_is_told_at_once_with_the_line_in_git():
    story = rollout()
    story.update({WEB: Seen(Health("failed", "bee: image not found", 0, 2, is_stuck=True), PLACE)}, 100.5)
    assert story.result == "failed"
    assert "failed   Deployment shop/web: bee: image not found   apps/web.yaml:18" in story.lines
    assert "git revert 4f2c91e" in story.lines[-1]


def test_a_reason_that_stands_is_told_once_and_becomes_a_failure_in_time():
    story = rollout()
    stuck = Seen(Health("waiting", "no host fits", 0, 2, is_stuck=True), PLACE)
    story.update({WEB: stuck}, 101.0)
    story.update({WEB: stuck}, 102.0)
    assert story.lines == ["rollout  web 0/2  no host fits"] and not story.result
    story.update({WEB: stuck}, 101.0 + STUCK_S)
    assert story.result == "failed"


def test_silence_is_broken_by_what_it_waits_for():
    story = rollout()
    for second in range(1, 9):
        story.update({WEB: Seen(Health("rolling", "0 of 2 ready", 0, 2), PLACE)}, 100.0 + second)
    assert story.lines == ["         waiting for web (rolling: 0 of 2 ready)"] * 2


def test_a_commit_that_is_superseded_says_by_which():
    story = rollout()
    story.supersede(NEXT, 101.0)
    story.update({WEB: Seen(Health("healthy", "", 2, 2), PLACE)}, 102.0)
    assert story.result == "superseded"
    assert story.lines == ["stopped  5555555 took over; this one is no longer watched"]


async def test_whoever_comes_late_reads_from_the_start():
    story = rollout()
    story.say("rollout", "one", 100.1)

    async def read():
        return [line async for line in story.follow()]

    early = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    story.say("rollout", "two", 100.2)
    story.finish("healthy")
    assert await early == await read() == ["rollout  one", "rollout  two"]
