"""What is wrong, where, and what to do: the one form in which this package refuses things.

Every stage collects `Problem`s instead of stopping at the first, so that a person fixes a push once. A
problem carries the line of source it is about, because whoever prints it (a hook, the CLI, a status) may
not have the file. Text from users passes through `printable` before it reaches a terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gitkube.objects.nearest import nearest

MAX_EXCERPT_CHARS = 160
"""A longer line of source is cut around the caret: a terminal has about this much to spare."""
MAX_PROBLEMS_SHOWN = 50
"""More than this in one answer is scrolled past, not read."""


class Place(NamedTuple):
    """A position in git. Lines and columns count from 1; 0 means that it is not known."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        text = printable(self.path)
        if self.line:
            text += f":{self.line}"
            if self.column:
                text += f":{self.column}"
        return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a person has to know, and where it is."""

    place: Place
    message: str
    subject: str = ""
    """The object it is about, such as "Deployment shop/web"."""
    hint: str = ""
    """What to do, or what is nearest to what was meant."""
    is_error: bool = True
    """False for a warning: it is shown and refuses nothing."""
    excerpt: str = ""
    """The line of source, without its end."""
    width: int = 1
    """How many characters the caret line underlines."""
    via: tuple[Place, ...] = ()
    """Where it was included from, innermost first."""

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        hint = f" ({self.hint})" if self.hint else ""
        return printable(f"{self.place} {subject}{self.message}{hint}")

    def with_excerpt(self, text: str) -> Problem:
        """The same problem with its line taken out of the file's text."""
        if not self.place.line or self.excerpt:
            return self
        lines = text.split("\n", self.place.line)
        if len(lines) < self.place.line:
            return self
        return replace(self, excerpt=lines[self.place.line - 1].rstrip("\r"))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.is_error]


def sorted_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Errors first, then by place; the same problem once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (not problem.is_error, problem.place))


def format_problems(problems: Sequence[Problem]) -> list[str]:
    """The lines that a person reads: place and sentence, then the source line and a caret with the hint."""
    shown = sorted_problems(problems)[:MAX_PROBLEMS_SHOWN]
    lines: list[str] = []
    width = min(32, max((len(str(problem.place)) for problem in shown), default=0))
    for problem in shown:
        subject = f"{problem.subject}: " if problem.subject else ""
        warning = "" if problem.is_error else "warning: "
        lines.append(f"{problem.place!s:<{width}}  {warning}{subject}{problem.message}")
        lines += _excerpt_lines(problem)
        lines += [f"       | included from {place}" for place in problem.via]
    if len(problems) > len(shown):
        lines.append(f"… and {len(problems) - len(shown)} more")
    return [printable(line) for line in lines]


def summary_of(problems: Sequence[Problem]) -> str:
    """Such as "3 errors in 2 files"."""
    found = errors(problems)
    files = len({problem.place.path for problem in found})
    return f"{count(len(found), 'error')} in {count(files, 'file')}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _excerpt_lines(problem: Problem) -> list[str]:
    if not problem.excerpt or not problem.place.line:
        return [f"       | {problem.hint}"] if problem.hint else []
    excerpt = problem.excerpt.replace("\t", " ")
    column = problem.place.column
    start = 0
    if len(excerpt) > MAX_EXCERPT_CHARS:
        start = max(0, min(column - MAX_EXCERPT_CHARS // 2, len(excerpt) - MAX_EXCERPT_CHARS))
        excerpt = excerpt[start : start + MAX_EXCERPT_CHARS]
    lines = [f"  {problem.place.line:>4} | {excerpt}"]
    if column:
        room = max(1, len(excerpt) - (column - 1 - start))
        caret = " " * (column - 1 - start) + "^" * max(1, min(problem.width, room))
        lines.append(f"       | {caret} {problem.hint}".rstrip())
    elif problem.hint:
        lines.append(f"       | {problem.hint}")
    return lines


def printable(text: str) -> str:
    """The text without what could steer a terminal: control, format and surrogate characters.

    A tab becomes a space; everything else of the kind becomes `?`, so that it is seen to have been there.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_printable_character(character) for character in text)


def _printable_character(character: str) -> str:
    if character == "\t":
        return " "
    return "?" if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else character


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`did you mean "image"?`, or "" when nothing is near."""
    near = nearest(word, candidates)
    return f'did you mean "{near}"?' if near else ""
