"""Nothing is created in a namespace that does not exist or is going, and the first namespaces stay.

That the namespace is still as we saw it is part of the transaction, so that nothing slips into one whose
emptying has begun.
"""

from __future__ import annotations

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.keys import object_key
from gitkube.objects.kinds import NAMESPACE
from gitkube.store.protocol import Compare, Op, Target

IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


def namespace_lifecycle(request: AdmissionRequest) -> None:
    if request.kind is NAMESPACE:
        if request.verb is Verb.DELETE and request.name in IMMORTAL_NAMESPACES:
            raise errors.forbidden("", "namespaces", request.name, "this namespace may not be deleted")
        return
    if request.verb is not Verb.CREATE or not request.kind.namespaced or request.subresource:
        return
    namespace = request.cache.of(NAMESPACE).get(request.namespace)
    if namespace is None:
        raise errors.not_found("", "namespaces", request.namespace)
    if namespace["metadata"].get("deletionTimestamp"):
        error = errors.forbidden(
            request.kind.group,
            request.kind.plural,
            request.name,
            f"unable to create new content in namespace {request.namespace} because it is being terminated",
        )
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {request.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        error.details = {**(error.details or {}), "causes": [cause]}
        raise error
    revision = int(namespace["metadata"]["resourceVersion"])
    key = object_key(NAMESPACE, "", request.namespace)
    request.compares.append(Compare(key, Target.MOD, Op.EQUAL, revision))
