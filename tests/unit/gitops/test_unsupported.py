"""What the hosts cannot do yet is refused at push, at its line, with what to use instead."""

from __future__ import annotations

import pytest

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
