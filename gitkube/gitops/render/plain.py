"""YAML text to manifests: the last step of every renderer.

Each document must be a map; a `List` stands for its items. What is not a map, or not YAML, is a problem at
its position, and the documents before it are kept so that one mistake does not hide others.
"""

from __future__ import annotations

from gitkube.gitops.problem import Place, Problem
from gitkube.gitops.render.model import Manifest, Text
from gitkube.gitops.yaml import YamlError, parse

EMPTY_ON_PURPOSE = "# gitkube:empty"
"""A file that says this in a comment may render to nothing."""


def read_manifests(text: str, source: Text) -> tuple[list[Manifest], list[Problem]]:
    """The objects of a YAML stream, and what is wrong with it."""
    try:
        documents = parse(text)
    except YamlError as error:
        return [], [
            source.problem(error.message, error.line, error.column, hint=error.hint, width=error.width)
        ]
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for document in documents:
        problems += [
            source.problem(doubt.message, doubt.line, doubt.column, hint=doubt.hint, width=doubt.width)
            for doubt in document.doubts
        ]
        data = document.data
        if not isinstance(data, dict):
            problems.append(
                source.problem(
                    "a manifest must be a map with apiVersion and kind", document.line, document.column
                )
            )
        elif data.get("kind") == "List" and isinstance(data.get("items"), list):
            for index, item in enumerate(data["items"]):
                if isinstance(item, dict):
                    manifests.append(Manifest(item, document, source, ("items", index)))
                else:
                    line, column = document.position(("items", index))
                    problems.append(source.problem("an item of a List must be an object", line, column))
        else:
            manifests.append(Manifest(data, document, source))
    if not documents and EMPTY_ON_PURPOSE not in text:
        problems.append(_nothing(source))
    return manifests, problems


def plain_text(path: str, text: str) -> Text:
    """The source map of a file that is parsed as it stands."""
    return Text(lambda line, column: Place(path, line, column), {path: text})


def _nothing(source: Text) -> Problem:
    return source.problem(
        "this file renders to no object",
        1,
        1,
        hint=f'delete the file, or say "{EMPTY_ON_PURPOSE}" in it if that is meant',
    )
