"""Templates by strangers: what they try in order to get out, and what they cost when they want to harm."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.gitops.problem import format_problems
from gitkube.gitops.render.jinja import RenderFailed, TemplateJob, TemplateWorker

DEADLINE_S = 1.0
SLACK_S = 60.0
"""For a busy machine. What is stopped would take hours."""


@pytest.fixture(scope="module")
def worker() -> Iterator[TemplateWorker]:
    made = TemplateWorker(deadline_s=DEADLINE_S)
    made.render(TemplateJob("t", {}, {"t": "warm"}, (), ""))
    yield made
    made.close()


def render(worker: TemplateWorker, text: str, templates: dict[str, str] | None = None, **context: Any) -> str:
    job = TemplateJob("t", context, {"t": text, **(templates or {})}, ("templates/",), "values.yaml")
    return worker.render(job).text


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ()|attr('__cla' ~ 'ss__') }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ range.__globals__ }}",
    "{{ dict.__subclasses__() }}",
    "{{ dict.mro() }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{{ caller.__func__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{x.__class__}'.format_map({'x': ''}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f('') }}",
    "{{ ['{0.__class__}']|map('format', '')|list }}{{ ['x']|map(attribute='__class__')|list }}",
    "{{ [['a']]|map(attribute='0.__class__.__mro__')|list|first|first }}",
    "{{ [{}]|sort(attribute='__class__') }}{{ {}.__class__ }}",
    "{{ [1]|groupby('__class__')|first|first|attr('mro') }}",
    "{{ ''|map('attr', '__class__')|list }}{{ [''] | map('attr', '__class__') | list | first }}",
    "{% for x in [''] %}{{ loop.__class__ }}{% endfor %}",
    "{% for x in [1] recursive %}{{ loop._recurse.__globals__ }}{% endfor %}",
    "{{ (x for x in []).gi_frame }}",
    "{{ x.append.__self__ }}{{ x.append(1) }}",
    "{{ x.extend([1]) }}",
    "{{ d.update({'a': 1}) }}",
    "{{ d.__setitem__('a', 1) }}",
    "{% do x.insert(0, 1) %}",
    "{% set n = namespace(a=1) %}{{ n.__dict__ }}",
    "{% import 'os' as o %}{{ o }}",
    "{% include '/etc/passwd' %}",
    "{% include '../../../etc/passwd' %}",
    "{% include 'file:///etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% from 'subprocess' import run %}",
    "{{ config }}",
    "{{ request }}",
    "{{ environ }}",
    "{{ lookup('pipe', 'id') }}",
    "{{ get_flashed_messages.__globals__ }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_no_way_out_of_the_sandbox(worker: TemplateWorker, text: str) -> None:
    try:
        shown = render(worker, text, x=[1], d={})
    except RenderFailed as failed:
        lines = "\n".join(format_problems([failed.problem]))
        assert "root:" not in lines
        return
    # Some only render to nothing, because the sandbox made an undefined of what they asked for.
    for word in ("class '", "<function", "<built-in", "object at 0x", "root:", "subclasses", "uid="):
        assert word not in shown, shown


BOMBS = {
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long text": "{{ 'x' * 10**9 }}",
    "a longer text": "{{ 'x' * 10**12 }}",
    "a long list": "{{ [0] * 10**10 }}",
    "a huge number": "{{ 9**9**9**9 }}",
    "a number to print": "{{ (10 ** 100000) ** 100 }}",
    "a huge range": "{{ range(10**12) | list }}",
    "a huge width": "{{ '%1000000000d' % 1 }}",
    "a huge padding": "{{ 'x' | center(10**10) }}",
    "a huge format": "{{ '{:>9999999999}'.format('x') }}",
    "a doubling": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t * 2 %}{% endfor %}",
    "much output": "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a template that includes itself": "{% include 't' %}",
    "a template that extends itself": "{% extends 't' %}",
    "a loop that calls itself": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "deep brackets": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "deep blocks": "{% if 1 %}" * 2_000 + "{% endif %}" * 2_000,
    "deep lists": "{{ " + "[" * 500 + "]" * 500 + " | tojson }}",
    "a long expression": "{{ 1" + " + 1" * 50_000 + " }}",
    "a slow sort": "{{ range(99999) | map('string') | sort | join | replace('1', 'x' * 99999) }}",
    "a slow replacement": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "slow words": "{{ ('a ' * 999999) | wordwrap(1) | urlize }}",
    "a cartesian product": "{% for a in range(9999) %}{% set b = range(99999) | list %}{% endfor %}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_one_sentence_within_the_deadline(worker: TemplateWorker, name: str) -> None:
    render(worker, "warm")
    started = time.monotonic()
    try:
        assert len(render(worker, BOMBS[name])) <= 4 * 1024 * 1024
    except RenderFailed as failed:
        assert failed.problem.place.path == "t"
        assert len(str(failed.problem)) < 1_000
    assert time.monotonic() - started < DEADLINE_S + SLACK_S
    assert render(worker, "{{ 1 + 1 }}") == "2"


def test_a_worker_that_outstays_its_deadline_is_gone_and_not_only_forgotten(worker: TemplateWorker) -> None:
    render(worker, "warm")
    before = worker.pid
    with pytest.raises(RenderFailed, match="did not finish"):
        render(worker, BOMBS["an endless loop"])
    assert not Path(f"/proc/{before}").exists()
    assert worker.pid is None and render(worker, "ok") == "ok"


def test_a_value_is_never_rendered_twice(worker: TemplateWorker) -> None:
    """What a template is given is data, were it written like a template."""
    evil = "{{ ''.__class__ }}{% for x in y %}"
    assert render(worker, "{{ v }}", v=evil) == evil
    assert render(worker, "{% include 'templates/i' %}", {"templates/i": "{{ v }}"}, v=evil) == evil


def test_the_process_can_open_nothing_and_start_nothing(worker: TemplateWorker) -> None:
    render(worker, "warm")
    limits = {
        line[:26].strip(): line[26:].split()[:2]
        for line in Path(f"/proc/{worker.pid}/limits").read_text().splitlines()[1:]
    }
    for what, limit in {"Max open files": "3", "Max file size": "0", "Max processes": "0"}.items():
        assert limits[what] == [limit, limit]
    assert int(limits["Max address space"][1]) <= 512 * 1024 * 1024
    assert Path(f"/proc/{worker.pid}/environ").read_bytes() == b""
    assert os.readlink(f"/proc/{worker.pid}/cwd") == "/"


def test_a_context_of_the_repositorys_own_replaces_no_word_of_the_sandbox(worker: TemplateWorker) -> None:
    """values.yaml may be called like anything; what comes of it is still data."""
    for name in ("self", "loop", "range", "dict", "namespace", "super", "caller", "environment", "__class__"):
        try:
            render(worker, "{{ range(3) | list }}{{ x }}", **{name: {"__call__": 1}, "x": 1})
        except RenderFailed as failed:
            assert str(failed.problem).isprintable()
    assert render(worker, "ok") == "ok"
