"""Health is said as it is: a word, a reason, and whether it can still pass."""

from __future__ import annotations

import pytest

from gitkube.gitops.health import Related, health_of, pod_trouble
from gitkube.objects import kinds


def deployment(**status):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "d", "generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, **status},
    }  # fmt: skip


def replica_set(uid, revision):
    owner = {"kind": "Deployment", "name": "web", "uid": "d", "controller": True}
    metadata = {"name": uid, "uid": uid, "ownerReferences": [owner]}
    metadata["annotations"] = {"deployment.kubernetes.io/revision": str(revision)}
    return {"kind": "ReplicaSet", "metadata": metadata, "spec": {"replicas": 2}}


def pod(name, owner="new", *, ready=False, phase="Running", container=None, conditions=()):
    reference = {"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
    found = [{"type": "Ready", "status": "True" if ready else "False"}, *conditions]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": name, "ownerReferences": [reference]},
        "spec": {"nodeName": "bee"},
        "status": {
            "phase": phase,
            "conditions": found,
            "containerStatuses": [container] if container else [],
        },
    }


def waiting(reason, message="", restarts=0, last=None):
    status = {
        "name": "web",
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    if last:
        status["lastState"] = {"terminated": last}
    return status


def of(obj, replica_sets=(), pods=()):
    return health_of(kinds.DEPLOYMENT, obj, Related(replica_sets, pods))


FULL = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
NEW = (replica_set("old", 1), replica_set("new", 2))


def test_a_deployment_with_all_its_pods_ready_is_healthy():
    found = of(deployment(**FULL), NEW, (pod("a", ready=True), pod("b", ready=True)))
    assert (found.state, found.ready, found.wanted) == ("healthy", 2, 2)


def test_an_old_status_is_not_believed():
    obj = deployment(**FULL)
    obj["status"]["observedGeneration"] = 1
    assert of(obj, NEW, (pod("a", ready=True), pod("b", ready=True))).state == "rolling"


def test_full_counts_without_ready_pods_of_the_new_revision_are_not_believed():
    assert (
        of(deployment(**FULL), NEW, (pod("a", "old", ready=True), pod("b", "old", ready=True))).state
        == "rolling"
    )


def test_pods_of_the_old_revision_do_not_make_the_new_one_ready():
    status = {"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}
    found = of(
        deployment(**status), NEW, (pod("a", "old", ready=True), pod("b", "old", ready=True), pod("c"))
    )
    assert (found.state, found.ready) == ("rolling", 0)


@pytest.mark.parametrize(
    ("container", "state", "words"),
    [
        (waiting("ImagePullBackOff", "image web:9 not found in registry"), "failed", "web:9 not found"),
        (waiting("ErrImagePull", "connection refused"), "waiting", "connection refused"),
        (waiting("InvalidImageName", ""), "failed", "InvalidImageName"),
        (
            waiting("CrashLoopBackOff", "", 3, {"exitCode": 1, "message": "x\nKeyError: 'DB_URL'\n"}),
            "failed",
            "bee: container \"web\" exited 1 4 times · last line: KeyError: 'DB_URL'",
        ),
        (
            waiting("CrashLoopBackOff", "", 1, {"exitCode": 137, "reason": "OOMKilled"}),
            "waiting",
            "exited 137 (OOMKilled)",
        ),
        (
            waiting("CreateContainerConfigError", 'configmap "web-env" not found'),
            "waiting",
            '"web-env" not found',
        ),
    ],
)
def test_a_container_that_cannot_run_gives_its_reason(container, state, words):
    found = of(deployment(replicas=2, updatedReplicas=2), NEW, (pod("a", container=container),))
    assert found.state == state and found.is_stuck
    assert words in found.reason


def test_old_pods_that_still_serve_are_counted():
    crash = waiting("CrashLoopBackOff", "", 4, {"exitCode": 1})
    pods = (pod("a", "old", ready=True), pod("b", "old", ready=True), pod("c", container=crash))
    assert of(deployment(replicas=3, updatedReplicas=1), NEW, pods).reason.endswith("2 old pods still serve")


def test_a_pod_that_fits_nowhere_says_what_the_scheduler_said():
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 hosts: cpu",
    }
    trouble = pod_trouble(pod("a", phase="Pending", conditions=(condition,)))
    assert trouble is not None and not trouble.is_terminal
    assert "no host fits: 0/3 hosts: cpu" in trouble.text


def test_a_job_is_healthy_when_complete_and_failed_when_given_up():
    job = {"kind": "Job", "metadata": {"name": "seed", "uid": "j"}, "spec": {"completions": 1}}
    none = Related((), ())
    assert health_of(kinds.JOB, job, none).state == "rolling"
    done = {**job, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}
    assert health_of(kinds.JOB, done, none).state == "healthy"
    failed = {**job, "status": {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}}
    assert health_of(kinds.JOB, failed, none).reason == "too often"


def test_what_is_not_there_waits():
    assert health_of(kinds.DEPLOYMENT, None, Related((), ())).state == "waiting"


def test_control_characters_of_a_container_never_get_through():
    crash = waiting("CrashLoopBackOff", "", 3, {"exitCode": 1, "message": "\x1b[2Jgone"})
    assert "\x1b" not in of(deployment(), NEW, (pod("a", container=crash),)).reason
