"""The process that renders Jinja2 templates, and can do nothing else.

It runs as a script of its own, with an empty environment, and imports only the standard library, Jinja2
and a JSON Schema checker (a hostile schema could crash the process it is checked in, so that is done here
too). Before it reads its first request it gives up the right to open any further file or socket, to write
files and to take more memory than MAX_MEMORY_BYTES. A request holds every template it may need, so the loader
reads from that and from nothing else; compiled templates are kept by the digest of their text, which makes
a warm render cost a fifth of a millisecond. Each answer says for every piece of the output which line of
which template it came from, by looking at where the (possibly nested) generators of Jinja's compiled code
stand whenever they yield.

Requests and answers are JSON with a four-byte length before them, on standard input and output:
    {"schema", "instance"} -> {"errors": [{"path", "message", "unexpected"}]} or {"error": {...}}
    {"name", "context", "roots": [directory], "templates": {name: text}}
        -> {"text", "segments"} or {"error": {...}}
A segment is [output line, output column, template, line, column, is literal]: lines from 1, columns from 0,
a column of -1 is not known.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import resource
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any

sys.path[:0] = [path for path in sys.argv[1:2] if path]

import jinja2  # noqa: E402
import jinja2.compiler  # noqa: E402
import jinja2.debug  # noqa: E402
import jinja2.exceptions  # noqa: E402
import jinja2.ext  # noqa: E402
import jinja2.nodes  # noqa: E402
import jinja2.sandbox  # noqa: E402
import jsonschema_rs  # noqa: E402

MAX_MEMORY_BYTES = 512 * 1024 * 1024
MAX_CPU_S = 10
"""Of one render; the parent's deadline is in wall-clock time."""
MAX_OUTPUT_CHARS = 4 * 1024 * 1024
MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_COMPILED = 2_000
"""Compiled templates kept."""
MAX_SCHEMA_ERRORS = 50
_STANDARD_FILES = 3


class OutputTooLarge(Exception):
    """The template goes on writing past MAX_OUTPUT_CHARS."""


class MissingTemplate(jinja2.TemplateNotFound):
    """An include or import names what the commit does not have."""


class UndefinedName(jinja2.UndefinedError):
    """A variable or a key that nobody defined; carries what was there instead."""

    def __init__(self, undefined: Any) -> None:
        self.name, self.owner, self.available = undefined.facts()
        super().__init__(self.name)


class Undefined(jinja2.StrictUndefined):
    """Refuses every use, and remembers what it was looked up in."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = jinja2.utils.missing,
        name: str | None = None,
        exc: type[Exception] = jinja2.UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, UndefinedName if exc is jinja2.UndefinedError else exc)  # type: ignore[arg-type]

    @property
    def _undefined_message(self) -> Any:
        """Jinja makes the exception with this as its only argument: ours takes the whole undefined."""
        return self if self._undefined_exception is UndefinedName else super()._undefined_message

    def facts(self) -> tuple[str, str, list[str]]:
        """The name, the type it was looked up in ("" for a variable), and the names there are instead."""
        name = str(self._undefined_name or "")
        owner = self._undefined_obj
        if owner is jinja2.utils.missing:
            return name, "", []
        if isinstance(owner, dict):
            return name, "map", sorted(str(key) for key in owner)[:20]
        return name, type(owner).__name__, []


class _Generator(jinja2.compiler.CodeGenerator):
    """Gives each piece of output its own debug line, and lists the code lines that yield literal text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._literal_lines: list[int] = []

    def visit_Output(self, node: jinja2.nodes.Output, frame: jinja2.compiler.Frame) -> None:
        for child in node.nodes:
            self.newline(child)
            super().visit_Output(jinja2.nodes.Output([child], lineno=child.lineno), frame)
            if isinstance(child, jinja2.nodes.TemplateData):
                self._literal_lines.append(self.code_lineno)

    def visit_Template(self, node: jinja2.nodes.Template, frame: jinja2.compiler.Frame | None = None) -> None:
        super().visit_Template(node, frame)
        self.writeline(f"literal_lines = frozenset({self._literal_lines!r})")


class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(
            undefined=Undefined,
            loader=jinja2.FunctionLoader(self._load),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            auto_reload=False,
            cache_size=0,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"],
        )
        self.globals = {"range": jinja2.sandbox.safe_range, "dict": dict, "namespace": jinja2.utils.Namespace}
        self.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}
        self.filters["tojson"] = _to_json
        self.filters["quote"] = lambda value: _to_json(str(value))
        self.texts: dict[str, str] = {}
        self.roots: list[str] = []
        """Directories in which a template's name is looked for, such as "templates/"."""
        self._code: dict[tuple[str, str], types.CodeType] = {}

    def join_path(self, template: str, parent: str) -> str:
        """A name means a file beside its user, then one in the roots, then a path of the repository."""
        beside = parent.rpartition("/")[0]
        for directory in [f"{beside}/" if beside else "", *self.roots, ""]:
            if directory + template in self.texts:
                return directory + template
        return template

    def _load(self, name: str) -> tuple[str, str, None]:
        if name not in self.texts:
            raise MissingTemplate(name)
        return self.texts[name], name, None

    def _load_template(self, name: str, globals: Any) -> jinja2.Template:
        """Compile once per text: a template is the same in every commit that has the same blob."""
        text, filename, _ = self._load(name)
        key = (name, hashlib.sha256(text.encode()).hexdigest())
        code = self._code.get(key)
        if code is None:
            if len(self._code) >= MAX_COMPILED:
                self._code.clear()
            code = self._code[key] = self.compile(text, name, filename)
        return self.template_class.from_code(self, code, self.make_globals(globals))


def _to_json(value: Any) -> str:
    """JSON is YAML: `{{ values.args | tojson }}` writes a list or text as one safe value."""
    if isinstance(value, jinja2.Undefined):
        str(value)
    return json.dumps(value, ensure_ascii=False)


def render(environment: Environment, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    environment.texts = request["templates"]
    environment.roots = request["roots"]
    name = request["name"]
    try:
        template = environment.get_template(name)
        text, segments = _run(environment, template, request["context"])
    except Exception as error:
        return {"error": _explain(error, name)}
    return {"text": text, "segments": segments}


def check_schema(request: dict[str, Any]) -> dict[str, Any]:
    """What of an instance its JSON Schema refuses. References to other documents are not followed."""
    try:
        validator = jsonschema_rs.validator_for(request["schema"], retriever=_refuse_reference)
        found = []
        for error in validator.iter_errors(request["instance"]):
            unexpected = list(getattr(error.kind, "unexpected", ()))
            found.append(
                {"path": list(error.instance_path), "message": error.message, "unexpected": unexpected}
            )
            if len(found) >= MAX_SCHEMA_ERRORS:
                break
    except Exception as error:
        return {"error": {"kind": "schema", "message": str(error)[:2_000], "places": []}}
    return {"errors": found}


def _refuse_reference(uri: str) -> Any:
    raise ValueError(f"the schema refers to {uri}, which is not read")


def _run(
    environment: Environment, template: jinja2.Template, context: dict[str, Any]
) -> tuple[str, list[Any]]:
    pieces: list[str] = []
    segments: list[Any] = []
    line, column, size = 1, 0, 0
    after = ("", 0, -1)  # template, line and column where the last literal ended: there an expression starts
    lines_of: dict[str, list[str]] = {}
    stream = template.root_render_func(template.new_context(context))
    assert isinstance(stream, types.GeneratorType)
    for piece in stream:
        size += len(piece)
        if size > MAX_OUTPUT_CHARS:
            raise OutputTooLarge
        if not piece:
            continue
        name, source_line, is_literal = _innermost(stream)
        if name not in lines_of:
            lines_of[name] = environment.texts.get(name, "").split("\n")
        source = lines_of[name][source_line - 1] if 0 < source_line <= len(lines_of[name]) else ""
        if is_literal:
            source_column = _literal_column(source, piece, column)
            after = _end_of(name, source_line, source_column, piece)
        else:
            source_column = after[2] if after[:2] == (name, source_line) else -1
        segments.append([line, column, name, source_line, source_column, is_literal])
        pieces.append(piece)
        newlines = piece.count("\n")
        if newlines:
            line += newlines
            column = len(piece) - piece.rfind("\n") - 1
        else:
            column += len(piece)
    return "".join(pieces), segments


def _innermost(stream: Any) -> tuple[str, int, bool]:
    """Template, line and literalness of the piece just yielded, through includes, blocks and parents."""
    innermost = None
    while isinstance(stream, types.GeneratorType):
        frame, inner = stream.gi_frame, stream.gi_yieldfrom
        if frame is None:
            break
        if inner is None:
            inner = frame.f_locals.get("gen")  # what the code compiled from an include iterates over
        if "__jinja_template__" in frame.f_globals:
            innermost = frame
        stream = inner
    if innermost is None:
        return "", 0, False
    template = innermost.f_globals["__jinja_template__"]
    is_literal = innermost.f_lineno in innermost.f_globals["literal_lines"]
    line = _template_line(innermost.f_globals["debug_info"], innermost.f_lineno)
    return template.name or "", line, is_literal


@functools.lru_cache(maxsize=MAX_COMPILED)
def _debug_table(debug_info: str) -> tuple[list[int], list[int]]:
    """Jinja's table of compiled lines and the template lines that they came from."""
    pairs = sorted(
        (int(code), int(line))
        for line, _, code in (entry.partition("=") for entry in debug_info.split("&") if entry)
    )
    return [code for code, _ in pairs], [line for _, line in pairs]


def _template_line(debug_info: str, code_line: int) -> int:
    codes, lines = _debug_table(debug_info)
    at = bisect.bisect_right(codes, code_line) - 1
    return lines[at] if at >= 0 else 1


def _end_of(name: str, line: int, column: int, piece: str) -> tuple[str, int, int]:
    """Where in its template a literal piece ends."""
    newlines = piece.count("\n")
    if newlines:
        return name, line + newlines, len(piece) - piece.rfind("\n") - 1
    return name, line, column + len(piece) if column >= 0 else -1


def _literal_column(source_line: str, piece: str, output_column: int) -> int:
    """In which column of its line a literal piece starts, or -1 when that cannot be said."""
    first, newline, _ = piece.partition("\n")
    if newline:
        return len(source_line) - len(first) if source_line.endswith(first) else -1
    if output_column == 0 and source_line.startswith(first):
        return 0
    return source_line.find(first) if source_line.count(first) == 1 else -1


def _explain(error: Exception, name: str) -> dict[str, Any]:
    """What went wrong and where, as data; the words are made by the parent."""
    places = list(_template_frames(error))
    if isinstance(error, jinja2.TemplateSyntaxError):
        places.append((error.name or name, error.lineno))
    answer: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": str(error)[:2_000],
        "places": places[-20:],
    }
    if isinstance(error, UndefinedName):
        answer |= {
            "kind": "undefined",
            "name": error.name,
            "owner": error.owner,
            "available": error.available,
        }
    elif isinstance(error, jinja2.TemplateSyntaxError):
        answer |= {"kind": "syntax"}
    elif isinstance(error, jinja2.TemplateNotFound):
        answer |= {"kind": "missing", "name": str(error.name)}
    elif isinstance(error, RecursionError):
        answer |= {"kind": "loop", "chain": _chain(error), "places": places[:1]}
    elif isinstance(error, MemoryError):
        answer |= {"kind": "memory"}
    elif isinstance(error, OutputTooLarge):
        answer |= {"kind": "output"}
    elif isinstance(error, jinja2.exceptions.SecurityError):
        answer |= {"kind": "security"}
    return answer


def _template_frames(error: BaseException) -> Iterator[tuple[str, int]]:
    """Template and line of each frame of compiled template code, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            yield template.name or "", template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next


def _chain(error: BaseException) -> list[str]:
    """The templates that include each other, once round."""
    chain: list[str] = []
    for name, _ in _template_frames(error):
        if not chain or chain[-1] != name:
            chain.append(name)
        if len(chain) > 1 and name in chain[:-1]:
            break
    return chain


def _give_up_rights() -> None:
    """From here on: no new file or socket, no written file, no more memory than MAX_MEMORY_BYTES."""
    for what, limit in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _STANDARD_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def _allow_cpu() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + 1 + MAX_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _warm_up(environment: Environment) -> None:
    """Do once whatever imports a module late (codecs, error paths), while files can still be opened."""
    texts = {
        "a": "{% from 'b' import m %}{% for x in range(2) %}{{ x | tojson }}{% endfor %}{% include 'b' %}"
        "{{ m('é\\n') | indent | title | dictsort | pprint | urlencode | wordwrap | unique | random }}",
        "b": "{% macro m(a) %}{{ a }}{% endmacro %}{% set y = 'x' %}{{ y | upper | replace('X', 'z') }}",
        "c": "{{ y }}",
        "d": "{% if %}",
        "e": "{{ ''.__class__ }}",
        "f": "{{ 'a' | map('upper') | list | groupby('x') }}",
        "g": "{{ 'x' * (10 ** 5) | int % 7 | round | filesizeformat }}",
    }
    for name in texts:
        render(environment, {"name": name, "context": {}, "roots": [], "templates": texts})
    check_schema({"schema": {"additionalProperties": False}, "instance": {"a": 1}})
    check_schema({"schema": {"$ref": "http://localhost/"}, "instance": {}})


def main() -> None:
    """Answer requests until standard input ends."""
    sys.setrecursionlimit(600)
    environment = Environment()
    _warm_up(environment)
    _give_up_rights()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        header = requests.read(4)
        if len(header) < 4:
            return
        (length,) = struct.unpack("!I", header)
        if length > MAX_REQUEST_BYTES:
            return
        _allow_cpu()
        request = json.loads(requests.read(length))
        answered = check_schema(request) if "schema" in request else render(environment, request)
        answer = json.dumps(answered).encode()
        answers.write(struct.pack("!I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main()
