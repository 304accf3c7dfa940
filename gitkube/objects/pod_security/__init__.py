"""The Pod Security Standards: which pods a namespace's labels let in, and the sentences that say why not.

`policy.py` reads the labels; `baseline.py` and `restricted.py` are the two profiles, one function a check;
`evaluate` asks those of a level and version. Pure.
Source: kubernetes.io/docs/concepts/security/pod-security-standards and k8s.io/pod-security-admission.
"""

from __future__ import annotations

from gitkube.objects.pod_security.baseline import BASELINE
from gitkube.objects.pod_security.check import Check, Finding
from gitkube.objects.pod_security.policy import Level, Standard
from gitkube.objects.pod_security.restricted import RESTRICTED
from gitkube.objects.types import Object


def evaluate(standard: Standard, pod: Object) -> list[Finding]:
    """What a pod, or a pod template, violates; empty when it may run.

    Args:
        pod: with `metadata` and `spec`.
    """
    if standard.level is Level.PRIVILEGED:
        return []
    checks = list(BASELINE)
    if standard.level is Level.RESTRICTED:
        # A restricted check that says more stands for the baseline's one of the same matter.
        stricter = [check for check in RESTRICTED if check.applies(standard.minor)]
        replaced = {check.replaces for check in stricter}
        checks = [check for check in BASELINE if check.name not in replaced] + stricter
    found = (check.find(pod, standard.minor) for check in checks if check.applies(standard.minor))
    return [finding for finding in found if finding is not None]


def details(findings: list[Finding]) -> str:
    """The findings with what they are about, for one pod."""
    return ", ".join(f"{one.reason} ({one.detail})" if one.detail else one.reason for one in findings)


def reasons(findings: list[Finding]) -> str:
    """The findings alone, for many pods."""
    return ", ".join(one.reason for one in findings)


__all__ = ["Check", "Finding", "details", "evaluate", "reasons"]
