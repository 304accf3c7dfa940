"""CertificateSigningRequests say who asks, and nobody can ask in another's name."""

from __future__ import annotations

import base64
import binascii

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects.kinds import CERTIFICATE_SIGNING_REQUEST

_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
_MASTERS = "system:masters"


def signing_request(request: AdmissionRequest) -> None:
    if request.kind is not CERTIFICATE_SIGNING_REQUEST:
        return
    if request.verb is Verb.CREATE:
        user = request.context.user
        spec = request.obj.setdefault("spec", {})
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        _refuse_masters(request)
    elif request.verb is Verb.UPDATE and request.old is not None and not request.subresource:
        request.obj["spec"] = request.old["spec"]


def _refuse_masters(request: AdmissionRequest) -> None:
    """A certificate of the group of masters could not be taken back, for they pass by every rule."""
    if request.obj["spec"].get("signerName") != _CLIENT_SIGNER:
        return
    from cryptography import x509  # slow to import, and needed for few requests

    try:
        pem = base64.b64decode(request.obj["spec"].get("request") or "")
        subject = x509.load_pem_x509_csr(pem).subject
    except (ValueError, TypeError, binascii.Error):
        return  # validation says what is wrong with it
    organizations = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    if any(one.value == _MASTERS for one in organizations):
        why = f"use of {_CLIENT_SIGNER} signer with {_MASTERS} group is not allowed"
        raise errors.forbidden(request.kind.group, request.kind.plural, request.name, why)
