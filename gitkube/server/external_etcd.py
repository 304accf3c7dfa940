"""An etcd that somebody else runs, in the place of the embedded store: `serve --etcd-servers`.

```
 enter ─▶ the key CONTROLLER under a lease of ours ─▶ run: keep it alive, forget old history ─▶ leave
```
An external etcd's leader is none of us, so who acts is settled by a key: whoever has put it is the controller
of this etcd until its lease ends. That is only for speed and for a clear word to a second one. Safety rests
where it always does, on the Lease object and its revision (docs/decisions/0004-acting-follows-the-store.md).

One controller to an etcd: what makes several of them one cluster (join files, members) is the embedded
store's. Members, backups and certificates of etcd are its own, too, by `etcdctl`.

Invariant: a data directory that has begun with one etcd goes on with no other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import NoReturn

import orjson
import structlog

from gitkube.clock import Clock
from gitkube.files import replace_durably
from gitkube.server.settings import ETCD_MARK, ControlPlaneSettings, EtcdServers, etcd_of
from gitkube.store.ages import RevisionAges
from gitkube.store.config import DEFAULT_KEEP_HISTORY_S
from gitkube.store.etcd import ClientTls, EtcdStore
from gitkube.store.protocol import (
    NO_LEASE,
    CompactedError,
    Compare,
    FutureRevisionError,
    Get,
    IdentityError,
    InvalidRequestError,
    KeyValue,
    LeaseNotFoundError,
    MemberInfo,
    Op,
    Put,
    RangeResult,
    Revision,
    StateHash,
    StoreError,
    StoreStatus,
    Target,
    UnavailableError,
)

CONTROLLER = b"/gitkube/controller"
NOW = Revision(0)
LEASE_TTL_S = 10
KEEP_S = 2.0
STATUS_EVERY_S = 10.0
LEAVE_S = 2.0

log = structlog.get_logger()


class ExternalEtcd(EtcdStore):
    """See the module's text. `enter` it, `run` it meanwhile, and `leave` it.

    Args:
        settings: of the control plane; `etcd` is given.
        name, identity: this controller's.
    """

    def __init__(self, settings: ControlPlaneSettings, name: str, identity: str, *, clock: Clock) -> None:
        assert settings.etcd is not None
        super().__init__(settings.etcd.addresses, clock=clock, tls=_tls(settings.etcd))
        self._settings = settings
        self._servers = settings.etcd
        self._identity = identity
        number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
        self._own = MemberInfo(number, name, "")
        self._clock = clock
        self._lease = NO_LEASE
        self._status: StoreStatus | None = None
        self._status_at_s = 0.0
        self._silent = ""
        """Why etcd does not answer; "" when it does."""
        self._ages = RevisionAges(DEFAULT_KEEP_HISTORY_S)
        self._forgotten = Revision(0)

    async def enter(self) -> None:
        """Become the controller of this etcd.

        Raises:
            IdentityError: it has another controller, or this data directory belongs to another etcd.
            StoreError: it does not answer, or refuses us.
        """
        status = await super().status()
        cluster = f"{status.cluster_id:016x}"
        self._check_cluster(cluster)
        self._status, self._status_at_s = status, self._clock.monotonic()
        lapses_at_s = self._clock.monotonic() + LEASE_TTL_S + KEEP_S
        while (holder := await self._take()) is not None:
            if self._clock.monotonic() >= lapses_at_s:
                raise IdentityError(
                    f"the controller {_holder_name(holder)} runs on the etcd at {self._servers.text}, and an "
                    "etcd has one controller; stop that one first"
                )
            log.info("waiting_for_other_controller", name=_holder_name(holder))
            await self._clock.sleep(KEEP_S)
        mark = {"cluster": cluster, "servers": self._servers.text}
        replace_durably(self._settings.data_dir / ETCD_MARK, orjson.dumps(mark))
        log.info("etcd_entered", servers=self._servers.text, cluster=cluster)

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            IdentityError: another controller has taken this etcd over while it was out of reach.
        """
        while True:
            await self._clock.sleep(KEEP_S)
            try:
                await self._keep()
                self._silent = ""
            except UnavailableError as error:
                if not self._silent:
                    log.warning("etcd_silent", error=str(error))
                self._silent = str(error)

    async def leave(self) -> None:
        """Let go of it, so that the next start waits for nothing."""
        if self._lease != NO_LEASE:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self.lease_revoke(self._lease)
        await self.close()

    def _check_cluster(self, cluster: str) -> None:
        known = etcd_of(self._settings.data_dir)
        if known is not None and known[0] != cluster:
            raise IdentityError(
                f"{self._settings.data_dir} belongs to the etcd cluster {known[0]}, and at "
                f"{self._servers.text} is {cluster}. Name the servers of the first one, or begin with "
                "another --data-dir"
            )

    # ------------------------------------------------------------------ the key

    async def _take(self) -> KeyValue | None:
        """Put our key; returns another controller's where that stands."""
        lease = (await self.lease_grant(LEASE_TTL_S)).id
        put = Put(CONTROLLER, orjson.dumps({"name": self._own.name, "identity": self._identity}), lease)
        found = await self._put_unless_there(put, Compare(CONTROLLER, Target.CREATE, Op.EQUAL, 0))
        if found is not None and _holder_identity(found) == self._identity:
            # Of a life of ours that ended without leaving: nobody else has this data directory.
            unchanged = Compare(CONTROLLER, Target.MOD, Op.EQUAL, found.mod_revision)
            found = await self._put_unless_there(put, unchanged)
        if found is None:
            self._lease = lease
        else:
            await self.lease_revoke(lease)
        return found

    async def _put_unless_there(self, put: Put, compare: Compare) -> KeyValue | None:
        result = await self.txn([compare], [put], [Get(CONTROLLER)])
        if result.succeeded:
            return None
        (found,) = result.results
        assert isinstance(found, RangeResult)
        if not found.kvs:
            raise UnavailableError("the key of etcd's controller went away just now; try again")
        return found.kvs[0]

    async def _keep(self) -> None:
        try:
            if CONTROLLER not in (await self.lease_keep_alive(self._lease)).keys:
                raise IdentityError(
                    f"another process with the identity of this controller has taken over the etcd at "
                    f"{self._servers.text}: a copy of {self._settings.data_dir} runs somewhere"
                )
        except LeaseNotFoundError as error:
            if (holder := await self._take()) is not None:
                raise IdentityError(
                    f"the controller {_holder_name(holder)} has taken over the etcd at {self._servers.text}, "
                    "which was out of reach from here for too long"
                ) from error
            log.warning("etcd_entered_again", servers=self._servers.text)
        if self._clock.monotonic() >= self._status_at_s + STATUS_EVERY_S:
            self._status, self._status_at_s = await super().status(), self._clock.monotonic()
            await self._forget_history(self._status.revision)

    async def _forget_history(self, revision: Revision) -> None:
        now_s = self._clock.monotonic()
        self._ages.note(now_s, revision)
        target = self._ages.old_at(now_s)
        if target > self._forgotten:
            with contextlib.suppress(CompactedError, FutureRevisionError):  # etcd does it by itself, too
                await self.compact(target)
            self._forgotten = target

    # ------------------------------------------------------------------ as the store of one controller

    async def status(self) -> StoreStatus:
        """What was last seen of etcd, with ourselves as the one who leads."""
        if self._silent or self._status is None:
            raise UnavailableError(self._silent or "etcd was not asked yet")
        return replace(
            self._status,
            member=self._own.name,
            is_leader=True,
            is_learner=False,
            member_id=self._own.id,
            leader_id=self._own.id,
        )

    async def members(self) -> Sequence[MemberInfo]:
        return [self._own]

    async def member_update(
        self, member: int, *, peer_address: str = "", client_urls: Sequence[str] | None = None
    ) -> MemberInfo:
        if client_urls is not None:
            self._own = replace(self._own, client_urls=tuple(client_urls))
        return self._own

    async def metrics(self) -> str:
        """None of ours: etcd has its own `/metrics`."""
        return ""

    async def member_add(
        self, name: str, peer_address: str, *, client_urls: Sequence[str] = (), is_learner: bool = True
    ) -> MemberInfo:
        self._refuse("member add")

    async def member_promote(self, member: int) -> MemberInfo:
        self._refuse("member promote")

    async def member_remove(self, member: int) -> None:
        self._refuse("member remove")

    async def transfer_leadership(self, member: int = 0) -> int:
        self._refuse("move-leader")

    def backup(self) -> AsyncIterator[bytes]:
        self._refuse("snapshot save")

    async def hash(self, revision: Revision = NOW) -> StateHash:
        self._refuse("endpoint hashkv")

    async def disarm(self) -> None:
        self._refuse("alarm disarm")

    def _refuse(self, command: str) -> NoReturn:
        raise InvalidRequestError(f"the store is the etcd at {self._servers.text}: etcdctl {command}")


def _tls(servers: EtcdServers) -> ClientTls | None:
    if servers.ca_file is None:
        return None
    return ClientTls(servers.ca_file, servers.certificate_file, servers.key_file)


def _holder_name(holder: KeyValue) -> str:
    return str(orjson.loads(holder.value)["name"])


def _holder_identity(holder: KeyValue) -> str:
    return str(orjson.loads(holder.value)["identity"])
