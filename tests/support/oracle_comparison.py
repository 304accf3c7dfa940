"""Is an answer the recorded one? Text with placeholders, documents of the same shape, lists in any order.

The recording is of release 1.20, ours is 1.37: what later releases add is no difference (`oracle_newer.py`
knows what that is). Refusals are compared by what programs read of them: code, reason, what the details name,
and for each cause its reason and field. The words are each server's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.oracle_newer import (
    discovery_of_old,
    is_atomic_now,
    is_newer,
    newer_reason,
    table_of_old,
    token_document_of_old,
    token_of_old,
    without_subresources,
)

_PLACEHOLDER = re.compile(
    r"<(uid|rv|gen|ip|nodePort|continue|token|time|unix|age|any|server|webhook|webhook-ca|admin-token)"
    r"(?::(\w+))?>"
)
_FORMS = {
    "uid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "rv": r"[0-9]+",
    "gen": r"[a-z0-9]{5}",
    "ip": r"[0-9a-f.:]+",
    "nodePort": r"[0-9]+",
    "continue": r"\S+",
    "token": r"\S+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "unix": r"[0-9]+",
}
_OF_ONE_VALUE = {"uid", "rv", "gen", "ip", "nodePort"}
"""Words of which different numbers are different values."""


class Bindings:
    """What the numbered placeholders of one case stand for."""

    def __init__(self, known: dict[str, str]) -> None:
        self._values: dict[tuple[str, str], str] = {(word, ""): text for word, text in known.items()}

    def copy(self) -> Bindings:
        other = Bindings({})
        other._values = dict(self._values)
        return other

    def take(self, other: Bindings) -> None:
        self._values = other._values

    def fill(self, value: Any) -> Any:
        """A part of a request with every placeholder that is known replaced."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str):
            return value
        if (whole := _PLACEHOLDER.fullmatch(value)) and whole[1] == "nodePort":
            number = self._values.get((whole[1], whole[2] or ""))
            return value if number is None else int(number)
        return _PLACEHOLDER.sub(lambda found: self._values.get((found[1], found[2] or ""), found[0]), value)

    def fits(self, recorded: str, given: Any) -> bool:
        """Whether a scalar is the recorded text; numbers seen for the first time are bound."""
        if recorded == "<any>":
            return True
        if isinstance(given, bool) or not isinstance(given, str | int):
            return False
        if isinstance(given, int) and not re.fullmatch(r"<(nodePort:\w+|unix|age)>", recorded):
            return False
        if "<" not in recorded:
            return recorded == given
        pattern, last = "", 0
        new: list[tuple[str, str]] = []
        for found in _PLACEHOLDER.finditer(recorded):
            pattern += re.escape(recorded[last : found.start()])
            last = found.end()
            key = (found[1], found[2] or "")
            if key in self._values and key[0] != "continue":
                pattern += re.escape(self._values[key])
            elif key[1] in ("", "list"):
                pattern += f"(?:{_FORMS.get(key[0], '.*')})"
            elif key in new:
                pattern += f"(?P=n{new.index(key)})"
            else:
                pattern += f"(?P<n{len(new)}>{_FORMS[key[0]]})"
                new.append(key)
        match = re.fullmatch(pattern + re.escape(recorded[last:]), str(given), re.DOTALL)
        return match is not None and all(self._bind(key, match[f"n{at}"]) for at, key in enumerate(new))

    def _bind(self, key: tuple[str, str], value: str) -> bool:
        word, number = key
        others = {n: v for (w, n), v in self._values.items() if w == word and n not in ("", number)}
        if word in _OF_ONE_VALUE and value in others.values():
            return False
        self._values[key] = value
        if word != "rv":
            return True
        return all((int(n) < int(number)) == (int(v) < int(value)) for n, v in others.items())


@dataclass
class Comparison:
    """The rules for one answer."""

    bindings: Bindings
    any_order: tuple[str, ...] = ()
    """JSON pointers of lists whose order was by chance."""
    is_part: bool = False
    """Maps may hold further keys, and null may be missing."""
    managed_fields: str = ""
    """"" when the owners of fields do not count."""
    kind: str = field(default="", repr=False)

    def first_difference(self, recorded: Any, given: Any) -> str:
        """ "" when the given document is the recorded one."""
        return next(self._differences(recorded, given, ""), "")

    def _differences(self, recorded: Any, given: Any, at: str) -> Iterator[str]:
        if isinstance(recorded, str):
            if not self.bindings.fits(recorded, given):
                yield f"{at}: {recorded!r} recorded, {given!r} given"
        elif isinstance(recorded, dict) and list(recorded) == ["<contains>"] and isinstance(given, list):
            yield from self._unordered(recorded["<contains>"], given, at, is_whole=False)
        elif isinstance(recorded, dict) and list(recorded) == ["jwt"] and isinstance(given, str):
            yield from self._differences(recorded, {"jwt": token_of_old(given)}, at)
        elif isinstance(recorded, dict) and isinstance(given, dict):
            if recorded.get("kind") == given.get("kind") and given.get("kind") in (
                "TokenRequest",
                "TokenReview",
            ):
                given = token_document_of_old(given, recorded)
            if recorded.get("kind") == "Status" and recorded.get("status") == "Failure":
                recorded, given = essence(recorded), essence(given)
            elif "/fieldsV1/" in at and is_atomic_now(at, recorded, given):
                return
            elif recorded.get("kind") == given.get("kind") == "Table":
                recorded, given = table_of_old(recorded, recorded), table_of_old(given, recorded)
            elif recorded.get("kind") == given.get("kind") and str(given.get("kind")).startswith("API"):
                recorded, given = discovery_of_old(recorded, recorded), discovery_of_old(given, recorded)
            yield from self._of_maps(recorded, given, at)
        elif isinstance(recorded, list) and isinstance(given, list):
            yield from self._of_lists(recorded, given, at)
        elif recorded != given or isinstance(recorded, bool) != isinstance(given, bool):
            yield f"{at}: {recorded!r} recorded, {given!r} given"

    def _of_maps(self, recorded: dict[str, Any], given: dict[str, Any], at: str) -> Iterator[str]:
        is_object = "metadata" in recorded or "metadata" in given
        kind = str(recorded.get("kind") or given.get("kind") or self.kind) if is_object else self.kind
        outer, self.kind = self.kind, kind
        rest = dict(given)
        if not self.managed_fields:
            rest.pop("managedFields", None)
        elif isinstance(rest.get("managedFields"), list):
            rest["managedFields"] = without_subresources(rest["managedFields"])
        exact = recorded.get("<keys>")
        if exact is not None and sorted(given) != exact:
            yield f"{at}: the keys {exact} recorded, {sorted(given)} given"
        for key, value in recorded.items():
            if key == "<keys>" or (value is None and rest.get(key) is None):
                rest.pop(key, None)  # Go writes null for an empty list or time: as if it were not there
                continue
            name = str(self.bindings.fill(key))
            if name not in rest and "<" in name:
                name = next((word for word in rest if self.bindings.fits(name, word)), name)
            if name in rest:
                yield from self._differences(value, rest.pop(name), f"{at}/{key}")
            elif not is_newer(kind, at, key, value, is_gone=True):
                yield f"{at}/{key}: {value!r} recorded, nothing given"
        if not self.is_part:
            for key, value in rest.items():
                if not is_newer(kind, at, key, value) and value is not None:
                    yield f"{at}/{key}: nothing recorded, {value!r} given"
        self.kind = outer

    def _of_lists(self, recorded: list[Any], given: list[Any], at: str) -> Iterator[str]:
        if len(recorded) != len(given):
            yield f"{at}: {len(recorded)} elements recorded, {len(given)} given: {given!r}"[:700]
            return
        if at in self.any_order or (at.endswith("/managedFields") and self.managed_fields == "any order"):
            yield from self._unordered(recorded, given, at, is_whole=True)
            return
        for number, (one, other) in enumerate(zip(recorded, given, strict=True)):
            yield from self._differences(one, other, f"{at}/{number}")

    def _unordered(self, recorded: list[Any], given: list[Any], at: str, *, is_whole: bool) -> Iterator[str]:
        left = list(given)
        unmatched = []
        for number, one in enumerate(recorded):
            for position, other in enumerate(left):
                trial = Comparison(self.bindings.copy(), (), self.is_part, self.managed_fields, self.kind)
                if next(trial._differences(one, other, at + "/*"), None) is None:
                    self.bindings.take(trial.bindings)
                    del left[position]
                    break
            else:
                unmatched.append((number, one))
        if not is_whole:
            for number, one in unmatched:
                yield f"{at}/{number}: {one!r} recorded, nothing like it given"
            return
        for (number, one), other in zip(unmatched, left, strict=True):
            yield from self._differences(one, other, f"{at}/{number}")


def essence(status: dict[str, Any]) -> dict[str, Any]:
    """What programs read of a refusal."""
    details = status.get("details") or {}
    causes = {f"{newer_reason(cause)} {cause.get('field', '')}" for cause in details.get("causes") or ()}
    named = {key: details[key] for key in ("name", "group", "kind") if details.get(key)}
    if named.get("group") == "extensions":  # where Ingresses and NetworkPolicies came from
        named["group"] = "networking.k8s.io"
    if token := (status.get("metadata") or {}).get("continue"):
        named["continue"] = token
    return {"code": status.get("code"), "reason": status.get("reason", ""), **named, "causes": sorted(causes)}
