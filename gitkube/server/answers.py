"""Answers: JSON with the headers that clients rely on, compressed when that pays."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gitkube.api.errors import StatusError

GZIP_FROM_BYTES = 128 * 1024
"""As Kubernetes: below this the time costs more than the bytes."""
_GZIP_LEVEL = 1
"""The network is near; a fast level keeps the loop free."""
_NO_CACHE = "no-cache, private"
_MAX_WARNING = 512
JSON_TYPE = "application/json"


def json_answer(
    request: web.Request,
    value: Any,
    *,
    status: int = 200,
    content_type: str = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """`value` (or bytes that are JSON already) as an answer."""
    body = value if isinstance(value, bytes) else orjson.dumps(value) + b"\n"
    response = web.Response(status=status, headers=headers)
    response.headers["Content-Type"] = content_type
    response.headers.setdefault("Cache-Control", _NO_CACHE)
    if len(body) >= GZIP_FROM_BYTES and accepts_gzip(request):
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    response.body = body
    return response


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
    return "gzip" in request.headers.get("Accept-Encoding", "")


def add_warnings(response: web.StreamResponse, warnings: Iterable[str]) -> None:
    """Each as a Warning header (RFC 7234, section 5.5); kubectl shows them to its user."""
    for warning in dict.fromkeys(warnings):
        clean = "".join(character if character.isprintable() else " " for character in warning)
        escaped = clean[:_MAX_WARNING].replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
