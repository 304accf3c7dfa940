"""All policies of one kind with their bindings, kept beside the watch cache.

Rebuilt when a policy or a binding has changed. Which of them could be about a resource is remembered, so a
write that none is about costs one look into a dictionary. A policy without a binding does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.api.admission.conditions import Conditions
from gitkube.api.admission.matching import EXEMPT, Match, Rule
from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.admission.versions import Versions
from gitkube.api.cache import WatchCache
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.validation.expressions import POLICY_VARIABLES


@dataclass(frozen=True, slots=True)
class Binding:
    name: str
    match: Match | None
    """None: all that the policy is about."""
    parameters: Mapping[str, Any]
    """Its `paramRef`; empty when it has none."""
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    spec: Mapping[str, Any]
    match: Match
    conditions: Conditions
    bindings: Sequence[Binding]
    names: frozenset[str]
    """What its expressions may name."""
    is_optional: bool
    """`failurePolicy: Ignore`."""

    @property
    def parameter_kind(self) -> Mapping[str, Any] | None:
        kind: Mapping[str, Any] | None = self.spec.get("paramKind")
        return kind

    @property
    def variables(self) -> Sequence[tuple[str, str]]:
        """Name and expression, in order."""
        given = self.spec.get("variables") or ()
        return [(str(each.get("name")), str(each.get("expression"))) for each in given]


class PolicySet:
    def __init__(self, cache: WatchCache, policies: Kind, bindings: Kind, versions: Versions) -> None:
        self._policy_cache = cache.of(policies)
        self._binding_cache = cache.of(bindings)
        self._versions = versions
        self._version: object = None
        self._policies: list[Policy] = []
        self._by_resource: dict[tuple[str, str, str], tuple[Policy, ...]] = {}

    def about(self, kind: Kind, subresource: str) -> tuple[Policy, ...]:
        """Bound policies that could be about such a resource, by name."""
        version = (self._policy_cache.version, self._binding_cache.version, self._versions.version)
        if self._version != version:
            self._rebuild()
            self._version = version
        if not self._policies or kind in EXEMPT:
            return ()
        key = (kind.group, kind.plural, subresource)
        found = self._by_resource.get(key)
        if found is None:
            found = tuple(
                policy
                for policy in self._policies
                if policy.match.could_match(kind, subresource, self._versions)
            )
            self._by_resource[key] = found
        return found

    @property
    def versions(self) -> Versions:
        return self._versions

    def matched(self, request: AdmissionRequest) -> list[tuple[Policy, Kind, list[Binding]]]:
        """The policies that a request is about, each with the version by which it is and its bindings."""
        found: list[tuple[Policy, Kind, list[Binding]]] = []
        for policy in self.about(request.kind, request.subresource):
            kind = policy.match.matched(request, self._versions)
            if kind is None:
                continue
            bindings = [
                binding
                for binding in policy.bindings
                if binding.match is None or binding.match.selects_all_of(request, self._versions)
            ]
            if bindings:
                found.append((policy, kind, bindings))
        return found

    def _rebuild(self) -> None:
        bindings: dict[str, list[Binding]] = {}
        for _, binding in self._binding_cache.select():
            name = str((binding.get("spec") or {}).get("policyName"))
            bindings.setdefault(name, []).append(_binding_of(binding))
        self._policies = [
            _policy_of(policy, bindings[name])
            for name, policy in self._policy_cache.select()
            if name in bindings
        ]
        self._by_resource = {}


def _match_of(source: Mapping[str, Any]) -> Match:
    return Match(
        source,
        [Rule.of(rule) for rule in source.get("resourceRules") or ()],
        [Rule.of(rule) for rule in source.get("excludeResourceRules") or ()],
    )


def _policy_of(policy: Object, bindings: Sequence[Binding]) -> Policy:
    spec = policy.get("spec") or {}
    names = POLICY_VARIABLES | {"params"} if spec.get("paramKind") else POLICY_VARIABLES
    return Policy(
        str(policy["metadata"]["name"]),
        spec,
        _match_of(spec.get("matchConstraints") or {}),
        Conditions(spec.get("matchConditions") or (), names),
        sorted(bindings, key=lambda binding: binding.name),
        names,
        spec.get("failurePolicy") == "Ignore",
    )


def _binding_of(binding: Object) -> Binding:
    spec = binding.get("spec") or {}
    resources = spec.get("matchResources")
    return Binding(
        str(binding["metadata"]["name"]),
        _match_of(resources) if resources else None,
        spec.get("paramRef") or {},
        frozenset(spec.get("validationActions") or ()),
    )
