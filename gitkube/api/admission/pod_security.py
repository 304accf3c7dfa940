"""Pod Security: pods that a namespace's labels do not let in are refused, workloads that would make some are
warned of, and what a namespace wants to know is noted for the audit log.

Asked when a pod is made or its images change; of a workload, each time its template is written. A namespace
whose labels cannot be read is refused, and one that becomes stricter warns of the pods that are there.
Nobody is exempt. Source: k8s.io/pod-security-admission/admission, of which the sentences are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects import meta, pod_security, pods
from gitkube.objects.kinds import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    NAMESPACE,
    POD,
    POD_TEMPLATE,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    Kind,
)
from gitkube.objects.pod_security.policy import PREFIX, Level, Policy, Standard, policy_of
from gitkube.objects.types import Object

MAX_PODS_CHECKED = 3000
"""Of a namespace that becomes stricter: so many pods are looked at while the request waits."""
_IN_SPEC = ("spec", "template")
_TEMPLATES: Mapping[Kind, tuple[str, ...]] = {
    POD_TEMPLATE: ("template",),
    REPLICATION_CONTROLLER: _IN_SPEC,
    REPLICA_SET: _IN_SPEC,
    DEPLOYMENT: _IN_SPEC,
    STATEFUL_SET: _IN_SPEC,
    DAEMON_SET: _IN_SPEC,
    JOB: _IN_SPEC,
    CRON_JOB: ("spec", "jobTemplate", "spec", "template"),
}
_UNASKED = ("status", "binding", "eviction", "exec", "attach", "log", "portforward", "proxy", "resize")
"""Subresources of a pod that change nothing of what is looked at."""


def pod_security_standards(request: AdmissionRequest) -> None:
    if request.verb is Verb.DELETE:
        return
    if request.kind is NAMESPACE:
        if not request.subresource:
            _check_namespace(request)
    elif request.kind is POD:
        if request.subresource not in _UNASKED and _is_significant(request.obj, request.old):
            _check_pod(request)
    elif request.kind in _TEMPLATES and not request.subresource:
        policy = _policy(request)
        template = _part(request.obj, _TEMPLATES[request.kind])
        if policy is not None and template:
            _note(request, policy.audit, template)
            _warn(request, policy.warn, template)


def _policy(request: AdmissionRequest) -> Policy | None:
    namespace = request.cache.of(NAMESPACE).get(request.namespace)
    return policy_of(meta.labels(namespace))[0] if namespace is not None else None


def _check_pod(request: AdmissionRequest) -> None:
    policy = _policy(request)
    if policy is None:
        return
    request.context.audit_annotations[f"{PREFIX}enforce-policy"] = str(policy.enforce)
    _note(request, policy.audit, request.obj)
    found = pod_security.evaluate(policy.enforce, request.obj)
    if found:
        why = f'violates PodSecurity "{policy.enforce}": {pod_security.details(found)}'
        raise errors.forbidden("", "pods", request.name, why)
    _warn(request, policy.warn, request.obj)


def _note(request: AdmissionRequest, standard: Standard, pod: Object) -> None:
    """Write down for the audit log what a pod would violate."""
    found = pod_security.evaluate(standard, pod)
    if found:
        text = f'would violate PodSecurity "{standard}": {pod_security.details(found)}'
        request.context.audit_annotations[f"{PREFIX}audit-violations"] = text


def _warn(request: AdmissionRequest, standard: Standard, pod: Object) -> None:
    found = pod_security.evaluate(standard, pod)
    if found:
        text = f'would violate PodSecurity "{standard}": {pod_security.details(found)}'
        _say(request, text)


def _say(request: AdmissionRequest, text: str) -> None:
    # A decision may be made several times; what it says is said once.
    if text not in request.context.warnings:
        request.context.warnings.append(text)


def _is_significant(pod: Object, old: Object | None) -> bool:
    """Whether a change of a pod is one of those that its standard is about."""
    if old is None:
        return True
    before = {str(one.get("name")): one for one in pods.all_containers(pods.spec(old))}
    now = pods.all_containers(pods.spec(pod))
    return len(before) != len(now) or any(
        one.get("image") != before.get(str(one.get("name")), {}).get("image") for one in now
    )


def _check_namespace(request: AdmissionRequest) -> None:
    policy, wrong = policy_of(meta.labels(request.obj))
    before = request.old
    old_policy, old_wrong = policy_of(meta.labels(before)) if before is not None else (None, [])
    if wrong and wrong != old_wrong:
        causes = [
            {
                "reason": "FieldValueInvalid",
                "message": f'Invalid value: "{one.value}": {one.why}',
                "field": f"metadata.labels[{one.label}]",
            }
            for one in wrong
        ]
        raise errors.invalid("", "Namespace", request.name, causes)
    if old_policy is not None and _is_stricter(policy.enforce, old_policy.enforce):
        _warn_of_pods(request, policy.enforce)


def _is_stricter(standard: Standard, before: Standard) -> bool:
    if standard == before or standard.level is Level.PRIVILEGED:
        return False
    return standard.minor != before.minor or standard.level > before.level


def _warn_of_pods(request: AdmissionRequest, standard: Standard) -> None:
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    everyone = [pod for _, pod in request.cache.of(POD).select(request.name)]
    for pod in everyone[:MAX_PODS_CHECKED]:
        found = pod_security.evaluate(standard, pod)
        if found:
            reasons = pod_security.reasons(found)
            first.setdefault(reasons, meta.name(pod))
            count[reasons] += 1
    if len(everyone) > MAX_PODS_CHECKED:
        text = "new PodSecurity enforce level only checked against the first "
        _say(request, f"{text}{MAX_PODS_CHECKED} of {len(everyone)} existing pods")
    if not count:
        return
    text = f'existing pods in namespace "{request.name}" violate the new PodSecurity enforce level '
    _say(request, f'{text}"{standard}"')
    for line in sorted(f"{first[reasons]}{_others(count[reasons])}: {reasons}" for reasons in count):
        _say(request, line)


def _others(count: int) -> str:
    if count == 1:
        return ""
    return " (and 1 other pod)" if count == 2 else f" (and {count - 1} other pods)"


def _part(obj: Object, path: tuple[str, ...]) -> Any:
    part: Any = obj
    for step in path:
        part = (part or {}).get(step)
    return part
