"""A plain gRPC client for the door that speaks etcd's protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from gitkube.store.etcd.wire import election, grpc, lock, rpc, service_methods

DEADLINE_S = 60.0
RECIPES = {
    "/v3lockpb.Lock/Lock": (lock.LockRequest, lock.LockResponse),
    "/v3lockpb.Lock/Unlock": (lock.UnlockRequest, lock.UnlockResponse),
    "/v3electionpb.Election/Campaign": (election.CampaignRequest, election.CampaignResponse),
    "/v3electionpb.Election/Proclaim": (election.ProclaimRequest, election.ProclaimResponse),
    "/v3electionpb.Election/Leader": (election.LeaderRequest, election.LeaderResponse),
    "/v3electionpb.Election/Resign": (election.ResignRequest, election.ResignResponse),
}


class Client:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        )

    async def call(self, path: str, **fields: Any) -> Any:
        if path in RECIPES:
            request, response = RECIPES[path]
        else:
            service, method = path.removeprefix("/etcdserverpb.").split("/")
            request, response = service_methods(service)[method]
        method = self.channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return await method(request(**fields), timeout=DEADLINE_S)

    def watch(self) -> WatchClient:
        return WatchClient(
            self.channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=rpc.WatchRequest.SerializeToString,
                response_deserializer=rpc.WatchResponse.FromString,
            )()
        )


class WatchClient:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def create(self, key: bytes, end: bytes = b"", **fields: Any) -> Any:
        create = rpc.WatchCreateRequest(key=key, range_end=end, **fields)
        await self._call.write(rpc.WatchRequest(create_request=create))
        created = await self.read()
        assert created.created
        return created

    async def write(self, **fields: Any) -> None:
        await self._call.write(rpc.WatchRequest(**fields))

    async def read(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await self._call.read()

    def close(self) -> None:
        self._call.cancel()
