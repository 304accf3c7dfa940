"""A commit, judged: rendered, checked, and ready to be applied.

The one place where git, renderer and check come together; the hook and the sync both use it, so what a push
was judged by is what is applied, and the second evaluation of a commit is free. Blocking work runs in a
thread, one commit at a time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitkube.gitops.check import CheckResult, Ref, check
from gitkube.gitops.desired import Desired, desired_objects
from gitkube.gitops.problem import Place, Problem
from gitkube.gitops.render import Rendered, Renderer
from gitkube.gitops.source import Commit, CommitId, Repository, SourceError, Tree
from gitkube.objects.kinds import Kind
from gitkube.objects.registry import Registry

MAX_KEPT = 8
"""Evaluations of recent commits: the one in force, the one before, and those being pushed."""


@dataclass(frozen=True)
class Evaluation:
    """What a commit means."""

    commit: Commit
    result: CheckResult
    desired: Mapping[Ref, Desired]

    @property
    def problems(self) -> Sequence[Problem]:
        return self.result.problems

    @property
    def has_errors(self) -> bool:
        return self.result.has_errors


class Evaluator:
    """Evaluates commits of one repository."""

    def __init__(
        self, repository: Path, *, renderer: Renderer | None = None, registry: Registry | None = None
    ) -> None:
        """
        Args:
            registry: the kinds that the cluster serves; None: those that are built in.
        """
        self._path = repository
        self._registry = registry or Registry()
        self._renderer = renderer or Renderer()
        self._lock = asyncio.Lock()
        self._kept: OrderedDict[tuple[str, frozenset[str], int], tuple[CheckResult, Mapping[Ref, Desired]]]
        self._kept = OrderedDict()

    def close(self) -> None:
        """End the template process."""
        self._renderer.close()

    async def evaluate(
        self,
        commit_id: CommitId,
        *,
        extra_objects: Sequence[Path] = (),
        live_namespaces: Iterable[str] = (),
    ) -> Evaluation:
        """Judge a commit.

        Args:
            extra_objects: a push's quarantine, while its objects are not in the repository yet.

        Raises:
            SourceError: the repository or the commit cannot be read.
        """
        namespaces = frozenset(live_namespaces)
        async with self._lock:
            registry = self._registry
            kinds, version = registry.custom, registry.version
            return await asyncio.to_thread(
                self._evaluate, commit_id, extra_objects, namespaces, kinds, version
            )

    def _evaluate(
        self,
        commit_id: CommitId,
        extra_objects: Sequence[Path],
        namespaces: frozenset[str],
        kinds: Sequence[Kind],
        kinds_version: int,
    ) -> Evaluation:
        repository = Repository(self._path, extra_objects=extra_objects)
        commit = repository.commit(commit_id)
        key = (commit.tree, namespaces, kinds_version)
        kept = self._kept.get(key)
        if kept is None:
            rendered = self._rendered(repository, commit_id)
            result = check(rendered, live_namespaces=namespaces, live_kinds=kinds)
            kept = self._kept[key] = (result, {} if result.has_errors else desired_objects(result.objects))
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return Evaluation(commit, *kept)

    def _rendered(self, repository: Repository, commit_id: CommitId) -> Rendered:
        try:
            tree = repository.tree(commit_id)
        except SourceError as error:
            tree = Tree({}, repository.read, (Problem(Place("."), str(error)),))
        return self._renderer.render(tree)
