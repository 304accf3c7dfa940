"""What can go wrong between the control side and a host, told for the person who must act.

Two families: what time may heal (`HostUnreachable`, `PrepareError`), tried again with a growing pause, and
what only a person may decide (`HostStopped`), never tried again on its own.
"""

from __future__ import annotations


class FleetError(Exception):
    """A sentence about one host. `reason` is one word, for conditions and events."""

    reason = "Unknown"


class HostUnreachable(FleetError):
    """No connection: network, sshd, or a login that is refused."""

    reason = "Unreachable"


class LoginRefused(HostUnreachable):
    """The host was reached, and did not let us in."""

    reason = "LoginRefused"


class PrepareError(FleetError):
    """The host was reached and cannot be made ready."""

    reason = "NotPrepared"


class LinkLost(FleetError):
    """The link was up and ended."""

    reason = "LinkLost"


class HostStopped(FleetError):
    """Not tried again until a person has changed something."""

    reason = "Stopped"


class HostKeyChanged(HostStopped):
    """The host shows another key than the one pinned."""

    reason = "HostKeyChanged"


class OlderTerm(FleetError):
    """The host obeys a leader that was elected after us."""

    reason = "OlderTerm"
