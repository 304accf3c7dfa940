"""The rules in the order in which they are asked: first those that refuse cheaply, last those that
allocate."""

from __future__ import annotations

from gitkube.api.admission.claim_resize import claim_resize
from gitkube.api.admission.classes import (
    default_ingress_class,
    default_storage_class,
    priority,
    runtime_class,
)
from gitkube.api.admission.limit_ranges import limit_ranges
from gitkube.api.admission.namespace_lifecycle import namespace_lifecycle
from gitkube.api.admission.pod_defaults import default_tolerations, pull_secrets
from gitkube.api.admission.pod_security import pod_security_standards
from gitkube.api.admission.request import AdmissionRequest, AdmissionRule
from gitkube.api.admission.service_accounts import service_account
from gitkube.api.admission.service_addresses import service_addresses
from gitkube.api.admission.signing_requests import signing_request
from gitkube.api.admission.storage_protection import storage_protection

RULES: tuple[AdmissionRule, ...] = (
    namespace_lifecycle,
    limit_ranges,
    service_account,
    pull_secrets,
    priority,
    runtime_class,
    default_tolerations,
    default_storage_class,
    default_ingress_class,
    storage_protection,
    claim_resize,
    signing_request,
    pod_security_standards,
    service_addresses,
)


def admit(request: AdmissionRequest) -> None:
    """Ask every rule.

    Raises:
        StatusError: a rule refused.
    """
    for rule in RULES:
        rule(request)
