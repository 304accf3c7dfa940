"""Which requests a webhook or a policy is about: operations, resources, versions, namespaces and labels.

A client may ask for one version of a resource and a rule may name another: with `matchPolicy: Equivalent` the
rule still matches, and what is asked about is the object in the rule's version. Source: the API reference of
admissionregistration.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.admission.versions import Versions, can_show
from gitkube.api.errors import not_found
from gitkube.objects.kinds import (
    MUTATING_ADMISSION_POLICY,
    MUTATING_ADMISSION_POLICY_BINDING,
    MUTATING_WEBHOOK_CONFIGURATION,
    NAMESPACE,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    VALIDATING_WEBHOOK_CONFIGURATION,
    Kind,
)
from gitkube.objects.labels import Selector, selector_of
from gitkube.objects.types import Object

EXEMPT = frozenset(
    {
        MUTATING_WEBHOOK_CONFIGURATION,
        VALIDATING_WEBHOOK_CONFIGURATION,
        MUTATING_ADMISSION_POLICY,
        MUTATING_ADMISSION_POLICY_BINDING,
        VALIDATING_ADMISSION_POLICY,
        VALIDATING_ADMISSION_POLICY_BINDING,
    }
)
"""Never asked about: else one that refuses everything could not be taken away any more."""
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the `rules` of a webhook, or of the resource rules of a policy."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: frozenset[str]
    scope: str
    names: frozenset[str]
    """Of objects; empty means all."""

    @staticmethod
    def of(rule: Mapping[str, Any]) -> Rule:
        return Rule(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            frozenset(rule.get("resources") or ()),
            str(rule.get("scope") or _ANY),
            frozenset(rule.get("resourceNames") or ()),
        )

    def covers(self, kind: Kind, subresource: str) -> bool:
        """Whether it is about this resource."""
        return (
            (_ANY in self.groups or kind.group in self.groups)
            and (_ANY in self.versions or kind.version in self.versions)
            and self._covers_resource(kind, subresource)
            and self._covers_scope(kind, subresource)
        )

    def covers_request(self, request: AdmissionRequest) -> bool:
        """Whether it is about what is done, and to which object; the resource is asked of `covers`."""
        is_operation = _ANY in self.operations or request.verb.value in self.operations
        return is_operation and (not self.names or request.name in self.names)

    def _covers_resource(self, kind: Kind, subresource: str) -> bool:
        if "*/*" in self.resources:
            return True
        if not subresource:
            return _ANY in self.resources or kind.plural in self.resources
        asked = (f"{kind.plural}/{subresource}", f"{kind.plural}/*", f"*/{subresource}")
        return any(each in self.resources for each in asked)

    def _covers_scope(self, kind: Kind, subresource: str) -> bool:
        if self.scope == _ANY:
            return True
        return (self.scope == "Namespaced") == kind.namespaced


class Match:
    """The whole of what a webhook or a policy says of what it is about."""

    def __init__(
        self, source: Mapping[str, Any], rules: Sequence[Rule], excluded: Sequence[Rule] = ()
    ) -> None:
        """
        Args:
            source: has `matchPolicy`, `namespaceSelector` and `objectSelector`.
            rules: none at all means everything when `source` is of a binding; see `covers_all`.
        """
        self._rules = rules
        self._excluded = excluded
        self._is_exact = source.get("matchPolicy") == "Exact"
        self._namespaces: Selector = selector_of(source.get("namespaceSelector") or {})
        self._objects: Selector = selector_of(source.get("objectSelector") or {})

    def could_match(self, kind: Kind, subresource: str, versions: Versions) -> bool:
        """Whether any request for this resource could."""
        return any(rule.covers(each, subresource) for each in versions.of(kind) for rule in self._rules)

    def matched(self, request: AdmissionRequest, versions: Versions) -> Kind | None:
        """The version of the resource by which this request matches, or None.

        Raises:
            StatusError: 404, the request's namespace is not there.
        """
        kind = self._matched_kind(request, self._rules, versions)
        if kind is None or not self._selects(request):
            return None
        if self._excluded and self._matched_kind(request, self._excluded, versions) is not None:
            return None
        return kind

    def selects_all_of(self, request: AdmissionRequest, versions: Versions) -> bool:
        """As `matched`, of a binding: no rules mean all resources."""
        if not self._selects(request):
            return False
        if self._excluded and self._matched_kind(request, self._excluded, versions) is not None:
            return False
        return not self._rules or self._matched_kind(request, self._rules, versions) is not None

    def _matched_kind(
        self, request: AdmissionRequest, rules: Sequence[Rule], versions: Versions
    ) -> Kind | None:
        rules = [rule for rule in rules if rule.covers_request(request)]
        asked = request.asked
        if any(rule.covers(asked, request.subresource) for rule in rules):
            return asked
        if self._is_exact:
            return None
        for other in versions.of(request.kind):
            if other != asked and any(rule.covers(other, request.subresource) for rule in rules):
                return other if can_show(request.kind) else asked
        return None

    def _selects(self, request: AdmissionRequest) -> bool:
        if not self._objects.is_everything and not self._selects_object(request):
            return False
        return self._namespaces.is_everything or self._selects_namespace(request)

    def _selects_object(self, request: AdmissionRequest) -> bool:
        # The old object counts too: taking the label off is no way around a webhook.
        return any(
            self._objects.matches((each.get("metadata") or {}).get("labels") or {})
            for each in (request.new, request.before)
            if each is not None
        )

    def _selects_namespace(self, request: AdmissionRequest) -> bool:
        labels = namespace_labels(request)
        return labels is None or self._namespaces.matches(labels)


def namespace_labels(request: AdmissionRequest) -> Mapping[str, str] | None:
    """Labels of the request's namespace; of a Namespace itself its own; None of what is in no namespace."""
    if request.kind is NAMESPACE:
        obj = request.new if request.verb is not Verb.DELETE and not request.subresource else request.before
        return dict(((obj or {}).get("metadata") or {}).get("labels") or {})
    if not request.kind.namespaced:
        return None
    return dict(namespace_object(request)["metadata"].get("labels") or {})


def namespace_object(request: AdmissionRequest) -> Object:
    """The Namespace of a request for a thing in one.

    Raises:
        StatusError: 404.
    """
    found = request.cache.of(NAMESPACE).get(request.namespace)
    if found is None:
        raise not_found("", "namespaces", request.namespace)
    return found
