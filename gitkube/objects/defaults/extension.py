"""Defaults of what extends the API: webhooks, admission policies, definitions of kinds, other servers.

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/v1, k8s.io/apiextensions-apiserver,
k8s.io/kube-aggregator.
"""

from __future__ import annotations

from typing import Any

from gitkube.objects.defaults.reading import fill, fill_zero, made_part, part, parts
from gitkube.objects.types import Object

_HTTPS_PORT = 443


def default_validating_webhooks(configuration: Object) -> None:
    for webhook in parts(configuration, "webhooks"):
        _default_webhook(webhook)


def default_mutating_webhooks(configuration: Object) -> None:
    for webhook in parts(configuration, "webhooks"):
        _default_webhook(webhook)
        fill(webhook, reinvocationPolicy="Never")


def _default_webhook(webhook: dict[str, Any]) -> None:
    fill(
        webhook,
        failurePolicy="Fail",
        matchPolicy="Equivalent",
        namespaceSelector={},
        objectSelector={},
        timeoutSeconds=10,
    )
    for rule in parts(webhook, "rules"):
        fill(rule, scope="*")
    if service := part(part(webhook, "clientConfig"), "service"):
        fill(service, port=_HTTPS_PORT)


def default_admission_policy(policy: Object) -> None:
    spec = made_part(policy, "spec")
    fill(spec, failurePolicy="Fail")
    _default_match(part(spec, "matchConstraints"))


def default_admission_policy_binding(binding: Object) -> None:
    _default_match(part(part(binding, "spec"), "matchResources"))


def _default_match(match: dict[str, Any]) -> None:
    if not match:
        return
    fill(match, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in parts(match, field):
            fill(rule, scope="*")


def default_definition(definition: Object) -> None:
    """Of a CustomResourceDefinition."""
    spec = made_part(definition, "spec")
    names = made_part(spec, "names")
    kind = names.get("kind")
    if isinstance(kind, str) and kind:
        fill_zero(names, singular=kind.lower(), listKind=f"{kind}List")
    fill_zero(made_part(spec, "conversion"), strategy="None")
    if service := part(part(part(part(spec, "conversion"), "webhook"), "clientConfig"), "service"):
        fill(service, port=_HTTPS_PORT)
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]
    for version in parts(spec, "versions"):
        fill(version, served=False, storage=False)
        _drop_empty_words(part(part(version, "schema"), "openAPIV3Schema"))


_EMPTY_WORDS = (
    "id", "$schema", "$ref", "description", "type", "format", "title", "pattern", "nullable", "uniqueItems",
    "exclusiveMaximum", "exclusiveMinimum", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
)  # fmt: skip
"""Words of a schema that vanish when they say nothing."""
_MAX_SCHEMA_DEPTH = 128


def _drop_empty_words(schema: Any, depth: int = 0) -> None:
    if not isinstance(schema, dict) or depth > _MAX_SCHEMA_DEPTH:
        return
    for word in _EMPTY_WORDS:
        if schema.get(word) in ("", False):
            schema.pop(word, None)
    for word in ("properties", "patternProperties", "definitions"):
        for child in part(schema, word).values():
            _drop_empty_words(child, depth + 1)
    for word in ("items", "additionalProperties", "not"):
        _drop_empty_words(schema.get(word), depth + 1)
    for word in ("allOf", "anyOf", "oneOf"):
        for child in parts(schema, word):
            _drop_empty_words(child, depth + 1)


def default_api_service(api_service: Object) -> None:
    if service := part(part(api_service, "spec"), "service"):
        fill(service, port=_HTTPS_PORT)
    if part(api_service, "spec").get("insecureSkipTLSVerify") is False:
        del api_service["spec"]["insecureSkipTLSVerify"]
    made_part(api_service, "status")
