"""The one text of a time, as Kubernetes writes it once it has read it: UTC, whole seconds or six decimals.

Clients send times with offsets and fractions, and both are right (RFC 3339). What is stored must be in the
one form: Go clients cannot read a MicroTime without its six decimals, and a list that holds one breaks all of
it for them; and only texts of one form can be compared. Source: `MarshalJSON` of metav1.Time and MicroTime.
"""

from __future__ import annotations

from datetime import UTC, datetime

_SECONDS_LENGTH = len("2026-01-31T09:30:00Z")
_MICRO_LENGTH = len("2026-01-31T09:30:00.000000Z")


def canonical_time(text: str, *, is_micro: bool) -> str:
    """The text of the same moment, cut (not rounded) to its precision; `text` itself if it is no time.

    Args:
        is_micro: it is a MicroTime, with six decimals; a Time has none.
    """
    if len(text) == (_MICRO_LENGTH if is_micro else _SECONDS_LENGTH) and text[-1] == "Z":
        return text
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return text
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return text  # validation says what is wrong with it
    written = moment.replace(tzinfo=None, microsecond=moment.microsecond if is_micro else 0)
    return written.isoformat(timespec="microseconds" if is_micro else "seconds") + "Z"
