"""Query parameters to options, with Kubernetes' rules of reading them, and a clear 400 for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitkube.api.authorization import User
from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError, bad_request, invalid
from gitkube.api.reads import selected_name
from gitkube.api.requests import Context, DeleteOptions, FieldValidation, ListOptions, WatchOptions
from gitkube.api.subresources import preconditions_of

MAX_FIELD_MANAGER = 128
Query = Mapping[str, str]


def flag(query: Query, name: str) -> bool:
    """As Kubernetes reads booleans: present is true, unless it says "false" or "0"."""
    value = query.get(name)
    return value is not None and value.lower() not in ("false", "0")


_OPTIONS = {
    "POST": "CreateOptions",
    "PUT": "UpdateOptions",
    "PATCH": "PatchOptions",
    "DELETE": "DeleteOptions",
}


def request_context(query: Query, user: User, user_agent: str, method: str = "POST") -> Context:
    """Who asks and how.

    Raises:
        StatusError: 400, 422, a parameter has a value that it cannot have.
    """
    options = _OPTIONS.get(method, "CreateOptions")
    dry_run = query.get("dryRun")
    # A DELETE may say it in its body instead, and then the body counts.
    if dry_run not in (None, "All") and method != "DELETE":
        text = f'Unsupported value: "{dry_run}": supported values: "All"'
        raise _invalid_option("dryRun", text, options, reason="FieldValueNotSupported")
    validation = query.get("fieldValidation") or FieldValidation.WARN.value
    try:
        field_validation = FieldValidation(validation)
    except ValueError:
        text = f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
        raise _invalid_option("fieldValidation", text, options, reason="FieldValueNotSupported") from None
    manager = query.get("fieldManager", "")
    if len(manager) > MAX_FIELD_MANAGER:
        text = f"Too long: may not be more than {MAX_FIELD_MANAGER} bytes"
        raise _invalid_option("fieldManager", text, options, reason="FieldValueTooLong")
    if not manager.isprintable():
        text = "Invalid value: should only contain printable characters"
        raise _invalid_option("fieldManager", text, options)
    return Context(
        user=user,
        field_manager=manager or manager_of(user_agent) or "unknown",
        named_manager=manager,
        dry_run=dry_run == "All",
        field_validation=field_validation,
    )


def manager_of(user_agent: str) -> str:
    """The field manager of a client that names none: its User-Agent up to the first slash."""
    before = user_agent.partition("/")[0]
    if before.isprintable():
        return before[:MAX_FIELD_MANAGER]
    return "".join(character for character in before if character.isprintable())[:MAX_FIELD_MANAGER]


def whole_number(query: Query, name: str) -> int | None:
    """A whole number of either sign; None when it is not given.

    Raises:
        StatusError: 400, it is no such number.
    """
    text = query.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise bad_request(f"the query parameter {name} must be a whole number: {text!r}")
    return int(text)


def list_options(query: Query) -> ListOptions:
    """Options of a list.

    Raises:
        StatusError: 400, 422.
    """
    if "sendInitialEvents" in query:
        text = "Forbidden: sendInitialEvents is forbidden for list"
        raise _invalid_option("sendInitialEvents", text, "ListOptions", reason="FieldValueForbidden")
    whole_number(query, "timeoutSeconds")  # not needed, but a wrong one is a mistake
    return ListOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        limit=max(0, whole_number(query, "limit") or 0),
        continue_token=query.get("continue", ""),
        resource_version=query.get("resourceVersion", ""),
        resource_version_match=query.get("resourceVersionMatch", ""),
    )


def watch_options(query: Query, name: str = "") -> WatchOptions:
    """Options of a watch; `name` narrows it to one object.

    Raises:
        StatusError: 422, the combination is one that Kubernetes refuses; 400, the selector is about another
            object than `name`.
    """
    send_initial_events = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    match = query.get("resourceVersionMatch", "")
    causes = []
    if send_initial_events is not None and match != "NotOlderThan":
        text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(_cause("resourceVersionMatch", text, "FieldValueForbidden"))
    if match and send_initial_events is None:
        text = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(_cause("resourceVersionMatch", text, "FieldValueForbidden"))
    elif match not in ("", "NotOlderThan"):
        text = f'Unsupported value: "{match}": supported values: "NotOlderThan"'
        causes.append(_cause("resourceVersionMatch", text, "FieldValueNotSupported"))
    if match and query.get("continue"):
        text = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
        causes.append(_cause("resourceVersionMatch", text, "FieldValueForbidden"))
    if causes:
        raise invalid("meta.k8s.io", "ListOptions", "", causes)
    selector = query.get("fieldSelector", "")
    if name and selector:
        if selected_name(selector) != name:
            raise bad_request("fieldSelector metadata.name doesn't match requested name")
    elif name:
        selector = f"metadata.name={name}"
    return WatchOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=selector,
        resource_version=query.get("resourceVersion", ""),
        bookmarks=flag(query, "allowWatchBookmarks"),
        send_initial_events=send_initial_events,
    )


def delete_options(query: Query, body: Mapping[str, Any] | None) -> tuple[DeleteOptions, bool]:
    """Options of a deletion, from its body or else from the query; and whether it is a dry run.

    Raises:
        StatusError: 400, 422.
    """
    # Without a body, the query says them.
    uid, resource_version = preconditions_of(query if body is None else body.get("preconditions"))
    body = body or {}
    propagation = body.get("propagationPolicy")
    if propagation is None:
        propagation = query.get("propagationPolicy")
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = flag(query, "orphanDependents")
    if orphan is not None and propagation is not None:
        text = "Invalid value: orphanDependents and deletionPropagation cannot be both set"
        raise _invalid_option("propagationPolicy", text, "DeleteOptions")
    if orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    grace = body.get("gracePeriodSeconds")
    if grace is None:
        grace = whole_number(query, "gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise bad_request("gracePeriodSeconds must be a whole number of seconds")
    dry_run = body.get("dryRun") or []
    if not body and "dryRun" in query:
        dry_run = [query["dryRun"]]
    if not isinstance(dry_run, list) or any(word != "All" for word in dry_run):
        text = f'Unsupported value: {dry_run}: supported values: "All"'
        raise _invalid_option("dryRun", text, "DeleteOptions", reason="FieldValueNotSupported")
    options = DeleteOptions(
        propagation=_propagation(propagation),
        grace_period_s=grace,
        uid=uid,
        resource_version=resource_version,
    )
    return options, bool(dry_run)


def _propagation(text: str | None) -> Propagation | None:
    if text is None:
        return None
    try:
        return Propagation(text)
    except ValueError:
        why = f'Unsupported value: "{text}": supported values: "Foreground", "Background", "Orphan", "nil"'
        raise _invalid_option(
            "propagationPolicy", why, "DeleteOptions", reason="FieldValueNotSupported"
        ) from None


def _invalid_option(
    field: str, message: str, options: str = "CreateOptions", *, reason: str = "FieldValueInvalid"
) -> StatusError:
    return invalid("meta.k8s.io", options, "", [_cause(field, message, reason)])


def _cause(field: str, message: str, reason: str) -> dict[str, str]:
    return {"reason": reason, "message": message, "field": field}
