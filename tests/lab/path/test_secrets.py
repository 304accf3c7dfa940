"""A canary in a Secret: through git into a pod, changed, refused once; and then searched for everywhere.

Five values, each unique, so that a find says how it got out: the first and the second of what is mounted,
one that is only in `data`, one of a push that was refused, and one of a working directory that is planned.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_cluster import DemoCluster, is_ready, until
from tests.support.files import contents_below

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="a lab is made of namespaces and mounts, which need root"),
]

NAMESPACE = "canary"
PATH = "apps/canary/all.yaml"
SLEEP = "86399"
"""Names the container's own processes among all others of the machine."""

MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {{name: canary}}
---
apiVersion: v1
kind: Secret
metadata: {{name: held, namespace: canary}}
stringData:
  file: {file}
data:
  variable: {variable}
---
apiVersion: v1
kind: Pod
metadata: {{name: holder, namespace: canary}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: registry.lab:5000/busybox:1
      command: [sleep, "{sleep}"]
      env:
        - {{name: VARIABLE, valueFrom: {{secretKeyRef: {{name: held, key: variable}}}}}}
      volumeMounts: [{{name: held, mountPath: /held}}]
  volumes: [{{name: held, secret: {{secretName: held}}}}]
"""

SLIPS = {
    "a field beside it": ("  terminationGracePeriodSeconds: 0", "  terminationGracePeriodSecond: 0"),
    "its own field": ("stringData:", "stringDate:"),
    "its own YAML": ("  file: ", "  file: a: "),
    "a number": ("  file: ", "  file: 0777\n  other: "),
    "a value that is no base64": ("  variable: ", "  variable: =-"),
    "a word twice": ("  file: ", "  file: x\n  file: "),
    "a tag": ("  file: ", "  file: !"),
    "an alias": ("  file: ", "  file: *"),
}


def forms(value: str) -> list[str]:
    """How a value may be written: plain, as base64, and as base64 of that (a Secret read as an object)."""
    once = base64.b64encode(value.encode()).decode()
    return [value, once, base64.b64encode(once.encode()).decode()]


class Story:
    """What was done, and everything that it said."""

    def __init__(self, cluster: DemoCluster) -> None:
        self.cluster = cluster
        self.values = {
            name: f"canary-{name}-{uuid.uuid4().hex}"
            for name in ("first", "second", "variable", "refused", "planned")
        }
        self.said: dict[str, str] = {}
        self.host = ""

    def manifest(self, file: str) -> str:
        variable = base64.b64encode(self.values["variable"].encode()).decode()
        return MANIFEST.format(file=self.values[file], variable=variable, sleep=SLEEP)

    def holder(self) -> dict[str, object]:
        return next(iter(self.cluster.pods(NAMESPACE)), {})

    def shown(self, path: str) -> str:
        arguments = ("exec", "-n", NAMESPACE, "holder", "--", "cat", path)
        return self.cluster.kubectl(*arguments, check=False).strip()

    def tell(self) -> None:
        cluster = self.cluster
        cluster.write(PATH, self.manifest("first"))
        cluster.commit("A secret")
        self.said["the first push"] = cluster.push()
        until(lambda: is_ready(self.holder()), what="the pod that holds the secret")
        self.host = cluster.host_of(self.holder())
        assert self.shown("/held/file") == self.values["first"]

        cluster.write(PATH, self.manifest("second"))
        cluster.commit("The secret is another")
        self.said["the second push"] = cluster.push()
        until(lambda: self.shown("/held/file") == self.values["second"], what="the changed secret in the pod")

        for slip, (right, wrong) in SLIPS.items():
            cluster.write(PATH, self.manifest("refused").replace(right, wrong, 1))
            self.said[f"gitkube plan with a slip in {slip}"] = self._gitkube("plan")
            self.said[f"gitkube plan -o json with a slip in {slip}"] = self._gitkube("plan", "-o", "json")
            cluster.commit("A slip")
            said = self.said[f"the push with a slip in {slip}"] = cluster.push()
            assert "refused" in said, f"{slip}: {said}"
            cluster.git("reset", "--quiet", "--hard", "lab/main")

        cluster.write(PATH, self.manifest("planned"))
        for output in ("table", "json", "yaml"):
            said = self.said[f"gitkube plan -o {output}"] = self._gitkube("plan", "-o", output)
            assert "Secret" in said
            self.said[f"gitkube status -o {output}"] = self._gitkube("status", "--all", "-o", output)
        cluster.git("reset", "--quiet", "--hard", "lab/main")
        for words in (("describe", "secret", "held"), ("describe", "pod", "holder"), ("get", "events")):
            self.said[f"kubectl {' '.join(words)}"] = cluster.kubectl(*words, "-n", NAMESPACE)

    def _gitkube(self, command: str, *arguments: str) -> str:
        where = ("--path", str(self.cluster.demo.clone)) if command == "plan" else ()
        done = self.cluster.gitkube(command, *where, *arguments)
        return done.stdout + done.stderr

    def found_in(self, text: str | bytes) -> list[str]:
        """The names of the values that stand in a text, in any form."""
        data = text.encode() if isinstance(text, str) else text
        return [
            name
            for name, value in self.values.items()
            if any(form.rstrip("=").encode() in data for form in forms(value))
        ]


@pytest.fixture(scope="module")
def story(cluster: DemoCluster) -> Iterator[Story]:
    made = Story(cluster)
    try:
        made.tell()
        yield made
    finally:
        cluster.git("reset", "--quiet", "--hard", "lab/main")
        cluster.drop("apps/canary")


def test_nothing_that_anybody_was_told_holds_it(story: Story) -> None:
    leaks = {where: story.found_in(text) for where, text in story.said.items() if story.found_in(text)}
    assert not leaks, {where: story.said[where] for where in leaks}


def test_no_log_of_the_control_side_and_no_log_of_an_agent_holds_it(story: Story) -> None:
    logs = {"serve.log": (story.cluster.demo.directory / "serve.log").read_bytes()}
    for host in ("ant", "bee", "cow"):
        done = story.cluster.lab.exec(host, ["sh", "-c", "cat /var/log/*gitkube* /var/log/gitkube/* 2>&1"])
        logs[f"the agent's on {host}"] = done.stdout.encode()
    assert all(logs.values())
    assert {name: found for name, text in logs.items() if (found := story.found_in(text))} == {}


def test_no_object_of_the_api_but_the_secret_itself_holds_it(story: Story) -> None:
    cluster = story.cluster
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    assert {"events", "pods", "nodes", "configmaps", "secrets"} <= {kind.split(".")[0] for kind in kinds}
    for kind in kinds:
        for each in cluster.get(kind, "-A", "--show-managed-fields")["items"]:
            if each["kind"] == "Secret":
                for part in ("metadata", "status"):
                    assert story.found_in(json.dumps(each.get(part, {}))) == []
            else:
                assert story.found_in(json.dumps(each)) == [], (kind, each["metadata"]["name"])
    secret = cluster.get("secret", "held", "-n", NAMESPACE)
    assert story.found_in(json.dumps(secret)) == ["second", "variable"]  # so the search itself works


def test_no_argument_and_no_environment_but_the_containers_own_holds_it(story: Story) -> None:
    holders = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = process.joinpath("cmdline").read_bytes()
            environment = process.joinpath("environ").read_bytes()
        except OSError:
            continue  # it ended
        assert story.found_in(arguments) == [], arguments
        if story.found_in(environment):
            holders.add(arguments.replace(b"\0", b" ").strip())
    assert holders == {b"sleep " + SLEEP.encode()}


def test_a_file_that_holds_it_is_roots_alone(story: Story) -> None:
    """On the control side and on the hosts' disks: a lab's hosts keep theirs below the lab's directory."""
    places = []
    for place, info, data in contents_below(story.cluster.demo.directory):
        if story.cluster.demo.clone in place.parents:
            continue
        if story.found_in(data):
            places.append(str(place))
            assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (0, 0o600), place
    assert any("/desired/pods.json" in place for place in places), places
    # In the store it lies sealed, and the git objects that hold it are compressed.
    assert not any("/control/store/" in place for place in places), places


def test_what_is_mounted_lies_in_memory_only_and_no_other_host_has_it(story: Story) -> None:
    pattern = "|".join(form.rstrip("=") for value in story.values.values() for form in forms(value))
    search = ["grep", "-rlE", "--devices=skip", pattern, "/var/lib/gitkube", "/run", "/var/log"]
    for host in ("ant", "bee", "cow"):
        files = story.cluster.lab.exec(host, search, timeout_s=60).stdout.split()
        if host != story.host:
            assert files == []
            continue
        for file in files:
            said = story.cluster.lab.exec(host, ["stat", "-Lc", "%a %u", file]).stdout.split()
            kind = story.cluster.lab.exec(host, ["stat", "-fLc", "%T", file]).stdout.strip()
            if "/volumes/" in file:
                assert kind == "tmpfs", file
            else:
                assert (int(said[0], 8) & 0o077, said[1]) == (0, "0"), (file, said)
        assert any("/volumes/" in file for file in files)
        closed = story.cluster.lab.exec(
            host, ["stat", "-c", "%a %u", "/var/lib/gitkube/pods", "/run/gitkube"]
        )
        assert closed.stdout.splitlines() == ["700 0", "700 0"]


def test_a_crash_of_the_control_plane_says_nothing_of_it(story: Story) -> None:
    log = story.cluster.demo.directory / "serve.log"
    size = log.stat().st_size
    os.kill(story.cluster.serve_pid, 6)  # SIGABRT, as a failed assertion in a library would
    story.cluster.kill_control()
    story.cluster.demo.start_control()
    story.cluster.demo.wait_for_hosts()
    assert story.found_in(log.read_bytes()[size:]) == []
    for directory in (story.cluster.demo.directory, Path.cwd(), Path("/")):
        assert not list(directory.glob("core*"))
