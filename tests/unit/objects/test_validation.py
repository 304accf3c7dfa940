"""What is refused, and the words that a person reads."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects import kinds
from gitkube.objects.defaults import apply_defaults, with_generated_selector
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone
from gitkube.objects.validation.causes import MAX_CAUSES, MAX_SHOWN_VALUE, shown
from gitkube.objects.validation.validate import decode_error, validate


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "image": "app:1"}], **spec},
    }


def deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]},
            **spec,
        },
    }


def source(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gitkube.dev/v1alpha1",
        "kind": "Source",
        "metadata": {"name": "main"},
        "spec": {"repository": "/srv/repo.git", **spec},
    }


def wrong(kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    before = apply_defaults(kind, old) if old is not None else None
    return [f"{one['field']}: {one['message']}" for one in validate(kind, apply_defaults(kind, obj), before)]


def test_what_is_right_has_nothing_wrong() -> None:
    assert wrong(kinds.POD, pod()) == []
    assert wrong(kinds.DEPLOYMENT, deployment()) == []
    assert wrong(kinds.DEPLOYMENT, deployment(), deployment(replicas=4)) == []
    assert wrong(kinds.SOURCE, source()) == []


def test_all_mistakes_are_named_at_once_with_their_fields() -> None:
    bad_container = {"name": "C", "ports": [{"containerPort": 70000}]}
    template = {"metadata": {"labels": {"app": "wbe"}}, "spec": {"containers": [bad_container]}}
    lines = wrong(kinds.DEPLOYMENT, deployment(replicas=-1, template=template))
    assert [line.partition(": ")[0] for line in lines] == [
        "spec.replicas",
        "spec.template.metadata.labels",
        "spec.template.spec.containers[0].name",
        "spec.template.spec.containers[0].image",
        "spec.template.spec.containers[0].ports[0].containerPort",
    ]


def test_a_wrong_type_is_named_before_all_else() -> None:
    lines = wrong(kinds.DEPLOYMENT, deployment(replicas="three", selector=None))
    assert lines == ['spec.replicas: Invalid value: "three": must be an integer, not a string']


@pytest.mark.parametrize(
    ("kind", "obj", "sentence"),
    [
        (
            kinds.DEPLOYMENT,
            deployment(replicas="three"),
            'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string '
            "into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            kinds.POD,
            pod(containers=[{"name": "c", "env": [{"name": "A", "value": 1}]}]),
            'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into '
            "Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            kinds.POD,
            pod(containers={"name": "c"}),
            'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into '
            "Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
    ],
)
def test_the_decoders_sentence_is_kubernetes_own(kind: Kind, obj: dict[str, Any], sentence: str) -> None:
    assert decode_error(kind, obj) == sentence
    assert decode_error(kinds.POD, pod()) == ""


def test_a_secret_value_never_gets_into_a_message() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "Y2FuYXJ5"},
    }
    assert "canary" not in str(wrong(kinds.SECRET, secret))
    assert wrong(kinds.SECRET, secret)
    broken = {**secret, "data": {"a": "canary!"}}
    assert "canary" not in str(wrong(kinds.SECRET, broken)) + decode_error(kinds.SECRET, broken)


def test_a_living_pod_may_change_its_image_and_little_else() -> None:
    assert wrong(kinds.POD, pod(containers=[{"name": "c", "image": "app:2"}]), pod()) == []
    (line,) = wrong(kinds.POD, pod(restartPolicy="Never"), pod())
    assert line.startswith("spec: Forbidden: pod updates may not change fields other than")
    assert line.endswith("changed: spec.restartPolicy"), "the person is told which field it was"


def test_immutable_fields_stay() -> None:
    (line,) = wrong(kinds.DEPLOYMENT, {**deployment(), "spec": _other_selector()}, deployment())
    assert line == 'spec.selector: Invalid value: {"matchLabels":{"app":"other"}}: field is immutable'
    renamed = clone(deployment())
    renamed["metadata"]["name"] = "other"
    assert wrong(kinds.DEPLOYMENT, renamed, deployment())[0].startswith("metadata.name: ")


def _other_selector() -> dict[str, Any]:
    spec = clone(deployment()["spec"])
    spec["selector"]["matchLabels"]["app"] = spec["template"]["metadata"]["labels"]["app"] = "other"
    return dict(spec)


def test_a_mount_of_a_volume_that_is_not_there_is_found() -> None:
    obj = pod(containers=[{"name": "c", "image": "a", "volumeMounts": [{"name": "date", "mountPath": "/d"}]}])
    assert wrong(kinds.POD, obj) == ['spec.containers[0].volumeMounts[0].name: Not found: "date"']


def test_sidecars_may_have_probes_and_grpc_is_a_handler() -> None:
    sidecar = {"name": "s", "image": "a", "restartPolicy": "Always", "readinessProbe": {"grpc": {"port": 1}}}
    assert wrong(kinds.POD, pod(initContainers=[sidecar])) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"repository": "--upload-pack=evil"}, "spec.repository"),
        ({"repository": ""}, "spec.repository"),
        ({"branch": "a..b"}, "spec.branch"),
        ({"branch": "-x"}, "spec.branch"),
        ({"branch": "a b"}, "spec.branch"),
        ({"path": "../other"}, "spec.path"),
        ({"path": "/etc"}, "spec.path"),
    ],
)
def test_a_source_names_nothing_outside_its_repository(spec: dict[str, Any], field: str) -> None:
    (line,) = wrong(kinds.SOURCE, source(**spec))
    assert line.startswith(f"{field}: ")


def test_an_endless_list_of_mistakes_and_an_endless_value_end() -> None:
    ports = [{"containerPort": -1} for _ in range(5 * MAX_CAUSES)]
    lines = wrong(kinds.POD, pod(containers=[{"name": "c", "image": "a", "ports": ports}]))
    assert len(lines) == MAX_CAUSES
    (line, *_) = wrong(kinds.POD, pod(containers=[{"name": "x" * 10_000, "image": "a"}]))
    assert len(line) < MAX_SHOWN_VALUE + 200


def test_a_job_ties_its_pods_to_its_uid() -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "seed", "namespace": "shop", "uid": "u-1"},
        "spec": {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}},
    }
    complete = with_generated_selector(apply_defaults(kinds.JOB, job))
    assert validate(kinds.JOB, complete) == []
    assert complete["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert complete["spec"]["template"]["metadata"]["labels"]["job-name"] == "seed"
    assert with_generated_selector(complete) == complete
    assert "selector" not in job["spec"]


def test_a_number_of_more_than_64_bits_is_refused_and_shown() -> None:
    text = shown({"replicas": -(2**63) - 1})
    assert text == '{"replicas":-9223372036854775809}'


def test_of_two_sources_of_a_volume_the_later_in_order_is_one_too_many() -> None:
    volumes = [{"name": "v", "configMap": {"name": "c"}, "emptyDir": {}}]
    for volume in (volumes[0], dict(reversed(volumes[0].items()))):
        (line,) = wrong(kinds.POD, pod(volumes=[volume]))
        assert line.startswith("spec.volumes[0].configMap: ")


def test_the_class_of_a_claims_attributes_has_a_name() -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {**spec, "volumeAttributesClassName": "A B"},
    }
    (line,) = wrong(kinds.PERSISTENT_VOLUME_CLAIM, claim)
    assert line.startswith('spec.volumeAttributesClassName: Invalid value: "A B": a lowercase RFC 1123')


def test_a_spec_that_was_taken_by_earlier_rules_stands_in_no_status_reports_way() -> None:
    stored = pod(hostUsers=False, hostNetwork=True)  # refused in a new pod
    assert wrong(kinds.POD, stored)
    changed = clone(stored)
    changed["metadata"]["finalizers"] = []
    changed["status"] = {"phase": "Running"}
    assert wrong(kinds.POD, changed, stored) == []
    changed["metadata"]["labels"] = {"no key": "x"}
    assert wrong(kinds.POD, changed, stored), "the rest is checked as ever"
    changed = clone(stored)
    changed["spec"]["activeDeadlineSeconds"] = 5
    assert any("spec" in one for one in wrong(kinds.POD, changed, stored)), "who changes it makes it right"
