"""The format library: names of formats that Kubernetes checks, `format.dns1123Label().validate(text)`.

`validate` gives an optional list of what is wrong, none when the text fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from gitkube.objects.cel.budget import Budget
from gitkube.objects.cel.errors import CelEvaluationError
from gitkube.objects.cel.functions.times import parse_timestamp
from gitkube.objects.cel.functions.urls import _parsed as parsed_url
from gitkube.objects.cel.registry import function, method
from gitkube.objects.cel.values import NONE, Optional

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


@dataclass(frozen=True)
class Format:
    type_name: ClassVar[str] = "kubernetes.NamedFormat"
    name: str


def _by_pattern(pattern: re.Pattern[str], limit: int, why: str) -> Callable[[str], list[str]]:
    def check(text: str) -> list[str]:
        if len(text) > limit:
            return [f"must be no more than {limit} characters"]
        return [] if pattern.fullmatch(text) else [why]

    return check


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    # What goes before a generated suffix may end with a dash.
    return lambda text: check(text[:-1] + "a" if text.endswith("-") else text)


def _qualified_name(text: str) -> list[str]:
    prefix, slash, name = text.rpartition("/")
    if slash and (problems := _subdomain(prefix)):
        return [f"prefix part {problem}" for problem in problems]
    if not name or len(name) > 63:
        return ["name part must be no more than 63 characters" if name else "name part must be non-empty"]
    if _QUALIFIED.fullmatch(name):
        return []
    return [
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character"
    ]


def _label_value(text: str) -> list[str]:
    if not text:
        return []
    why = (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
        "must start and end with an alphanumeric character"
    )
    return _by_pattern(_QUALIFIED, 63, why)(text)


def _uri(text: str) -> list[str]:
    return [] if parsed_url(text) is not None else ["invalid URI"]


def _date_time(text: str) -> list[str]:
    try:
        parse_timestamp(Budget(1), text)
    except CelEvaluationError:
        return ["invalid datetime"]
    return []


_label = _by_pattern(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character",
)
_label_1035 = _by_pattern(
    _LABEL_1035,
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character",
)
_subdomain = _by_pattern(
    _SUBDOMAIN,
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character",
)

_CHECKS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": _label,
    "dns1123LabelPrefix": _prefix(_label),
    "dns1035Label": _label_1035,
    "dns1035LabelPrefix": _prefix(_label_1035),
    "dns1123Subdomain": _subdomain,
    "dns1123SubdomainPrefix": _prefix(_subdomain),
    "qualifiedName": _qualified_name,
    "labelValue": _label_value,
    "uri": _uri,
    "uuid": _by_pattern(_UUID, 36, "does not match the UUID format"),
    "byte": _by_pattern(_BASE64, 1 << 24, "invalid base64"),
    "date": _by_pattern(_DATE, 10, "invalid date"),
    "datetime": _date_time,
}


def _register(name: str) -> None:
    @function(f"format.{name}", result="kubernetes.NamedFormat")
    def named(budget: Budget) -> Format:
        return Format(name)


for _name in _CHECKS:
    _register(_name)


@function("format.named", str, result="optional_type")
def _named(budget: Budget, name: str) -> Optional:
    return Optional(True, Format(name)) if name in _CHECKS else NONE


@method("validate", Format, str, result="optional_type")
def _validate(budget: Budget, format: Format, text: str) -> Any:
    budget.spend_text(len(text))
    problems = _CHECKS[format.name](text)
    return Optional(True, problems) if problems else NONE
