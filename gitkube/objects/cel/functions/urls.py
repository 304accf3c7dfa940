"""The URL library: `url`, `isURL` and the parts of a URL, read as Go's `url.ParseRequestURI`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.registry import function, method

_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?:[^/?#@]*@)?(?P<host>\[[^\]/?#]*\]|[^:/?#]*)"
    r"(?::(?P<port>[0-9]*))?)?(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_WRONG_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Url:
    """The parts of a URL."""

    type_name: ClassVar[str] = "kubernetes.URL"
    scheme: str
    host: str
    port: str
    path: str
    query: str


def _parsed(text: str) -> Url | None:
    match = _URL.fullmatch(text)
    if match is None or _FORBIDDEN.search(text) or not text or _WRONG_ESCAPE.search(text.split("?")[0]):
        return None
    scheme, path = match["scheme"], match["path"] or ""
    is_absolute = scheme is not None and (match["host"] is not None or path)
    if not is_absolute and not text.startswith("/"):
        return None
    if not is_absolute and match["host"] is not None:
        return Url("", "", "", text.split("?")[0], match["query"] or "")
    return Url((scheme or "").lower(), match["host"] or "", match["port"] or "", path, match["query"] or "")


@function("url", str, result="kubernetes.URL")
def _url(budget: Budget, text: str) -> Url:
    budget.spend_text(len(text))
    parsed = _parsed(text)
    if parsed is None:
        raise CelEvaluationError(
            f'URL parse error during conversion from string: parse "{text[:256]}": invalid URI for request'
        )
    return parsed


@function("isURL", str, result="bool")
def _is_url(budget: Budget, text: str) -> bool:
    budget.spend_text(len(text))
    return _parsed(text) is not None


@method("getScheme", Url, result="string")
def _scheme(budget: Budget, url: Url) -> str:
    return url.scheme


@method("getHost", Url, result="string")
def _host(budget: Budget, url: Url) -> str:
    return f"{url.host}:{url.port}" if url.port else url.host


@method("getHostname", Url, result="string")
def _hostname(budget: Budget, url: Url) -> str:
    return url.host.strip("[]")


@method("getPort", Url, result="string")
def _port(budget: Budget, url: Url) -> str:
    return url.port


@method("getEscapedPath", Url, result="string")
def _escaped_path(budget: Budget, url: Url) -> str:
    return quote(unquote(url.path), safe="/$&+,:;=@!'()*~")


@method("getQuery", Url, result="map")
def _query(budget: Budget, url: Url) -> dict[str, list[str]]:
    budget.spend_text(len(url.query))
    try:
        return parse_qs(url.query, keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise CelEvaluationError("URL parse error: too many query parameters") from error
