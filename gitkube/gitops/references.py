"""What the objects of a commit say of each other: selectors, ConfigMaps, Secrets, service accounts.

A Service that selects nothing is a mistake and refuses the commit. A ConfigMap that git does not have may
have been made by hand, so it is a warning; a key that a ConfigMap in git lacks is one too. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitkube.gitops.problem import Problem, did_you_mean
from gitkube.gitops.render.model import Manifest
from gitkube.objects import kinds
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object

Entry = tuple[Kind, str, Object, Manifest]
Steps = tuple[str | int, ...]

SURE_LIKENESS = 0.75
"""A selector so near to a template's labels is a slip, whatever else the commit would have held."""
WELL_KNOWN_CONFIG_MAPS = frozenset({"kube-root-ca.crt"})
_HAS_TEMPLATE = (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.REPLICATION_CONTROLLER, kinds.JOB)


def reference_problems(entries: Sequence[Entry], *, is_complete: bool) -> list[Problem]:
    """Problems between objects.

    Args:
        is_complete: whether every object of the commit is in `entries`; when some were refused already, what
            seems to be missing may be among them, so only what is nearly right is said to be wrong.
    """
    if not is_complete:
        return list(_selectors(entries, SURE_LIKENESS))
    return [*_selectors(entries, 0.0), *_configuration(entries)]


def pod_template_of(kind: Kind, obj: Object) -> tuple[Steps, Mapping[str, Any]] | None:
    """Where the pod template of a workload is, and the template; a Pod is its own."""
    if kind == kinds.POD:
        return (), obj
    if kind in _HAS_TEMPLATE:
        template = (obj.get("spec") or {}).get("template")
        if isinstance(template, dict):
            return ("spec", "template"), template
    if kind == kinds.CRON_JOB:
        job = (obj.get("spec") or {}).get("jobTemplate") or {}
        template = (job.get("spec") or {}).get("template") if isinstance(job, dict) else None
        if isinstance(template, dict):
            return ("spec", "jobTemplate", "spec", "template"), template
    return None


def _selectors(entries: Sequence[Entry], min_likeness: float) -> Iterator[Problem]:
    templates: list[tuple[str, Mapping[str, str], Manifest, Steps]] = []
    for kind, namespace, obj, manifest in entries:
        found = pod_template_of(kind, obj)
        if found is not None:
            labels = (found[1].get("metadata") or {}).get("labels") or {}
            templates.append((namespace, labels, manifest, (*found[0], "metadata", "labels")))
    for kind, namespace, obj, manifest in entries:
        if kind != kinds.SERVICE:
            continue
        selector = (obj.get("spec") or {}).get("selector")
        if not selector:
            continue
        if any(
            place == namespace and all(labels.get(key) == value for key, value in selector.items())
            for place, labels, _, _ in templates
        ):
            continue
        shown = ",".join(f"{key}={value}" for key, value in selector.items())
        message = f"selector {shown} matches no pod template in this repository"
        likeness, hint = _nearest_template(namespace, selector, templates)
        if likeness >= min_likeness:
            yield manifest.problem(message, ("spec", "selector"), of_key=True, hint=hint)


def _nearest_template(
    namespace: str,
    selector: Mapping[str, str],
    templates: Sequence[tuple[str, Mapping[str, str], Manifest, Steps]],
) -> tuple[float, str]:
    """The template that shares most with the selector: how much (0 to 1), and which it is."""
    import difflib

    def likeness(labels: Mapping[str, str]) -> float:
        wanted = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        having = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if key in selector)
        return difflib.SequenceMatcher(None, wanted, having or str(dict(labels))).ratio()

    same = [one for one in templates if one[0] == namespace]
    if not same:
        return 0.0, f"there is no pod template in namespace {namespace} at all"
    _, labels, manifest, path = max(same, key=lambda one: likeness(one[1]))
    keys = [key for key in selector if key in labels] or list(labels)
    shown = ",".join(f"{key}={labels[key]}" for key in keys) or "no labels"
    return likeness(labels), f"the nearest is {shown} ({_short(manifest, (*path, *keys[:1]))})"


def _short(manifest: Manifest, path: Steps) -> str:
    place = manifest.origin(path)
    return f"{place.path}:{place.line}"


def _configuration(entries: Sequence[Entry]) -> Iterator[Problem]:
    having: dict[tuple[Kind, str, str], Object] = {
        (kind, namespace, manifest.name): obj for kind, namespace, obj, manifest in entries
    }
    for kind, namespace, obj, manifest in entries:
        found = pod_template_of(kind, obj)
        if found is None:
            continue
        told: set[tuple[Kind, str, str]] = set()
        for wanted, name, key, path in _references(found[1].get("spec") or {}):
            at = (*found[0], "spec", *path)
            if (wanted, name, key) in told or name in WELL_KNOWN_CONFIG_MAPS:
                continue
            told.add((wanted, name, key))
            target = having.get((wanted, namespace, name))
            if target is None:
                names = [one for kind_, place, one in having if kind_ == wanted and place == namespace]
                message = f"{wanted.kind} {namespace}/{name} is not in this repository"
                hint = did_you_mean(name, names) or "the pods wait until somebody makes it"
                yield manifest.problem(message, at, hint=hint, is_error=False)
            elif key:
                keys = {
                    key for part in ("data", "binaryData", "stringData") for key in target.get(part) or ()
                }
                if key not in keys:
                    message = f'{wanted.kind} {namespace}/{name} has no key "{key}"'
                    hint = did_you_mean(key, keys) or "it has: " + (", ".join(sorted(keys)) or "nothing")
                    yield manifest.problem(message, at, hint=hint, is_error=False)


def _references(spec: Mapping[str, Any]) -> Iterator[tuple[Kind, str, str, Steps]]:
    """(kind, name, key or "", path of the name) of everything a pod cannot start without."""
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            at: Steps = (field, index)
            for number, source in enumerate(container.get("envFrom") or ()):
                here = (*at, "envFrom", number)
                yield from _one(kinds.CONFIG_MAP, source.get("configMapRef"), (*here, "configMapRef"))
                yield from _one(kinds.SECRET, source.get("secretRef"), (*here, "secretRef"))
            for number, variable in enumerate(container.get("env") or ()):
                value_from = variable.get("valueFrom") or {}
                here = (*at, "env", number, "valueFrom")
                yield from _one(
                    kinds.CONFIG_MAP, value_from.get("configMapKeyRef"), (*here, "configMapKeyRef")
                )
                yield from _one(kinds.SECRET, value_from.get("secretKeyRef"), (*here, "secretKeyRef"))
    for index, volume in enumerate(spec.get("volumes") or ()):
        at = ("volumes", index)
        yield from _one(kinds.CONFIG_MAP, volume.get("configMap"), (*at, "configMap"))
        yield from _one(kinds.SECRET, volume.get("secret"), (*at, "secret"), "secretName")
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            here = (*at, "projected", "sources", number)
            yield from _one(kinds.CONFIG_MAP, source.get("configMap"), (*here, "configMap"))
            yield from _one(kinds.SECRET, source.get("secret"), (*here, "secret"))


def _one(
    kind: Kind, reference: Mapping[str, Any] | None, path: Steps, field: str = "name"
) -> Iterator[tuple[Kind, str, str, Steps]]:
    if reference and reference.get(field) and not reference.get("optional"):
        has_key = bool(reference.get("key"))
        yield (
            kind,
            str(reference[field]),
            str(reference.get("key") or ""),
            (*path, "key" if has_key else field),
        )
