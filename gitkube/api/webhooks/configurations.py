"""All webhooks of the cluster, ready to be matched, kept beside the watch cache.

Rebuilt when a configuration has changed, and only then; a configuration that is as it was keeps what was
compiled of it. Which webhooks could be about a resource is remembered, so a write that none is about costs
one look into a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.api.admission.conditions import Conditions
from gitkube.api.admission.matching import EXEMPT, Match, Rule
from gitkube.api.admission.versions import Versions
from gitkube.api.cache import WatchCache
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration."""

    name: str
    configuration: str
    key: str
    """Unique among all hooks."""
    client_config: Mapping[str, Any]
    match: Match
    conditions: Conditions
    is_optional: bool
    """`failurePolicy: Ignore`."""
    timeout_s: int
    side_effects: str
    review_versions: tuple[str, ...]
    may_reinvoke: bool

    @property
    def allows_dry_run(self) -> bool:
        return self.side_effects in ("None", "NoneOnDryRun")


def hooks_of(configuration: Object) -> list[Hook]:
    """The webhooks of one configuration, in its order."""
    hooks: list[Hook] = []
    for webhook in configuration.get("webhooks") or ():
        name = str(webhook.get("name"))
        hooks.append(
            Hook(
                name,
                str(configuration["metadata"]["name"]),
                f"{configuration['kind']}/{configuration['metadata']['name']}/{name}/{len(hooks)}",
                webhook.get("clientConfig") or {},
                Match(webhook, [Rule.of(rule) for rule in webhook.get("rules") or ()]),
                Conditions(webhook.get("matchConditions") or ()),
                webhook.get("failurePolicy") == "Ignore",
                int(webhook.get("timeoutSeconds") or 10),
                str(webhook.get("sideEffects") or ""),
                tuple(webhook.get("admissionReviewVersions") or ("v1",)),
                webhook.get("reinvocationPolicy") == "IfNeeded",
            )
        )
    return hooks


class Hooks:
    """The webhooks of all configurations of one kind: by the names of these, then in their order."""

    def __init__(self, cache: WatchCache, kind: Kind, versions: Versions) -> None:
        self._cache = cache.of(kind)
        self._versions = versions
        self._version: object = None
        self._compiled: dict[str, tuple[str, list[Hook]]] = {}
        self._hooks: list[Hook] = []
        self._by_resource: dict[tuple[str, str, str], tuple[Hook, ...]] = {}

    def about(self, kind: Kind, subresource: str) -> tuple[Hook, ...]:
        """The hooks that could be about such a resource."""
        version = (self._cache.version, self._versions.version)
        if self._version != version:
            self._rebuild()
            self._version = version
        if not self._hooks or kind in EXEMPT:
            return ()
        key = (kind.group, kind.plural, subresource)
        found = self._by_resource.get(key)
        if found is None:
            found = tuple(
                hook for hook in self._hooks if hook.match.could_match(kind, subresource, self._versions)
            )
            self._by_resource[key] = found
        return found

    def _rebuild(self) -> None:
        compiled: dict[str, tuple[str, list[Hook]]] = {}
        for name, configuration in self._cache.select():
            version = configuration["metadata"]["resourceVersion"]
            known = self._compiled.get(name)
            is_same = known is not None and known[0] == version
            compiled[name] = known if known and is_same else (version, hooks_of(configuration))
        self._compiled = compiled
        self._hooks = [hook for name in sorted(compiled) for hook in compiled[name][1]]
        self._by_resource = {}
