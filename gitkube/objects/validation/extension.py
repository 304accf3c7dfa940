"""Checks of what extends the API: webhooks, definitions of kinds, other servers, flow control.

Source: k8s.io/kubernetes/pkg/apis/{admissionregistration,flowcontrol}/validation, and
k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation (names and versions; what a structural
schema may say is checked where custom objects are served).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gitkube.objects import names
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.selectors import check_label_selector

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_FAILURE_POLICIES = ("Fail", "Ignore")
_MATCH_POLICIES = ("Equivalent", "Exact")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_VERSION = re.compile(r"v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")
_MAX_PRECEDENCE = 10_000


# ------------------------------------------------------------------------------------------------- webhooks


def check_webhooks(causes: Causes, configuration: Object) -> None:
    seen: set[str] = set()
    for index, webhook in enumerate(configuration.get("webhooks") or ()):
        path, name = f"webhooks[{index}]", webhook.get("name") or ""
        causes.invalids(f"{path}.name", name, _full_name(name))
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)
        _check_webhook(causes, webhook, path)


def _check_webhook(causes: Causes, webhook: Mapping[str, Any], path: str) -> None:
    for index, rule in enumerate(webhook.get("rules") or ()):
        _check_rule(causes, rule, f"{path}.rules[{index}]")
    for field, words in (("failurePolicy", _FAILURE_POLICIES), ("matchPolicy", _MATCH_POLICIES)):
        causes.one_of(f"{path}.{field}", webhook.get(field), words, is_required=False)
    effects = webhook.get("sideEffects")
    if effects is None:
        causes.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    elif effects not in _SIDE_EFFECTS:
        causes.not_supported(f"{path}.sideEffects", effects, _SIDE_EFFECTS)
    timeout_s = webhook.get("timeoutSeconds")
    if timeout_s is not None and not 1 <= timeout_s <= 30:
        message = "the timeout value must be between 1 and 30 seconds"
        causes.invalid(f"{path}.timeoutSeconds", timeout_s, message)
    versions = webhook.get("admissionReviewVersions") or ()
    if not versions:
        causes.required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1")
    elif not set(versions) & set(_REVIEW_VERSIONS):
        message = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        causes.invalid(f"{path}.admissionReviewVersions", list(versions), message)
    for field in ("namespaceSelector", "objectSelector"):
        check_label_selector(causes, webhook.get(field), f"{path}.{field}")
    causes.one_of(
        f"{path}.reinvocationPolicy",
        webhook.get("reinvocationPolicy"),
        ("IfNeeded", "Never"),
        is_required=False,
    )
    _check_client(causes, webhook.get("clientConfig") or {}, f"{path}.clientConfig")


def _check_rule(causes: Causes, rule: Mapping[str, Any], path: str) -> None:
    for field in ("apiGroups", "apiVersions", "resources", "operations"):
        values = rule.get(field) or ()
        if not values:
            causes.required(f"{path}.{field}")
        if len(values) > 1 and "*" in values and field != "resources":
            causes.invalid(
                f"{path}.{field}", list(values), "if '*' is present, must not specify other values"
            )
    for index, word in enumerate(rule.get("operations") or ()):
        if word not in _OPERATIONS:
            causes.not_supported(f"{path}.operations[{index}]", word, _OPERATIONS)
    causes.one_of(f"{path}.scope", rule.get("scope"), _SCOPES, is_required=False)


def _check_client(causes: Causes, client: Mapping[str, Any], path: str) -> None:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        causes.required(path, "exactly one of url or service is required")
    elif url is not None:
        _check_url(causes, url, f"{path}.url")
    else:
        _check_service(causes, service or {}, f"{path}.service")


def _check_url(causes: Causes, url: str, path: str) -> None:
    form = "; desired format: https://host[/path]"
    parts = urlsplit(url)
    if parts.scheme != "https":
        causes.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}")
    if not parts.netloc:
        causes.invalid(path, parts.netloc, f"host must be specified{form}")
    if parts.username is not None:
        causes.invalid(path, parts.username, "user information is not permitted in the URL")
    if parts.fragment:
        causes.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        causes.invalid(path, parts.query, "query parameters are not permitted in the URL")


def _check_service(causes: Causes, service: Mapping[str, Any], path: str) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            causes.required(f"{path}.{field}", f"service {field} is required")
    port = service.get("port")
    if port is not None:
        causes.invalids(f"{path}.port", port, names.port_number(port))


def _full_name(name: str) -> list[str]:
    wrong = names.dns_subdomain(name) if name else ["must not be empty"]
    if not wrong and name.count(".") < 2:
        wrong.append("should be a domain with at least three segments separated by dots")
    return wrong


# --------------------------------------------------------------------------------------- admission policies


def check_admission_policy(causes: Causes, policy: Object) -> None:
    spec = policy.get("spec") or {}
    causes.one_of("spec.failurePolicy", spec.get("failurePolicy"), _FAILURE_POLICIES, is_required=False)
    if (parameters := spec.get("paramKind")) is not None:
        for field in ("apiVersion", "kind"):
            if not parameters.get(field):
                causes.required(f"spec.paramKind.{field}")
    match = spec.get("matchConstraints")
    if match is None:
        causes.required("spec.matchConstraints")
    else:
        if not match.get("resourceRules"):
            causes.required("spec.matchConstraints.resourceRules")
        for index, rule in enumerate(match.get("resourceRules") or ()):
            _check_rule(causes, rule, f"spec.matchConstraints.resourceRules[{index}]")


def check_validating_policy(causes: Causes, policy: Object) -> None:
    check_admission_policy(causes, policy)
    spec = policy.get("spec") or {}
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must be specified"
        causes.required("spec.validations", why)
    for index, validation in enumerate(spec.get("validations") or ()):
        if not (validation.get("expression") or "").strip():
            causes.required(f"spec.validations[{index}].expression", "expression is not specified")


def check_mutating_policy(causes: Causes, policy: Object) -> None:
    check_admission_policy(causes, policy)
    if not (policy.get("spec") or {}).get("mutations"):
        causes.required("spec.mutations", "mutations must contain at least one item")


def check_policy_binding(causes: Causes, binding: Object) -> None:
    spec = binding.get("spec") or {}
    if not spec.get("policyName"):
        causes.required("spec.policyName")


def check_validating_policy_binding(causes: Causes, binding: Object) -> None:
    check_policy_binding(causes, binding)
    actions = (binding.get("spec") or {}).get("validationActions") or ()
    if not actions:
        causes.required("spec.validationActions")
    for index, action in enumerate(actions):
        if action not in ("Deny", "Warn", "Audit"):
            causes.not_supported(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn"))


# ------------------------------------------------------------------------------------------ other servers


def check_api_service(causes: Causes, api_service: Object) -> None:
    spec = api_service.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name = (api_service.get("metadata") or {}).get("name") or ""
    wanted = f"{version}.{group}"
    if name != wanted:
        causes.invalid("metadata.name", name, f'`spec.version+"."+spec.group` must be {wanted}')
    if not version:
        causes.required("spec.version")
    else:
        causes.invalids("spec.version", version, names.dns_label(version))
    for field, most in (("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)):
        number = spec.get(field) or 0
        if not 0 < number <= most:
            causes.invalid(f"spec.{field}", number, f"must be positive and less than {most}")
    service = spec.get("service")
    if service is None:
        for field in ("caBundle", "insecureSkipTLSVerify"):
            if spec.get(field):
                causes.invalid(f"spec.{field}", "<value>", "local APIServices may not have it")
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            causes.required(f"spec.service.{field}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        causes.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")


# --------------------------------------------------------------------------------------------- flow control


def check_flow_schema(causes: Causes, flow_schema: Object) -> None:
    spec = flow_schema.get("spec") or {}
    precedence = spec.get("matchingPrecedence") or 0
    if not 1 <= precedence <= _MAX_PRECEDENCE:
        causes.invalid("spec.matchingPrecedence", precedence, f"must be between 1 and {_MAX_PRECEDENCE}")
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        causes.required("spec.priorityLevelConfiguration.name", "must reference a priority level")


def check_priority_level(causes: Causes, level: Object) -> None:
    spec = level.get("spec") or {}
    kind = spec.get("type") or ""
    if kind not in ("Exempt", "Limited"):
        causes.not_supported("spec.type", kind, ("Exempt", "Limited"))
    elif kind == "Limited" and spec.get("limited") is None:
        causes.required("spec.limited", "must not be empty when type is Limited")
    elif kind == "Exempt" and spec.get("limited") is not None:
        causes.forbidden("spec.limited", "must be nil if the type is not Limited")
