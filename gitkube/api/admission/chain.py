"""The rules in the order in which they are asked: first those that refuse cheaply, last those that
allocate."""

from __future__ import annotations

from gitkube.api.admission.namespace_lifecycle import namespace_lifecycle
from gitkube.api.admission.pod_defaults import default_tolerations, priority, service_account_name
from gitkube.api.admission.request import AdmissionRequest, AdmissionRule
from gitkube.api.admission.service_addresses import service_addresses

RULES: tuple[AdmissionRule, ...] = (
    namespace_lifecycle,
    service_account_name,
    priority,
    default_tolerations,
    service_addresses,
)


def admit(request: AdmissionRequest) -> None:
    """Ask every rule.

    Raises:
        StatusError: a rule refused.
    """
    for rule in RULES:
        rule(request)
