"""Field selectors: `spec.nodeName=ant,status.phase!=Running`.

Only a few fields of each kind can be selected by, as in Kubernetes: every kind's name and namespace, and what
is listed below. A selector that asks for another one is an error, never an empty list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gitkube.objects.custom.jsonpath import simple_fields
from gitkube.objects.kinds import (
    CERTIFICATE_SIGNING_REQUEST,
    CLUSTER_TRUST_BUNDLE,
    EVENT,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    POD_CERTIFICATE_REQUEST,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    RESOURCE_SLICE,
    SECRET,
    SERVICE,
    Kind,
)
from gitkube.objects.types import Object

MAX_TEXT = 64 * 1024
"""Characters of a selector's text; a URL is not longer."""
_CACHED_SELECTORS = 1024

_NAME = "metadata.name"
_NAMESPACE = "metadata.namespace"


class FieldSelectorError(ValueError):
    """The selector cannot be read, or names a field that the kind cannot be selected by."""


@dataclass(frozen=True, slots=True)
class FieldTerm:
    path: str
    value: str
    is_negated: bool = False

    def __str__(self) -> str:
        return f"{self.path}{'!=' if self.is_negated else '='}{_escape(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms must hold; without any it holds for everything."""

    terms: tuple[FieldTerm, ...] = ()

    def check(self, kind: Kind) -> None:
        """Make sure that the kind can be selected by these fields.

        Raises:
            FieldSelectorError: it cannot; the message names the field and, where it is short, what is
            allowed.
        """
        allowed = selectable_fields(kind)
        for term in self.terms:
            if term.path in allowed:
                continue
            if kind in _SELECTABLE or kind.custom is not None:
                raise FieldSelectorError(f"field label not supported: {term.path}")
            raise FieldSelectorError(
                f'"{term.path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )

    def matches(self, kind: Kind, obj: Object) -> bool:
        return all((_value(kind, obj, term.path) == term.value) != term.is_negated for term in self.terms)

    def exact(self, path: str) -> str:
        """The value that the selector demands of a field, or "": an index can be used for it."""
        return next((term.value for term in self.terms if term.path == path and not term.is_negated), "")

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


@lru_cache(maxsize=_CACHED_SELECTORS)
def parse_field_selector(text: str) -> FieldSelector:
    """The selector that a query such as `metadata.name=a,status.phase!=Running` means; "" is everything.

    Raises:
        FieldSelectorError: the text is no selector.
    """
    if len(text) > MAX_TEXT:
        raise FieldSelectorError(f"a field selector may have {MAX_TEXT} characters, this has {len(text)}")
    return FieldSelector(tuple(_parse_term(part) for part in _split(text) if part))


def selectable_fields(kind: Kind) -> frozenset[str]:
    """Paths that a kind can be selected by."""
    common = {_NAME, _NAMESPACE} if kind.namespaced else {_NAME}
    if kind.custom is not None:
        return frozenset(common | set(kind.custom.selectable))
    return frozenset(common | set(_SELECTABLE.get(kind, {})))


def _at(*path: str) -> Callable[[Object], str]:
    def read(obj: Object) -> str:
        node: Any = obj
        for step in path:
            node = node.get(step) if isinstance(node, Mapping) else None
        if isinstance(node, bool):
            return "true" if node else "false"
        return "" if node is None else str(node)

    return read


def _number_at(*path: str) -> Callable[[Object], str]:
    read = _at(*path)
    return lambda obj: read(obj) or "0"


def _flag_at(*path: str) -> Callable[[Object], str]:
    read = _at(*path)
    return lambda obj: read(obj) or "false"


def _first_of_source(obj: Object) -> str:
    return _at("source", "component")(obj) or _at("reportingComponent")(obj)


_SELECTABLE: Mapping[Kind, Mapping[str, Callable[[Object], str]]] = {
    POD: {
        "spec.nodeName": _at("spec", "nodeName"),
        "spec.restartPolicy": _at("spec", "restartPolicy"),
        "spec.schedulerName": _at("spec", "schedulerName"),
        "spec.serviceAccountName": _at("spec", "serviceAccountName"),
        "spec.hostNetwork": _flag_at("spec", "hostNetwork"),
        "status.phase": _at("status", "phase"),
        "status.podIP": _at("status", "podIP"),
        "status.podIPs": lambda obj: "",  # a list; Kubernetes takes the question and finds nothing
        "status.nominatedNodeName": _at("status", "nominatedNodeName"),
    },
    NODE: {"spec.unschedulable": _flag_at("spec", "unschedulable")},
    NAMESPACE: {"status.phase": _at("status", "phase"), "name": _at("metadata", "name")},
    SECRET: {"type": _at("type")},
    SERVICE: {"spec.clusterIP": _at("spec", "clusterIP"), "spec.type": _at("spec", "type")},
    REPLICA_SET: {"status.replicas": _number_at("status", "replicas")},
    REPLICATION_CONTROLLER: {"status.replicas": _number_at("status", "replicas")},
    CERTIFICATE_SIGNING_REQUEST: {"spec.signerName": _at("spec", "signerName")},
    CLUSTER_TRUST_BUNDLE: {"spec.signerName": _at("spec", "signerName")},
    POD_CERTIFICATE_REQUEST: {
        "spec.signerName": _at("spec", "signerName"),
        "spec.podName": _at("spec", "podName"),
        "spec.nodeName": _at("spec", "nodeName"),
    },
    RESOURCE_SLICE: {"spec.nodeName": _at("spec", "nodeName"), "spec.driver": _at("spec", "driver")},
    JOB: {"status.successful": _number_at("status", "succeeded")},
    EVENT: {
        "involvedObject.kind": _at("involvedObject", "kind"),
        "involvedObject.namespace": _at("involvedObject", "namespace"),
        "involvedObject.name": _at("involvedObject", "name"),
        "involvedObject.uid": _at("involvedObject", "uid"),
        "involvedObject.apiVersion": _at("involvedObject", "apiVersion"),
        "involvedObject.resourceVersion": _at("involvedObject", "resourceVersion"),
        "involvedObject.fieldPath": _at("involvedObject", "fieldPath"),
        "reason": _at("reason"),
        "reportingComponent": _at("reportingComponent"),
        "source": _first_of_source,
        "type": _at("type"),
    },
}


def _value(kind: Kind, obj: Object, path: str) -> str:
    if path == _NAME:
        return str(obj["metadata"].get("name", ""))
    if path == _NAMESPACE:
        return str(obj["metadata"].get("namespace", ""))
    if kind.custom is not None and path in kind.custom.selectable:
        return _at(*(simple_fields(f".{path}") or ()))(obj)
    read = _SELECTABLE.get(kind, {}).get(path)
    if read is None:
        raise FieldSelectorError(f"field label not supported: {path}")
    return read(obj)


def _split(text: str) -> list[str]:
    parts: list[str] = []
    part = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            part += character + next(characters, "")
        elif character == ",":
            parts.append(part)
            part = ""
        else:
            part += character
    parts.append(part)
    return parts


def _parse_term(part: str) -> FieldTerm:
    for position in range(len(part)):
        for operator in ("!=", "==", "="):
            if part.startswith(operator, position):
                value = _unescape(part[position + len(operator) :])
                return FieldTerm(part[:position].strip(), value, operator == "!=")
    raise FieldSelectorError(f"invalid selector: '{part}'; can't understand '{part}'")


def _unescape(text: str) -> str:
    value = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise FieldSelectorError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            value += escaped
        elif character in ",=":
            raise FieldSelectorError(f"invalid field selector: unescaped '{character}' in value: {text}")
        else:
            value += character
    return value


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
