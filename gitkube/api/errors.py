"""The API's errors: each is a Kubernetes `Status`, whoever raises it and whoever catches it.

In the process they travel as exceptions; `server/` turns them into HTTP answers at one place, and the HTTP
client turns answers back into the same exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class StatusError(Exception):
    """A request that was not done, with the reason in Kubernetes' words."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
        continue_token: str = "",
    ) -> None:
        """
        Args:
            continue_token: with which a list that cannot go on as one picture may go on all the same.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s
        self.continue_token = continue_token
        self.warnings: list[str] = []
        """What the client is warned of besides."""

    def to_status(self) -> dict[str, Any]:
        """The `v1.Status` object that clients get."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:  # a webhook may refuse without one
            status["reason"] = self.reason
        details = dict(self.details or {})
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        if details or self.details is not None:
            status["details"] = details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: dict[str, Any]) -> StatusError:
        """The exception of a `v1.Status` that came over HTTP."""
        details = status.get("details") or None
        return cls(
            int(status.get("code") or 500),
            status.get("reason") or "Unknown",
            status.get("message") or "the server gave no message",
            details=details,
            retry_after_s=(details or {}).get("retryAfterSeconds"),
            continue_token=(status.get("metadata") or {}).get("continue") or "",
        )


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.code == 404


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "Conflict"


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "AlreadyExists"


def is_gone(error: BaseException) -> bool:
    """The resourceVersion is too old: list again."""
    return isinstance(error, StatusError) and error.code == 410


def is_outage(error: StatusError) -> bool:
    """Nothing can be asked of the API now: the same request may be made again later.

    A webhook that fails is none, although it answers 500: it stops this object, and others go on.
    """
    return error.code == 429 or (error.code >= 500 and error.reason != "InternalError")


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def not_found(group: str, resource: str, name: str) -> StatusError:
    qualified = f"{resource}.{group}" if group else resource
    details = _details(group, resource, name)
    return StatusError(404, "NotFound", f'{qualified} "{name}" not found', details=details)


def already_exists(group: str, resource: str, name: str) -> StatusError:
    qualified = f"{resource}.{group}" if group else resource
    details = _details(group, resource, name)
    return StatusError(409, "AlreadyExists", f'{qualified} "{name}" already exists', details=details)


def conflict(group: str, resource: str, name: str, why: str) -> StatusError:
    qualified = f"{resource}.{group}" if group else resource
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return StatusError(409, "Conflict", message, details=_details(group, resource, name))


def forbidden(group: str, resource: str, name: str, why: str) -> StatusError:
    qualified = f"{resource}.{group}" if group else resource
    shown = name.replace("\\", "\\\\").replace('"', '\\"')
    subject = f'{qualified} "{shown}"' if name else qualified
    details = _details(group, resource, name)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def invalid(group: str, kind: str, name: str, causes: Sequence[Mapping[str, object]]) -> StatusError:
    """422 with one cause a mistake; a cause is `{"reason", "message", "field"}`."""
    texts = [f"{cause['field']}: {cause['message']}" for cause in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind, "causes": list(causes)}
    details = {key: value for key, value in details.items() if value}
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {joined}', details=details)


def gone(message: str, continue_token: str = "") -> StatusError:
    return StatusError(410, "Expired", message, continue_token=continue_token)


def internal(message: str) -> StatusError:
    """500, in the form that Kubernetes gives what went wrong at the server's side."""
    text = f"Internal error occurred: {message}"
    return StatusError(500, "InternalError", text, details={"causes": [{"message": message}]})


def unavailable(message: str, retry_after_s: int = 1) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message, retry_after_s=retry_after_s)


def store_is_full(why: Exception) -> StatusError:
    """The store's quota is reached. Nobody need try again before somebody has made room."""
    text = f"nothing can be written: {why} (docs/how-to/disaster.md: The quota is reached)"
    return StatusError(507, "InsufficientStorage", text)


def _details(group: str, resource: str, name: str) -> dict[str, Any]:
    return {key: value for key, value in {"name": name, "group": group, "kind": resource}.items() if value}
