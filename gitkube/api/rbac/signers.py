"""Who may approve a CertificateSigningRequest, and who may sign it.

A right of its own for each signer: the verbs `approve` and `sign` on `signers` of certificates.k8s.io, by the
signer's name or by `DOMAIN/*`. So a right to change requests is not the right to make anybody a user of the
cluster. Asked for every write that changes what only approvers and signers say, whichever door it comes by.
"""

from __future__ import annotations

from typing import Any

from gitkube.api import errors
from gitkube.api.authorization import MASTERS_GROUP, Attributes, Authorizer, User
from gitkube.objects import meta
from gitkube.objects.kinds import CERTIFICATE_SIGNING_REQUEST
from gitkube.objects.types import Object

_GROUP = CERTIFICATE_SIGNING_REQUEST.group
_APPROVALS = ("Approved", "Denied")


def check_signers(authorizer: Authorizer, user: User, request: Object, old: Object | None) -> None:
    """
    Raises:
        StatusError: 403.
    """
    if MASTERS_GROUP in user.groups or old is None:
        return
    signer = str((old.get("spec") or {}).get("signerName") or "")
    if _approvals(request) != _approvals(old):
        _confirm(authorizer, user, "approve", signer, meta.name(old))
    if _signing(request) != _signing(old):
        _confirm(authorizer, user, "sign", signer, meta.name(old))


def _confirm(authorizer: Authorizer, user: User, verb: str, signer: str, name: str) -> None:
    for wanted in (signer, f"{signer.partition('/')[0]}/*"):
        asked = Attributes(user, verb, _GROUP, "*", "signers", name=wanted)
        if authorizer.decide(asked).allowed:
            return
    kind = CERTIFICATE_SIGNING_REQUEST
    why = f'user not permitted to {verb} requests with signerName "{signer}"'
    raise errors.forbidden(kind.group, kind.plural, name, why)


def _approvals(request: Object) -> list[Any]:
    return [one for one in _conditions(request) if one.get("type") in _APPROVALS]


def _signing(request: Object) -> tuple[Any, list[Any]]:
    failures = [one for one in _conditions(request) if one.get("type") == "Failed"]
    return (request.get("status") or {}).get("certificate"), failures


def _conditions(request: Object) -> list[Any]:
    return (request.get("status") or {}).get("conditions") or []
