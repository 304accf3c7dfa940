"""Request bodies: JSON, YAML and protobuf to plain dicts, with a limit on size and no surprises.

A key that stands twice in JSON is a mistake that parsers hide; here it is found, and refused or warned of as
the client asked by `fieldValidation`.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from gitkube.api.errors import StatusError, bad_request
from gitkube.api.requests import Context, FieldValidation
from gitkube.objects.types import Object
from gitkube.server import protobuf

MAX_BODY_BYTES = 3 * 1024 * 1024
"""As Kubernetes. What is stored may be half of that at most."""
LARGE_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 30.0
"""A client that takes longer to send a body is broken, or wants to hold the server up."""
MAX_DEPTH = 100
"""As for YAML. Deeper ones could be read and then not be written, and cost a stack in all that walks them."""
_MAX_DUPLICATES = 20
_GZIP_OR_ZLIB = 32
"""Added to a window size of zlib: either head is taken, as clients mean either by deflate."""
_JSON_TYPES = ("", "application/json")
_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
PROTOBUF = "application/vnd.kubernetes.protobuf"


def content_type(request: web.Request) -> str:
    """The media type of the body without parameters, lower case; "" when none is given."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower()


async def read_body(request: web.Request) -> bytes:
    """The whole body, unpacked; read once, and the same again when asked again.

    Raises:
        StatusError: 413, it is over MAX_BODY_BYTES; 408, it does not come; 400, 415, see `unpacked`.
    """
    return unpacked(await receive_body(request), request.headers.get("Content-Encoding", ""))


async def receive_body(request: web.Request) -> bytes:
    """The whole body as it was sent.

    Raises:
        StatusError: 413, it is over MAX_BODY_BYTES; 408, it does not come.
    """
    try:
        if request.content.is_eof():
            return await request.read()  # it is here already
        return await _patiently(request)
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error


def unpacked(body: bytes, coding: str) -> bytes:
    """A body without its Content-Encoding, of which gzip and deflate are known (RFC 9110, section 8.4.1).

    Raises:
        StatusError: 413, it is over MAX_BODY_BYTES once unpacked, of which no more is held; 400, 415.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity") or not body:
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        text = f"the body's Content-Encoding {coding!r} is not understood; send it plain, or as gzip"
        raise StatusError(415, "UnsupportedMediaType", text)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | _GZIP_OR_ZLIB)
    try:
        plain = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise bad_request(f"the body of the request is not {coding}: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise _too_large()
    if not unpacker.eof:
        raise bad_request(f"the body of the request is {coding} that is cut off")
    return plain


def _too_large() -> StatusError:
    text = f"Request entity too large: limit is {MAX_BODY_BYTES}"
    return StatusError(413, "RequestEntityTooLarge", text)


async def _patiently(request: web.Request) -> bytes:
    patience = asyncio.timeout(BODY_TIMEOUT_S)
    try:
        async with patience:
            return await request.read()
    except TimeoutError as error:
        if not patience.expired():
            raise
        text = f"the body of the request has not come within {BODY_TIMEOUT_S:.0f} s"
        raise StatusError(408, "Timeout", text) from error


async def read_object(request: web.Request, context: Context, *, is_decoded: bool = False) -> Object:
    """The body, which must be an object.

    Args:
        is_decoded: it goes through `api.decoding.accept`, which refuses duplicate keys and unknown fields
            together.

    Raises:
        StatusError: 400, 413, 415.
    """
    value = await read_value(request, context, is_decoded=is_decoded)
    if value is None:
        return {}  # null is an object of which nothing is said
    if not isinstance(value, dict):
        raise bad_request("the body of the request must be an object")
    return value


async def read_value(request: web.Request, context: Context, *, is_decoded: bool = False) -> Any:
    """The body by its content type; duplicate keys are dealt with as the context says.

    Raises:
        StatusError: 400, 413, 415.
    """
    body = await read_body(request)
    type = content_type(request)
    if type in _JSON_TYPES:
        return parse_json(body, context, is_decoded=is_decoded)
    if type in _YAML_TYPES:
        return parse_yaml(body)
    if type == PROTOBUF:
        return parse_protobuf(body)
    text = "the body of the request was in an unknown format - accepted media types include: "
    text += f"application/json, application/yaml, {PROTOBUF}"
    raise StatusError(415, "UnsupportedMediaType", text)


def parse_json(body: bytes, context: Context, *, is_decoded: bool = False) -> Any:
    """JSON to plain values.

    Raises:
        StatusError: 400, it is none, or a key stands twice and the context is strict.
    """
    if not body:
        raise bad_request("the request has no body")
    try:
        value = orjson.loads(body)
    except ValueError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from error
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
        raise bad_request(f"the body of the request is nested deeper than {MAX_DEPTH} levels")
    if context.field_validation is not FieldValidation.IGNORE:
        report_duplicates(body, value, context, is_decoded=is_decoded)
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Whether maps and lists are nested more than so many levels; walked without a stack of calls."""
    inner: list[Any] = [value]
    for _ in range(levels):
        inner = [
            child
            for one in inner
            if isinstance(one, (dict, list))
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, (dict, list))
        ]
        if not inner:
            return False
    return True


def parse_yaml(body: bytes) -> Any:
    """One YAML document to plain values.

    Raises:
        StatusError: 400.
    """
    from gitkube import yaml  # only few requests are YAML, and its parser takes time to load

    try:
        documents = yaml.parse(yaml.decode(body))
    except yaml.YamlError as error:
        raise bad_request(f"line {error.line}, column {error.column}: {error.message}") from error
    if len(documents) != 1:
        raise bad_request(f"the body of the request must be one YAML document, it has {len(documents)}")
    return documents[0].data


def parse_protobuf(body: bytes) -> Any:
    """A protobuf body to plain values.

    Raises:
        StatusError: 400; 415 for a kind that is only read as JSON here.
    """
    try:
        return protobuf.decode(body)
    except protobuf.UnknownKindError as error:
        text = f"{error} cannot be read as protobuf here; send application/json"
        raise StatusError(415, "UnsupportedMediaType", text) from error
    except protobuf.ProtobufError as error:
        raise bad_request(f"the body of the request is not protobuf: {error}") from error


def report_duplicates(body: bytes, value: Any, context: Context, *, is_decoded: bool = False) -> None:
    """Refuse keys that stand twice in an object (Strict), or warn of them (Warn).

    Args:
        value: what the body says, with the last of such keys.
        is_decoded: under Strict, only note them; see `read_object`.

    Raises:
        StatusError: 400.
    """
    found = False

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        result = dict(pairs)
        found = found or len(result) != len(pairs)
        return result

    if _writes_so(value, body):
        return
    try:
        json.loads(body, object_pairs_hook=check)
        if not found:
            return
        # Only now is it worth to keep all pairs, to say where they stand.
        tree = json.loads(body, object_pairs_hook=_Pairs)
        duplicates = [f'duplicate field "{path}"' for path in _duplicates(tree, "")][:_MAX_DUPLICATES]
    except RecursionError as error:
        raise bad_request("the body of the request is nested too deeply") from error
    if context.field_validation is FieldValidation.STRICT:
        if is_decoded:
            context.strict_problems.extend(duplicates)
            return
        raise bad_request("strict decoding error: " + ", ".join(duplicates))
    context.warnings.extend(duplicates)


def _writes_so(value: Any, body: bytes) -> bool:
    """Whether a body is the very text that its value is written as, which says each key once.

    So do most clients write: without spaces, and nothing escaped that need not be.
    """
    return orjson.dumps(value) == body.removesuffix(b"\n")


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, in order, with duplicates."""


def _duplicates(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen = set()
        for key, member in value:
            place = f"{path}.{key}" if path else key
            if key in seen:
                yield place
            seen.add(key)
            yield from _duplicates(member, place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _duplicates(item, f"{path}[{index}]")
