"""Regular expressions, by RE2: time linear in the text, whatever the pattern, and bounded memory.

A pattern may come from the object that is looked at, so it is as little trusted as the text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method

MAX_PATTERN_LENGTH = 4096
MAX_MEMORY_BYTES = 1 << 20
_CACHED_PATTERNS = 512


@lru_cache(maxsize=_CACHED_PATTERNS)
def compiled(pattern: str) -> Any:
    """The pattern in RE2.

    Raises:
        CelEvaluationError: it is none, or too large.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY_BYTES
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise CelEvaluationError(f"error parsing regexp: longer than {MAX_PATTERN_LENGTH} characters")
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        why = error.args[0] if error.args else ""
        shown = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise CelEvaluationError(f"error parsing regexp: {shown}") from error


def _pay(budget: Budget, text: str, pattern: str) -> None:
    # Kubernetes' formula: a tenth of the text times a quarter of the pattern.
    budget.spend(1 + (len(text) // 10 + 1) * (len(pattern) // 4 + 1))


def _matches(budget: Budget, text: str, pattern: str) -> bool:
    _pay(budget, text, pattern)
    return compiled(pattern).search(text) is not None


function("matches", str, str, result="bool")(_matches)
method("matches", str, str, result="bool")(_matches)


@method("find", str, str, result="string")
def _find(budget: Budget, text: str, pattern: str) -> str:
    _pay(budget, text, pattern)
    found = compiled(pattern).search(text)
    return str(found.group()) if found else ""


@method("findAll", str, str, result="list")
def _find_all(budget: Budget, text: str, pattern: str) -> list[str]:
    return _find_some(budget, text, pattern, -1)


@method("findAll", str, str, int, result="list")
def _find_some(budget: Budget, text: str, pattern: str, limit: int) -> list[str]:
    _pay(budget, text, pattern)
    found: list[str] = []
    for match in compiled(pattern).finditer(text):
        if len(found) == limit:
            break
        budget.spend(1)
        found.append(str(match.group()))
    return found
