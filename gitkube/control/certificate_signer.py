"""Signs approved CertificateSigningRequests with the cluster's authority, and clears old ones away.

Two signers of Kubernetes are ours: `kubernetes.io/kube-apiserver-client` makes a certificate for whoever the
request names, `kubernetes.io/kube-apiserver-client-kubelet` one for a node. No request is approved here; that
a person does (`kubectl certificate approve`). What cannot be signed gets the condition Failed, with the
reason. Requests go when they are of no use any more: signed, denied or failed ones after an hour, those that
nobody has looked at after a day.

Invariant: nothing is signed that is not approved, or that is denied too.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from gitkube.api.errors import StatusError, is_not_found
from gitkube.clock import parse_rfc3339, rfc3339
from gitkube.control.context import Context, Controller
from gitkube.control.settings import SigningError
from gitkube.objects import meta
from gitkube.objects.kinds import CERTIFICATE_SIGNING_REQUEST
from gitkube.objects.types import Object

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
NODE_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
ALLOWED_USAGES = frozenset({"client auth", "digital signature", "key encipherment"})
DEFAULT_LIFETIME_S = 365 * 86400
"""Of a certificate, and the most that a request gets: it cannot be taken back."""
DONE_S = 3600.0
PENDING_S = 24 * 3600.0
REASON = "SignerValidationFailure"


class CertificateSigner(Controller):
    name = "certificate-signer"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informer(CERTIFICATE_SIGNING_REQUEST)
        self._requests.add_handler(self.enqueue_changed)

    async def reconcile(self, key: str) -> float | None:
        """One look at one request."""
        request = self._requests.get(key)
        if request is None or meta.is_deleting(request):
            return None
        ends_s = useful_until_s(request)
        now_s = self.clock.now()
        if now_s >= ends_s:
            await self._delete(request)
            return None
        sign = self.context.settings.sign
        if sign is not None and is_to_sign(request):
            try:
                certificate = await sign(request_of(request), is_node(request), lifetime_s(request))
                status = {"certificate": base64.b64encode(certificate).decode()}
                await self._write(request, status)
            except SigningError as error:
                at = rfc3339(now_s)
                failed = {
                    "type": "Failed", "status": "True", "reason": REASON, "message": str(error),
                    "lastUpdateTime": at, "lastTransitionTime": at,
                }  # fmt: skip
                await self._write(request, {"conditions": [*_conditions(request), failed]})
            return None
        return ends_s - now_s + 1.0

    async def _write(self, request: Object, status: dict[str, Any]) -> None:
        changed = {**request, "status": {**(request.get("status") or {}), **status}}
        await self.client.update(CERTIFICATE_SIGNING_REQUEST, changed, subresource="status")

    async def _delete(self, request: Object) -> None:
        try:
            await self.client.delete(CERTIFICATE_SIGNING_REQUEST, meta.name(request), uid=meta.uid(request))
        except StatusError as error:
            if not is_not_found(error):
                raise


def is_to_sign(request: Object) -> bool:
    """Whether it is approved, ours to sign, and neither signed nor given up."""
    types = {one.get("type") for one in _conditions(request) if one.get("status") != "False"}
    is_ours = (request.get("spec") or {}).get("signerName") in (CLIENT_SIGNER, NODE_SIGNER)
    is_open = not (request.get("status") or {}).get("certificate")
    return is_ours and is_open and "Approved" in types and not types & {"Denied", "Failed"}


def is_node(request: Object) -> bool:
    return bool(request["spec"]["signerName"] == NODE_SIGNER)


def request_of(request: Object) -> bytes:
    """The request in PEM.

    Raises:
        SigningError: it is none, or it wants to be used for what this signer does not sign.
    """
    spec = request["spec"]
    usages = set(spec.get("usages") or ())
    if "client auth" not in usages or not usages <= ALLOWED_USAGES:
        raise SigningError(
            f"usages must have client auth, and nothing but {', '.join(sorted(ALLOWED_USAGES))}"
        )
    try:
        return base64.b64decode(spec.get("request") or "")
    except (ValueError, binascii.Error) as error:
        raise SigningError(f"spec.request is not base64: {error}") from error


def lifetime_s(request: Object) -> int:
    """How long the certificate is to hold."""
    wanted = request["spec"].get("expirationSeconds")
    return DEFAULT_LIFETIME_S if wanted is None else min(int(wanted), DEFAULT_LIFETIME_S)


def useful_until_s(request: Object) -> float:
    """When the request may go, in seconds since 1970; as Kubernetes' cleaner has it."""
    begun_s = parse_rfc3339(str(request["metadata"]["creationTimestamp"]))
    ended = [one for one in _conditions(request) if one.get("type") in ("Denied", "Failed")]
    if not ended and not (request.get("status") or {}).get("certificate"):
        return begun_s + PENDING_S
    times = [
        parse_rfc3339(str(one["lastUpdateTime"])) for one in _conditions(request) if one.get("lastUpdateTime")
    ]
    return max([begun_s, *times]) + DONE_S


def _conditions(request: Object) -> list[dict[str, Any]]:
    return (request.get("status") or {}).get("conditions") or []
