"""What people are warned of, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects import kinds
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.warnings import warnings_of

CONTAINER = {"name": "c", "image": "app:1"}


def pod(*, name: str = "p", annotations: Object | None = None, **spec: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "shop"}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [CONTAINER], **spec},
    }


def of(kind: Kind, obj: Object, old: Object | None = None) -> list[str]:
    before = apply_defaults(kind, old) if old is not None else None
    return warnings_of(kind, apply_defaults(kind, obj), before)


def with_container(**fields: Any) -> Object:
    return pod(containers=[{**CONTAINER, **fields}])


NO_POD = "labelSelector: a null labelSelector results in matching no pod"
HIDES = 'hides previous definition of "A", which may be dropped when using apply'


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        (
            pod(name="a.b"),
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            "a DNS label is recommended: [must not contain dots]",
        ),
        (
            pod(nodeSelector={"beta.kubernetes.io/os": "linux"}),
            "spec.nodeSelector[beta.kubernetes.io/os]: "
            'deprecated since v1.14; use "kubernetes.io/os" instead',
        ),
        (
            pod(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 1}]),
            f"spec.topologySpreadConstraints[0].{NO_POD}",
        ),
        (
            pod(annotations={"scheduler.alpha.kubernetes.io/critical-pod": ""}),
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: "
            'non-functional in v1.16+; use the "priorityClassName" field instead',
        ),
        (
            pod(annotations={"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}),
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: "
            'non-functional in v1.27+; use the "seccompProfile" field instead',
        ),
        (
            pod(annotations={"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: "
            'deprecated since v1.30; use the "appArmorProfile" field instead',
        ),
        (
            pod(volumes=[{"name": "v", "glusterfs": {}}]),
            "spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            pod(hostAliases=[{"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}]),
            'spec.hostAliases[1].ip: duplicate ip "192.0.2.1"',
        ),
        (pod(imagePullSecrets=[{}]), 'spec.imagePullSecrets[0].name: invalid empty name ""'),
        (
            pod(imagePullSecrets=[{"name": "a"}, {"name": "a"}]),
            'spec.imagePullSecrets[1].name: duplicate name "a"',
        ),
        (
            with_container(resources={"requests": {"memory": "100m"}}),
            'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, '
            "must be an integer",
        ),
        (
            with_container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            f"spec.containers[0].env[1]: {HIDES}",
        ),
        (
            with_container(ports=[{"containerPort": 80}, {"containerPort": 80, "name": "web"}]),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            pod(terminationGracePeriodSeconds=-1),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be "
            "treated as 1",
        ),
        (
            pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
            f"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].{NO_POD}",
        ),
    ],
)
def test_a_pod_that_does_not_do_what_was_meant_is_warned_of(obj: Object, sentence: str) -> None:
    (line,) = of(kinds.POD, obj)
    assert line.startswith(sentence)


def test_an_ordinary_pod_and_a_variable_that_uses_its_former_value_are_fine() -> None:
    assert of(kinds.POD, pod()) == []
    assert (
        of(kinds.POD, with_container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]))
        == []
    )


def deployment(name: str = "web", **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod(**spec)["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def test_a_workload_is_warned_of_its_template_when_that_changes() -> None:
    repeated = {"imagePullSecrets": [{"name": ""}]}
    (line,) = of(kinds.DEPLOYMENT, deployment(**repeated))
    assert line == 'spec.template.spec.imagePullSecrets[0].name: invalid empty name ""'
    scaled = deployment(**repeated)
    scaled["spec"]["replicas"] = 3
    assert of(kinds.DEPLOYMENT, scaled, deployment(**repeated)) == []
    (line,) = of(kinds.DEPLOYMENT, deployment("a.b"))
    assert line.startswith("metadata.name: this is used in Pod names and hostnames, which can")


def thing(kind: Kind, annotations: Object | None = None, **spec: Any) -> Object:
    metadata: Object = {"name": "a", "namespace": "shop", "annotations": annotations or {}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "obj", "sentences"),
    [
        (
            kinds.INGRESS,
            thing(kinds.INGRESS, {"kubernetes.io/ingress.class": "traefik"}),
            [
                'annotation "kubernetes.io/ingress.class" is deprecated, '
                "please use 'spec.ingressClassName' instead"
            ],
        ),
        (
            kinds.SERVICE,
            thing(kinds.SERVICE, clusterIP="None", sessionAffinity="ClientIP", externalIPs=["192.0.2.1"]),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            kinds.SERVICE,
            thing(kinds.SERVICE, trafficDistribution="PreferClose", externalName="a.example"),
            [
                'spec.externalName is ignored when spec.type is not "ExternalName"',
                'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
            ],
        ),
        (
            kinds.PERSISTENT_VOLUME_CLAIM,
            thing(
                kinds.PERSISTENT_VOLUME_CLAIM,
                {"volume.beta.kubernetes.io/storage-class": "fast"},
                resources={"requests": {"storage": "100m"}},
            ),
            [
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: "
                'deprecated since v1.8; use "storageClassName" attribute instead',
                'spec.resources.requests[storage]: fractional byte value "100m" is invalid, '
                "must be an integer",
            ],
        ),
    ],
)
def test_other_kinds_have_warnings_of_their_own(kind: Kind, obj: Object, sentences: list[str]) -> None:
    assert of(kind, obj) == sentences
