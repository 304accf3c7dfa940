"""What people see of webhooks and policies: the real kubectl, and a real webhook over HTTPS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_cluster import LiveCluster, running_pod
from tests.support.webhook_server import WebhookServer, after, responding, saying, webhook_server

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  matchConstraints:
    resourceRules:
      - {{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}}
  validations:
    - expression: object.spec.replicas <= 5
      message: at most five replicas, please
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  validationActions: [{action}]
  matchResources:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}
"""


@pytest.fixture(scope="module")
def hooks(cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookServer]:
    """A webhook server in the API server's loop."""
    directory: Path = tmp_path_factory.mktemp("webhook")
    context = webhook_server(directory)
    server = cluster.run(context.__aenter__())
    yield server
    cluster.run(context.__aexit__(None, None, None))


def configure(cluster: LiveCluster, hooks: WebhookServer, namespace: str, **fields: Any) -> None:
    """A validating webhook for ConfigMaps of one namespace, named after it."""
    webhook = {
        "name": f"{namespace}.example.org",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": hooks.client_config(f"/{namespace}"),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
        ],
        **fields,
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [webhook],
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(configuration))


def create_config_map(cluster: LiveCluster, namespace: str) -> str:
    """What kubectl says to its user, on its error stream."""
    done = cluster.kubectl("-n", namespace, "create", "configmap", "c", "--from-literal=a=1", check=False)
    return done.stderr


def test_kubectl_shows_who_denied_it_and_why(
    cluster: LiveCluster, hooks: WebhookServer, namespace: str
) -> None:
    hooks.answers[f"/{namespace}"] = responding({"allowed": False, "status": {"message": "not on a Sunday"}})
    configure(cluster, hooks, namespace)
    said = create_config_map(cluster, namespace)
    assert f'admission webhook "{namespace}.example.org" denied the request: not on a Sunday' in said
    assert "not found" in cluster.kubectl("-n", namespace, "get", "configmap", "c", check=False).stderr


def test_kubectl_shows_warnings_of_a_webhook(
    cluster: LiveCluster, hooks: WebhookServer, namespace: str
) -> None:
    hooks.answers[f"/{namespace}"] = responding({"allowed": True, "warnings": ["this will be refused soon"]})
    configure(cluster, hooks, namespace)
    assert "Warning: this will be refused soon" in create_config_map(cluster, namespace)


@pytest.mark.parametrize(
    ("answer", "fields", "why"),
    [
        (after(60, saying("{}")), {"timeoutSeconds": 1}, "context deadline exceeded"),
        (
            saying("boom", 500),
            {},
            'an error on the server ("boom") has prevented the request from succeeding',
        ),
        (saying("<html>"), {}, "json parse error"),
        (responding({"uid": "of another", "allowed": True}), {}, 'got "of another"'),
        (saying("x" * 11_000_000), {}, "the answer is larger than"),
        (responding({"allowed": True}), {"caBundle": ""}, "certificate signed by unknown authority"),
    ],
    ids=["hangs", "500", "no JSON", "wrong uid", "huge", "unknown authority"],
)
def test_a_webhook_that_fails_stops_the_write_and_says_how_it_failed(
    cluster: LiveCluster, hooks: WebhookServer, namespace: str, answer: Any, fields: dict[str, Any], why: str
) -> None:
    hooks.answers[f"/{namespace}"] = answer
    fields = dict(fields)
    if "caBundle" in fields:
        fields["clientConfig"] = {**hooks.client_config(f"/{namespace}"), "caBundle": fields.pop("caBundle")}
    configure(cluster, hooks, namespace, **fields)
    said = create_config_map(cluster, namespace)
    assert f'failed calling webhook "{namespace}.example.org": ' in said
    assert why in said
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)
    assert create_config_map(cluster, namespace) == ""


def test_exec_may_be_refused(cluster: LiveCluster, hooks: WebhookServer, namespace: str) -> None:
    running_pod(cluster, namespace, "p")
    hooks.answers[f"/{namespace}"] = responding({"allowed": False, "status": {"message": "keep out"}})
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
    ]
    configure(cluster, hooks, namespace, rules=rules)
    done = cluster.kubectl("-n", namespace, "exec", "p", "--", "echo", "hello", check=False)
    assert done.returncode
    assert "keep out" in done.stderr
    asked = [review["request"] for path, _, review in hooks.asked if path == f"/{namespace}"]
    assert asked[0]["object"]["command"] == ["echo", "hello"]


def test_a_proxy_may_be_refused(cluster: LiveCluster, hooks: WebhookServer, namespace: str) -> None:
    running_pod(cluster, namespace, "p")
    hooks.answers[f"/{namespace}"] = responding({"allowed": False, "status": {"message": "keep out"}})
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/proxy"]}
    ]
    configure(cluster, hooks, namespace, rules=rules)
    path = f"/api/v1/namespaces/{namespace}/pods/p:8080/proxy/hello"
    done = cluster.kubectl("get", "--raw", path, check=False)
    assert done.returncode
    assert "keep out" in done.stderr
    asked = [review["request"] for name, _, review in hooks.asked if name == f"/{namespace}"]
    assert asked[0]["object"] == {"apiVersion": "v1", "kind": "PodProxyOptions", "path": "/hello"}


def test_kubectl_shows_what_a_policy_refuses(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("apply", "-f", "-", input=POLICY.format(name=namespace, action="Deny"))
    create = ("-n", namespace, "create", "deployment", "web", "--image=web:1")
    cluster.kubectl(*create)
    done = cluster.kubectl("-n", namespace, "scale", "deployment", "web", "--replicas=4", check=False)
    assert done.returncode == 0
    patch = '{"spec": {"replicas": 9}}'
    done = cluster.kubectl("-n", namespace, "patch", "deployment", "web", "-p", patch, check=False)
    said = f"ValidatingAdmissionPolicy '{namespace}' with binding '{namespace}' denied request: "
    assert f"{said}at most five replicas, please" in done.stderr


def test_kubectl_shows_what_a_policy_warns_of(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("apply", "-f", "-", input=POLICY.format(name=namespace, action="Warn"))
    create = ("-n", namespace, "create", "deployment", "web", "--image=web:1", "--replicas=9")
    assert "Warning: Validation failed for ValidatingAdmissionPolicy" in cluster.kubectl(*create).stderr
