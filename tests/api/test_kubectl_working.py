"""The real kubectl against a cluster in which things happen: what people type to run, roll, look and debug.

One line of the table below is one command and what it must say; they run in order on the same objects, as a
person works through a day. Controllers and scheduler are real, hosts are played.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from tests.support import tools
from tests.support.live_cluster import LiveCluster, kubectl_path

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, labels: {{set: x}}}}
data: {{colour: {colour}}}
"""
GREEN = CONFIG.format(name="one", colour="green")
BLUE = CONFIG.format(name="one", colour="blue")
BOTH = GREEN + "---" + CONFIG.format(name="two", colour="red")
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader, namespace: {namespace}}}
rules: [{{apiGroups: [''], resources: [pods], verbs: [get]}}]
"""

QUICKER = {"spec": {"containers": [{"name": "p", "resources": {"requests": {"cpu": "30m"}}}]}}

Told = subprocess.CompletedProcess[str]


def run(cluster: LiveCluster, namespace: str, line: str, input: str | None = None, code: int = 0) -> Told:
    done = cluster.kubectl("-n", namespace, *shlex.split(line), input=input, check=False)
    assert done.returncode == code, f"kubectl {line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def get(cluster: LiveCluster, namespace: str, what: str) -> Any:
    return json.loads(run(cluster, namespace, f"get {what} -o json").stdout)


def test_a_day_with_a_deployment(working: LiveCluster, shop: str) -> None:
    def kubectl(line: str, *says: str) -> str:
        done = run(working, shop, line)
        for words in says:
            assert words in done.stdout + done.stderr, f"kubectl {line}:\n{done.stdout}{done.stderr}"
        return done.stdout

    kubectl("create deployment web --image=web:1 --replicas=3 --port=80", "deployment.apps/web created")
    kubectl("rollout status deploy/web --timeout=60s", "successfully rolled out")
    kubectl("expose deployment web --port=80", "service/web exposed")
    kubectl("wait endpointslices -l kubernetes.io/service-name=web --for=create --timeout=60s")
    kubectl("describe deployment web", "3 available", "ScalingReplicaSet", "MinimumReplicasAvailable")
    kubectl("describe service web", "ClusterIP", "TargetPort:", "Session Affinity:")
    kubectl("get deploy web", "3/3")
    kubectl("scale deploy web --replicas=2 --current-replicas=3", "scaled")
    kubectl("set image deploy/web web=web:2", "image updated")
    kubectl("set env deploy/web COLOUR=green", "env updated")
    kubectl("set resources deploy/web --limits=cpu=200m", "resource requirements updated")
    kubectl("create serviceaccount robot")
    kubectl("set serviceaccount deploy/web robot", "serviceaccount updated")
    kubectl("set selector service web app=web", "selector updated")
    kubectl("rollout pause deploy/web", "paused")
    kubectl("rollout resume deploy/web", "resumed")
    kubectl("rollout restart deploy/web", "restarted")
    kubectl("rollout status deploy/web --timeout=60s", "successfully rolled out")
    kubectl("rollout history deploy/web", "REVISION", "2")
    kubectl("rollout history deploy/web --revision=2", "web:2")
    kubectl("rollout undo deploy/web", "rolled back")
    kubectl("rollout undo deploy/web --to-revision=1", "rolled back")
    kubectl("rollout status deploy/web --timeout=60s", "successfully rolled out")
    container = get(working, shop, "deploy web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "web:1" and "env" not in container
    kubectl("get deploy web --subresource=scale -o yaml", "kind: Scale", "replicas: 2")
    kubectl("autoscale deployment web --max=4 --cpu=60%", "autoscaled")
    kubectl("describe hpa web", "Reference:", "Deployment/web")
    kubectl("events --for=deploy/web", "ScalingReplicaSet", "Deployment/web")
    kubectl("get all", "deployment.apps/web", "replicaset.apps/web", "service/web")
    kubectl("logs deploy/web", "one\ntwo\nthree")
    kubectl("logs -l app=web --prefix", "[pod/web-", "three")
    kubectl("delete deploy web --cascade=orphan", "deleted")
    assert get(working, shop, "replicasets,pods -l app=web")["items"]
    kubectl("delete replicasets,pods -l app=web", "deleted")
    kubectl("delete all --all", 'service "web" deleted')
    assert get(working, shop, "all")["items"] == []


def test_edit_writes_what_the_editor_leaves(working: LiveCluster, shop: str) -> None:
    run(working, shop, "create configmap one --from-literal=colour=green")
    environment = {**working.environment(), "KUBE_EDITOR": "sed -i s/green/blue/"}
    done = subprocess.run(
        [tools.needed(kubectl_path(), "kubectl"), "-n", shop, "edit", "configmap", "one"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "configmap/one edited" in done.stdout, done.stderr
    assert get(working, shop, "cm one")["data"] == {"colour": "blue"}


def test_apply_in_all_its_ways(working: LiveCluster, shop: str) -> None:
    prune = "apply -f - --prune -l set=x --prune-allowlist=core/v1/ConfigMap"
    assert "configmap/two created" in run(working, shop, prune, BOTH).stdout
    assert "configmap/two pruned" in run(working, shop, prune, GREEN).stdout
    assert "(server dry run)" in run(working, shop, "apply -f - --dry-run=server", BLUE).stdout
    assert get(working, shop, "cm one")["data"] == {"colour": "green"}
    assert "+  colour: blue" in run(working, shop, "diff --server-side -f -", BLUE, code=1).stdout
    # What was applied by the client becomes the server's to compare: a second request tells it so.
    assert "serverside-applied" in run(working, shop, "apply --server-side -f -", BLUE).stdout
    managers = get(working, shop, "cm one --show-managed-fields")["metadata"]["managedFields"]
    applied = {one["manager"] for one in managers if one["operation"] == "Apply"}
    assert applied == {"kubectl", "kubectl-last-applied"}
    assert "unchanged" not in run(working, shop, "apply set-last-applied -f -", BLUE).stdout
    assert "colour: blue" in run(working, shop, "apply view-last-applied cm one").stdout
    assert "replaced" in run(working, shop, "replace --force -f -", GREEN).stdout
    assert "reconciled" in run(working, shop, "auth reconcile -f -", ROLE.format(namespace=shop)).stdout


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("create configmap c --from-literal=a=b", "configmap/c"),
        ("create secret generic s --from-literal=a=b", "secret/s"),
        ("create secret docker-registry r --docker-server=x --docker-username=u --docker-password=p",
         "secret/r"),
        ("create job j --image=ends:1", "job.batch/j"),
        ("create service nodeport n --tcp=80:80", "service/n"),
        ("create service externalname e --external-name=a.example.org", "service/e"),
        ("create service loadbalancer l --tcp=80:80", "service/l"),
        ("run p --image=web:1 --labels=a=b --env=X=y --port=80", "pod/p"),
    ],
)  # fmt: skip
def test_what_is_created_by_words(working: LiveCluster, shop: str, line: str, made: str) -> None:
    assert f"{made} created" in run(working, shop, line).stdout
    assert run(working, shop, f"get {made} -o name").stdout.strip() == made


def test_a_job_is_waited_for_and_made_from_a_schedule(working: LiveCluster, shop: str) -> None:
    run(working, shop, "create cronjob c --image=ends:1 --schedule='0 4 * * *'")
    run(working, shop, "create job j --from=cronjob/c")
    assert "condition met" in run(working, shop, "wait job/j --for=condition=complete --timeout=60s").stdout
    assert "Complete" in run(working, shop, "get job j").stdout
    assert "Completed" in run(working, shop, "get pods -l job-name=j").stdout


def test_a_pod_is_run_typed_into_and_removed(working: LiveCluster, shop: str) -> None:
    typed = run(working, shop, "run p -i --rm --quiet --image=typed:1 --restart=Never", "typed\n").stdout
    assert "typed" in typed
    assert get(working, shop, "pods")["items"] == []


def test_a_pod_is_entered_and_deleted(working: LiveCluster, shop: str) -> None:
    run(working, shop, "run p --image=web:1")
    run(working, shop, "wait pod/p --for=condition=Ready --timeout=60s")
    run(working, shop, "wait pod/p --for=jsonpath={.status.phase}=Running --timeout=60s")
    assert run(working, shop, "exec p -- echo hello").stdout == "hello\n"
    assert run(working, shop, "exec -i p -- cat", "in\n").stdout == "in\n"
    assert "exit code 7" in run(working, shop, "exec p -- fail 7", code=7).stderr
    assert run(working, shop, "attach p -i", "bytes\n").stdout == "bytes\n"
    assert run(working, shop, "logs p --tail=1").stdout == "three\n"
    run(working, shop, "annotate pod p note=hello")
    assert "image updated" in run(working, shop, "set image pod/p p=web:2").stdout
    assert "deleted" in run(working, shop, "delete pod p --now").stdout
    run(working, shop, "run p --image=web:1")
    assert "force deleted" in run(working, shop, "delete pod p --force --grace-period=0").stdout


def test_a_running_pod_gets_a_container_for_debugging(working: LiveCluster, shop: str) -> None:
    run(working, shop, "run p --image=web:1")
    run(working, shop, "wait pod/p --for=condition=Ready --timeout=60s")
    run(working, shop, "debug p --image=busybox --target=p -c first --attach=false")
    typed = run(working, shop, "debug p -i --image=busybox -c second", "typed\n").stdout
    assert "typed" in typed
    wanted = get(working, shop, "pod p")["spec"]["ephemeralContainers"]
    assert {one["name"]: one.get("targetContainerName") for one in wanted} == {"first": "p", "second": None}
    assert run(working, shop, "logs p -c second").stdout == "one\ntwo\nthree\n"
    described = run(working, shop, "describe pod p").stdout
    assert "Ephemeral Containers:" in described and "second:" in described


def test_a_running_pod_gets_other_resources(working: LiveCluster, shop: str) -> None:
    run(working, shop, "run p --image=web:1")
    more = {"spec": {"containers": [{"name": "p", "resources": {"requests": {"cpu": "20m"}}}]}}
    refused = run(working, shop, f"patch pod p --patch '{json.dumps(more)}'", code=1).stderr
    assert "through the subresource resize" in refused
    # Nothing was asked for before, so the pod would become another class of pod.
    refused = run(working, shop, f"patch pod p --subresource=resize --patch '{json.dumps(more)}'", code=1)
    assert "Pod QOS Class may not change" in refused.stderr
    overrides = {"spec": {"containers": [{**more["spec"]["containers"][0], "image": "web:1"}]}}
    run(working, shop, f"run q --image=web:1 --overrides='{json.dumps(overrides)}'")
    run(
        working,
        shop,
        f"patch pod q --subresource=resize --patch '{json.dumps(QUICKER)}'".replace("NAME", "p"),
    )
    container = get(working, shop, "pod q")["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "30m"}}


def test_a_copy_of_a_pod_and_a_pod_on_a_host_are_for_debugging(working: LiveCluster, shop: str) -> None:
    run(working, shop, "run p --image=web:1")
    run(working, shop, "debug p --copy-to=copy --image=busybox -c x --attach=false")
    assert [one["name"] for one in get(working, shop, "pod copy")["spec"]["containers"]] == ["p", "x"]
    said = run(working, shop, "debug node/ant --image=busybox --attach=false -i=false").stdout
    assert "Creating debugging pod node-debugger-ant-" in said


def test_a_host_is_kept_free_and_emptied(working: LiveCluster, shop: str) -> None:
    run(working, shop, "create deployment web --image=web:1 --replicas=4")
    run(working, shop, "run alone --image=web:1")
    run(working, shop, "rollout status deploy/web --timeout=60s")
    run(working, shop, "taint node bee for=tests:PreferNoSchedule")
    run(working, shop, "taint node bee for:PreferNoSchedule-")
    run(working, shop, "label node bee for=tests")
    run(working, shop, "cordon bee")
    assert "Ready,SchedulingDisabled" in run(working, shop, "get node bee").stdout
    empty = "drain bee --ignore-daemonsets --force --delete-emptydir-data --timeout=60s"
    assert "node/bee drained" in run(working, shop, empty).stdout
    left = get(working, shop, "pods -A --field-selector=spec.nodeName=bee")["items"]
    assert [pod["metadata"]["name"] for pod in left if "deletionTimestamp" not in pod["metadata"]] == []
    run(working, shop, "uncordon bee")
    run(working, shop, "rollout status deploy/web --timeout=60s")
    assert "Allocated resources" in run(working, shop, "describe node bee").stdout


def test_a_namespace_goes_with_all_that_is_in_it(working: LiveCluster) -> None:
    working.kubectl("create", "namespace", "passing")
    working.kubectl("-n", "passing", "create", "deployment", "web", "--image=web:1")
    assert "deleted" in working.kubectl("delete", "namespace", "passing").stdout
    assert working.kubectl("get", "namespace", "passing", check=False).returncode == 1


def test_a_token_is_made_and_lets_its_holder_in(working: LiveCluster, shop: str) -> None:
    run(working, shop, "create serviceaccount robot")
    run(working, shop, f"create rolebinding robot --clusterrole=view --serviceaccount={shop}:robot")
    token = run(working, shop, "create token robot").stdout.strip()
    bare = ("--kubeconfig=/dev/null", f"--server={working.url}", "--insecure-skip-tls-verify")
    holder = working.kubectl(*bare, f"--token={token}", "auth", "whoami").stdout
    assert f"system:serviceaccount:{shop}:robot" in holder
    as_robot = f"auth can-i get pods --as=system:serviceaccount:{shop}:robot"
    assert run(working, shop, as_robot).stdout.strip() == "yes"


def test_the_whole_is_described_and_dumped(working: LiveCluster, shop: str, tmp_path: Any) -> None:
    assert "control plane" in run(working, shop, "cluster-info").stdout
    assert "apps/v1" in run(working, shop, "api-versions").stdout.split()
    dump = run(working, shop, f"cluster-info dump --namespaces={shop} --output-directory={tmp_path}")
    assert "dumped" in dump.stdout
    assert (tmp_path / "nodes.json").exists()
    # There is no metrics-server, and kubectl says so.
    assert "Metrics API not available" in run(working, shop, "top pods", code=1).stderr
