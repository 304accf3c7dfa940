"""The documentation against the code: links lead somewhere, and the reference of commands is the commands.

`docs/reference/commands.md` has a heading for each command, and beneath it every option in backticks. What is
there and not in click, or in click and not there, fails here with its name.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gitkube.cli.main import cli

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs" / "reference" / "commands.md"
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def pages() -> list[Path]:
    """Markdown that belongs to the project; a lab or a virtual environment beside it does not."""
    hidden = (".git", ".lab", ".venv", "node_modules", "build", "dist")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [ROOT / line for line in listed.stdout.splitlines()] or list(ROOT.rglob("*.md"))
    return sorted(page for page in found if page.is_file() and not set(hidden) & set(page.parts))


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    kept = "".join(letter for letter in text.lower() if letter.isalnum() or letter in " -_")
    return kept.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text("utf-8"))
    return {anchor(line.lstrip("#").strip()) for line in text.splitlines() if line.startswith("#")}


def links(page: Path) -> Iterator[str]:
    for target in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (fragment and there.suffix == ".md" and fragment not in anchors(there)):
            broken.append(target)
    assert broken == []


def commands(
    group: click.Group = cli, words: tuple[str, ...] = ("gitkube",)
) -> Iterator[tuple[str, set[str]]]:
    """Each command as it is typed, with its long options."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        typed = (*words, name)
        yield (
            " ".join(typed),
            {word for option in command.params for word in option.opts if word.startswith("--")},
        )
        if isinstance(command, click.Group):
            yield from commands(command, typed)


def sections() -> dict[str, str]:
    """Command -> what stands under its heading in the reference, up to the next heading."""
    found: dict[str, str] = {}
    name = ""
    in_fence = False
    for line in COMMANDS.read_text("utf-8").splitlines():
        in_fence ^= line.startswith("```")
        if line.startswith("#") and not in_fence:
            name = line.lstrip("#").strip()
        found[name] = found.get(name, "") + line + "\n"
    return found


@pytest.mark.parametrize(("command", "options"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_in_the_reference_and_no_other(command: str, options: set[str]) -> None:
    text = sections().get(command)
    assert text is not None, f"{COMMANDS.name} has no heading `{command}`"
    table = {
        option
        for line in text.splitlines()
        if line.startswith("| `")
        for option in _OPTION.findall(line.split("|")[1])
    }
    if not command.endswith("lab"):  # its heading tells the option that all its subcommands share
        assert table == options
    assert f"{command} " in text or f"{command}\n" in text, "an example is missing"


def test_every_command_line_in_the_reference_can_be_typed() -> None:
    known = dict(commands())
    wrong = []
    for line in re.findall(r"(gitkube(?: [a-z]+)+[^`|\n]*)", COMMANDS.read_text("utf-8")):
        typed = max((name for name in known if f"{line} ".startswith(f"{name} ")), key=len, default="")
        given = _OPTION.findall(line.partition(" -- ")[0])
        wrong += [
            f"{line}: {option}" for option in given if typed and option not in {*known[typed], "--help"}
        ]
    assert wrong == []
