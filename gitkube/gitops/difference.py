"""What differs between two versions of an object, said as fields a person knows. Pure.

Elements of lists are matched by the key that names them (containers by name, ports by number), so that a
container put in front does not show as a change of all others. The values of Secrets are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gitkube.gitops.desired import CONFIG_HASH, TEMPLATE_HASH
from gitkube.objects.types import Object

Steps = tuple[str | int, ...]

REDACTED = "(secret)"
MAX_VALUE_CHARS = 60
_NOT_COMPARED = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")
_NAMES = ("name", "containerPort", "port", "mountPath", "ip", "key", "topologyKey")


class FieldChange(NamedTuple):
    """One field that changes. `before` or `after` is "" where the field is not there."""

    path: Steps
    """Steps in the new object (in the old one for a field that goes)."""
    label: str
    before: str
    after: str

    def __str__(self) -> str:
        if self.path[-1:] in ((CONFIG_HASH,), (TEMPLATE_HASH,)):
            return "configuration changed: its pods roll" if self.path[-1] == CONFIG_HASH else "runs again"
        before, after = self.before or "(none)", self.after or "(none)"
        if self.label == "image" and "/" in before and before.rpartition("/")[0] == after.rpartition("/")[0]:
            before, after = before.rpartition("/")[2], after.rpartition("/")[2]  # the same registry
        return f"{self.label} {before} -> {after}"


def comparable(obj: Object) -> Object:
    """An object without what every write changes."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _NOT_COMPARED}
    kept = {key: value for key, value in obj.items() if key not in ("status", "metadata")}
    return {**kept, "metadata": metadata}


def differences(before: Object, after: Object) -> list[FieldChange]:
    """The fields that change from one version of an object to another."""
    is_secret = after.get("kind") == "Secret"
    found = []
    for path, label, old, new in _walk(comparable(before), comparable(after), (), ""):
        hide = is_secret and path[:1] in (("data",), ("stringData",))
        found.append(FieldChange(path, _short(label), _shown(old, hide), _shown(new, hide)))
    return found


class _Missing:
    pass


_MISSING = _Missing()


def _walk(before: Any, after: Any, path: Steps, label: str) -> Iterator[tuple[Steps, str, Any, Any]]:
    if type(before) is type(after) and not isinstance(before, (dict, list)) and before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(key for key in before if key not in after)]:
            inner = f"{label}.{key}" if label else key
            yield from _walk(before.get(key, _MISSING), after.get(key, _MISSING), (*path, key), inner)
        return
    if isinstance(before, list) and isinstance(after, list):
        yield from _lists(before, after, path, label)
        return
    yield path, label, before, after


def _lists(
    before: list[Any], after: list[Any], path: Steps, label: str
) -> Iterator[tuple[Steps, str, Any, Any]]:
    key = _key_of([*before, *after])
    if not key:
        if any(isinstance(item, (dict, list)) for item in [*before, *after]) and len(before) == len(after):
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from _walk(old, new, (*path, index), f"{label}[{index}]")
        else:
            yield path, label, before, after
        return
    old_by_key = {item[key]: item for item in before}
    for index, item in enumerate(after):
        inner = f"{label}[{item[key]}]"
        yield from _walk(old_by_key.pop(item[key], _MISSING), item, (*path, index), inner)
    for name, item in old_by_key.items():
        yield (*path, before.index(item)), f"{label}[{name}]", item, _MISSING


def _key_of(items: list[Any]) -> str:
    """The field by which the elements of a list can be told apart, or ""."""
    if not all(isinstance(item, dict) for item in items):
        return ""
    for key in _NAMES:
        if all(isinstance(item.get(key), (str, int)) for item in items):
            return key
    return ""


def _short(label: str) -> str:
    """Without the levels that every reader knows to be there."""
    for prefix in ("spec.template.spec.", "spec.template.", "spec.", "data."):
        if label.startswith(prefix) and len(label) > len(prefix):
            label = label.removeprefix(prefix)
            break
    if label.startswith("containers[") and label.count("[") == 1 and label.endswith("].image"):
        return "image"
    return label


def _shown(value: Any, hide: bool) -> str:
    if isinstance(value, _Missing):
        return ""
    if hide:
        return REDACTED
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return _outline(value)
    if isinstance(value, list):
        text = "[" + ", ".join(_shown(item, False) for item in value) + "]"
    else:
        text = str(value).replace("\n", "\\n")
    if text == "":
        return '""'
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


def _outline(value: Mapping[str, Any]) -> str:
    name = next((str(value[key]) for key in _NAMES if isinstance(value.get(key), (str, int))), "")
    return f"{{{name}, …}}" if name else f"{{{', '.join(list(value)[:4])}}}"
