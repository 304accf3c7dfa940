"""Nobody grants what they do not hold.

Whoever writes a role must hold all that it allows, or have the verb `escalate` on it; whoever writes a
binding must hold all that the role allows, or have the verb `bind` on the role. Asked before admission, for
every write of the four kinds, whichever verb it comes through. A write that changes but owners and
finalizers passes, so that what is being deleted can be.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitkube.api import errors
from gitkube.api.authorization import MASTERS_GROUP, Attributes, User
from gitkube.api.rbac.authorizer import Rbac
from gitkube.api.rbac.rules import EVERYTHING, Rule, compact, quoted, rules_of, uncovered
from gitkube.api.rbac.signers import check_signers
from gitkube.objects import meta
from gitkube.objects.kinds import (
    CERTIFICATE_SIGNING_REQUEST,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
    Kind,
)
from gitkube.objects.types import Object

_KINDS = frozenset({ROLE, CLUSTER_ROLE, ROLE_BINDING, CLUSTER_ROLE_BINDING})
_HOUSEKEEPING = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")


class Escalation:
    """Asks about each write of a role or a binding, and of a CertificateSigningRequest (`signers.py`)."""

    def __init__(self, rbac: Rbac) -> None:
        self._rbac = rbac

    def check(self, user: User, kind: Kind, namespace: str, obj: Object, old: Object | None) -> None:
        """
        Args:
            old: what is there; None for a new object.

        Raises:
            StatusError: 403, the writer would grant more than they hold; 404, the role of a binding is not
                there, so that nobody can say what it would grant.
        """
        if kind is CERTIFICATE_SIGNING_REQUEST:
            check_signers(self._rbac, user, obj, old)
        if kind not in _KINDS or MASTERS_GROUP in user.groups:
            return
        if old is not None and _is_housekeeping(obj, old):
            return
        if kind in (ROLE, CLUSTER_ROLE):
            self._check_role(user, kind, namespace, obj, old)
        else:
            self._check_binding(user, kind, namespace, obj)

    def _check_role(self, user: User, kind: Kind, namespace: str, obj: Object, old: Object | None) -> None:
        # A role that is made has no name on the request: as for every create.
        if self._may(user, "escalate", kind, namespace, "" if old is None else meta.name(obj)):
            return
        if obj.get("aggregationRule") and uncovered(self._rbac.held(user, ""), EVERYTHING):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise errors.forbidden(kind.group, kind.plural, meta.name(obj), why)
        self._confirm(user, kind, namespace, meta.name(obj), rules_of(obj))

    def _check_binding(self, user: User, kind: Kind, namespace: str, obj: Object) -> None:
        ref = obj.get("roleRef") or {}
        word, name = str(ref.get("kind") or ""), str(ref.get("name") or "")
        if word not in (ROLE.kind, CLUSTER_ROLE.kind) or not name:
            return  # validation refuses it
        role_kind = ROLE if word == ROLE.kind else CLUSTER_ROLE
        if self._may(user, "bind", role_kind, namespace, name):
            return
        rules = self._rbac.role(ref, namespace)
        if rules is None:
            raise errors.not_found(role_kind.group, role_kind.plural, name)
        self._confirm(user, kind, namespace, meta.name(obj), rules)

    def _may(self, user: User, verb: str, kind: Kind, namespace: str, name: str) -> bool:
        asked = Attributes(user, verb, kind.group, kind.version, kind.plural, namespace=namespace, name=name)
        return self._rbac.decide(asked).allowed

    def _confirm(self, user: User, kind: Kind, namespace: str, name: str, wanted: Sequence[Rule]) -> None:
        missing = uncovered(self._rbac.held(user, namespace), wanted)
        if not missing:
            return
        groups = " ".join(quoted(group) for group in user.groups)
        lines = sorted({str(rule) for rule in compact(missing)})
        why = (
            f"user {quoted(user.name)} (groups=[{groups}]) is attempting to grant RBAC permissions not "
            f"currently held:\n" + "\n".join(lines)
        )
        raise errors.forbidden(kind.group, kind.plural, name, why)


def _is_housekeeping(obj: Object, old: Object) -> bool:
    return _essence(obj) == _essence(old)


def _essence(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _HOUSEKEEPING}
    return {**obj, "metadata": metadata}
