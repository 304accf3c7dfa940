"""Everything of the control side in one process: in which order it begins, and how it ends.

The store's member runs as a child process; the API reads it through one watch. Above the API stand two kinds
of parts: those that every controller runs (the HTTPS server, the eye on the other controllers: `serving.py`),
and those that act (controllers, scheduler, fleet links, git: `acting.py`), most of which run only where the
store's leader is. All of them meet in the API's state; none knows another.

A start is mostly Python reading its modules. So the member's process is begun with as little as that needs,
the API is loaded while the member starts, and what acts is loaded once the API answers.

A part that fails ends the whole process with its reason: restarting from the disk is the one recovery path,
and it is the one that is tested most.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from gitkube.clock import Clock, SystemClock
from gitkube.collector import keep_collections_short
from gitkube.server.alone import finish_going_alone, go_on_alone
from gitkube.server.authority import PkiError
from gitkube.server.data_directory import held
from gitkube.server.joining import JoinFile, check_directory, has_joined, note_joined, prepare
from gitkube.server.pki import RENEWAL_CHECK_S, Pki
from gitkube.server.settings import (
    ControlPlaneSettings,
    check_kind_of_store,
    check_settings,
    check_store_owner,
    identity_of,
    member_config,
)
from gitkube.store.remote import RemoteStore, StoreProcess

if TYPE_CHECKING:
    from gitkube.api.authorization import User
    from gitkube.fleet.link import Dialer
    from gitkube.server.acting import Acting
    from gitkube.server.cluster import ManagedStore
    from gitkube.server.serving import Serving

__all__ = ["ControlPlane", "ControlPlaneSettings"]

FREEZE_EVERY_S = 5.0
FULL_COLLECTION_EVERY_S = 6 * 3600.0
_PIECE_PAUSE_S = 0.01
"""Enough for a connection that is being made to get on by all its steps."""
_PIECES = (
    "numpy",
    "pygit2",
    "watchdog.observers",
    "gitkube.gitops.sync",
    "gitkube.fleet.fleet",
    "gitkube.scheduler.scheduler",
    "gitkube.control.manager",
)
"""What `acting.py` needs, in pieces of less than 0.1 s each."""

log = structlog.get_logger()


class ControlPlane:
    """See the module's text."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        dialer: Dialer | None = None,
    ) -> None:
        """
        Args:
            dialer: another way to the hosts than SSH.
        """
        self._settings = settings
        self._dialer = dialer
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Run until cancelled.

        Args:
            on_ready: called with the API's URL once it answers.

        Raises:
            ExceptionGroup: a part has failed; each exception in it says what and why.
            JoinError, PkiError, SettingsError, StoreError, TokenFileError: it cannot even begin, for instance
                since another one has the data directory.
        """
        settings = self._settings
        check_settings(settings)
        async with held(settings.data_dir, self._clock):
            await self._run(on_ready)

    async def _run(self, on_ready: Callable[[str], None]) -> None:
        settings = self._settings
        has_gone_alone = finish_going_alone(settings)
        joining = await self._join()
        name, identity = identity_of(settings.data_dir, settings.name or (joining.name if joining else ""))
        check_store_owner(settings.store_dir, name)
        check_kind_of_store(settings)
        pki = Pki.open(settings.data_dir / "pki", clock=self._clock)
        tokens = self._tokens()
        if settings.force_new_cluster and not has_gone_alone:
            await go_on_alone(settings, clock=self._clock, rng=self._rng)
        async with asyncio.TaskGroup() as tasks:
            collector = keep_collections_short(
                self._clock, freeze_every_s=FREEZE_EVERY_S, full_every_s=FULL_COLLECTION_EVERY_S
            )
            tasks.create_task(collector, name="collector")
            opened = (
                self._embedded(pki, name, joining, tasks)
                if settings.etcd is None
                else self._external(name, identity, tasks)
            )
            async with opened as store:
                serving = _serving_type()(
                    settings, store, pki, name, tasks, tokens=tokens, clock=self._clock, rng=self._rng
                )
                await serving.load()
                note_joined(settings.data_dir)
                await serving.listen()
                on_ready(serving.url)
                acting = (await _acting_type(self._clock))(
                    settings, serving, tasks, dialer=self._dialer, clock=self._clock, rng=self._rng
                )
                await acting.run(identity)

    @asynccontextmanager
    async def _embedded(
        self, pki: Pki, name: str, joining: JoinFile | None, tasks: asyncio.TaskGroup
    ) -> AsyncIterator[ManagedStore]:
        """A member of our own, in a process of its own."""
        config = member_config(self._settings, pki, name, joining)
        process = StoreProcess(config, clock=self._clock, rng=self._rng)
        tasks.create_task(process.run(), name="store")
        store = RemoteStore(config.socket, clock=self._clock)
        try:
            await process.begun.wait()
            tasks.create_task(self._renew(pki, name), name="renewal")
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def _external(
        self, name: str, identity: str, tasks: asyncio.TaskGroup
    ) -> AsyncIterator[ManagedStore]:
        # Loads gRPC, which who has no etcd does without.
        from gitkube.server.external_etcd import ExternalEtcd

        store = ExternalEtcd(self._settings, name, identity, clock=self._clock)
        try:
            await store.enter()
            tasks.create_task(store.run(), name="store")
            yield store
        finally:
            await store.leave()

    def _tokens(self) -> dict[str, User] | None:
        if self._settings.token_file is None:
            return None
        from gitkube.server.token_file import read_token_file

        return read_token_file(self._settings.token_file)

    async def _join(self) -> JoinFile | None:
        """Make the data directory fit to join with; None for a controller that is a member, or the first."""
        settings = self._settings
        check_directory(settings.data_dir)
        if settings.join is None or has_joined(settings.data_dir):
            return None

        async def redeem(join: JoinFile, by: str) -> None:
            from gitkube.server.cluster import ClusterClient

            pki = Pki.open(settings.data_dir / "pki", clock=self._clock)
            await ClusterClient(pki.controller_context).redeem(join, by)

        return await prepare(settings.join, settings.data_dir, clock=self._clock, redeem=redeem)

    async def _renew(self, pki: Pki, name: str) -> None:
        """Keep the member's certificates fresh; it reads them again when they change."""
        while True:
            await self._clock.sleep(RENEWAL_CHECK_S)
            try:
                member_config(self._settings, pki, name, None)
            except (OSError, PkiError) as error:
                # There are weeks left, and nobody is served better by an end than by another try.
                log.error("certificates_not_renewed", error=str(error), again_in_s=RENEWAL_CHECK_S)


def _serving_type() -> type[Serving]:
    """Loads the API; meanwhile this process does nothing else, and the member starts."""
    from gitkube.server.serving import Serving

    return Serving


async def _acting_type(clock: Clock) -> type[Acting]:
    """Loads what acts, piece by piece: requests are answered in between. A thread of its own would not do, as
    two threads that load modules which need each other may get one that is half loaded.
    """
    for module in _PIECES:
        await clock.sleep(_PIECE_PAUSE_S)
        import_module(module)
    from gitkube.server.acting import Acting

    return Acting
