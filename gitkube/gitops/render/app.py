"""An app from a template: one short file that names a template and gives it values.

    apiVersion: gitkube.dev/v1alpha1
    kind: Template
    template: web-app
    name: hello
    namespace: hello
    values: {image: registry.lab:5000/hello:1}

The template is a directory of `*.yaml.j2` files, in the repository's `templates/` or shipped with gitkube
(the repository's wins), with an optional `values.yaml` (defaults) and `values.schema.json` (what the values
may be). Such a file is resolved while rendering and never reaches the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.gitops.problem import Place, Problem, did_you_mean
from gitkube.gitops.render.jinja import RenderFailed, TemplateJob, TemplateWorker
from gitkube.gitops.render.model import Manifest, Text
from gitkube.gitops.render.plain import plain_text, read_manifests
from gitkube.gitops.render.values import merge
from gitkube.yaml import YamlError, parse

API_VERSION = "gitkube.dev/v1alpha1"
KIND = "Template"
_FIELDS = ("apiVersion", "kind", "template", "name", "namespace", "values")


@dataclass(frozen=True)
class Templates:
    """Every template file by its path, and the directories to look a template's name up in, in order."""

    texts: Mapping[str, str]
    roots: tuple[str, ...]

    def names(self) -> list[str]:
        """The templates that there are."""
        found = set()
        for path in self.texts:
            for root in self.roots:
                name, slash, _ = path.removeprefix(root).partition("/")
                if path.startswith(root) and slash:
                    found.add(name)
        return sorted(found)

    def directory(self, name: str) -> str:
        """Where a template lives, with a slash at the end; "" when there is none of that name."""
        for root in self.roots:
            prefix = f"{root}{name}/"
            if any(path.startswith(prefix) for path in self.texts):
                return prefix
        return ""


def is_app(manifest: Manifest) -> bool:
    return manifest.kind == KIND and manifest.api_version.startswith("gitkube.dev/")


def expand(
    manifest: Manifest, templates: Templates, worker: TemplateWorker
) -> tuple[list[Manifest], list[Problem]]:
    """The objects that an app's template makes of its values, and what is wrong with the app."""
    problems = _field_problems(manifest, templates)
    if problems:
        return [], problems
    app = manifest.object
    directory = templates.directory(app["template"])
    try:
        defaults = _defaults(directory, templates)
        values = merge(defaults, app.get("values") or {})
        problems = _schema_problems(manifest, directory, values, templates, worker)
        if problems:
            return [], problems
        return _render(manifest, directory, values, templates, worker)
    except RenderFailed as failure:
        problem = failure.problem
        via = (*problem.via, manifest.place)
        return [], [
            Problem(
                problem.place, problem.message, "", problem.hint, True, problem.excerpt, problem.width, via
            )
        ]


def _field_problems(manifest: Manifest, templates: Templates) -> list[Problem]:
    app = manifest.object
    problems = []
    if app.get("apiVersion") != API_VERSION:
        problems.append(manifest.problem(f"a Template is of apiVersion {API_VERSION}", ("apiVersion",)))
    for field in app:
        if field not in _FIELDS:
            hint = did_you_mean(field, _FIELDS) or "it has: " + ", ".join(_FIELDS)
            problems.append(manifest.problem(f"unknown field {field}", (field,), of_key=True, hint=hint))
    for field in ("template", "name"):
        if not isinstance(app.get(field), str) or not app[field]:
            problems.append(manifest.problem(f"{field} is missing: it must be a word", (field,)))
    if not isinstance(app.get("namespace", ""), str):
        problems.append(manifest.problem("namespace must be a word", ("namespace",)))
    if not isinstance(app.get("values") or {}, dict):
        problems.append(manifest.problem("values must be a map", ("values",)))
    if not problems and not templates.directory(app["template"]):
        names = templates.names()
        has = "there is: " + ", ".join(names) if names else "templates/ is empty"
        hint = did_you_mean(app["template"], names) or has
        message = f'there is no template "{app["template"]}"'
        problems.append(manifest.problem(message, ("template",), hint=hint))
    return problems


def _defaults(directory: str, templates: Templates) -> dict[str, Any]:
    text = templates.texts.get(directory + "values.yaml", "")
    try:
        documents = parse(text)
    except YamlError as error:
        source = plain_text(directory + "values.yaml", text)
        raise RenderFailed(
            source.problem(error.message, error.line, error.column, hint=error.hint)
        ) from error
    return documents[0].data if documents and isinstance(documents[0].data, dict) else {}


def _schema_problems(
    manifest: Manifest,
    directory: str,
    values: Mapping[str, Any],
    templates: Templates,
    worker: TemplateWorker,
) -> list[Problem]:
    path = directory + "values.schema.json"
    if path not in templates.texts:
        return []
    try:
        schema = json.loads(templates.texts[path])
    except json.JSONDecodeError as error:
        raise RenderFailed(
            Problem(Place(path, error.lineno, error.colno), f"not JSON: {error.msg}")
        ) from error
    known = list(schema.get("properties", {})) if isinstance(schema, dict) else []
    problems = []
    for found in worker.check_schema(schema, values, path):
        at = ("values", *found["path"])
        for name in found["unexpected"]:
            nearest_names = known if not found["path"] else []
            hint = did_you_mean(name, nearest_names) or (
                "it has: " + ", ".join(nearest_names) if nearest_names else ""
            )
            shown = ".".join(map(str, (*at, name)))
            problems.append(manifest.problem(f"unknown value {shown}", (*at, name), of_key=True, hint=hint))
        if not found["unexpected"]:
            shown = ".".join(map(str, at))
            is_missing = at == ("values",)
            problems.append(manifest.problem(f"{shown}: {found['message']}", at, of_key=is_missing))
    return problems


def _render(
    manifest: Manifest,
    directory: str,
    values: Mapping[str, Any],
    templates: Templates,
    worker: TemplateWorker,
) -> tuple[list[Manifest], list[Problem]]:
    app = manifest.object
    context = {
        **values,
        "values": values,
        "name": app["name"],
        "namespace": app.get("namespace") or "default",
    }
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    place = manifest.place
    sources = {**templates.texts, **manifest.text.sources}
    for path in sorted(templates.texts):
        if not path.startswith(directory) or not path.endswith((".yaml.j2", ".yml.j2")):
            continue
        job = TemplateJob(path, context, templates.texts, templates.roots, f"the values of {place}")
        output = worker.render(job)
        if not output.text.strip():
            continue  # one file of several may be switched off by a value
        made, more = read_manifests(output.text, Text(output.place, sources, (place,)))
        manifests += made
        problems += more
    if not manifests and not problems:
        message = f'the template "{app["template"]}" renders to no object'
        problems.append(manifest.problem(message, ("template",)))
    return manifests, problems
