"""The objects that a binding gives to its policy as `params`: one by name, or all that a selector finds."""

from __future__ import annotations

from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.admission.versions import Versions
from gitkube.api.policies.policy_set import Binding, Policy
from gitkube.objects.conversion import from_stored
from gitkube.objects.kinds import Kind, stored_kind
from gitkube.objects.labels import SelectorError, selector_of
from gitkube.objects.types import Object

MAX_PARAMETERS = 1000
"""The policy is evaluated once for each."""


class ParameterError(Exception):
    """The parameters cannot be found, and the binding does not allow that."""


def parameters_of(
    request: AdmissionRequest, policy: Policy, binding: Binding, versions: Versions
) -> list[Object | None]:
    """For each the policy is to be evaluated once; [None] when it takes none, [] when nothing is to be done.

    Raises:
        ParameterError: see there.
    """
    wanted = policy.parameter_kind
    if wanted is None or not binding.parameters:
        return [None]
    kind = versions.by_gvk(str(wanted.get("apiVersion")), str(wanted.get("kind")))
    if kind is None:
        raise ParameterError(
            f"failed to find resource referenced by paramKind: '{wanted.get('apiVersion')}, "
            f"Kind={wanted.get('kind')}'"
        )
    found = _found(request, binding, kind)
    if found:
        return [from_stored(kind, obj) for obj in found]
    if binding.parameters.get("parameterNotFoundAction") == "Deny":
        raise ParameterError("no params found for policy binding with `Deny` parameterNotFoundAction")
    return []


def _found(request: AdmissionRequest, binding: Binding, kind: Kind) -> list[Object]:
    reference = binding.parameters
    namespace = str(reference.get("namespace") or "")
    if not kind.namespaced:
        if namespace:
            raise ParameterError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    elif not namespace:
        namespace = request.namespace if request.kind.namespaced else ""
        if not namespace:
            raise ParameterError(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    cache = request.cache.of(stored_kind(kind))
    if name := reference.get("name"):
        obj = cache.get(str(name), namespace)
        return [] if obj is None else [obj]
    try:
        selector = selector_of(reference.get("selector") or {})
    except SelectorError as error:
        raise ParameterError(f"failed to parse paramRef.selector: {error}") from error
    found = [
        obj for _, obj in cache.select(namespace) if selector.matches(obj["metadata"].get("labels") or {})
    ]
    if len(found) > MAX_PARAMETERS:
        raise ParameterError(f"paramRef.selector finds more than {MAX_PARAMETERS} objects")
    return found
