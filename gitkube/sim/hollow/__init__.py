"""Hollow hosts: machines that speak the agent's protocol and run nothing.

To the control side a hollow host is a host: `HollowHosts` is the dialer that `fleet.Fleet` takes instead of
SSH, and at the other end of each pipe a `HollowHost` answers with the frames of `wire`. Between the two
nothing is pretended: sections, terms, reports and the Node are the real ones. What is pretended is the
containers: `pod.py` says when one starts, becomes ready, ends and goes, by the clock that it is given.

So they serve three ends: trying the API without machines, tests of the control side in memory, and runs with
thousands of hosts (Kubernetes calls the same idea kubemark).

Read `pod`, then `host`, then `hosts`. Invariant: a hollow host knows only what came down its pipe.
"""

from __future__ import annotations

from gitkube.sim.hollow.hosts import HollowHosts
from gitkube.sim.hollow.settings import HollowSettings

__all__ = ["HollowHosts", "HollowSettings"]
