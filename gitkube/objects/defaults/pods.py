"""Defaults of a pod, and of the pod template inside a workload.

Two differences between them: a pod's requests are filled from its limits and its host ports from the
container ports under hostNetwork; a template keeps both as its author wrote them, so that its hash is the
author's. Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part, parts
from gitkube.objects.defaults.storage import default_claim_spec, default_volume_sources
from gitkube.objects.types import Object

_DEFAULT_MODE = 0o644
_TOKEN_LIFETIME_S = 3600
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")


def default_pod(pod: Object) -> None:
    _addresses_agree(part(pod, "status"))
    spec = part(pod, "spec")
    if not spec:
        return
    default_pod_spec(spec)
    fill(spec, enableServiceLinks=True)
    for field in ("containers", "initContainers"):
        for container in parts(spec, field):
            _requests_from_limits(container)
            if spec.get("hostNetwork") is True:
                for port in parts(container, "ports"):
                    fill_zero(port, hostPort=port.get("containerPort"))
    _requests_from_limits(spec)


def _addresses_agree(status: dict[str, Any]) -> None:
    """`podIP` is the older name for the first of `podIPs`; where they differ, it counts."""
    addresses = list(parts(status, "podIPs"))
    first = addresses[0].get("ip") if addresses else None
    if status.get("podIP") and first != status["podIP"]:
        status["podIPs"] = [{"ip": status["podIP"]}]
    elif first and not status.get("podIP"):
        status["podIP"] = first


def default_template(owner: dict[str, Any]) -> None:
    """Of the `template` field of a workload's spec."""
    template = made_part(owner, "template")
    fill(template, metadata={})
    default_pod_spec(part(template, "spec"))


def default_pod_spec(spec: dict[str, Any]) -> None:
    """What pods and templates have in common."""
    if not spec:
        return
    fill_zero(
        spec,
        dnsPolicy="ClusterFirst",
        restartPolicy="Always",
        schedulerName="default-scheduler",
    )
    fill(spec, terminationGracePeriodSeconds=30, securityContext={})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        # `serviceAccount` is the older name of the same field; both always say the same.
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in parts(spec, field):
            _default_container(container)
    for volume in parts(spec, "volumes"):
        _default_volume(volume)


def pull_policy(image: Any) -> str:
    """Always for `:latest` or no tag, which may have moved; IfNotPresent for a tag or digest that stays."""
    if not isinstance(image, str):
        return "IfNotPresent"
    without_digest, at, _ = image.partition("@")
    last_part = without_digest.rpartition("/")[2]
    _, colon, tag = last_part.partition(":")
    if (colon and tag == "latest") or (not colon and not at):
        return "Always"
    return "IfNotPresent"


def _default_container(container: dict[str, Any]) -> None:
    fill(container, resources={})
    fill_zero(
        container,
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    if container.get("image"):
        fill_zero(container, imagePullPolicy=pull_policy(container["image"]))
    else:
        fill_zero(container, imagePullPolicy="IfNotPresent" if "image" not in container else "Always")
    for port in parts(container, "ports"):
        fill_zero(port, protocol="TCP")
    for variable in parts(container, "env"):
        value_from = part(variable, "valueFrom")
        _default_sources(value_from)
        if key_of_file := part(value_from, "fileKeyRef"):
            fill(key_of_file, optional=False)
    for name in _PROBES:
        if probe := part(container, name):
            _default_probe(probe)
    lifecycle = part(container, "lifecycle")
    for name in _HOOKS:
        _default_http_get(part(lifecycle, name))


def _default_probe(probe: dict[str, Any]) -> None:
    fill_zero(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _default_http_get(probe)
    if "grpc" in probe:
        fill(part(probe, "grpc"), service="")


def _default_http_get(handler: dict[str, Any]) -> None:
    if http_get := part(handler, "httpGet"):
        fill_zero(http_get, path="/", scheme="HTTP")


def _default_sources(source: dict[str, Any]) -> None:
    """`fieldRef` and `resourceFieldRef`, in the environment and in downward API files."""
    if field_ref := part(source, "fieldRef"):
        fill_zero(field_ref, apiVersion="v1")
    if resource_ref := part(source, "resourceFieldRef"):
        fill(resource_ref, divisor="0")


def _default_volume(volume: dict[str, Any]) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        if kind in volume:
            fill(part(volume, kind), defaultMode=_DEFAULT_MODE)
    for item in parts(part(volume, "downwardAPI"), "items"):
        _default_sources(item)
    for source in parts(part(volume, "projected"), "sources"):
        if "serviceAccountToken" in source:
            fill(part(source, "serviceAccountToken"), expirationSeconds=_TOKEN_LIFETIME_S)
        for item in parts(part(source, "downwardAPI"), "items"):
            _default_sources(item)
    if image := part(volume, "image"):
        fill_zero(image, pullPolicy=pull_policy(image.get("reference")))
    if claim := part(part(part(volume, "ephemeral"), "volumeClaimTemplate"), "spec"):
        default_claim_spec(claim)
    default_volume_sources(volume)


def _requests_from_limits(container: dict[str, Any]) -> None:
    resources = part(container, "resources")
    limits = part(resources, "limits")
    if limits:
        requests = part(resources, "requests")
        resources["requests"] = {**limits, **requests}
