"""The official Python client: generated, so it shows what typed clients send and expect."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.live_cluster import LiveCluster, running_pod

kubernetes = pytest.importorskip("kubernetes")


@pytest.fixture
def api_client(cluster: LiveCluster) -> Any:
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        yield client


def test_objects_are_made_listed_patched_and_deleted(api_client: Any, namespace: str) -> None:
    core = kubernetes.client.CoreV1Api(api_client)
    body = kubernetes.client.V1ConfigMap(metadata={"name": "a"}, data={"x": "y"})
    core.create_namespaced_config_map(namespace, body)
    assert [item.metadata.name for item in core.list_namespaced_config_map(namespace).items] == ["a"]
    core.patch_namespaced_config_map("a", namespace, {"data": {"z": "1"}})
    assert core.read_namespaced_config_map("a", namespace).data == {"x": "y", "z": "1"}
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(kubernetes.client.exceptions.ApiException) as raised:
        core.read_namespaced_config_map("a", namespace)
    assert raised.value.status == 404


def test_a_deployment_is_scaled(api_client: Any, namespace: str) -> None:
    apps = kubernetes.client.AppsV1Api(api_client)
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    apps.create_namespaced_deployment(namespace, body)
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment("web", namespace).spec.replicas == 3


def test_a_watch_delivers(api_client: Any, cluster: LiveCluster, namespace: str) -> None:
    core = kubernetes.client.CoreV1Api(api_client)
    watch = kubernetes.watch.Watch()
    later = threading.Timer(0.3, running_pod, (cluster, namespace, "one"))
    later.start()
    events = watch.stream(core.list_namespaced_pod, namespace, timeout_seconds=10)
    event = next(iter(events))
    assert (event["type"], event["object"].metadata.name) == ("ADDED", "one")
    watch.stop()
    later.join()


def test_logs_and_commands(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    # Its exec patches the client that it is given, so this test has one of its own.
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        core = kubernetes.client.CoreV1Api(client)
        assert core.read_namespaced_pod_log("one", namespace) == "one\ntwo\nthree\n"
        said = kubernetes.stream.stream(
            core.connect_get_namespaced_pod_exec,
            "one",
            namespace,
            command=["echo", "hello"],
            stdout=True,
            stderr=True,
        )
        assert said == "hello\n"


def test_a_port_is_forwarded(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        core = kubernetes.client.CoreV1Api(client)
        forward = kubernetes.stream.portforward(
            core.connect_get_namespaced_pod_portforward, "one", namespace, ports="7000,7001"
        )
        for port in (7000, 7001):
            connection = forward.socket(port)
            connection.settimeout(30)
            connection.sendall(b"said to %d" % port)
            assert connection.recv(100) == b"SAID TO %d" % port
            assert forward.error(port) is None


def test_a_command_gets_its_input_and_tells_its_code(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        core = kubernetes.client.CoreV1Api(client)
        options = {"stdin": True, "stdout": True, "stderr": True, "_preload_content": False}
        execute = core.connect_get_namespaced_pod_exec
        session = kubernetes.stream.stream(execute, "one", namespace, command=["cat"], **options)
        session.write_stdin("typed\n")
        assert session.readline_stdout(timeout=30) == "typed"
        session.close()
        failed = kubernetes.stream.stream(execute, "one", namespace, command=["fail", "7"], **options)
        failed.run_forever(timeout=30)
        assert failed.returncode == 7


def test_server_side_apply_by_the_dynamic_client(api_client: Any, namespace: str) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(api_client)
    resource = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied", "namespace": namespace},
        "data": {"x": "y"},
    }
    resource.server_side_apply(body=body, field_manager="tests")
    assert resource.get(name="applied", namespace=namespace).data.x == "y"
