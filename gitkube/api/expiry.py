"""Objects that end by themselves: Events.

One lease of the store holds the Events of several minutes, so that a thousand Events cost one lease and
their end is one transaction. Leases are never kept alive; each lives for the Events' time and a bit, and is
replaced by a new one long before its end.
"""

from __future__ import annotations

import asyncio

from gitkube.api.errors import store_is_full, unavailable
from gitkube.api.settings import ApiSettings
from gitkube.clock import Clock
from gitkube.store.protocol import NO_LEASE, LeaseId, NoSpaceError, Store, UnavailableError

_SHARED_PART = 10
"""A lease takes new objects for this part of its time: 6 minutes of an hour."""


class ExpiringLease:
    def __init__(self, store: Store, clock: Clock, settings: ApiSettings) -> None:
        self._store = store
        self._clock = clock
        self._ttl_s = settings.event_ttl_s
        self._lease = NO_LEASE
        self._closes_at_s = 0.0
        self._granting = asyncio.Lock()

    async def current(self) -> LeaseId:
        """The lease for what is written now.

        Raises:
            StatusError: 503, the store is away; 507, it is full.
        """
        async with self._granting:
            if self._clock.monotonic() >= self._closes_at_s:
                shared_s = self._ttl_s / _SHARED_PART
                try:
                    lease = await self._store.lease_grant(int(self._ttl_s + shared_s))
                except NoSpaceError as error:
                    raise store_is_full(error) from error
                except UnavailableError as error:
                    raise unavailable(f"the store is not available: {error}") from error
                self._lease = lease.id
                self._closes_at_s = self._clock.monotonic() + shared_s
            return self._lease
