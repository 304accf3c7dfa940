"""What goes wrong in a host's network, said to the person who must act."""

from __future__ import annotations


class NetworkError(Exception):
    """A sentence with what failed on this host, why, and what to do about it."""
