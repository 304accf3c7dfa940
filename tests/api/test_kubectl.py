"""The real kubectl against a live server: what people type."""

from __future__ import annotations

import json
import time

import pytest

from gitkube.objects.kinds import NODE, POD
from tests.support.live_cluster import LiveCluster, running_pod

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: web:1
        ports:
        - containerPort: 80
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  colour: green
"""


def test_version_shows_the_release_that_the_schemas_are_of(cluster: LiveCluster) -> None:
    said = json.loads(cluster.kubectl("version", "-o", "json").stdout)["serverVersion"]
    assert (said["major"], said["minor"]) == ("1", "37")
    assert "gitkube" in said["gitVersion"]


def test_api_resources_lists_what_is_served(cluster: LiveCluster) -> None:
    out = cluster.kubectl("api-resources", "-o", "wide").stdout
    for word in ("deployments", "deploy", "apps/v1", "endpointslices", "gitkube.dev/v1alpha1"):
        assert word in out
    assert "all" in next(line for line in out.splitlines() if line.startswith("pods"))


def test_apply_creates_then_changes_then_leaves_alone(cluster: LiveCluster, namespace: str) -> None:
    assert "created" in cluster.kubectl("-n", namespace, "apply", "-f", "-", input=DEPLOYMENT).stdout
    assert "unchanged" in cluster.kubectl("-n", namespace, "apply", "-f", "-", input=DEPLOYMENT).stdout
    changed = DEPLOYMENT.replace("web:1", "web:2")
    assert "configured" in cluster.kubectl("-n", namespace, "apply", "-f", "-", input=changed).stdout
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    assert cluster.kubectl("-n", namespace, "get", "deploy", "web", "-o", path).stdout == "web:2"


def test_server_side_apply_says_who_else_owns_a_field(cluster: LiveCluster, namespace: str) -> None:
    apply = ("-n", namespace, "apply", "--server-side", "-f", "-")
    assert "serverside-applied" in cluster.kubectl(*apply, "--field-manager=one", input=CONFIG).stdout
    other = CONFIG.replace("green", "blue")
    refused = cluster.kubectl(*apply, "--field-manager=two", input=other, check=False)
    assert refused.returncode == 1
    assert 'conflict with "one"' in refused.stderr
    cluster.kubectl(*apply, "--field-manager=two", "--force-conflicts", input=other)
    shown = cluster.kubectl("-n", namespace, "get", "cm", "settings", "-o", "jsonpath={.data.colour}").stdout
    assert shown == "blue"


def test_diff_shows_the_change_and_stores_nothing(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", input=DEPLOYMENT)
    same = cluster.kubectl("-n", namespace, "diff", "-f", "-", input=DEPLOYMENT, check=False)
    assert (same.returncode, same.stdout) == (0, "")
    changed = DEPLOYMENT.replace("web:1", "web:9")
    diff = cluster.kubectl("-n", namespace, "diff", "-f", "-", input=changed, check=False)
    assert diff.returncode == 1
    assert "+      - image: web:9" in diff.stdout
    assert "web:1" in cluster.kubectl("-n", namespace, "get", "deploy", "web", "-o", "yaml").stdout


def test_an_unknown_field_is_refused_by_name(cluster: LiveCluster, namespace: str) -> None:
    wrong = DEPLOYMENT.replace("image: web:1", "imagee: web:1")
    done = cluster.kubectl("-n", namespace, "apply", "-f", "-", input=wrong, check=False)
    assert done.returncode == 1
    assert 'unknown field "spec.template.spec.containers[0].imagee"' in done.stderr


def test_create_from_a_file_twice_says_that_it_exists(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=CONFIG)
    done = cluster.kubectl("-n", namespace, "create", "-f", "-", input=CONFIG, check=False)
    assert 'configmaps "settings" already exists' in done.stderr


def test_get_wide_yaml_name_and_by_label(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    running_pod(cluster, namespace, "two")
    wide = cluster.kubectl("-n", namespace, "get", "pods", "-o", "wide").stdout
    assert "NODE" in wide and "ant" in wide and "10.42.0.7" in wide
    assert "phase: Running" in cluster.kubectl("-n", namespace, "get", "pod", "one", "-o", "yaml").stdout
    by_label = cluster.kubectl("-n", namespace, "get", "pods", "-l", "app=two", "-o", "name").stdout
    assert by_label == "pod/two\n"
    by_field = cluster.kubectl(
        "-n", namespace, "get", "pods", "--field-selector", "metadata.name=one", "-o", "name"
    )
    assert by_field.stdout == "pod/one\n"
    by_time = cluster.kubectl("-n", namespace, "get", "pods", "--sort-by=.metadata.name").stdout
    assert by_time.index("one") < by_time.index("two")


def test_get_in_pages_gives_all(cluster: LiveCluster, namespace: str) -> None:
    many = "---".join(CONFIG.replace("settings", f"settings-{number}") for number in range(7))
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=many)
    names = cluster.kubectl("-n", namespace, "get", "cm", "--chunk-size=3", "-o", "name").stdout.split()
    assert len(names) == 7


def test_get_watch_prints_each_change(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "seen")
    watching = cluster.popen("-n", namespace, "get", "pods", "-w", "--output-watch-events")
    try:
        assert watching.stdout is not None
        assert "EVENT" in watching.stdout.readline()
        assert watching.stdout.readline().split()[:2] == ["ADDED", "seen"]
        cluster.kubectl("-n", namespace, "label", "pod", "seen", "colour=red")
        assert watching.stdout.readline().split()[:2] == ["MODIFIED", "seen"]
        running_pod(cluster, namespace, "later")
        assert watching.stdout.readline().split()[:2] == ["ADDED", "later"]
    finally:
        watching.kill()
        watching.communicate()


def test_describe_shows_a_node_and_a_pod(cluster: LiveCluster, namespace: str) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{namespace}"}}
    cluster.run(cluster.client.create(NODE, node))
    assert f"node-{namespace}" in cluster.kubectl("describe", "node", f"node-{namespace}").stdout
    running_pod(cluster, namespace, "one")
    described = cluster.kubectl("-n", namespace, "describe", "pod", "one").stdout
    assert "Node:" in described and "busybox" in described


def test_scale_label_annotate_and_patch(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=DEPLOYMENT)
    cluster.kubectl("-n", namespace, "scale", "deploy/web", "--replicas=5")
    cluster.kubectl("-n", namespace, "label", "deploy", "web", "team=shop")
    cluster.kubectl("-n", namespace, "annotate", "deploy", "web", "note=hello")
    cluster.kubectl("-n", namespace, "patch", "deploy", "web", "-p", '{"spec":{"paused":true}}')
    merge = '{"spec":{"minReadySeconds":3}}'
    cluster.kubectl("-n", namespace, "patch", "deploy", "web", "--type=merge", "-p", merge)
    operations = '[{"op":"replace","path":"/spec/minReadySeconds","value":4}]'
    cluster.kubectl("-n", namespace, "patch", "deploy", "web", "--type=json", "-p", operations)
    cluster.kubectl("-n", namespace, "set", "image", "deploy/web", "web=web:7")
    shown = json.loads(cluster.kubectl("-n", namespace, "get", "deploy", "web", "-o", "json").stdout)
    assert shown["spec"]["replicas"] == 5
    assert shown["metadata"]["labels"] == {"team": "shop"}
    assert shown["metadata"]["annotations"]["note"] == "hello"
    assert shown["spec"]["paused"] is True
    assert shown["spec"]["minReadySeconds"] == 4
    assert shown["spec"]["template"]["spec"]["containers"][0]["image"] == "web:7"


def test_replace_refuses_an_old_version(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=CONFIG)
    old = cluster.kubectl("-n", namespace, "get", "cm", "settings", "-o", "yaml").stdout
    cluster.kubectl("-n", namespace, "label", "cm", "settings", "a=b")
    done = cluster.kubectl("-n", namespace, "replace", "-f", "-", input=old, check=False)
    assert "the object has been modified" in done.stderr


def test_delete_waits_until_it_is_gone(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=DEPLOYMENT)
    assert "deleted" in cluster.kubectl("-n", namespace, "delete", "deploy", "web").stdout
    done = cluster.kubectl("-n", namespace, "get", "deploy", "web", check=False)
    assert 'deployments.apps "web" not found' in done.stderr


def test_delete_all_of_a_kind(cluster: LiveCluster, namespace: str) -> None:
    many = "---".join(CONFIG.replace("settings", f"settings-{number}") for number in range(3))
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=many)
    cluster.kubectl("-n", namespace, "delete", "cm", "--all")
    assert cluster.kubectl("-n", namespace, "get", "cm", "-o", "name").stdout == ""


def test_wait_ends_when_the_condition_holds(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    waiting = cluster.popen("-n", namespace, "wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
    time.sleep(0.5)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster.run(cluster.client.patch(POD, "one", namespace, ready, subresource="status"))
    out, error = waiting.communicate(timeout=90)
    assert waiting.returncode == 0, error
    assert "condition met" in out


def test_rollout_status_follows_a_deployment(cluster: LiveCluster, namespace: str) -> None:
    from gitkube.objects.kinds import DEPLOYMENT as DEPLOYMENT_KIND

    cluster.kubectl("-n", namespace, "create", "-f", "-", input=DEPLOYMENT)
    following = cluster.popen("-n", namespace, "rollout", "status", "deploy/web", "--timeout=60s")
    time.sleep(0.5)
    status = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
    }
    change = {"status": status}
    cluster.run(cluster.client.patch(DEPLOYMENT_KIND, "web", namespace, change, subresource="status"))
    out, error = following.communicate(timeout=90)
    assert following.returncode == 0, error
    assert "successfully rolled out" in out


@pytest.mark.parametrize("path", ["pod.spec.containers", "deployment.spec", "source", "service.spec.ports"])
def test_explain_reads_the_schemas(cluster: LiveCluster, path: str) -> None:
    out = cluster.kubectl("explain", path).stdout
    assert "FIELDS:" in out and "DESCRIPTION:" in out


def test_explain_reads_the_older_schemas_too(cluster: LiveCluster) -> None:
    out = cluster.kubectl("explain", "deployment.spec", "--output=plaintext-openapiv2").stdout
    assert "minReadySeconds" in out and "FIELDS:" in out


def test_a_list_in_a_file_is_applied_item_by_item(cluster: LiveCluster, namespace: str) -> None:
    # For a List, kubectl looks into the older schemas, as protobuf, whether it may ask for fieldValidation.
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("a", "b")]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    said = cluster.kubectl("-n", namespace, "apply", "-f", "-", input=listed).stdout
    assert said == "configmap/a created\nconfigmap/b created\n"
    shown = cluster.kubectl("-n", namespace, "get", "cm", "a", "b", "-o", "yaml").stdout
    assert "unchanged" in cluster.kubectl("-n", namespace, "apply", "-f", "-", input=listed).stdout
    assert "replaced" in cluster.kubectl("-n", namespace, "replace", "-f", "-", input=shown).stdout


def test_events_are_shown_for_the_object_they_are_about(cluster: LiveCluster, namespace: str) -> None:
    assert "No events found" in cluster.kubectl("-n", namespace, "events").stderr


def test_raw_paths_answer(cluster: LiveCluster) -> None:
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"
    assert "apiserver_request_total" in cluster.kubectl("get", "--raw", "/metrics").stdout
    assert "/openapi/v3" in cluster.kubectl("get", "--raw", "/").stdout


def test_every_kind_can_be_listed_by_kubectl(cluster: LiveCluster, namespace: str) -> None:
    listed = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    assert len(listed) >= 63
    done = cluster.kubectl("-n", namespace, "get", ",".join(listed), "-o", "name", timeout_s=120)
    assert "priorityclass.scheduling.k8s.io/system-node-critical" in done.stdout


@pytest.mark.parametrize(
    ("resource", "word"),
    [
        ("statefulset.spec.updateStrategy", "rollingUpdate"),
        ("cronjobs.spec", "concurrencyPolicy"),
        ("ingress.spec.rules", "http"),
        ("hpa.spec", "metrics"),
        ("pvc.spec", "storageClassName"),
        ("clusterrole", "aggregationRule"),
        ("crd.spec", "versions"),
        ("pdb.spec", "minAvailable"),
    ],
)
def test_kubectl_explains_a_field(cluster: LiveCluster, resource: str, word: str) -> None:
    assert word in cluster.kubectl("explain", resource).stdout


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("create role reader --verb=get --resource=pods", "role.rbac.authorization.k8s.io/reader"),
        ("create rolebinding b --role=reader --user=ada", "rolebinding.rbac.authorization.k8s.io/b"),
        ("create quota q --hard=pods=3", "resourcequota/q"),
        ("create poddisruptionbudget p --selector=a=b --min-available=1", "poddisruptionbudget.policy/p"),
        ("create cronjob c --image=app:1 --schedule=@hourly", "cronjob.batch/c"),
        ("create ingress i --rule=a.example.org/*=web:80", "ingress.networking.k8s.io/i"),
        ("create priorityclass high --value=7", "priorityclass.scheduling.k8s.io/high"),
        ("create clusterrole r --verb=list --resource=nodes", "clusterrole.rbac.authorization.k8s.io/r"),
    ],
)
def test_what_kubectl_makes_is_stored(cluster: LiveCluster, namespace: str, command: str, shown: str) -> None:
    # The typed commands of kubectl send protobuf.
    cluster.kubectl("-n", namespace, *command.split())
    assert cluster.kubectl("-n", namespace, "get", shown, "-o", "name").stdout.strip() == shown


def test_kubectl_asks_who_it_is_and_what_it_may(cluster: LiveCluster) -> None:
    assert cluster.kubectl("auth", "can-i", "delete", "nodes").stdout.strip() == "yes"
    assert "system:masters" in cluster.kubectl("auth", "whoami").stdout
    assert "*.*" in cluster.kubectl("auth", "can-i", "--list").stdout


def test_an_autoscaler_is_seen_in_both_versions(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", input=DEPLOYMENT)
    cluster.kubectl("-n", namespace, "autoscale", "deployment", "web", "--max=4", "--cpu=60%")
    shown = cluster.kubectl(
        "-n", namespace, "get", "horizontalpodautoscalers.v1.autoscaling", "web", "-o", "json"
    ).stdout
    assert json.loads(shown)["spec"]["targetCPUUtilizationPercentage"] == 60
    assert "cpu: <unknown>/60%" in cluster.kubectl("-n", namespace, "get", "hpa").stdout
