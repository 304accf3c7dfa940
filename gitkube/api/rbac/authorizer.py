"""Decides from the stored roles and bindings, as the watch cache has them.

The way of a question: the masters may all; else the user's grants (all rules of all roles that bindings give
to the user or to a group of theirs, cluster-wide and in the namespace) are walked until one allows. Grants
are kept per user and namespace until one of the four kinds changes, so that a decision walks a few dozen
rules and looks nothing up. What allows is told in the reason, in Kubernetes' words.

Invariants: nobody without a name is allowed anything; a RoleBinding grants in its own namespace only, and
never a path; a role that a binding names and that is not there grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gitkube.api.accounts import user_name_of
from gitkube.api.authorization import MASTERS_GROUP, Attributes, Decision, Rules, User
from gitkube.api.cache import WatchCache
from gitkube.api.rbac.rules import EVERYTHING, Rule, allows, rules_of
from gitkube.objects import meta
from gitkube.objects.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING, Kind
from gitkube.objects.types import Object

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
"""What anybody may read, also before the roles are known: whoever starts this server must see it start."""
MAX_KEPT_GRANTS = 4096
"""Pairs of user and namespace whose grants are kept; some hundred bytes each."""
MAX_KEPT_ROLES = 16_384
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class _Grant:
    """The rules that one binding gives to one user."""

    rules: tuple[Rule, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Grants:
    """All that a user has in one namespace, or ("") in the whole cluster."""

    grants: tuple[_Grant, ...]
    problem: str
    """What is wrong with bindings of this user; "" for nothing."""


class Rbac:
    """An `Authorizer`; see the module's text."""

    def __init__(self, cache: WatchCache) -> None:
        self._cache = cache
        self._state: tuple[object, ...] = ()
        self._kept: dict[tuple[User, str], _Grants] = {}
        self._role_rules: dict[tuple[str, str, str], tuple[Object, tuple[Rule, ...]]] = {}

    def decide(self, attributes: Attributes) -> Decision:
        """Whether the user may do this, and because of what."""
        user = attributes.user
        if not user.name:
            return Decision(False, "the request carries no identity")
        if MASTERS_GROUP in user.groups:
            return _ALLOWED
        if attributes.path in OPEN_PATHS and attributes.verb == "get":
            return _ALLOWED
        # A path is no matter of a namespace.
        found = self._grants(user, "" if attributes.path else attributes.namespace)
        for grant in found.grants:
            for rule in grant.rules:
                if allows(rule, attributes):
                    return Decision(True, grant.reason)
        return Decision(False, found.problem) if found.problem else _DENIED

    def rules(self, user: User, namespace: str) -> Rules:
        """All that `decide` would allow, as rules."""
        held = self.held(user, namespace)
        return Rules(
            tuple(rule.to_object() for rule in held if not rule.paths),
            tuple(rule.to_object() for rule in held if rule.paths),
        )

    def held(self, user: User, namespace: str) -> tuple[Rule, ...]:
        """The rules that a user has in a namespace, those of the whole cluster among them."""
        if not user.name:
            return ()
        rules = tuple(rule for grant in self._grants(user, namespace).grants for rule in grant.rules)
        if MASTERS_GROUP in user.groups:
            return (*(rule for rule in EVERYTHING if rule not in rules), *rules)
        return rules

    # ------------------------------------------------------------------ from bindings to rules

    def _grants(self, user: User, namespace: str) -> _Grants:
        state = tuple(self._cache.of(kind).version for kind in _KINDS)
        if state != self._state:
            self._state = state
            self._kept.clear()
        key = (user, namespace)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MAX_KEPT_GRANTS:
                self._kept.clear()
            kept = self._kept[key] = self._collect(user, namespace)
        return kept

    def _collect(self, user: User, namespace: str) -> _Grants:
        grants: list[_Grant] = []
        problems: list[str] = []
        for kind, binding in self._bindings(namespace):
            subject = _subject_of(user, binding, namespace if kind is ROLE_BINDING else "")
            if not subject:
                continue
            ref = binding.get("roleRef") or {}
            role = self.role(ref, namespace if kind is ROLE_BINDING else "")
            if role is None:
                word = str(ref.get("kind") or "").lower()
                problems.append(f'{word}.{_RBAC} "{ref.get("name") or ""}" not found')
                continue
            name = meta.name(binding)
            where = f"{name}/{namespace}" if kind is ROLE_BINDING else name
            of = f'{ref.get("kind")} "{ref.get("name")}"'
            grants.append(_Grant(role, f'RBAC: allowed by {kind.kind} "{where}" of {of} to {subject}'))
        if not problems:
            return _Grants(tuple(grants), "")
        told = problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]"
        return _Grants(tuple(grants), f"RBAC: {told}")

    def _bindings(self, namespace: str) -> Iterator[tuple[Kind, Object]]:
        for _, binding in self._cache.of(CLUSTER_ROLE_BINDING).select():
            yield CLUSTER_ROLE_BINDING, binding
        if namespace:
            for _, binding in self._cache.of(ROLE_BINDING).select(namespace):
                yield ROLE_BINDING, binding

    def role(self, ref: Object, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of the role that a binding refers to; None when there is no such role.

        Args:
            namespace: of the binding; "" for a ClusterRoleBinding, which refers to no Role.
        """
        word, name = str(ref.get("kind") or ""), str(ref.get("name") or "")
        if word == CLUSTER_ROLE.kind:
            kind, namespace = CLUSTER_ROLE, ""
        elif word == ROLE.kind and namespace:
            kind = ROLE
        else:
            return None
        role = self._cache.of(kind).get(name, namespace)
        if role is None:
            return None
        key = (word, namespace, name)
        kept = self._role_rules.get(key)
        # The cache never changes an object, it puts another in its place.
        if kept is None or kept[0] is not role:
            if len(self._role_rules) >= MAX_KEPT_ROLES:
                self._role_rules.clear()
            kept = self._role_rules[key] = (role, rules_of(role))
        return kept[1]


_ALLOWED, _DENIED = Decision(True), Decision(False)
_KINDS = (CLUSTER_ROLE_BINDING, ROLE_BINDING, CLUSTER_ROLE, ROLE)


def _subject_of(user: User, binding: Object, namespace: str) -> str:
    """The subject of a binding that the user is, in words; "" when none is."""
    for subject in binding.get("subjects") or ():
        word, name = subject.get("kind"), str(subject.get("name") or "")
        if not name:
            continue
        if word == "User" and name == user.name:
            return f'User "{name}"'
        if word == "Group" and name in user.groups:
            return f'Group "{name}"'
        if word == "ServiceAccount":
            of = str(subject.get("namespace") or namespace)
            if of and user.name == user_name_of(of, name):
                return f'ServiceAccount "{name}/{of}"'
    return ""
