"""YAML text to manifests: the last step of every renderer.

Each document must be a map; a `List` stands for its items. What is not a map, or not YAML, is a problem at
its position, and the documents before it are kept so that one mistake does not hide others.
"""

from __future__ import annotations

from gitkube.gitops.problem import Place, Problem
from gitkube.gitops.render.model import Manifest, Text, holds_secret
from gitkube.yaml import Doubt, YamlError, parse

EMPTY_ON_PURPOSE = "# gitkube:empty"
"""A file that says this in a comment may render to nothing."""


def read_manifests(text: str, source: Text) -> tuple[list[Manifest], list[Problem]]:
    """The objects of a YAML stream, and what is wrong with it; of a Secret's text no word is repeated."""
    is_quoted = not holds_secret(text)
    try:
        documents = parse(text)
    except YamlError as error:
        return [], [_mistake(source, error, is_quoted=is_quoted)]
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for document in documents:
        problems += [_mistake(source, doubt, is_quoted=is_quoted) for doubt in document.doubts]
        data = document.data
        if not isinstance(data, dict):
            problems.append(
                source.problem(
                    "a manifest must be a map with apiVersion and kind",
                    document.line,
                    document.column,
                    is_quoted=is_quoted,
                )
            )
        elif data.get("kind") == "List" and isinstance(data.get("items"), list):
            for index, item in enumerate(data["items"]):
                if isinstance(item, dict):
                    manifests.append(Manifest(item, document, source, ("items", index)))
                else:
                    line, column = document.position(("items", index))
                    message = "an item of a List must be an object"
                    problems.append(source.problem(message, line, column, is_quoted=is_quoted))
        else:
            manifests.append(Manifest(data, document, source))
    if not documents and EMPTY_ON_PURPOSE not in text:
        problems.append(_nothing(source))
    return manifests, problems


def _mistake(source: Text, found: YamlError | Doubt, *, is_quoted: bool) -> Problem:
    return source.problem(
        found.message if is_quoted else found.bare,
        found.line,
        found.column,
        hint=found.hint if is_quoted else found.bare_hint,
        width=found.width,
        is_quoted=is_quoted,
    )


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
