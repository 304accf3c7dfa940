"""Whether a rendered commit may land: every object against its schema, and all of them against each other.

Pure and offline: what needs the cluster (admission, what exists already) is the plan's business. The result
is the list of objects to apply, with namespaces filled in, and the problems, each at its line. One object
that is wrong does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gitkube.gitops import structure
from gitkube.gitops.acted_on import kind_problem
from gitkube.gitops.problem import Place, Problem, did_you_mean
from gitkube.gitops.references import Entry, reference_problems
from gitkube.gitops.render.model import Manifest, Rendered
from gitkube.gitops.unsupported import unsupported_problems
from gitkube.objects import kinds, meta
from gitkube.objects.custom.definition import definition_as_new, kinds_when_established
from gitkube.objects.defaults import apply_defaults
from gitkube.objects.kinds import Kind
from gitkube.objects.nearest import nearest
from gitkube.objects.schema import schema_of
from gitkube.objects.types import Object
from gitkube.objects.validation.definitions import written_field
from gitkube.objects.validation.validate import validate
from gitkube.objects.walk import Steps, steps_of

DEFAULT_NAMESPACE = "default"


class Ref(NamedTuple):
    """Names one object of the API."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {meta.key_of(self.namespace, self.name)}"


@dataclass(frozen=True)
class Checked:
    """One object that may be applied."""

    ref: Ref
    object: Object
    manifest: Manifest

    @property
    def place(self) -> Place:
        return self.manifest.place

    def problem(self, message: str, path: Steps = (), *, hint: str = "") -> Problem:
        return self.manifest.problem(message, path, hint=hint)


@dataclass(frozen=True)
class CheckResult:
    objects: tuple[Checked, ...]
    problems: tuple[Problem, ...]
    by_ref: Mapping[Ref, Checked] = field(default_factory=dict)

    @property
    def has_errors(self) -> bool:
        return any(problem.is_error for problem in self.problems)


def check(
    rendered: Rendered, *, live_namespaces: Iterable[str] = (), live_kinds: Iterable[Kind] = ()
) -> CheckResult:
    """Judge a rendered commit.

    Args:
        live_namespaces: those that the cluster has, whoever made them; empty when it was not asked.
        live_kinds: custom kinds that the cluster serves already; those that the commit defines are known
            beside them, and win.
    """
    problems = list(rendered.problems)
    custom = {(kind.api_version, kind.kind): kind for kind in live_kinds}
    custom |= defined_kinds(rendered.manifests)
    by_ref: dict[Ref, Checked] = {}
    entries: list[Entry] = []
    for manifest in rendered.manifests:
        kind = _kind_of(manifest, problems, custom)
        if kind is None:
            continue
        obj = _with_namespace(manifest.object, kind)
        found = (
            structure.findings(manifest.object, schema_of(kind))
            if kind.custom is None
            else structure.unknown_findings(manifest.object, kind.custom.schema)
        )
        manifest_problems = _object_problems(manifest, kind, found)
        if not manifest_problems:
            manifest_problems = unsupported_problems(manifest, kind, manifest.object)
        problems += manifest_problems
        if all(finding.of_key for finding in found) and manifest.name:
            # What has unknown fields is still read for what it says of others: its labels are labels.
            entries.append((kind, obj["metadata"].get("namespace", ""), obj, manifest))
        if manifest_problems:
            continue
        ref = Ref(kind, obj["metadata"].get("namespace", "") if kind.namespaced else "", manifest.name)
        first = by_ref.get(ref)
        if first is not None:
            path = ("metadata", "name")
            hint = f"first at {first.manifest.place}; remove one of them"
            problems.append(manifest.problem(f"{ref} is defined twice", path, hint=hint))
            continue
        by_ref[ref] = Checked(ref, obj, manifest)
    objects = tuple(by_ref.values())
    problems += _namespace_problems(objects, frozenset(live_namespaces))
    is_complete = not any(problem.is_error for problem in problems)
    problems += reference_problems(entries, is_complete=is_complete)
    return CheckResult(objects, tuple(problems), by_ref)


def defined_kinds(manifests: Iterable[Manifest]) -> dict[tuple[str, str], Kind]:
    """The kinds that the definitions of a commit make, by apiVersion and kind; wrong ones make none."""
    found: dict[tuple[str, str], Kind] = {}
    for manifest in manifests:
        if kinds.by_gvk(manifest.api_version, manifest.kind) is not kinds.CUSTOM_RESOURCE_DEFINITION:
            continue
        definition = apply_defaults(kinds.CUSTOM_RESOURCE_DEFINITION, manifest.object)
        if _is_right(definition):
            found |= {(kind.api_version, kind.kind): kind for kind in kinds_when_established(definition)}
    return found


def _is_right(definition: Object) -> bool:
    return not validate(kinds.CUSTOM_RESOURCE_DEFINITION, definition_as_new(definition))


def _kind_of(
    manifest: Manifest, problems: list[Problem], custom: Mapping[tuple[str, str], Kind]
) -> Kind | None:
    api_version, name = manifest.api_version, manifest.kind
    if not name or not api_version:
        missing = "kind" if not name else "apiVersion"
        problems.append(
            manifest.problem(f"{missing} is missing", (), hint="every manifest has apiVersion and kind")
        )
        return None
    kind = kinds.by_gvk(api_version, name) or custom.get((api_version, name))
    if kind is None:
        served = [one for one in (*kinds.SERVED, *custom.values()) if one.kind == name]
        if served:
            message = f"{name} is not served at {api_version}"
            near = nearest(api_version, [one.api_version for one in served]) or served[0].api_version
            problems.append(manifest.problem(message, ("apiVersion",), hint=f"use {near}"))
        else:
            known = [one.kind for one in (*kinds.BUILT_IN, *custom.values())]
            hint = did_you_mean(name, [*known, "Template"])
            problems.append(manifest.problem(f"unknown kind {name} of {api_version}", ("kind",), hint=hint))
        return None
    problem = kind_problem(manifest, kind)
    if problem is not None:
        problems.append(problem)
    return None if problem is not None and problem.is_error else kind


def _with_namespace(obj: Object, kind: Kind) -> Object:
    metadata = obj.get("metadata")
    if not kind.namespaced or not isinstance(metadata, dict) or metadata.get("namespace"):
        return obj
    return {**obj, "metadata": {**metadata, "namespace": DEFAULT_NAMESPACE}}


def _object_problems(manifest: Manifest, kind: Kind, found: Sequence[structure.Finding]) -> list[Problem]:
    obj = manifest.object
    problems = [
        manifest.problem(finding.message, finding.steps, of_key=finding.of_key, hint=finding.hint)
        for finding in (map(_without_value, found) if kind == kinds.SECRET else found)
    ]
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        if isinstance(metadata, dict) and metadata.get("generateName"):
            message, path = "an object in git needs a name of its own", ("metadata", "generateName")
            problems.append(manifest.problem(message, path, hint="use metadata.name"))
        elif not problems:
            problems.append(manifest.problem("metadata.name is missing", ("metadata", "name")))
        return problems
    if not kind.namespaced and metadata.get("namespace"):
        message = f"a {kind.kind} belongs to no namespace"
        problems.append(manifest.problem(message, ("metadata", "namespace"), hint="remove the line"))
    if obj.get("status"):
        message = "status is what the cluster sees, not what git wants"
        problems.append(manifest.problem(message, ("status",), of_key=True, hint="remove it"))
    return problems or _semantic_problems(manifest, kind)


def _without_value(finding: structure.Finding) -> structure.Finding:
    """A finding about a Secret's value, which must not be repeated."""
    if finding.steps[:1] not in (("data",), ("stringData",)) or finding.of_key:
        return finding
    return finding._replace(message=f"{finding.path} must be text", hint="put it in quotes")


def _semantic_problems(manifest: Manifest, kind: Kind) -> list[Problem]:
    """Kubernetes' own checks beyond the schema, by the code of the API: names, ranges, selectors."""
    obj = apply_defaults(kind, _with_namespace(manifest.object, kind))
    if kind == kinds.CUSTOM_RESOURCE_DEFINITION:
        obj = definition_as_new(obj)
    return [
        manifest.problem(_cause_text(kind, cause["field"], cause["message"]), _steps(kind, cause["field"]))
        for cause in validate(kind, obj)
    ]


def _steps(kind: Kind, field: str) -> Steps:
    return steps_of(written_field(field) if kind == kinds.CUSTOM_RESOURCE_DEFINITION else field)


def _cause_text(kind: Kind, field: str, message: str) -> str:
    is_secret = kind == kinds.SECRET and field.startswith(("data", "stringData"))
    if is_secret:
        return f"{field}: not a value that a Secret can have"
    # A mistake in an expression comes with the line that it is in, which is shown from the file anyway.
    lines = [line for line in message.split("\n") if not line.startswith(" | ")]
    return f"{field}: {'; '.join(lines)}"


def _namespace_problems(objects: Sequence[Checked], live: frozenset[str]) -> list[Problem]:
    """Objects in a namespace that nobody makes: applying them would fail."""
    made = {one.ref.name for one in objects if one.ref.kind == kinds.NAMESPACE}
    known = made | live | {DEFAULT_NAMESPACE, "kube-system", "kube-public", "kube-node-lease"}
    problems = []
    told: set[tuple[str, str]] = set()
    for one in objects:
        namespace = one.ref.namespace
        if not namespace or namespace in known:
            continue
        key = (one.place.path, namespace)
        if key in told:
            continue
        told.add(key)
        hint = did_you_mean(namespace, known) or "add a Namespace of that name"
        message = f"there is no namespace {namespace}, neither in this repository nor in the cluster"
        problems.append(one.problem(message, ("metadata", "namespace"), hint=hint))
    return problems
