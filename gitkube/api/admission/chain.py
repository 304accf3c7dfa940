"""The rules in the order in which they are asked: first those that refuse cheaply, last those that allocate.

Between both come the rules that are objects themselves (`extensions.py`): policies and webhooks that change
the object. Those that only judge come at the very end, when the object is as it will be stored. `RULES` may
be asked twice about one object, when somebody after them has changed it.
"""

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
    signing_request,
)
ALLOCATING_RULES: tuple[AdmissionRule, ...] = (service_addresses,)
"""Asked once, about the object as it is to be stored: what they write goes into the same transaction."""
JUDGING_RULES: tuple[AdmissionRule, ...] = (claim_resize, pod_security_standards)
"""Asked last, about a valid object as it is to be stored, which they do not change."""


def admit(request: AdmissionRequest) -> None:
    """Ask every rule but those that allocate.

    Raises:
        StatusError: a rule refused.
    """
    for rule in RULES:
        rule(request)


def allocate(request: AdmissionRequest) -> None:
    """Ask the rules that allocate.

    Raises:
        StatusError: a rule refused.
    """
    for rule in ALLOCATING_RULES:
        rule(request)


def judge(request: AdmissionRequest) -> None:
    """Ask the rules that only judge.

    Raises:
        StatusError: a rule refused.
    """
    for rule in JUDGING_RULES:
        rule(request)
