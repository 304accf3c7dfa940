"""Who takes part, who leads, what is kept elsewhere: the `StoreAdmin` protocol over an `Engine`.

Changes of the members are decided by the leader, because only it knows who is alive and how far behind; any
other member passes the request on. A change that would leave the cluster without a quorum is refused before
it is proposed: afterwards there would be nobody left to undo it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import structlog

from gitkube.store.backup import encode_backup
from gitkube.store.engine import Engine
from gitkube.store.membership import change_of, info_from_list, info_to_list, removal_of
from gitkube.store.mvcc import NOW
from gitkube.store.protocol import (
    MemberInfo,
    MembershipError,
    Revision,
    StateHash,
    UnavailableError,
)
from gitkube.store.raft import ProposalDropped
from gitkube.store.raft.types import ConfChange, ConfChangeKind, MemberId
from gitkube.store.replica import Replica

log = structlog.get_logger()

MAX_LAG_ENTRIES = 1000
"""A learner that lacks more than this would hold up every write as a voter."""


class Administration:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _replica(self) -> Replica:
        return self._engine.replica

    # ------------------------------------------------------------------ StoreAdmin

    async def members(self) -> Sequence[MemberInfo]:
        """Those in force, by name."""
        self._engine.check_alive()
        return sorted(self._replica.membership.members.values(), key=lambda info: (info.name, info.id))

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        info = MemberInfo(
            self._engine.rng.getrandbits(62) + 1, name, peer_address, tuple(client_urls), is_learner
        )
        return info_from_list(await self._engine.leadership.ask("member_add", [info_to_list(info)]))

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        urls = None if client_urls is None else list(client_urls)
        return info_from_list(
            await self._engine.leadership.ask("member_update", [member, peer_address, urls])
        )

    async def member_promote(self, member: int) -> MemberInfo:
        return info_from_list(await self._engine.leadership.ask("member_promote", [member]))

    async def member_remove(self, member: int) -> None:
        try:
            await self._engine.leadership.ask("member_remove", [member])
        except UnavailableError:
            # A member that asks for its own removal is hung up on by those who have done it.
            if member != self._replica.identity.member_id or not self._engine.was_refused:
                raise

    async def transfer_leadership(self, member: int = 0) -> int:
        await self._engine.leadership.ask("transfer_leadership", [member])
        return self._engine.leadership.leader_id

    async def backup(self) -> AsyncIterator[bytes]:
        """The whole state as one file, in pieces, as it was when the first was asked for."""
        await self._engine.current()
        replica = self._replica
        meta, parts = await self._engine.between_turns(replica.take_snapshot)
        pieces = encode_backup(replica.identity, meta, parts, created_s=int(self._engine.clock.now()))
        while piece := await self._engine.disk_work.in_thread(next, pieces, b""):
            yield piece

    async def hash(self, revision: Revision = NOW) -> StateHash:
        self._engine.check_alive()
        return self._replica.space.hash_at(revision)

    async def disarm(self) -> None:
        for alarm in self._replica.space.alarms:
            await self._engine.propose(replace(alarm, is_raised=False))

    # ------------------------------------------------------------------ on the leader

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        """Answer a request that was passed on to the leader.

        Raises:
            MembershipError: it would do harm, or names a member that is not there.
            UnavailableError: this member does not lead (any more), or knows no such request.
        """
        if method == "hash":
            found = await self.hash(Revision(arguments[0]))
            return [found.revision, found.compact_revision, found.hash]
        if not self._engine.is_leader:
            raise UnavailableError("this member does not lead any more")
        match method, list(arguments):
            case "member_add", [item]:
                return info_to_list(await self._add(info_from_list(item)))
            case "member_update", [member, address, urls]:
                return info_to_list(await self._update(self._member(member), address, urls))
            case "member_promote", [member]:
                return info_to_list(await self._promote(self._member(member)))
            case "member_remove", [member]:
                return await self._remove(self._member(member))
            case "transfer_leadership", [member]:
                return await self._transfer(member)
        raise UnavailableError(f"another member asks for {method!r}, which this version does not know")

    def _member(self, member: int) -> MemberInfo:
        info = self._replica.membership.members.get(member)
        if info is None:
            names = ", ".join(
                f"{each.name} ({each.id:x})" for each in self._replica.membership.members.values()
            )
            raise MembershipError(f"there is no member {member:x}; there are {names}")
        return info

    async def _add(self, info: MemberInfo) -> MemberInfo:
        for each in self._replica.membership.members.values():
            if each.id == info.id:
                return each  # asked again: the answer to the first time was lost
            if info.name == each.name or (info.peer_address and info.peer_address == each.peer_address):
                raise MembershipError(
                    f"member {each.name} ({each.id:x}) has that name or address ({each.peer_address}); "
                    "remove it first if it is gone for good"
                )
        if not info.is_learner:
            self._check_quorum_with(1, f"adding {info.name} as a voter")
        kind = ConfChangeKind.ADD_LEARNER if info.is_learner else ConfChangeKind.ADD_VOTER
        await self._change(lambda request: change_of(kind, info, request=request))
        return info

    async def _update(self, info: MemberInfo, address: str, urls: Sequence[str] | None) -> MemberInfo:
        changed = replace(
            info,
            peer_address=address or info.peer_address,
            client_urls=info.client_urls if urls is None else tuple(urls),
        )
        if changed != info:
            kind = ConfChangeKind.ADD_LEARNER if info.is_learner else ConfChangeKind.ADD_VOTER
            await self._change(lambda request: change_of(kind, changed, request=request))
        return changed

    async def _promote(self, info: MemberInfo) -> MemberInfo:
        if not info.is_learner:
            return info
        node = self._replica.node
        progress = node.progress()[MemberId(info.id)]
        behind = node.last_index - progress.match
        # A new one counts as active for a while; what it has on its disk says whether it is really there.
        is_there = progress.is_alive and progress.match > 0
        if not is_there or behind > MAX_LAG_ENTRIES:
            state = "is on its way" if is_there else "has not been heard of"
            raise MembershipError(
                f"learner {info.name} {state} and lacks {behind} entries; it can be promoted when it lacks "
                f"fewer than {MAX_LAG_ENTRIES}"
            )
        promoted = replace(info, is_learner=False)
        await self._change(lambda request: change_of(ConfChangeKind.ADD_VOTER, promoted, request=request))
        return promoted

    async def _remove(self, info: MemberInfo) -> None:
        if not info.is_learner:
            voters = self._replica.node.conf.voters
            if len(voters) == 1:
                raise MembershipError(f"{info.name} is the only voter: without it there is no cluster")
            alive = self._alive()
            left = [each for each in voters if each != info.id]
            if len(alive.intersection(left)) < len(left) // 2 + 1:
                raise MembershipError(
                    f"without {info.name} the {len(left)} voters that are left need {len(left) // 2 + 1} "
                    f"alive, and {len(alive.intersection(left))} are. Start the others first."
                )
        if info.id == self._replica.node.id:
            # Once this is answered its machine may be taken away, so somebody who stays must know of it.
            await self._transfer(0)
            raise UnavailableError(f"{info.name} has handed over, for its successor to remove it")
        await self._change(lambda request: removal_of(info.id, request=request))

    def _check_quorum_with(self, added: int, what: str) -> None:
        voters = self._replica.node.conf.voters
        needed = (len(voters) + added) // 2 + 1
        alive = len(self._alive().intersection(voters))
        if alive < needed:
            raise MembershipError(
                f"{what} would need {needed} voters alive, and {alive} are; start them first"
            )

    def _alive(self) -> set[int]:
        node = self._replica.node
        return {each for each, progress in node.progress().items() if progress.is_alive} | {node.id}

    async def _change(self, make: Any) -> None:
        request = self._engine.rng.getrandbits(62) + 1
        change: ConfChange = make(request)

        def begin() -> None:
            try:
                self._replica.node.propose_conf_change(change)
            except ProposalDropped as error:
                raise UnavailableError(
                    f"the members cannot be changed right now ({error}); try again"
                ) from error

        await self._engine.change(request, begin)
        log.info(
            "store_members_changed", steps=[(step.kind.name, f"{step.member:x}") for step in change.steps]
        )

    async def _transfer(self, member: int) -> None:
        node = self._replica.node
        target = MemberId(member) if member else self._furthest()
        if target is None or target not in node.conf.voters:
            raise MembershipError(
                f"{member:x} is no voter" if member else "there is no other voter that could take over"
            )
        if target == node.id:
            return
        node.transfer_leadership(target)
        self._engine.wake()
        try:
            async with asyncio.timeout(self._engine.settings.retry_s * 2):
                while self._engine.leadership.leader_id != target:
                    await self._engine.leadership.wait_change()
        except TimeoutError as error:
            raise UnavailableError(
                f"member {target:x} did not take over; it may be too far behind"
            ) from error

    def _furthest(self) -> MemberId | None:
        node = self._replica.node
        others = [
            (progress.match, each)
            for each, progress in node.progress().items()
            if each != node.id and each in node.conf.voters and progress.is_alive
        ]
        return max(others)[1] if others else None

    async def announce_address(self) -> None:
        """Record where this member is reached now, if that has changed since it was here last. Cancelled at
        will.
        """
        peers = self._engine.peers
        while peers is not None:
            own = self._replica.membership.members.get(self._replica.identity.member_id)
            if own is not None:
                # Where its API is, the controller says as soon as it knows a port that it takes.
                urls = peers.client_urls or tuple(own.client_urls)
                address = peers.advertise or peers.listen
                if (own.peer_address, tuple(own.client_urls)) == (address, urls):
                    return
                try:
                    await self.member_update(own.id, peer_address=address, client_urls=urls)
                except (UnavailableError, MembershipError) as error:
                    log.info("store_address_not_announced", error=str(error))
            await self._engine.clock.sleep(self._engine.settings.retry_s)

    async def hand_over(self, timeout_s: float) -> None:
        """Give the leadership to another before this member stops, if somebody takes it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._transfer(0)
        except (TimeoutError, UnavailableError, MembershipError) as error:
            log.info("store_not_handed_over", error=str(error))
