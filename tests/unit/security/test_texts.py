"""Texts that are dangerous to read (YAML), to show (terminals) and to repeat (Secrets)."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube import yaml
from gitkube.gitops.problem import Place, Problem, format_problems, printable
from tests.unit.gitops.conftest import Judge, Repo

# ------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("0o17", 15), ("2020-01-01", "2020-01-01"),
        ("=", "="), ("1e3", 1000.0), ("true", True), ("~", None), ("'010'", "010"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_yaml_1_2_says_and_not_what_1_1_said(text: str, value: Any) -> None:
    found = yaml.parse(f"a: {text}\n")[0].data["a"]
    assert found == value and type(found) is type(value)


def laughs(levels: int, width: int, form: str) -> str:
    lines = ["a0: &a0 {x: 1}" if form == "merge" else "a0: &a0 [x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * width)
        members = ", ".join(f"k{number}: *a{level - 1}" for number in range(width))
        body = {"list": f"[{aliases}]", "map": f"{{{members}}}", "merge": f"{{<<: [{aliases}]}}"}[form]
        lines.append(f"a{level}: &a{level} {body}")
    return "\n".join(lines)


@pytest.mark.parametrize("form", ["list", "map", "merge"])
def test_a_billion_laughs_end_early(form: str) -> None:
    # Expanded, it would never end at all, nor fit into any memory.
    with pytest.raises(yaml.YamlError, match="aliases are expanded"):
        yaml.parse(laughs(30, 10, form))


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n", "a: 1\n'a': 2\n", "{a: 1, a: 2}\n", "a: {b: 1, b: 1}\n", "<<: {a: 1}\nb: 1\nb: 2\n",
        "a: !!python/object/apply:os.system [id]\n", "a: !!python/name:os.system\n", "!!binary eA==\n",
        "a: !include /etc/passwd\n", "a: !!set {x}\n", "? [a, b]\n: c\n", "a: &x [*x]\n", "a: *nothing\n",
        "[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "- " * 500 + "x", "a: " + "9" * 100_000,
        "a: .inf\n", "a: 1e999\n", "a: \0\n", "a: \x1b[31m\n", "%YAML 9.9\n---\na: 1\n... x",
    ],
)  # fmt: skip
def test_what_is_no_plain_data_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(yaml.YamlError) as caught:
        yaml.parse(text)
    assert caught.value.line >= 1 and len(caught.value.message) < 300


# ------------------------------------------------------------ terminals

STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\u2066\u200b\r\x08\x7f\u2028"


@given(st.text())
def test_what_is_shown_has_one_line_and_no_control(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert "\n" not in shown and "\x1b" not in shown
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert not set(shown) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029"
    )


def test_every_part_of_a_problem_is_made_harmless() -> None:
    place = Place(f"a{STEERING}.yaml", 1, 1)
    problem = Problem(place, STEERING, STEERING, STEERING, True, STEERING, 3, (place,))
    assert all(line == printable(line) for line in format_problems([problem]))
    assert str(problem) == printable(str(problem))


async def test_a_commit_message_and_an_author_cannot_steer_the_pushers_terminal(
    repo: Repo, sync: Any
) -> None:
    repo.write({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: x}\n"})
    repo.git("add", "-A")
    author = "eve\x1b[31m\u202e <e@example.org>"
    repo.git("commit", "-q", "-m", f"hello {STEERING}", f"--author={author}")
    code, text = await repo.push()
    assert code == 0 and "hello" in text
    ours = [line.removeprefix("remote: ") for line in text.splitlines() if line.startswith("remote: ")]
    # git itself ends its lines with an escape that clears the rest of the line.
    assert ours and all(printable(line) == line.replace("\x1b[K", "") for line in ours)


async def test_the_name_of_an_object_is_refused_before_it_is_shown(repo: Repo, sync: Any) -> None:
    name = '"a\\e[31m\\u202E"'
    repo.commit({"a.yaml": f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n"})
    code, text = await repo.push()
    assert code == 1 and "\x1b[31m" not in text and "\u202e" not in text


def test_status_shows_what_hosts_and_pods_say_without_their_controls() -> None:
    from types import SimpleNamespace

    from gitkube.cli import status

    health = SimpleNamespace(state="failed", ready=0, wanted=1, reason=f"last line: {STEERING}")
    item = SimpleNamespace(title=f"n/web{STEERING}", health=health, origin=f"a{STEERING}.yaml:1")
    said = dict.fromkeys(("reason", "words", "detail"), STEERING)
    host = SimpleNamespace(name="ant", is_ready=False, since="", **said)
    seen: Any = SimpleNamespace(
        commit={"id": "1" * 40, "message": STEERING, "author": STEERING}, applied="2" * 40, items=[item],
        hosts=[host], pods=1, cpu_used_milli=0, cpu_milli=1, phase="failed", message=STEERING,
        is_healthy=False, waits_for="",
    )  # fmt: skip
    import click

    lines = [click.unstyle(line) for line in status._lines(seen, True)]
    text = "\n".join(lines)
    assert "owned" in text
    assert all(line == printable(line) for line in lines)


def test_a_log_for_a_terminal_shows_what_a_host_says_as_one_harmless_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import structlog

    from gitkube.cli.serve import _configure_logs

    before = structlog.get_config()
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    try:
        for form in ("text", "json"):
            _configure_logs(form)
            log = structlog.get_logger("x")
            log.warning("host_said", error=f"a\n2026 [info] forged {STEERING}")
            try:
                secret = "in-a-local-variable"
                raise ValueError(f"{STEERING}{len(secret)}")
            except ValueError:
                log.exception("failed")
    finally:
        structlog.configure(**before)
    text = out.getvalue()
    assert "host_said" in text and "Traceback" in text
    assert not any(line.startswith("2026 [info] forged") for line in text.splitlines())
    for steering in ("\x1b[2J", "\x1b]0;", "\x9b", "\u202e", "\x07"):
        assert steering not in text
    assert "in-a-local-variable" not in text.replace('secret = "in-a-local-variable"', "")


# ------------------------------------------------------------ Secrets

CANARY = "hunter2canary"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"


@pytest.mark.parametrize(
    "text",
    [
        SECRET + f"stringData:\n  p: a: {CANARY}\n",
        SECRET + f"stringData:\n  p: x\n  p: {CANARY}\n",
        SECRET + f"stringData:\n  p: *{CANARY}\n",
        SECRET + f"stringData:\n  p: !{CANARY}\n",
        SECRET + f"stringData:\n  p: &{CANARY} [*{CANARY}]\n",
        SECRET + f"stringData:\n\tp: {CANARY}\n",
        SECRET + f'stringData:\n  p: "{CANARY}\n',
        SECRET + f"stringData: [{CANARY}]\n",
        SECRET + f"data: {{p: '{CANARY}!'}}\n",
        SECRET + f"data:\n  p: {CANARY}=!\n",
        SECRET + f"stringDate: {{p: {CANARY}}}\n",
        SECRET + f"stringData: {{'a b': {CANARY}}}\n",
        SECRET + f"stringData: {{p: [{CANARY}]}}\n",
        f"{{apiVersion: v1, kind: Secret, metadatas: {{name: s}}, stringData: {{p: {CANARY}}}}}\n",
        f'{{"kind": "Secret", "apiVersion": "v1", "stringData": {{"p": "{CANARY}"}}, "metadata": {{}}}}\n',
        f'{{"kind": "List", "apiVersion": "v1", "items": [{{"kind": "Secret", "apiVersion": "v1",'
        f' "metadata": {{"name": "s"}}, "stringData": {{"p": "{CANARY}"}}}}, {{"kind": "Podd"}}, 3]}}\n',
        f'kind: "Secret"\nstringData: {{p: {CANARY}\n',
        f"{CANARY}\n# kind: Secret\n",
        SECRET + "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: " + CANARY + "}\n",
    ],
)
@pytest.mark.parametrize("name", ["s.yaml", "s.yaml.j2"])
def test_no_mistake_in_the_text_of_a_secret_repeats_it(judge: Judge, text: str, name: str) -> None:
    result = judge({name: text, "values.yaml": "a: 1\n"})
    assert [problem for problem in result.problems if problem.is_error], text
    shown = "\n".join([*format_problems(result.problems), *map(str, result.problems), repr(result.problems)])
    assert CANARY not in shown, shown
    assert f"{name}:" in shown


@pytest.mark.parametrize("number", ["0777123", "1e999", "9" * 30, "-.inf", "!!int 0x"])
def test_no_number_of_a_secret_is_repeated(judge: Judge, number: str) -> None:
    text = SECRET + f"stringData:\n  p: {number}\n"
    shown = repr(judge({"s.yaml": text}).problems)
    assert "s.yaml" in shown
    assert number.removeprefix("!!int ") not in shown and "511" not in shown


def test_a_template_that_makes_a_secret_is_not_repeated(judge: Judge) -> None:
    files = {
        "s.yaml.j2": SECRET + "stringData:\n  p: " + CANARY + "{{ nothing }}\n",
        "t.yaml.j2": SECRET + "stringData:\n  p: {{ password }}\n",
        "values.yaml": f"password: 'a: {CANARY}'\n",
    }
    result = judge(files)  # type: ignore[arg-type]
    shown = "\n".join([*format_problems(result.problems), repr(result.problems)])
    assert "s.yaml.j2:5" in shown and "t.yaml.j2:5" in shown
    assert CANARY not in shown


def test_other_files_are_still_shown_with_their_lines(judge: Judge) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndate: {a: b}\n---\n" + SECRET
    assert "date: {a: b}" in "\n".join(format_problems(judge({"c.yaml": text}).problems))
