"""The template process: what it may not do, what it costs, and that it is replaced when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from gitkube.gitops.render import Renderer
from gitkube.gitops.render.jinja import RenderFailed, TemplateJob, TemplateWorker


@pytest.fixture(scope="module")
def worker():
    made = TemplateWorker(deadline_s=1.0)
    yield made
    made.close()


def render(worker, text, **context):
    return worker.render(TemplateJob("t", context, {"t": text}, (), "values.yaml")).text


def test_it_renders(worker):
    assert render(worker, "a: {{ x }}\n", x=1) == "a: 1\n"


def test_an_endless_template_is_killed_and_the_next_one_renders(worker):
    before = worker.pid
    with pytest.raises(RenderFailed, match="did not finish within 1 s"):
        render(worker, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    assert render(worker, "ok") == "ok"
    assert worker.pid != before


def test_memory_is_capped(worker):
    with pytest.raises(RenderFailed, match="memory"):
        render(worker, "{{ 'x' * (2 ** 30) }}")
    assert render(worker, "ok") == "ok"


def test_output_is_capped(worker):
    with pytest.raises(RenderFailed, match="writes more than it may"):
        render(worker, "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}")


def test_a_killed_worker_is_replaced(worker):
    render(worker, "ok")
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert render(worker, "ok") == "ok"


def test_it_has_no_environment_and_no_file_or_socket_beyond_its_pipes(worker):
    render(worker, "ok")
    process = Path(f"/proc/{worker.pid}")
    assert process.joinpath("environ").read_bytes() == b""
    limits = process.joinpath("limits").read_text()
    assert any(line.split()[:4] == ["Max", "open", "files", "3"] for line in limits.splitlines())
    assert sorted(os.listdir(process / "fd")) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ (1).__class__.__mro__ }}",
        "{{ ''['__class__'] }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ ''|attr('__class__') }}",
        "{{ x.append(1) }}",
        "{{ x.clear() }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_holds(worker, text):
    with pytest.raises(RenderFailed):
        render(worker, text, x=[1])


def test_a_schema_that_reaches_out_or_loops_harms_nobody(worker):
    with pytest.raises(RenderFailed, match="not a usable JSON Schema"):
        worker.check_schema({"$ref": "http://127.0.0.1:1/x"}, {}, "s.json")
    with pytest.raises(RenderFailed):
        worker.check_schema({"$ref": "file:///etc/passwd"}, {}, "s.json")
    with contextlib.suppress(RenderFailed):
        worker.check_schema({"$ref": "#"}, {}, "s.json")
    assert render(worker, "ok") == "ok"


def test_a_commit_that_changes_one_file_renders_one_file(judge):
    renderer: Renderer = judge.renderer
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    files = {f"{n}.yaml.j2": config % f"c{n}" + "data: {x: {{ a }}}\n" for n in range(20)} | {
        "values.yaml": "a: 'q'\n"
    }
    counts = []
    original = renderer.render

    def counting(tree):
        rendered = original(tree)
        counts.append(rendered.rendered_files)
        return rendered

    renderer.render = counting
    try:
        judge(files)
        judge(files)
        judge({**files, "3.yaml.j2": config % "other"})
        judge({**files, "values.yaml": "a: 'z'\n"})
    finally:
        del renderer.render
    assert counts == [20, 0, 1, 20]
