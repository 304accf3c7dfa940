"""What the hosts cannot do yet is refused at push, at its line, with what to use instead."""

from __future__ import annotations

import pytest

from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from tests.unit.gitops.conftest import Judge

POD = """apiVersion: v1
kind: Pod
metadata: {{name: it}}
spec:
  {pod}
  containers:
    - name: main
      image: web:1
      {container}
"""


@pytest.mark.parametrize(
    ("pod", "container", "line", "words"),
    [
        ("hostNetwork: false", "ports: [{containerPort: 80, hostPort: 80}]", 9, "hostPort"),
        ("hostNetwork: false", "livenessProbe: {grpc: {port: 80}}", 9, "grpc probe"),
        (
            "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
            "tty: false",
            5,
            "persistentVolumeClaim",
        ),
        ("securityContext: {sysctls: [{name: a.b, value: '1'}]}", "tty: false", 5, "sysctls"),
        (
            "hostNetwork: false",
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}}",
            9,
            "Localhost",
        ),
    ],
)
def test_a_field_that_would_be_ignored_is_refused(
    judge: Judge, pod: str, container: str, line: int, words: str
) -> None:
    (problem,) = judge({"pod.yaml": POD.format(pod=pod, container=container)}).problems
    assert words in problem.message
    assert "not supported yet" in problem.message
    assert problem.place.line == line
    assert problem.is_error


KIND = """apiVersion: {kind.api_version}
kind: {kind.kind}
metadata: {{name: it}}
"""
TAKEN = {
    "Namespace", "Pod", "ConfigMap", "Secret", "Service", "ServiceAccount", "EndpointSlice", "Deployment",
    "ReplicaSet", "Job", "PriorityClass", "PodTemplate", "LimitRange", "Role", "RoleBinding", "ClusterRole",
    "ClusterRoleBinding", "CustomResourceDefinition", "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ReplicationController", "CronJob",
    "ResourceQuota", "PodDisruptionBudget", "FlowSchema", "PriorityLevelConfiguration",
    "Endpoints",
}  # fmt: skip
WARNED = {
    "RuntimeClass",
}  # fmt: skip


@pytest.mark.parametrize("kind", kinds.SERVED, ids=lambda kind: f"{kind.api_version}/{kind.kind}")
def test_a_kind_that_nothing_acts_on_is_refused_or_warned_of(judge: Judge, kind: Kind) -> None:
    problems = judge({"it.yaml": KIND.format(kind=kind)}).problems
    of_kind = [
        problem
        for problem in problems
        if "no controller acts on" in problem.message or "cannot come from git" in problem.message
    ]
    if kind.kind in TAKEN:
        assert not of_kind
        return
    (problem,) = of_kind
    assert problem.is_error is (kind.kind not in WARNED)
    assert problem.place.line == 2


def test_an_object_that_is_warned_of_is_applied_all_the_same(judge: Judge) -> None:
    runtime = """apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: web}
handler: crun
"""
    result = judge({"runtime.yaml": runtime})
    assert result.problems
    assert not result.has_errors
    assert [one.ref.name for one in result.objects] == ["web"]


def test_a_stateful_set_is_refused_with_what_to_use_instead(judge: Judge) -> None:
    (problem,) = judge({"db.yaml": KIND.format(kind=kinds.STATEFUL_SET)}).problems
    assert problem.message == "no controller acts on a StatefulSet yet"
    assert "Deployment" in problem.hint
