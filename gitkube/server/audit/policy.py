"""How much of a request is kept: an audit.k8s.io/v1 Policy, read once, asked for each request.

The first rule that matches a request says its level; what none matches is not kept. A rule matches as in
Kubernetes (`apiserver/pkg/audit/policy`): every field that it has must fit, words match whole, and only
resources and paths have patterns. Beyond Kubernetes' rules, bodies that hold secrets or tokens are kept only
by a rule that names their resource; a rule for everything keeps who asked for them, and no more.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube import yaml
from gitkube.api.authorization import Attributes

MAX_FILE_BYTES = 1024 * 1024
API_VERSION = "audit.k8s.io/v1"
_GUARDED = frozenset({("", "secrets", ""), ("", "serviceaccounts", "token"),
                      ("authentication.k8s.io", "tokenreviews", "")})  # fmt: skip
"""Group, resource, subresource whose bodies hold secrets."""


class PolicyError(ValueError):
    """The file is no policy; the text says where and why."""


class Level(enum.IntEnum):
    """How much is kept."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def word(self) -> str:
        return {level: word for word, level in _LEVELS.items()}[self]


class Stage(enum.Enum):
    """When an event is made."""

    REQUEST_RECEIVED = "RequestReceived"
    RESPONSE_STARTED = "ResponseStarted"
    RESPONSE_COMPLETE = "ResponseComplete"
    PANIC = "Panic"


_LEVELS = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be kept of one request."""

    level: Level
    omitted: frozenset[Stage] = frozenset()
    without_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """A group, some of its resources ("" of them: all), and perhaps names."""

    group: str
    resources: tuple[str, ...]
    names: tuple[str, ...]

    def match(self, asked: Attributes) -> bool:
        if self.group != asked.group:
            return False
        if not self.resources:
            return True
        if self.names and asked.name not in self.names:
            return False
        whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        patterns = {whole, "*", f"{asked.resource}/*"}
        if asked.subresource:
            patterns.add(f"*/{asked.subresource}")
        return not patterns.isdisjoint(self.resources)

    def name(self, asked: Attributes) -> bool:
        """Whether the resource stands here by its name."""
        whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        return self.group == asked.group and whole in self.resources


@dataclass(frozen=True, slots=True)
class AuditRule:
    verdict: Verdict
    users: tuple[str, ...]
    groups: tuple[str, ...]
    verbs: tuple[str, ...]
    namespaces: tuple[str, ...]
    resources: tuple[Resources, ...]
    paths: tuple[str, ...]

    def match(self, asked: Attributes) -> bool:
        if self.users and asked.user.name not in self.users:
            return False
        if self.groups and set(self.groups).isdisjoint(asked.user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._match_resource(asked)
        if self.paths:
            return not asked.resource and any(_path_matches(path, asked.path) for path in self.paths)
        return True

    def _match_resource(self, asked: Attributes) -> bool:
        if not asked.resource or (self.namespaces and asked.namespace not in self.namespaces):
            return False
        return not self.resources or any(one.match(asked) for one in self.resources)


@dataclass(frozen=True, slots=True)
class Policy:
    """See the module's text."""

    rules: tuple[AuditRule, ...]

    def verdict(self, asked: Attributes) -> Verdict:
        """What is to be kept of a request."""
        for rule in self.rules:
            if not rule.match(asked):
                continue
            found = rule.verdict
            is_guarded = (asked.group, asked.resource, asked.subresource) in _GUARDED
            is_named = any(one.name(asked) for one in rule.resources)
            if is_guarded and not is_named and found.level > Level.METADATA:
                return Verdict(Level.METADATA, found.omitted, found.without_managed_fields)
            return found
        return Verdict(Level.NONE)


def default_policy() -> Policy:
    """Everything but health: who, what, when and the answer's code, one line a request."""
    return policy_of(
        {
            "apiVersion": API_VERSION,
            "kind": "Policy",
            "omitStages": [Stage.REQUEST_RECEIVED.value],
            "rules": [
                {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/metrics"]},
                {"level": "Metadata"},
            ],
        }
    )


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        PolicyError: it is none.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PolicyError(f"the audit policy {path} is larger than {MAX_FILE_BYTES} bytes")
        documents = yaml.parse(yaml.decode(path.read_bytes()))
    except OSError as error:
        raise PolicyError(f"the audit policy {path} cannot be read: {error.strerror}") from error
    except yaml.YamlError as error:
        raise PolicyError(f"{path}:{error.line}:{error.column}: {error.message}") from error
    if len(documents) != 1:
        raise PolicyError(f"the audit policy {path} must be one document, it has {len(documents)}")
    try:
        return policy_of(documents[0].data)
    except PolicyError as error:
        raise PolicyError(f"the audit policy {path}: {error}") from error


_POLICY_FIELDS = {"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"}
_RULE_FIELDS = {"level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs",
                "omitStages", "omitManagedFields"}  # fmt: skip
_RESOURCE_FIELDS = {"group", "resources", "resourceNames"}


def policy_of(document: Any) -> Policy:
    """
    Raises:
        PolicyError: it is no policy; a field that is not known is a mistake, not a comment.
    """
    policy = _map(document, "the document", _POLICY_FIELDS)
    if (policy.get("apiVersion"), policy.get("kind")) != (API_VERSION, "Policy"):
        raise PolicyError(f"it must say apiVersion: {API_VERSION} and kind: Policy")
    rules = policy.get("rules")
    if not isinstance(rules, list) or not rules:
        raise PolicyError("rules: there must be one at least")
    omitted = _stages(policy, "omitStages")
    bare = bool(policy.get("omitManagedFields"))
    return Policy(tuple(_rule(rule, f"rules[{at}]", omitted, bare) for at, rule in enumerate(rules)))


def _rule(found: Any, where: str, omitted: frozenset[Stage], bare: bool) -> AuditRule:
    rule = _map(found, where, _RULE_FIELDS)
    level = _LEVELS.get(str(rule.get("level")))
    if level is None:
        raise PolicyError(f"{where}.level: {rule.get('level')!r} is none of {', '.join(_LEVELS)}")
    paths = _words(rule, "nonResourceURLs", where)
    namespaces = _words(rule, "namespaces", where)
    resources = rule.get("resources") or []
    if paths and (resources or namespaces):
        raise PolicyError(f"{where}.nonResourceURLs: a rule is for paths or for resources, not for both")
    for path in paths:
        if path != "*" and (not path.startswith("/") or "*" in path[:-1]):
            raise PolicyError(f"{where}.nonResourceURLs: {path!r} must begin with / and may end with *")
    if not isinstance(resources, list):
        raise PolicyError(f"{where}.resources must be a list")
    if rule.get("omitManagedFields") is not None:
        bare = bool(rule["omitManagedFields"])
    return AuditRule(
        Verdict(level, omitted | _stages(rule, "omitStages", where), bare),
        _words(rule, "users", where),
        _words(rule, "userGroups", where),
        _words(rule, "verbs", where),
        namespaces,
        tuple(_resources(one, f"{where}.resources[{at}]") for at, one in enumerate(resources)),
        paths,
    )


def _resources(found: Any, where: str) -> Resources:
    one = _map(found, where, _RESOURCE_FIELDS)
    names = _words(one, "resourceNames", where)
    resources = _words(one, "resources", where)
    if names and not resources:
        raise PolicyError(f"{where}.resourceNames: names need resources beside them")
    return Resources(str(one.get("group") or ""), resources, names)


def _map(found: Any, where: str, fields: set[str]) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise PolicyError(f"{where} must be a map")
    if unknown := sorted(set(found) - fields):
        raise PolicyError(f"{where}: unknown field {unknown[0]!r}; there are: {', '.join(sorted(fields))}")
    return found


def _words(found: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    words = found.get(field) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise PolicyError(f"{where}.{field} must be a list of words")
    return tuple(words)


def _stages(found: Mapping[str, Any], field: str, where: str = "") -> frozenset[Stage]:
    words: Sequence[str] = _words(found, field, where or "the document")
    try:
        return frozenset(Stage(word) for word in words)
    except ValueError as error:
        known = ", ".join(stage.value for stage in Stage)
        raise PolicyError(f"{where}{'.' if where else ''}{field}: {error}; there are: {known}") from error


def _path_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
