"""Checks of probes and lifecycle hooks: exactly one handler, complete, with sensible numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.objects import names
from gitkube.objects.validation.causes import Causes

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)


def check_probe(causes: Causes, probe: Mapping[str, Any], path: str, *, may_recover: bool) -> None:
    """`may_recover` is true for readiness, which may ask for several successes in a row."""
    check_handler(causes, probe, path, is_probe=True)
    for field in _NUMBERS:
        causes.not_negative(f"{path}.{field}", probe.get(field))
    grace_s = probe.get("terminationGracePeriodSeconds")
    if grace_s is not None:
        if may_recover:
            where = f"{path}.terminationGracePeriodSeconds"
            causes.invalid(where, grace_s, "must not be set for readinessProbes")
        elif grace_s <= 0:
            causes.invalid(f"{path}.terminationGracePeriodSeconds", grace_s, "must be greater than 0")
    if not may_recover and probe.get("successThreshold") not in (None, 1):
        causes.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def check_handler(causes: Causes, handler: Mapping[str, Any], path: str, *, is_probe: bool) -> None:
    handlers = _PROBE_HANDLERS if is_probe else _HOOK_HANDLERS
    given = [field for field in handlers if handler.get(field) is not None]
    if not given:
        causes.required(path, "must specify a handler type")
    for field in given[1:]:
        causes.forbidden(f"{path}.{field}", "may not specify more than 1 handler type")
    for field in given[:1]:
        _check_one(causes, field, handler[field], f"{path}.{field}")


def _check_one(causes: Causes, kind: str, handler: Mapping[str, Any], path: str) -> None:
    match kind:
        case "exec":
            if not handler.get("command"):
                causes.required(f"{path}.command")
        case "httpGet":
            if not handler.get("path"):
                causes.required(f"{path}.path")
            check_port(causes, handler.get("port"), f"{path}.port")
            causes.one_of(f"{path}.scheme", handler.get("scheme"), ("HTTP", "HTTPS"), is_required=False)
            for index, header in enumerate(handler.get("httpHeaders") or ()):
                if not _is_header_name(header.get("name") or ""):
                    causes.invalid(
                        f"{path}.httpHeaders",
                        header.get("name") or "",
                        "a valid HTTP header must consist of alphanumeric characters or '-' "
                        "(e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                    )
                if "\n" in (header.get("value") or ""):
                    causes.invalid(f"{path}.httpHeaders[{index}].value", header["value"], "must be one line")
        case "tcpSocket":
            check_port(causes, handler.get("port"), f"{path}.port")
        case "grpc":
            check_port(causes, handler.get("port"), f"{path}.port")


def check_port(causes: Causes, port: Any, path: str) -> None:
    """A port by number or by name."""
    if port is None:
        causes.required(path)
    elif isinstance(port, int):
        causes.invalids(path, port, names.port_number(port))
    else:
        causes.invalids(path, port, names.port_name(port))


def _is_header_name(text: str) -> bool:
    return bool(text) and all(
        character.isascii() and (character.isalnum() or character == "-") for character in text
    )
