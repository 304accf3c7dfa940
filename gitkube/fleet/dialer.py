"""The way to a host in earnest: SSH, prepare, and the channel that `gitkube-node link` bridges there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import structlog

from gitkube.fleet.agent_package import AgentPackage, build_agent_package
from gitkube.fleet.hosts import Host
from gitkube.fleet.known_hosts import KnownHosts, fingerprint
from gitkube.fleet.prepare import LINK, command_for, prepare
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh import SshConnection, SshPipe, connect

log = structlog.get_logger(__name__)


class SshDialer:
    """Dials hosts; at most `settings.parallel_connects` key exchanges at once."""

    def __init__(
        self, data_dir: Path, *, rng: Random, settings: FleetSettings, package: AgentPackage | None = None
    ) -> None:
        self.known_hosts = KnownHosts(data_dir / "known_hosts")
        self.package = package or build_agent_package(data_dir / "agent")
        self.agent_digest = self.package.digest
        self._rng, self._settings = rng, settings
        self._connecting = asyncio.Semaphore(settings.parallel_connects)

    async def dial(self, host: Host, *, restart: bool, on_progress: Callable[[str], None]) -> SshSession:
        """Reach the host, make it ready, open the channel.

        Raises:
            FleetError: with the sentence for the person who must act.
        """
        async with self._connecting:
            connection = await connect(host, self.known_hosts, self._settings)
        try:
            if connection.first_contact is not None:
                key = connection.first_contact
                log.warning(
                    "host_key_pinned_at_first_contact",
                    host=host.name, key_type=key.type, fingerprint=fingerprint(key),
                )  # fmt: skip
            ready = await prepare(
                connection,
                host,
                self.package,
                settings=self._settings,
                rng=self._rng,
                restart=restart,
                on_progress=on_progress,
            )
            if ready.did:
                log.info("host_prepared", host=host.name, did=list(ready.did), round_trips=ready.round_trips)
            pipe = await connection.open_pipe(
                command_for(host, LINK), timeout_s=self._settings.prepare_timeout_s
            )
            return SshSession(connection, pipe)
        except BaseException:
            await connection.close()
            raise


class SshSession:
    """The pipe to the agent, and the connection under it."""

    def __init__(self, connection: SshConnection, pipe: SshPipe) -> None:
        self.peer_address = connection.peer_address
        self._pipe = pipe

    async def read(self) -> bytes:
        return await self._pipe.read()

    async def write(self, data: bytes) -> None:
        await self._pipe.write(data)

    async def close(self) -> None:
        await self._pipe.close()

    def last_words(self) -> str:
        return self._pipe.last_words()
