"""Checks of roles, bindings, service accounts, certificate requests and bundles of trust.

Source: k8s.io/kubernetes/pkg/apis/{rbac,core,certificates}/validation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.metadata import check_labels

_SUBJECTS = ("ServiceAccount", "User", "Group")
_RBAC_GROUP = "rbac.authorization.k8s.io"
_MIN_CERTIFICATE_S = 600
_REQUEST_BEGIN = b"-----BEGIN CERTIFICATE REQUEST-----"
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign",
    "data encipherment", "decipher only", "digital signature", "email protection", "encipher only",
    "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment",
    "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping",
)  # fmt: skip


def check_role(causes: Causes, role: Object) -> None:
    for index, rule in enumerate(role.get("rules") or ()):
        _check_rule(causes, rule, f"rules[{index}]", is_namespaced=True)


def check_cluster_role(causes: Causes, role: Object) -> None:
    for index, rule in enumerate(role.get("rules") or ()):
        _check_rule(causes, rule, f"rules[{index}]", is_namespaced=False)
    aggregation = role.get("aggregationRule")
    if aggregation is None:
        return
    selectors = aggregation.get("clusterRoleSelectors") or ()
    if not selectors:
        causes.required(
            "aggregationRule.clusterRoleSelectors",
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        )
    for index, selector in enumerate(selectors):
        path = f"aggregationRule.clusterRoleSelectors[{index}]"
        check_labels(causes, selector.get("matchLabels"), f"{path}.matchLabels")


def _check_rule(causes: Causes, rule: Mapping[str, Any], path: str, *, is_namespaced: bool) -> None:
    if not rule.get("verbs"):
        causes.required(f"{path}.verbs", "verbs must contain at least one value")
    urls, groups, resources = rule.get("nonResourceURLs"), rule.get("apiGroups"), rule.get("resources")
    if urls:
        if is_namespaced:
            message = "namespaced rules cannot apply to non-resource URLs"
            causes.invalid(f"{path}.nonResourceURLs", urls, message)
        elif groups or resources or rule.get("resourceNames"):
            message = "rules cannot apply to both regular resources and non-resource URLs"
            causes.invalid(f"{path}.nonResourceURLs", urls, message)
        return
    if not groups:
        causes.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
    if not resources:
        causes.required(f"{path}.resources", "resource rules must supply at least one resource")


def check_role_binding(causes: Causes, binding: Object) -> None:
    _check_binding(causes, binding, ("Role", "ClusterRole"), is_namespaced=True)


def check_cluster_role_binding(causes: Causes, binding: Object) -> None:
    _check_binding(causes, binding, ("ClusterRole",), is_namespaced=False)


def _check_binding(causes: Causes, binding: Object, kinds: tuple[str, ...], *, is_namespaced: bool) -> None:
    role = binding.get("roleRef") or {}
    if role.get("apiGroup") != _RBAC_GROUP:
        causes.not_supported("roleRef.apiGroup", role.get("apiGroup") or "", (_RBAC_GROUP,))
    if role.get("kind") not in kinds:
        causes.not_supported("roleRef.kind", role.get("kind") or "", kinds)
    name = role.get("name") or ""
    if not name:
        causes.required("roleRef.name")
    else:
        causes.invalids("roleRef.name", name, names.path_segment(name))
    for index, subject in enumerate(binding.get("subjects") or ()):
        _check_subject(causes, subject, f"subjects[{index}]", is_namespaced=is_namespaced)


def _check_subject(causes: Causes, subject: Mapping[str, Any], path: str, *, is_namespaced: bool) -> None:
    kind, name, group = subject.get("kind") or "", subject.get("name") or "", subject.get("apiGroup") or ""
    if not name:
        causes.required(f"{path}.name")
    if kind not in _SUBJECTS:
        causes.not_supported(f"{path}.kind", kind, _SUBJECTS)
    elif kind == "ServiceAccount":
        if name:
            causes.invalids(f"{path}.name", name, names.dns_subdomain(name))
        if group:
            causes.not_supported(f"{path}.apiGroup", group, ("",))
        if not is_namespaced and not subject.get("namespace"):
            causes.required(f"{path}.namespace")
    elif group != _RBAC_GROUP:
        causes.not_supported(f"{path}.apiGroup", group, (_RBAC_GROUP,))


def check_binding_update(causes: Causes, binding: Object, old: Object) -> None:
    """Who may bind a role may not make it another one: that would be a way around the check."""
    if binding.get("roleRef") != old.get("roleRef"):
        causes.invalid("roleRef", binding.get("roleRef"), "cannot change roleRef")


# -------------------------------------------------------------------------------------- certificate requests


def check_signing_request(causes: Causes, request: Object) -> None:
    spec = request.get("spec") or {}
    text = spec.get("request")
    if not text:
        causes.invalid("spec.request", "", "PEM block type must be CERTIFICATE REQUEST")
    else:
        try:
            decoded = base64.b64decode(text)
        except (binascii.Error, ValueError):
            decoded = b""
        if _REQUEST_BEGIN not in decoded:
            causes.invalid("spec.request", "<bytes>", "PEM block type must be CERTIFICATE REQUEST")
    usages = spec.get("usages") or ()
    if not usages:
        causes.required("spec.usages")
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            causes.not_supported(f"spec.usages[{index}]", usage, _USAGES)
        elif usage in usages[:index]:
            causes.duplicate(f"spec.usages[{index}]", usage)
    signer = spec.get("signerName") or ""
    if not signer:
        causes.required("spec.signerName")
    elif signer == "kubernetes.io/legacy-unknown":
        message = "the legacy signerName is not allowed via this API version"
        causes.invalid("spec.signerName", signer, message)
    else:
        causes.invalids("spec.signerName", signer, _signer(signer))
    lifetime_s = spec.get("expirationSeconds")
    if lifetime_s is not None and lifetime_s < _MIN_CERTIFICATE_S:
        causes.invalid(
            "spec.expirationSeconds",
            lifetime_s,
            "may not specify a duration less than 600 seconds (10 minutes)",
        )
    _check_conditions(causes, (request.get("status") or {}).get("conditions") or ())


def _check_conditions(causes: Causes, conditions: Any) -> None:
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        path, kind = f"status.conditions[{index}]", condition.get("type") or ""
        if not kind:
            causes.required(f"{path}.type")
        status = condition.get("status") or ""
        if not status:
            causes.required(f"{path}.status")
        elif kind in ("Approved", "Denied", "Failed") and status != "True":
            causes.not_supported(f"{path}.status", status, ("True",))
        if kind in seen:
            causes.duplicate(f"{path}.type", kind)
        opposite = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if opposite in seen:
            causes.invalid(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive")
        seen.add(kind)


def check_signing_request_update(causes: Causes, request: Object, old: Object) -> None:
    causes.immutable("spec", request.get("spec"), old.get("spec"))
    status, before = request.get("status") or {}, old.get("status") or {}
    if before.get("certificate") and status.get("certificate") != before["certificate"]:
        causes.forbidden("status.certificate", "updates may not set certificate content after it was issued")
    for kind in ("Approved", "Denied", "Failed"):
        if _has(before, kind) and not _has(status, kind):
            causes.forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')


def _has(status: Mapping[str, Any], kind: str) -> bool:
    return any(condition.get("type") == kind for condition in status.get("conditions") or ())


def _signer(text: str) -> list[str]:
    domain, slash, path = text.partition("/")
    if not slash or not path:
        return ['must be a fully qualified domain and path of the form "example.com/signer-name"']
    wrong = names.dns_subdomain(domain)
    if "." not in domain:
        wrong.append("should be a domain with at least two segments separated by dots")
    return wrong


def check_trust_bundle(causes: Causes, bundle: Object) -> None:
    spec = bundle.get("spec") or {}
    if not spec.get("trustBundle"):
        causes.invalid("spec.trustBundle", "<value omitted>", "at least one trust anchor must be provided")
    signer, name = spec.get("signerName") or "", (bundle.get("metadata") or {}).get("name") or ""
    prefix = signer.replace("/", ":") + ":"
    if signer and not name.startswith(prefix):
        message = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        causes.invalid("metadata.name", name, message)
    elif not signer and ":" in name:
        message = "ClusterTrustBundle without signer name must not have `:` in its name"
        causes.invalid("metadata.name", name, message)


def check_trust_bundle_update(causes: Causes, bundle: Object, old: Object) -> None:
    signer = (bundle.get("spec") or {}).get("signerName")
    causes.immutable("spec.signerName", signer, (old.get("spec") or {}).get("signerName"))
