"""What a pod says in several places at once, and what does not fit together."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import POD
from gitkube.objects.types import Object
from gitkube.objects.validation.validate import validate

CONTAINER = {"name": "c", "image": "app:1"}


def pod(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [CONTAINER], **spec},
    }


def with_container(spec: Object | None = None, **fields: Any) -> Object:
    return pod(containers=[{**CONTAINER, **fields}], **(spec or {}))


def mounted(**mount: Any) -> Object:
    volumes = {"volumes": [{"name": "v", "emptyDir": {}}]}
    return with_container(volumes, volumeMounts=[{"name": "v", "mountPath": "/v", **mount}])


def spread(selector: Object | None, *keys: str) -> Object:
    constraint: Object = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    if selector is not None:
        constraint["labelSelector"] = selector
    return pod(topologySpreadConstraints=[{**constraint, "matchLabelKeys": list(keys)}])


def ephemeral(*modes: str) -> Object:
    claim = {"accessModes": list(modes), "resources": {"requests": {"storage": "1Gi"}}}
    return pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}])


FIRST = "spec.containers[0]"
READ_ONLY = f"{FIRST}.volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when"
NO_CLAIM = "must be one of the names in pod.spec.resourceClaims which is empty"


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        (
            pod(os={"name": "beos"}),
            'spec.os.name: Unsupported value: "beos": supported values: "linux", "windows"',
        ),
        (
            pod(os={"name": "windows"}, securityContext={"runAsUser": 1}),
            "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
        ),
        (
            with_container(
                {"os": {"name": "linux"}}, securityContext={"windowsOptions": {"runAsUserName": "a"}}
            ),
            f"{FIRST}.securityContext.windowsOptions: Forbidden: "
            "windows options cannot be set for a linux pod",
        ),
        (
            pod(hostUsers=False, hostNetwork=True),
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
        ),
        (
            pod(hostnameOverride="a" * 65),
            f'spec.hostnameOverride: Invalid value: "{"a" * 65}": must be no more than 64 bytes',
        ),
        (
            pod(resourceClaims=[{"name": "gpu"}]),
            'spec.resourceClaims[0]: Invalid value: {"name":"gpu"}: '
            "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        (
            with_container(resources={"claims": [{"name": "gpu"}]}),
            f'{FIRST}.resources.claims[0]: Not found: "gpu": {NO_CLAIM}',
        ),
        (
            with_container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "Now"}]),
            f'{FIRST}.resizePolicy: Unsupported value: "Now": '
            'supported values: "NotRequired", "RestartContainer"',
        ),
        (
            with_container(
                {"restartPolicy": "Never"},
                resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            ),
            f'{FIRST}.resizePolicy: Invalid value: "RestartContainer": '
            "must be 'NotRequired' when `restartPolicy` is 'Never'",
        ),
        (
            with_container(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
            f"{FIRST}.lifecycle.preStop.sleep: Invalid value: 31: "
            "must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (mounted(recursiveReadOnly="Enabled"), f"{READ_ONLY} readOnly is true"),
        (
            mounted(recursiveReadOnly="Enabled", readOnly=True, mountPropagation="HostToContainer"),
            f"{READ_ONLY} mountPropagation is None or not specified",
        ),
        (
            pod(securityContext={"supplementalGroupsPolicy": "All"}),
            'spec.securityContext.supplementalGroupsPolicy: Unsupported value: "All": '
            'supported values: "Merge", "Strict"',
        ),
        (
            spread(None, "app"),
            "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: "
            "must not be specified when labelSelector is not set",
        ),
        (
            spread({"matchLabels": {"app": "a"}}, "app"),
            'spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: "app": '
            "exists in both matchLabelKeys and labelSelector",
        ),
        (
            pod(volumes=[{"name": "v", "image": {"reference": "app:1", "pullPolicy": "Later"}}]),
            'spec.volumes[0].image.pullPolicy: Unsupported value: "Later": '
            'supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            ephemeral("ReadWriteOncePod", "ReadWriteOnce"),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Forbidden: "
            "may not use ReadWriteOncePod with other access modes",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(obj: Object, sentence: str) -> None:
    causes = validate(POD, apply_defaults(POD, obj))
    assert [f"{one['field']}: {one['message']}" for one in causes] == [sentence]


@pytest.mark.parametrize(
    "obj",
    [
        pod(os={"name": "linux"}, securityContext={"runAsUser": 1}),
        pod(hostUsers=False),
        with_container(
            {"resourceClaims": [{"name": "gpu", "resourceClaimName": "a"}]},
            resources={"claims": [{"name": "gpu"}]},
        ),
        with_container(lifecycle={"preStop": {"sleep": {"seconds": 0}}}),
        mounted(recursiveReadOnly="Enabled", readOnly=True),
        spread({"matchLabels": {"app": "a"}}, "pod-template-hash"),
        ephemeral("ReadWriteOnce"),
    ],
)
def test_what_fits_together_is_right(obj: Object) -> None:
    assert validate(POD, apply_defaults(POD, obj)) == []
