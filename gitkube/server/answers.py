"""Answers: JSON, or YAML, with the headers that clients rely on.

Machines get JSON on one line; people get it indented: those who ask with `?pretty=true`, and browsers, curl
and wget, as Kubernetes does. What is in the cache is JSON already and is not encoded again.
"""

from __future__ import annotations

import enum
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gitkube.api.errors import StatusError
from gitkube.api.stored import StoredObject
from gitkube.server.negotiation import is_yaml_preferred
from gitkube.server.yaml_text import to_yaml

GZIP_FROM_BYTES = 128 * 1024
"""As Kubernetes: below this the time costs more than the bytes."""
_GZIP_LEVEL = 1
"""The network is near; a fast level keeps the loop free."""
_NO_CACHE = "no-cache, private"
_MAX_WARNING = 512
JSON_TYPE = "application/json"
YAML_TYPE = "application/yaml"
_OF_PEOPLE = ("curl", "Wget", "Mozilla/")
"""How the User-Agent of what people read by begins."""


class Encoding(enum.Enum):
    JSON = "JSON on one line"
    PRETTY = "indented JSON"
    YAML = "YAML"


def encoding_of(request: web.Request) -> Encoding:
    """How the client wants what it gets to be written."""
    headers = request.headers
    accept = headers.get("Accept", "")
    if "yaml" in accept and is_yaml_preferred(accept):
        return Encoding.YAML
    if "pretty" in request.rel_url.raw_query_string and "pretty" in request.query:
        return Encoding.PRETTY if request.query["pretty"] in ("true", "1") else Encoding.JSON
    return Encoding.PRETTY if headers.get("User-Agent", "").startswith(_OF_PEOPLE) else Encoding.JSON


def json_answer(
    request: web.Request,
    value: Any,
    *,
    status: int = 200,
    content_type: str = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """`value` (or bytes that are JSON already) as an answer; as YAML to those who would rather have that.

    Large ones are to be compressed by `compressed` before they leave.
    """
    encoding = encoding_of(request)
    if encoding is Encoding.YAML and content_type == JSON_TYPE:
        body, content_type = to_yaml(_plain(value)), YAML_TYPE
    elif encoding is Encoding.PRETTY:
        body = _indented(_plain(value))
    elif isinstance(value, bytes):
        body = value
    elif isinstance(value, StoredObject):
        body = value.document + b"\n"
    else:
        body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    response = web.Response(body=body, status=status, headers=headers)
    response.headers["Content-Type"] = content_type
    response.headers.setdefault("Cache-Control", _NO_CACHE)
    return response


def _plain(value: Any) -> Any:
    """Without parts that are JSON already."""
    return orjson.loads(value if isinstance(value, bytes) else orjson.dumps(value))


def _indented(value: Any) -> bytes:
    # Go's encoder writes an empty map or list over lines of its own, and no newline at the end.
    lines: list[str] = []
    for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        end = "," if line.endswith(",") else ""
        bare = line.removesuffix(",")
        if bare.endswith(("{}", "[]")) and (bare[:-2].endswith('": ') or bare[:-2] == indent):
            lines += [bare[:-1], f"{indent}  ", f"{indent}{bare[-1]}{end}"]
        else:
            lines.append(line)
    return "\n".join(lines).encode()


def should_compress(request: web.Request, response: web.StreamResponse) -> bool:
    """Whether the answer is large, the client can unpack it, and it is not packed already."""
    body = response.body if isinstance(response, web.Response) else None
    return (
        isinstance(body, bytes)
        and len(body) >= GZIP_FROM_BYTES
        and "Content-Encoding" not in response.headers
        and accepts_gzip(request)
    )


def compress(response: web.Response) -> None:
    """Pack the body of an answer; costs about 5 ms for a megabyte, and lets other threads run."""
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError("only an answer that has its body in memory can be compressed")
    response.body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"


def text_answer(text: str, *, status: int = 200) -> web.Response:
    return web.Response(
        text=text,
        status=status,
        content_type="text/plain",
        charset="utf-8",
        headers={"Cache-Control": _NO_CACHE, "X-Content-Type-Options": "nosniff"},
    )


def status_answer(request: web.Request, error: StatusError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else None
    response = json_answer(request, error.to_status(), status=error.code, headers=headers)
    add_warnings(response, error.warnings)
    return response


def accepts_gzip(request: web.Request) -> bool:
    header = request.headers.get("Accept-Encoding", "")
    return header == "gzip" or "gzip" in [part.strip() for part in header.split(",")]


def add_warnings(response: web.StreamResponse, warnings: Iterable[str]) -> None:
    """Each as a Warning header (RFC 7234, section 5.5); kubectl shows them to its user."""
    for warning in dict.fromkeys(warnings):
        clean = "".join(character if character.isprintable() else " " for character in warning)
        escaped = clean[:_MAX_WARNING].replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
