"""The control side of the template process: asks it, watches its time, and words its errors.

The worker is started at the first template, kept warm, and replaced whenever it dies or outstays the
deadline, so that a template bomb costs one sentence and nothing else. What comes back is the text together
with a map from each of its positions to a line of a template. The calls block; the sync makes them in a
thread.
"""

from __future__ import annotations

import bisect
import json
import os
import re
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitkube.gitops.problem import Place, Problem, did_you_mean
from gitkube.gitops.render.model import holds_secret

DEADLINE_S = 5.0
"""Of one render; a large template takes some milliseconds."""
START_DEADLINE_S = 30.0
"""Of the first render of a fresh worker: a busy machine may take seconds to start Python."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024


_LOOKUP_HINT = "names are looked up beside this file and in templates/"


class RenderFailed(Exception):
    """A template did not render; the problem says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class TemplateOutput:
    """Rendered text, with where each position of it came from."""

    text: str
    segments: Sequence[tuple[int, int, str, int, int, bool]]
    """Output line and column, template, its line and column (-1: unknown), whether the text is literal."""

    def place(self, line: int, column: int) -> Place:
        """The template's position behind a position (from 1) of the text."""
        at = bisect.bisect_right(self.segments, (line, column - 1, "\U0010ffff")) - 1
        if at < 0:
            return Place("", 0, 0)
        out_line, out_column, name, source_line, source_column, is_literal = self.segments[at]
        if not is_literal:
            return Place(name, source_line, source_column + 1)
        if line > out_line:
            return Place(name, source_line + line - out_line, column)
        if source_column < 0:
            return Place(name, source_line, 0)
        return Place(name, source_line, source_column + column - out_column)


@dataclass(frozen=True)
class TemplateJob:
    """One template to render."""

    name: str
    context: Mapping[str, Any]
    templates: Mapping[str, str]
    """Every text it may include, itself among them."""
    roots: Sequence[str]
    known: str
    """Where its variables come from, for the hint about an undefined one, such as "values.yaml"."""


class TemplateWorker:
    """A warm process that renders. Thread-safe: one render at a time."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def render(self, job: TemplateJob) -> TemplateOutput:
        """The text of a template.

        Raises:
            RenderFailed: it does not render, or not within the limits.
        """
        answer = self._ask(
            {
                "name": job.name,
                "context": dict(job.context),
                "roots": list(job.roots),
                "templates": dict(job.templates),
            },
            job.name,
        )
        if "error" in answer:
            raise RenderFailed(_worded(answer["error"], job))
        return TemplateOutput(answer["text"], [tuple(segment) for segment in answer["segments"]])

    def check_schema(self, schema: Any, instance: Any, schema_path: str) -> list[dict[str, Any]]:
        """What a JSON Schema refuses of an instance: each with `path`, `message`, `unexpected`.

        Raises:
            RenderFailed: the schema is not one.
        """
        answer = self._ask({"schema": schema, "instance": instance}, schema_path)
        if "error" in answer:
            message = f"not a usable JSON Schema: {answer['error']['message']}"
            raise RenderFailed(Problem(Place(schema_path), message))
        found: list[dict[str, Any]] = answer["errors"]
        return found

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _ask(self, request: dict[str, Any], name: str) -> dict[str, Any]:
        body = json.dumps(request).encode("utf-8", "surrogatepass")
        with self._lock:
            deadline_s = self._deadline_s
            if self._process is None or self._process.poll() is not None:
                self._start()
                deadline_s += START_DEADLINE_S
            try:
                answer: dict[str, Any] = json.loads(self._exchange(body, time.monotonic() + deadline_s))
            except TimeoutError:
                self._kill()
                raise RenderFailed(
                    Problem(Place(name), f"the template did not finish within {self._deadline_s:g} s")
                ) from None
            except (OSError, ValueError) as error:
                self._kill()
                raise RenderFailed(
                    Problem(Place(name), "the template made its process run out of memory or time")
                ) from error
            return answer

    def _start(self) -> None:
        self._kill()
        script = Path(__file__).with_name("worker.py")
        import jinja2

        libraries = str(Path(jinja2.__file__).parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(script), libraries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        os.set_blocking(self._process.stdout.fileno(), False)

    def _exchange(self, body: bytes, deadline: float) -> bytes:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        source, target = process.stdout.fileno(), process.stdin.fileno()
        unsent = memoryview(struct.pack("!I", len(body)) + body)
        received = bytearray()
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            poll = select.poll()  # not select(): this process may have more than 1,024 files open
            poll.register(source, select.POLLIN)
            if unsent:
                poll.register(target, select.POLLOUT)
            ready = dict(poll.poll(left_s * 1_000))
            if unsent and target in ready:
                unsent = unsent[os.write(target, unsent) :]
            if source in ready:
                data = os.read(source, 1024 * 1024)
                if not data:
                    raise OSError("the template process ended")
                received += data
                if len(received) >= 4:
                    (length,) = struct.unpack_from("!I", received)
                    if length > MAX_ANSWER_BYTES:
                        raise OSError("the template process answered too much")
                    if len(received) >= 4 + length:
                        return bytes(received[4 : 4 + length])

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _worded(error: dict[str, Any], job: TemplateJob) -> Problem:
    """A worker's error as a sentence at the innermost template line."""
    places = [Place(name, line) for name, line in error["places"]] or [Place(job.name)]
    place, via = places[-1], tuple(reversed(places[:-1]))
    kind = error["kind"]
    if kind == "undefined":
        return _undefined(error, place, via, job)
    hint, width = "", 1
    if kind == "missing":
        message = f'there is no template "{error["name"]}"'
        hint = did_you_mean(error["name"], _short_names(job)) or _LOOKUP_HINT
        place, width = _located(place, error["name"], job)
    elif kind == "loop":
        message = "the template includes itself without end: " + " -> ".join(error["chain"])
        if len(error["chain"]) < 2:
            message = "the template includes or calls itself without end"
    elif kind == "memory":
        message = "the template needs more memory than it may have"
    elif kind == "output":
        message = "the template writes more than it may"
    elif kind == "security":
        message = f"not allowed in a template: {error['message']}"
    elif kind == "syntax":
        message = f"template syntax: {error['message'].rstrip('.')}"
        quoted = re.findall(r"'([^']+)'", error["message"])
        if quoted:
            place, width = _located(place, quoted[0], job)
    else:
        message = f"the template failed: {error['message'] or kind}"
    return _with_source(Problem(place, message, hint=hint, width=width, via=via), job)


def _undefined(error: dict[str, Any], place: Place, via: tuple[Place, ...], job: TemplateJob) -> Problem:
    name = error["name"]
    if error["owner"] == "map":
        available, message = error["available"], f'undefined key "{name}"'
        has = "there is: " + ", ".join(available) if available else "the map is empty"
    elif error["owner"]:
        available, message = [], f'a value of type {error["owner"]} has no "{name}"'
        has = ""
    else:
        available = sorted(name for name in job.context if name != "values")
        message = f'undefined variable "{name}"'
        has = f"{job.known} has: " + ", ".join(available[:20]) if available else f"{job.known} has nothing"
    place, width = _located(place, name, job)
    hint = "; ".join(filter(None, (did_you_mean(name, available), has)))
    return _with_source(Problem(place, message, hint=hint, width=width, via=via), job)


def _located(place: Place, word: str, job: TemplateJob) -> tuple[Place, int]:
    """The place with the column of a word in its line, where the word stands there just as a word."""
    lines = job.templates.get(place.path, "").split("\n")
    if not 0 < place.line <= len(lines):
        return place, 1
    found = re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", lines[place.line - 1])
    return (place, 1) if found is None else (Place(place.path, place.line, found.start() + 1), len(word))


def _with_source(problem: Problem, job: TemplateJob) -> Problem:
    text = job.templates.get(problem.place.path, "")
    return problem if holds_secret(text) else problem.with_excerpt(text)


def _short_names(job: TemplateJob) -> list[str]:
    return [
        name.removeprefix(root)
        for name in job.templates
        for root in job.roots
        if name.startswith(root) and root
    ]
