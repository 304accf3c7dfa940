"""What a request for a log asks for: PodLogOptions from the query, checked as Kubernetes checks them.

What is no number or no time is a bad request; a number out of its range makes the options invalid, each with
its field, as if they were an object.
"""

from __future__ import annotations

from gitkube.api.errors import bad_request, invalid
from gitkube.api.streams import LogOptions
from gitkube.clock import parse_rfc3339
from gitkube.server import queries

_MAX = 2**63 - 1
_NOT_NEGATIVE = "must be greater than or equal to 0"
_POSITIVE = "must be greater than 0"


def log_options(query: queries.Query, pod: str, container: str) -> LogOptions:
    """The options.

    Args:
        pod: its name, for refusals.

    Raises:
        StatusError: 400, something cannot be read; 422, it can, and makes no sense.
    """
    tail_lines = _number(query, "tailLines")
    since_seconds = _number(query, "sinceSeconds")
    limit_bytes = _number(query, "limitBytes")
    since_time = query.get("sinceTime", "")
    if since_time:
        try:
            parse_rfc3339(since_time)
        except ValueError as error:
            raise bad_request(f"sinceTime: {error}") from error
    causes = []
    if tail_lines is not None and tail_lines < 0:
        causes.append(_cause("tailLines", tail_lines, _NOT_NEGATIVE))
    if limit_bytes is not None and limit_bytes < 1:
        causes.append(_cause("limitBytes", limit_bytes, _POSITIVE))
    if since_seconds is not None and since_time:
        message = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append({"reason": "FieldValueForbidden", "message": message, "field": "[]"})
    elif since_seconds is not None and since_seconds < 1:
        causes.append(_cause("sinceSeconds", since_seconds, _POSITIVE))
    if causes:
        raise invalid("", "PodLogOptions", pod, causes)
    return LogOptions(
        container=container,
        follow=queries.flag(query, "follow"),
        previous=queries.flag(query, "previous"),
        timestamps=queries.flag(query, "timestamps"),
        tail_lines=tail_lines,
        since_seconds=since_seconds,
        since_time=since_time,
        limit_bytes=limit_bytes,
    )


def _number(query: queries.Query, name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(text) <= 20) or abs(int(text)) > _MAX:
        raise bad_request(f'{name}: parsing "{text}": invalid syntax')
    return int(text)


def _cause(field: str, value: int, why: str) -> dict[str, str]:
    return {"reason": "FieldValueInvalid", "message": f"Invalid value: {value}: {why}", "field": field}
