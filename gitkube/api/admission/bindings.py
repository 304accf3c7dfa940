"""What expressions of admission may name: `object`, `oldObject`, `request`, `authorizer` and
`namespaceObject`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gitkube.api.admission.matching import namespace_object
from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.authorization import Attributes, Authorizer, User
from gitkube.objects.cel import CelEvaluationError, HostObject
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

_OBJECTS = ("object", "oldObject")
_ACCOUNT = "system:serviceaccount"


class Lazy(Mapping[str, Any]):
    """Bindings of which each is made when it is first asked for."""

    def __init__(self, makers: Mapping[str, Any]) -> None:
        """
        Args:
            makers: name -> a function without arguments.
        """
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def bindings_of(
    request: AdmissionRequest, matched: Kind, described: Object, authorizer: Authorizer
) -> dict[str, Any]:
    """Makers for `Lazy`.

    Args:
        matched: the version of the resource by which the request matches.
        described: `request` as expressions see it (`webhooks.review.attributes`).
    """

    def namespace() -> Object | None:
        return namespace_object(request) if request.namespace and request.kind.namespaced else None

    return {
        "object": lambda: described["object"],
        "oldObject": lambda: described["oldObject"],
        "request": lambda: {key: value for key, value in described.items() if key not in _OBJECTS},
        "authorizer": lambda: AuthorizerObject(authorizer, request, matched),
        "namespaceObject": namespace,
    }


class AuthorizerObject(HostObject):
    """`authorizer`: may somebody do something? Of the requester, or of an account."""

    type_name = "kubernetes.authorization.Authorizer"

    def __init__(
        self, authorizer: Authorizer, request: AdmissionRequest, matched: Kind, user: User | None = None
    ) -> None:
        self._authorizer = authorizer
        self._request = request
        self._matched = matched
        self._user = user or request.context.user

    def call(self, name: str, arguments: list[Any]) -> Any:
        match name, arguments:
            case "group", [str(group)]:
                return _Group(self._authorizer, self._user, group)
            case "path", [str(path)] if path:
                return _Check(self._authorizer, Attributes(self._user, "", path=path))
            case "serviceAccount", [str(namespace), str(account)]:
                groups = (f"{_ACCOUNT}s", f"{_ACCOUNT}s:{namespace}", "system:authenticated")
                user = User(f"{_ACCOUNT}:{namespace}:{account}", groups)
                return AuthorizerObject(self._authorizer, self._request, self._matched, user)
        return super().call(name, arguments)

    def field(self, name: str) -> Any:
        if name != "requestResource":
            return super().field(name)
        request, kind = self._request, self._request.asked
        attributes = Attributes(
            self._user,
            "",
            kind.group,
            kind.version,
            kind.plural,
            request.subresource,
            request.namespace,
            request.name,
        )
        return _Check(self._authorizer, attributes)


class _Group(HostObject):
    type_name = "kubernetes.authorization.GroupCheck"

    def __init__(self, authorizer: Authorizer, user: User, group: str) -> None:
        self._authorizer = authorizer
        self._user = user
        self._group = group

    def call(self, name: str, arguments: list[Any]) -> Any:
        match name, arguments:
            case "resource", [str(resource)]:
                return _Check(self._authorizer, Attributes(self._user, "", self._group, "*", resource))
        return super().call(name, arguments)


class _Check(HostObject):
    """What is asked about, before the verb is."""

    type_name = "kubernetes.authorization.ResourceCheck"

    def __init__(self, authorizer: Authorizer, attributes: Attributes) -> None:
        self._authorizer = authorizer
        self._attributes = attributes

    def call(self, name: str, arguments: list[Any]) -> Any:
        asked = self._attributes
        match name, arguments:
            case "subresource", [str(value)]:
                return self._with(asked.resource, value, asked.namespace, asked.name)
            case "namespace", [str(value)]:
                return self._with(asked.resource, asked.subresource, value, asked.name)
            case "name", [str(value)]:
                return self._with(asked.resource, asked.subresource, asked.namespace, value)
            case (("fieldSelector" | "labelSelector"), [str()]):
                return self  # rights do not depend on selectors here
            case "check", [str(verb)]:
                attributes = Attributes(
                    asked.user,
                    verb,
                    asked.group,
                    asked.version,
                    asked.resource,
                    asked.subresource,
                    asked.namespace,
                    asked.name,
                    asked.path,
                )
                decision = self._authorizer.decide(attributes)
                return _Decision(decision.allowed, decision.reason)
        return super().call(name, arguments)

    def _with(self, resource: str, subresource: str, namespace: str, name: str) -> _Check:
        asked = self._attributes
        return _Check(
            self._authorizer,
            Attributes(
                asked.user, "", asked.group, asked.version, resource, subresource, namespace, name, asked.path
            ),
        )


class _Decision(HostObject):
    type_name = "kubernetes.authorization.Decision"

    def __init__(self, is_allowed: bool, reason: str) -> None:
        self._is_allowed = is_allowed
        self._reason = reason

    def call(self, name: str, arguments: list[Any]) -> Any:
        if arguments:
            raise CelEvaluationError("no such overload")
        match name:
            case "allowed":
                return self._is_allowed
            case "reason":
                return self._reason
            case "errored":
                return False
            case "error":
                return ""
        return super().call(name, arguments)
