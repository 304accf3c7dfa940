"""The few things of Kubernetes' objects that the agent reads in many places: times, quantities, names.

Small on purpose, and tolerant: the API has validated what arrives here.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

Object = dict[str, Any]

TERMINAL_PHASES = ("Succeeded", "Failed")
"""Of a pod that has ended, and never runs again."""

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,3})?)([numkMGTPE]i?|[K]i|)")


def quantity(value: Any) -> Decimal:
    """A resource quantity as a number: `250m` is 0.25, `64Mi` is 67108864.

    Raises:
        ValueError: it is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(value).strip())
    if match is None or match.group(2) not in _SUFFIXES:
        raise ValueError(f"{value!r} is not a quantity such as 250m, 64Mi or 2")
    try:
        return Decimal(match.group(1)) * _SUFFIXES[match.group(2)]
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a quantity such as 250m, 64Mi or 2") from error


def milli(value: Any) -> int:
    """A quantity in thousandths, rounded up."""
    return math.ceil(quantity(value) * 1000)


def whole(value: Any) -> int:
    """A quantity in whole units, rounded up."""
    return math.ceil(quantity(value))


def rfc3339(timestamp_s: float) -> str:
    """`metav1.Time`: UTC with whole seconds."""
    return datetime.fromtimestamp(int(timestamp_s), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time, with up to nine decimals.

    Raises:
        ValueError: it is not one.
    """
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T09:30:00Z")
    zone = "+00:00" if match.group(3) in "Zz" else match.group(3)
    moment = datetime.fromisoformat(match.group(1).replace("t", "T") + zone)
    return moment.timestamp() + float(match.group(2) or 0)


def uid_of(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def namespace_of(thing: Object) -> str:
    return str(thing["metadata"].get("namespace", ""))


def containers_of(pod: Object) -> list[Object]:
    return list(pod["spec"].get("containers") or [])


def init_containers_of(pod: Object) -> list[Object]:
    return list(pod["spec"].get("initContainers") or [])


def ephemeral_containers_of(pod: Object) -> list[Object]:
    """Containers that were added for debugging while the pod runs."""
    return list(pod["spec"].get("ephemeralContainers") or [])


def is_sidecar(container: Object) -> bool:
    """An init container that goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def security_of(pod: Object, container: Object) -> Object:
    """The container's security context over the pod's, field by field."""
    merged: Object = dict(pod["spec"].get("securityContext") or {})
    for key, value in (container.get("securityContext") or {}).items():
        if value is not None:
            merged[key] = value
    return merged


def grace_period_s(pod: Object) -> float:
    """How long the pod may take to stop: what its deletion said, else what its spec says."""
    value = pod["metadata"].get("deletionGracePeriodSeconds")
    if value is None:
        value = pod["spec"].get("terminationGracePeriodSeconds")
    return 30.0 if value is None else max(0.0, float(value))
