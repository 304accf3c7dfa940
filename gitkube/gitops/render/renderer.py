"""The renderer: which file is what, and what has to be rendered anew.

Flow: sort the commit's files into values, templates and sources; for each source compute the key of all it
depends on; take its result from the cache or make it. Invariant: a key names every blob a result was made
from, so a cached result is never stale; the cache is bounded and may be dropped at any time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.gitops.problem import Place, Problem
from gitkube.gitops.render import app as apps
from gitkube.gitops.render.jinja import RenderFailed, TemplateJob, TemplateOutput, TemplateWorker
from gitkube.gitops.render.model import Manifest, Rendered, Text
from gitkube.gitops.render.plain import plain_text, read_manifests
from gitkube.gitops.render.values import is_values_file, merge, value_files_for
from gitkube.gitops.source import BlobId, SourceError, Tree
from gitkube.yaml import YamlError, decode, parse

MAX_CACHED_FILES = 20_000
MAX_OBJECTS = 50_000
"""Of one commit."""
TEMPLATES = "templates/"
SHIPPED = "gitkube:templates/"
"""How the templates that come with gitkube are named in messages."""
_PLAIN = (".yaml", ".yml")
_JINJA = (".yaml.j2", ".yml.j2")


@dataclass(frozen=True)
class _FileResult:
    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]


class Renderer:
    """Renders commits, remembering what it rendered. Calls block; use it from one thread at a time."""

    def __init__(self, *, worker: TemplateWorker | None = None, shipped: Path | None = None) -> None:
        """
        Args:
            shipped: the directory of templates that come with gitkube; None finds it.
        """
        self._worker = worker or TemplateWorker()
        self._shipped = _read_shipped(shipped or shipped_directory())
        self._cache: OrderedDict[str, _FileResult] = OrderedDict()

    def close(self) -> None:
        """End the template process."""
        self._worker.close()

    def render(self, tree: Tree) -> Rendered:
        """Everything the files render to. Never raises for what a user wrote: that becomes problems."""
        commit = _Commit(tree, self._shipped)
        manifests: list[Manifest] = []
        problems = list(tree.problems)
        by_file: dict[str, int] = {}
        missed = 0
        for path in sorted(tree.files):
            if not _is_source(path):
                continue
            key = commit.key(path)
            result = self._cache.get(key)
            if result is None:
                missed += 1
                result = self._file(commit, path)
                self._cache[key] = result
                if len(self._cache) > MAX_CACHED_FILES:
                    self._cache.popitem(last=False)
            else:
                self._cache.move_to_end(key)
            by_file[path] = len(result.manifests)
            manifests += result.manifests
            problems += result.problems
            if len(manifests) > MAX_OBJECTS:
                problems.append(
                    Problem(Place(path), f"the commit renders to more than {MAX_OBJECTS} objects")
                )
                break
        if not manifests and not any(problem.is_error for problem in problems):
            problems.append(Problem(Place("."), "this commit renders to no object at all", hint=_EMPTY_HINT))
        files = sum(1 for objects in by_file.values() if objects)
        return Rendered(tuple(manifests), tuple(problems), files, missed, by_file)

    def _file(self, commit: _Commit, path: str) -> _FileResult:
        try:
            if path.endswith(_JINJA):
                manifests, problems = self._jinja(commit, path)
            else:
                text = commit.text(path)
                manifests, problems = read_manifests(text, plain_text(path, text))
            kept: list[Manifest] = []
            for manifest in manifests:
                if apps.is_app(manifest):
                    made, more = apps.expand(manifest, commit.template_files(), self._worker)
                    kept += made
                    problems += more
                else:
                    kept.append(manifest)
        except RenderFailed as failure:
            return _FileResult((), (failure.problem,))
        except (YamlError, SourceError) as error:
            return _FileResult((), (_read_problem(path, error),))
        return _FileResult(tuple(kept), tuple(problems))

    def _jinja(self, commit: _Commit, path: str) -> tuple[list[Manifest], list[Problem]]:
        values: dict[str, Any] = {}
        used = value_files_for(path, commit.tree.files)
        for file in used:
            values = merge(values, commit.values(file))
        templates = {**commit.template_texts(), path: commit.text(path)}
        job = TemplateJob(
            name=path,
            context={**values, "values": values},
            templates=templates,
            roots=(TEMPLATES, SHIPPED),
            known=", ".join(used) or "values.yaml",
        )
        output: TemplateOutput = self._worker.render(job)
        return read_manifests(output.text, Text(output.place, templates))


class _Commit:
    """A tree's files by their role, read when they are needed."""

    def __init__(self, tree: Tree, shipped: Mapping[str, str]) -> None:
        self.tree = tree
        self._shipped = shipped
        self._texts: dict[str, str] = {}
        self._values: dict[str, Mapping[str, Any]] = {}
        self._templates = sorted(path for path in tree.files if path.startswith(TEMPLATES))
        digest = hashlib.sha256()
        for path in self._templates:
            digest.update(f"{path}\0{tree.files[path]}\0".encode())
        for path, text in sorted(shipped.items()):
            digest.update(f"{path}\0{hashlib.sha256(text.encode()).hexdigest()}\0".encode())
        self._templates_digest = digest.hexdigest()

    def key(self, path: str) -> str:
        """Names all that a file's result depends on."""
        files: Mapping[str, BlobId] = self.tree.files
        if not path.endswith(_JINJA):
            # An app from a template depends on the templates; a plain file does not, but whether it is one
            # is not known before it is read, and reading plain files is cheap.
            return f"{path}\0{files[path]}\0{self._templates_digest}"
        values = "\0".join(f"{file}={files[file]}" for file in value_files_for(path, files))
        return f"{path}\0{files[path]}\0{self._templates_digest}\0{values}"

    def text(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = decode(self.tree.read(self.tree.files[path]))
        return self._texts[path]

    def values(self, path: str) -> Mapping[str, Any]:
        """The map in a values file.

        Raises:
            RenderFailed: it holds something else, or is no YAML; the problem is at the values file.
        """
        if path not in self._values:
            self._values[path] = parse_values(path, self.text(path))
        return self._values[path]

    def template_texts(self) -> dict[str, str]:
        """Every template by its path, those of the repository and those shipped with gitkube."""
        texts = dict(self._shipped)
        texts.update((path, self.text(path)) for path in self._templates if not path.endswith(_BINARY))
        return texts

    def template_files(self) -> apps.Templates:
        return apps.Templates(self.template_texts(), (TEMPLATES, SHIPPED))


def parse_values(path: str, text: str) -> Mapping[str, Any]:
    """The one map that a values file holds (nothing is an empty map).

    Raises:
        RenderFailed: it holds something else, or is no YAML.
    """
    source = plain_text(path, text)
    try:
        documents = parse(text)
    except YamlError as error:
        raise RenderFailed(
            source.problem(error.message, error.line, error.column, hint=error.hint, width=error.width)
        ) from error
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0].data, dict):
        raise RenderFailed(
            source.problem("a values file must be one map", documents[-1].line, documents[-1].column)
        )
    data: dict[str, Any] = documents[0].data
    return data


def shipped_directory() -> Path:
    """Where gitkube's own templates are: in the package (in a checkout, a link to `templates/`)."""
    return Path(__file__).resolve().parents[2] / "templates"


def _read_shipped(directory: Path) -> dict[str, str]:
    if not directory.is_dir():
        return {}
    texts = {}
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.suffix in (".j2", ".yaml", ".json"):
            texts[SHIPPED + file.relative_to(directory).as_posix()] = file.read_text("utf-8")
    return texts


def _is_source(path: str) -> bool:
    if path.startswith(TEMPLATES) or is_values_file(path):
        return False
    if any(part.startswith(".") for part in path.split("/")):
        return False
    return path.endswith(_PLAIN + _JINJA)


def _read_problem(path: str, error: Exception) -> Problem:
    if isinstance(error, YamlError):
        return Problem(Place(path, error.line, error.column), error.message, hint=error.hint)
    return Problem(Place(path), str(error))


_BINARY = (".png", ".jpg", ".gz", ".zip", ".ico", ".woff", ".woff2")
_EMPTY_HINT = "gitkube deploys the *.yaml and *.yaml.j2 files of the repository"
