"""etcd's Cluster and Maintenance services over a `StoreAdmin`, and what is refused with a sentence.

A member of ours has one peer address, HOST:PORT, reached over mutual TLS; etcd's words for it are a list of
URLs. Whatever of etcd's has no counterpart here answers UNIMPLEMENTED and says what to use instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from gitkube.store.door.headers import Headers
from gitkube.store.etcd import errors
from gitkube.store.etcd.errors import EtcdError, EtcdStatus
from gitkube.store.etcd.wire import grpc, rpc
from gitkube.store.protocol import MemberInfo, MembershipError, Revision, Store, StoreAdmin

API_VERSION = "3.4.0"
"""Of etcd's API that this door speaks; clients choose by it what they may ask."""

NO_SNAPSHOT = (
    "etcdserver: a snapshot in etcd's file format is not supported, as this store does not keep one; "
    "`gitkube store backup FILE` makes a backup and `gitkube store restore FILE` reads it"
)
NO_AUTH = (
    "etcdserver: users and roles are not supported by this store; "
    "its door admits whoever has a client certificate of the cluster"
)
NO_DOWNGRADE = (
    "etcdserver: a downgrade is not supported by this store; restore a backup with the older version"
)

_ALARMS = {"NOSPACE": 1, "CORRUPT": 2}
_GET, _ACTIVATE, _DEACTIVATE = 0, 1, 2


def unimplemented(sentence: str) -> EtcdError:
    """The refusal of what has no counterpart here."""
    return EtcdError(EtcdStatus(grpc.StatusCode.UNIMPLEMENTED, sentence))


class ClusterService:
    """Members: list, add, remove, update, promote."""

    def __init__(self, admin: StoreAdmin, headers: Headers) -> None:
        self._admin = admin
        self._headers = headers

    async def list(self, request: Any) -> Any:
        return rpc.MemberListResponse(header=await self._headers.now(), members=await self._members())

    async def add(self, request: Any) -> Any:
        address = peer_address(request.peerURLs)
        # etcd's request has no name: a member gets one when it starts. Until then its address is its name.
        member = await self._admin.member_add(address, address, is_learner=request.isLearner)
        return rpc.MemberAddResponse(
            header=await self._headers.now(), member=_member_message(member), members=await self._members()
        )

    async def remove(self, request: Any) -> Any:
        await self._find(request.ID)
        await self._admin.member_remove(request.ID)
        return rpc.MemberRemoveResponse(header=await self._headers.now(), members=await self._members())

    async def update(self, request: Any) -> Any:
        await self._find(request.ID)
        await self._admin.member_update(request.ID, peer_address=peer_address(request.peerURLs))
        return rpc.MemberUpdateResponse(header=await self._headers.now(), members=await self._members())

    async def promote(self, request: Any) -> Any:
        if not (await self._find(request.ID)).is_learner:
            raise EtcdError(errors.MEMBER_NOT_LEARNER)
        await self._admin.member_promote(request.ID)
        return rpc.MemberPromoteResponse(header=await self._headers.now(), members=await self._members())

    async def _find(self, member_id: int) -> MemberInfo:
        for member in await self._admin.members():
            if member.id == member_id:
                return member
        raise EtcdError(errors.MEMBER_NOT_FOUND)

    async def _members(self) -> Sequence[Any]:
        return [_member_message(member) for member in await self._admin.members()]


class MaintenanceService:
    """Status, alarms, hashes, leadership; defragmentation is a no-op, as nothing here gets fragmented."""

    def __init__(self, store: Store, admin: StoreAdmin, headers: Headers) -> None:
        self._store = store
        self._admin = admin
        self._headers = headers

    async def status(self, request: Any) -> Any:
        status = await self._store.status()
        self._headers.learn(status)
        return rpc.StatusResponse(
            header=self._headers.at(status.revision),
            version=API_VERSION,
            dbSize=status.size_bytes,
            dbSizeInUse=status.live_bytes,
            leader=status.leader_id,
            raftIndex=status.last_index,
            raftAppliedIndex=status.applied_index,
            raftTerm=status.term,
            isLearner=status.is_learner,
            errors=self._complaints(status.leader_id, status.alarms),
        )

    def _complaints(self, leader_id: int, alarms: Sequence[str]) -> Sequence[str]:
        return [*([] if leader_id else [errors.NO_LEADER.text]), *(f"alarm:{each}" for each in alarms)]

    async def alarm(self, request: Any) -> Any:
        if request.action == _ACTIVATE:
            raise unimplemented(
                "etcdserver: an alarm is raised by its cause only; it can be listed and disarmed"
            )
        status = await self._store.status()
        member_id = status.member_id
        raised = [each for each in status.alarms if request.alarm in (0, _ALARMS.get(each, 0))]
        if request.action == _DEACTIVATE and raised:
            await self._admin.disarm()
        # As etcd, which answers a disarming with the alarms that it lifted.
        return rpc.AlarmResponse(
            header=await self._headers.now(),
            alarms=[rpc.AlarmMember(memberID=member_id, alarm=_ALARMS.get(each, 0)) for each in raised],
        )

    async def defragment(self, request: Any) -> Any:
        return rpc.DefragmentResponse(header=await self._headers.now())

    async def hash(self, request: Any) -> Any:
        found = await self._admin.hash()
        return rpc.HashResponse(header=self._headers.at(found.revision), hash=found.hash & 0xFFFFFFFF)

    async def hash_kv(self, request: Any) -> Any:
        found = await self._admin.hash(Revision(request.revision))
        return rpc.HashKVResponse(
            header=await self._headers.now(),
            hash=found.hash & 0xFFFFFFFF,
            compact_revision=found.compact_revision,
        )

    async def move_leader(self, request: Any) -> Any:
        if not (await self._store.status()).is_leader:
            raise EtcdError(errors.NOT_LEADER)
        try:
            await self._admin.transfer_leadership(request.targetID)
        except MembershipError as error:
            raise EtcdError(errors.BAD_LEADER_TRANSFEREE) from error
        return rpc.MoveLeaderResponse(header=await self._headers.now())


def peer_address(urls: Sequence[str]) -> str:
    """HOST:PORT of the one peer URL that a member of ours has.

    Raises:
        EtcdError: it is none, or there is not exactly one.
    """
    if len(urls) == 1:
        parts = urlsplit(urls[0])
        try:
            if parts.scheme in ("http", "https") and parts.hostname and parts.port:
                return parts.netloc
        except ValueError:
            pass  # the port is no number: refused below like all that is no URL
    raise EtcdError(errors.MEMBER_BAD_URLS)


def _member_message(member: MemberInfo) -> Any:
    return rpc.Member(
        ID=member.id,
        name=member.name,
        peerURLs=[f"https://{member.peer_address}"] if member.peer_address else [],
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )
