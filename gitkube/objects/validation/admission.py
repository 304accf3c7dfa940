"""Checks of what rules admission: webhooks, admission policies and their bindings.

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gitkube.objects import names
from gitkube.objects.cel.types import CelType
from gitkube.objects.declared_types import composed
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes
from gitkube.objects.validation.expressions import (
    CONDITION_VARIABLES,
    MUTATION_CONSTRUCTORS,
    POLICY_VARIABLES,
    check_conditions,
    check_expression,
)
from gitkube.objects.validation.selectors import check_label_selector

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_FAILURE_POLICIES = ("Fail", "Ignore")
_MATCH_POLICIES = ("Equivalent", "Exact")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_MUTATIONS = {
    "ApplyConfiguration": ("applyConfiguration", "Object"),
    "JSONPatch": ("jsonPatch", "list(JSONPatch)"),
}
"""patchType -> the field that it needs, and the type that its expression must have."""
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


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
    check_conditions(causes, webhook.get("matchConditions"), f"{path}.matchConditions", CONDITION_VARIABLES)


def _check_rule(causes: Causes, rule: Mapping[str, Any], path: str) -> None:
    for field in ("apiGroups", "apiVersions", "resources", "operations"):
        values = rule.get(field) or ()
        if not values:
            causes.required(f"{path}.{field}")
        if len(values) > 1 and "*" in values and field != "resources":
            causes.invalid(
                f"{path}.{field}", list(values), "if '*' is present, must not specify other values"
            )
    _check_resources(causes, list(rule.get("resources") or ()), f"{path}.resources")
    for index, word in enumerate(rule.get("operations") or ()):
        if word not in _OPERATIONS:
            causes.not_supported(f"{path}.operations[{index}]", word, _OPERATIONS)
    causes.one_of(f"{path}.scope", rule.get("scope"), _SCOPES, is_required=False)


def _check_resources(causes: Causes, resources: list[str], path: str) -> None:
    """A pattern beside one that covers it is a mistake: its author believes that it matters."""
    whole: set[str] = set()
    everywhere: set[str] = set()
    for index, pattern in enumerate(resources):
        resource, slash, subresource = pattern.partition("/")
        if not pattern:
            causes.required(f"{path}[{index}]")
        if not slash:
            continue
        if resource in whole:
            why = f"if '{resource}/*' is present, must not specify {pattern}"
            causes.invalid(f"{path}[{index}]", pattern, why)
        if subresource in everywhere:
            why = f"if '*/{subresource}' is present, must not specify {pattern}"
            causes.invalid(f"{path}[{index}]", pattern, why)
        if subresource == "*":
            whole.add(resource)
        if resource == "*":
            everywhere.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        causes.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if "*" in resources and any("/" not in each and each != "*" for each in resources):
        why = "if '*' is present, must not specify other resources without subresources"
        causes.invalid(path, resources, why)


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
    if service.get("path"):
        _check_path(causes, str(service["path"]), f"{path}.path")


def _check_path(causes: Causes, given: str, path: str) -> None:
    if given == "/":
        return
    if not given.startswith("/"):
        causes.invalid(path, given, "must start with a '/'")
    for index, segment in enumerate(given[1:].removesuffix("/").split("/")):
        if not segment:
            causes.invalid(path, given, f"segment[{index}] may not be empty")
        else:
            causes.invalids(path, given, [f"segment[{index}]: {why}" for why in names.dns_subdomain(segment)])


def _full_name(name: str) -> list[str]:
    wrong = names.dns_subdomain(name) if name else ["must not be empty"]
    if not wrong and name.count(".") < 2:
        wrong.append("should be a domain with at least three segments separated by dots")
    return wrong


# --------------------------------------------------------------------------------------- admission policies


def _check_policy(causes: Causes, policy: Object) -> tuple[frozenset[str], Mapping[str, CelType]]:
    """What both kinds of policies have in common.

    Returns:
        The names that their expressions may use, and the type of `variables`.
    """
    spec = policy.get("spec") or {}
    causes.one_of("spec.failurePolicy", spec.get("failurePolicy"), _FAILURE_POLICIES, is_required=False)
    variables = POLICY_VARIABLES
    if (parameters := spec.get("paramKind")) is not None:
        variables = variables | {"params"}
        for field in ("apiVersion", "kind"):
            if not parameters.get(field):
                causes.required(f"spec.paramKind.{field}")
    match = spec.get("matchConstraints")
    if match is None:
        causes.required("spec.matchConstraints")
    else:
        if not match.get("resourceRules"):
            causes.required("spec.matchConstraints.resourceRules")
        _check_match(causes, match, "spec.matchConstraints")
    check_conditions(causes, spec.get("matchConditions"), "spec.matchConditions", variables)
    seen: set[str] = set()
    made: dict[str, CelType] = {}
    for index, variable in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{index}]", str(variable.get("name") or "")
        if not name:
            causes.required(f"{path}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(name):
            causes.invalid(f"{path}.name", name, "name is not a valid CEL identifier")
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)
        before = {"variables": composed(made)}
        source = variable.get("expression")
        made[name] = check_expression(causes, source, f"{path}.expression", variables, declared=before)
    return variables, {"variables": composed(made)}


def _check_match(causes: Causes, match: Mapping[str, Any], path: str) -> None:
    causes.one_of(f"{path}.matchPolicy", match.get("matchPolicy"), _MATCH_POLICIES, is_required=False)
    for field in ("namespaceSelector", "objectSelector"):
        check_label_selector(causes, match.get(field), f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field) or ()):
            _check_rule(causes, rule, f"{path}.{field}[{index}]")


def check_validating_policy(causes: Causes, policy: Object) -> None:
    variables, declared = _check_policy(causes, policy)
    spec = policy.get("spec") or {}
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must be specified"
        causes.required("spec.validations", why)
    for index, validation in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        source = validation.get("expression")
        check_expression(causes, source, f"{path}.expression", variables, ("bool",), declared=declared)
        message = validation.get("message")
        if message is not None and not message.strip():
            causes.invalid(f"{path}.message", message, "message must be non-empty if specified")
        elif message and "\n" in message.strip():
            causes.invalid(f"{path}.message", message, "message must not contain line breaks")
        if (source := validation.get("messageExpression")) is not None:
            field = f"{path}.messageExpression"
            check_expression(causes, source, field, variables, ("string",), declared=declared)
        causes.one_of(f"{path}.reason", validation.get("reason"), _REASONS, is_required=False)
    for index, annotation in enumerate(spec.get("auditAnnotations") or ()):
        path, key = f"spec.auditAnnotations[{index}]", str(annotation.get("key") or "")
        causes.invalids(f"{path}.key", key, names.qualified_name(key))
        source = annotation.get("valueExpression")
        types, field = ("string", "null_type"), f"{path}.valueExpression"
        check_expression(causes, source, field, variables, types, declared=declared)


def check_mutating_policy(causes: Causes, policy: Object) -> None:
    variables, declared = _check_policy(causes, policy)
    spec = policy.get("spec") or {}
    if not spec.get("mutations"):
        causes.required("spec.mutations", "mutations must contain at least one item")
    if not spec.get("reinvocationPolicy"):
        causes.required("spec.reinvocationPolicy")
    causes.one_of(
        "spec.reinvocationPolicy", spec.get("reinvocationPolicy"), ("IfNeeded", "Never"), is_required=False
    )
    for index, mutation in enumerate(spec.get("mutations") or ()):
        path = f"spec.mutations[{index}]"
        word = mutation.get("patchType") or ""
        if not causes.one_of(f"{path}.patchType", word, tuple(_MUTATIONS)):
            continue
        field, result = _MUTATIONS[word]
        for other, _ in _MUTATIONS.values():
            if other != field and mutation.get(other) is not None:
                causes.invalid(f"{path}.{other}", "{}", f"must be null when patchType is {word}")
        part = mutation.get(field)
        if part is None:
            causes.required(f"{path}.{field}", f"must be specified when patchType is {word}")
            continue
        source = part.get("expression")
        check_expression(
            causes,
            source,
            f"{path}.{field}.expression",
            variables,
            exactly=result,
            constructors=MUTATION_CONSTRUCTORS,
            declared=declared,
        )


def check_validating_policy_update(causes: Causes, policy: Object, old: Object) -> None:
    """What was taken once is not judged again, nor refused for what is asked of its expressions today: its
    status and its labels may change."""
    if policy.get("spec") != old.get("spec"):
        check_validating_policy(causes, policy)


def check_mutating_policy_update(causes: Causes, policy: Object, old: Object) -> None:
    """As `check_validating_policy_update`."""
    if policy.get("spec") != old.get("spec"):
        check_mutating_policy(causes, policy)


def _check_policy_binding(causes: Causes, binding: Object) -> None:
    spec = binding.get("spec") or {}
    if not spec.get("policyName"):
        causes.required("spec.policyName")
    if (reference := spec.get("paramRef")) is not None:
        if bool(reference.get("name")) == (reference.get("selector") is not None):
            causes.required("spec.paramRef", "one of name or selector must be specified")
        action = reference.get("parameterNotFoundAction")
        causes.one_of("spec.paramRef.parameterNotFoundAction", action, ("Allow", "Deny"))
    if (match := spec.get("matchResources")) is not None:
        _check_match(causes, match, "spec.matchResources")


def check_mutating_policy_binding(causes: Causes, binding: Object) -> None:
    _check_policy_binding(causes, binding)


def check_validating_policy_binding(causes: Causes, binding: Object) -> None:
    _check_policy_binding(causes, binding)
    actions = (binding.get("spec") or {}).get("validationActions") or ()
    if not actions:
        causes.required("spec.validationActions")
    for index, action in enumerate(actions):
        if action not in ("Deny", "Warn", "Audit"):
            causes.not_supported(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn"))
        elif action in actions[:index]:
            causes.duplicate(f"spec.validationActions[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        why = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the "
            "API response and headers serves no purpose)"
        )
        causes.invalid("spec.validationActions", list(actions), why)
