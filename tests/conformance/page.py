"""The table of what Kubernetes promises and what holds here, as text and as a page of the reference."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conformance.harness import plain, sig_of
from tests.conformance.runner import FAILS, IN_PART, NOT_REACHABLE, NOT_YET, PASSES, Outcome

_RESULTS = (PASSES, IN_PART, FAILS, NOT_REACHABLE, NOT_YET)
_OPENING = """# Conformance

Kubernetes {release} promises what its {total} conformance tests ask for. This table says of each whether it
holds here, and why not: **{passes} pass, {part} pass in part, {fails} fail, {rest} are not tried**. It is the
matrix of limits: what is not marked as passing, do not build upon.

The checks are our own (`tests/conformance/`), one for each test's idea, and ask a live server over HTTPS as
any client does. `make conformance` runs them against a server with hollow hosts, which run no containers, and
writes this page. How to run them against your own cluster: [how-to](../how-to/conformance.md).
"""


def by_sig(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(sig_of(outcome.spec), []).append(outcome)
    return dict(sorted(groups.items()))


def count(outcomes: Sequence[Outcome], result: str) -> int:
    return sum(outcome.result == result for outcome in outcomes)


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each SIG, for a terminal."""
    lines = [f"{'':22}" + "".join(f"{result:>15}" for result in _RESULTS)]
    for sig, group in [*by_sig(outcomes).items(), ("all", list(outcomes))]:
        lines.append(f"{sig:22}" + "".join(f"{count(group, result):>15}" for result in _RESULTS))
    return "\n".join(lines)


def page(outcomes: Sequence[Outcome], release: str) -> str:
    """The page, in Markdown."""
    passes, fails = count(outcomes, PASSES), count(outcomes, FAILS)
    part = count(outcomes, IN_PART)
    rest = len(outcomes) - passes - part - fails
    text = _OPENING.format(
        release=release, total=len(outcomes), passes=passes, part=part, fails=fails, rest=rest
    )
    lines = [text, "| SIG | " + " | ".join(_RESULTS) + " |", "|---|" + "---|" * len(_RESULTS)]
    for sig, group in by_sig(outcomes).items():
        counts = " | ".join(str(count(group, result)) for result in _RESULTS)
        lines.append(f"| [{sig}](#{sig}) | {counts} |")
    for sig, group in by_sig(outcomes).items():
        lines += ["", f"## {sig}", "", "| test | result |", "|---|---|"]
        for outcome in sorted(group, key=lambda one: plain(one.spec)):
            why = f": {outcome.why}" if outcome.why else ""
            lines.append(f"| {_cell(plain(outcome.spec))} | {_cell(_bold(outcome.result) + why)} |")
    return "\n".join(lines) + "\n"


def _bold(result: str) -> str:
    return f"**{result}**" if result == FAILS else result


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
