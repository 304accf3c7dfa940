"""Who the members are: names and addresses beside the bare ids that the consensus core counts.

The core decides by ids only. What a person or a transport needs to know of a member travels as the context of
the `ConfChange` that adds it, so that it is replicated, and forgotten, together with the membership itself. A
new address is the same change once more: adding a member that is there changes nothing but its record.

Invariant: a member is in `members` exactly when it is in the core's configuration; `removed` remembers ids
for ever, because one that comes back after its removal must be told so, not taken for a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgpack

from gitkube.store.directory import Identity
from gitkube.store.protocol import MemberInfo
from gitkube.store.raft.types import ConfChange, ConfChangeKind, ConfChangeStep, ConfState, MemberId

PART = "members"
"""Name of the part of a snapshot that holds this."""


class Membership:
    """See the module's text."""

    def __init__(self, members: Mapping[int, MemberInfo] | None = None, removed: Sequence[int] = ()) -> None:
        self.members = dict(members or {})
        self.removed = set(removed)

    def apply(self, change: ConfChange) -> int:
        """Follow a committed change; gives the number of the request that asked for it, or 0."""
        request, record = decode_context(change.context)
        for step in change.steps:
            if step.kind is ConfChangeKind.REMOVE:
                self.members.pop(step.member, None)
                self.removed.add(step.member)
                continue
            is_learner = step.kind is ConfChangeKind.ADD_LEARNER
            known = (
                record if record is not None and record.id == step.member else self.members.get(step.member)
            )
            self.members[step.member] = replace(
                known or MemberInfo(step.member, f"{step.member:x}", ""), is_learner=is_learner
            )
        return request

    def dump(self) -> list[Any]:
        """As a part of a snapshot."""
        return [PART, [info_to_list(info) for info in self.members.values()], sorted(self.removed)]

    @classmethod
    def load(cls, part: Sequence[Any]) -> Membership:
        """From a part that `dump` made."""
        infos = [info_from_list(item) for item in part[1]]
        return cls({info.id: info for info in infos}, part[2])


def lone(info: MemberInfo) -> tuple[ConfState, Membership]:
    """The membership of a cluster of one."""
    return ConfState(voters=(MemberId(info.id),)), Membership({info.id: info})


def lone_parts(identity: Identity, peer_address: str) -> list[list[Any]]:
    """What says in a snapshot that this member is the only one; for a cluster made of another's data."""
    _, membership = lone(MemberInfo(identity.member_id, identity.name, peer_address))
    return [membership.dump()]


def change_of(kind: ConfChangeKind, info: MemberInfo, *, request: int) -> ConfChange:
    """The change that adds a member, or records a new address of one."""
    context: bytes = msgpack.packb([request, info_to_list(info)])
    return ConfChange((ConfChangeStep(kind, MemberId(info.id)),), context)


def removal_of(member: int, *, request: int) -> ConfChange:
    """The change that takes a member out."""
    context: bytes = msgpack.packb([request, None])
    return ConfChange((ConfChangeStep(ConfChangeKind.REMOVE, MemberId(member)),), context)


def decode_context(context: bytes) -> tuple[int, MemberInfo | None]:
    """The request's number and the member's record; (0, None) for a change that leaves a joint
    configuration.
    """
    if not context:
        return 0, None
    request, item = msgpack.unpackb(context)
    return int(request), None if item is None else info_from_list(item)


def info_to_list(info: MemberInfo) -> list[Any]:
    return [info.id, info.name, info.peer_address, list(info.client_urls), info.is_learner]


def info_from_list(item: Sequence[Any]) -> MemberInfo:
    return MemberInfo(item[0], item[1], item[2], tuple(item[3]), bool(item[4]))
