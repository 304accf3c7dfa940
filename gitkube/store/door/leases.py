"""etcd's Lease service.

Two answers of etcd's look odd and are kept, since clients read them: a lease that is gone is kept alive with
a TTL of 0, and has a time to live of -1, both without an error.
"""

from __future__ import annotations

from typing import Any

from gitkube.store.door.headers import Headers
from gitkube.store.etcd import errors
from gitkube.store.etcd.errors import EtcdError
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.protocol import LeaseId, LeaseNotFoundError, Store

MAX_TTL_S = 9_000_000_000
"""Beyond it etcd refuses."""


class LeaseService:
    """See the module's text."""

    def __init__(self, store: Store, headers: Headers) -> None:
        self._store = store
        self._headers = headers

    async def grant(self, request: Any) -> Any:
        if request.TTL > MAX_TTL_S:
            raise EtcdError(errors.LEASE_TTL_TOO_LARGE)
        lease = await self._store.lease_grant(request.TTL, LeaseId(request.ID))
        return rpc.LeaseGrantResponse(header=await self._headers.now(), ID=lease.id, TTL=lease.granted_ttl_s)

    async def revoke(self, request: Any) -> Any:
        await self._store.lease_revoke(LeaseId(request.ID))
        return rpc.LeaseRevokeResponse(header=await self._headers.now())

    async def keep_alive(self, context: Any) -> None:
        """A stream: each request is answered by one response."""
        while (data := await context.read()) is not grpc.aio.EOF:
            request = rpc.LeaseKeepAliveRequest.FromString(data)
            answer = rpc.LeaseKeepAliveResponse(ID=request.ID)
            try:
                answer.TTL = (await self._store.lease_keep_alive(LeaseId(request.ID))).granted_ttl_s
            except LeaseNotFoundError:
                answer.TTL = 0
            answer.header.CopyFrom(await self._headers.now())
            await context.write(answer.SerializeToString())

    async def time_to_live(self, request: Any) -> Any:
        answer = rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        try:
            lease = await self._store.lease_time_to_live(LeaseId(request.ID))
        except LeaseNotFoundError:
            answer.header.CopyFrom(await self._headers.now())
            return answer
        answer.TTL, answer.grantedTTL = int(lease.remaining_ttl_s), lease.granted_ttl_s
        if request.keys:
            answer.keys.extend(lease.keys)
        answer.header.CopyFrom(await self._headers.now())
        return answer

    async def leases(self, request: Any) -> Any:
        found = await self._store.leases()
        return rpc.LeaseLeasesResponse(
            header=await self._headers.now(), leases=[rpc.LeaseStatus(ID=each) for each in found]
        )
