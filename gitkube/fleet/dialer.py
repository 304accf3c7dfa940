"""The way to a host in earnest: SSH, prepare, and the channel that `gitkube-node link` bridges there.

A new agent is confirmed here, which needs a connection that did not exist when it was started: the old one is
closed, another made, and only when the agent has greeted over that is it told to the host that it may stay.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import structlog

from gitkube import wire
from gitkube.fleet.agent_package import AgentPackage, build_agent_package
from gitkube.fleet.errors import LinkLost
from gitkube.fleet.hosts import Host
from gitkube.fleet.known_hosts import KnownHosts, fingerprint
from gitkube.fleet.prepare import LINK, command_for, confirm, prepare
from gitkube.fleet.settings import FleetSettings

if TYPE_CHECKING:
    from gitkube.fleet.ssh import SshConnection, SshPipe

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
        connection = await self._connect(host)
        try:
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
            if not ready.on_trial:
                return await self._open_link(connection)
        except BaseException:
            await connection.close()
            raise
        await connection.close()
        on_progress("coming back to the new agent over a new connection")
        connection = await self._connect(host)
        try:
            session = await self._open_link(connection)
            await session.hear_greeting(self.agent_digest, timeout_s=self._settings.hello_timeout_s)
            await confirm(connection, host, self.package, settings=self._settings)
            log.info("agent_confirmed", host=host.name, agent=self.agent_digest[:12])
            return session
        except BaseException:
            await connection.close()
            raise

    async def _connect(self, host: Host) -> SshConnection:
        # paramiko is 20 MB and 0.1 s, which nobody shall wait for who waits for the API.
        from gitkube.fleet.ssh import connect

        async with self._connecting:
            connection = await connect(host, self.known_hosts, self._settings)
        if connection.first_contact is not None:
            key = connection.first_contact
            log.warning(
                "host_key_pinned_at_first_contact",
                host=host.name, key_type=key.type, fingerprint=fingerprint(key),
            )  # fmt: skip
        return connection

    async def _open_link(self, connection: SshConnection) -> SshSession:
        command = command_for(connection.host, LINK)
        return SshSession(
            connection, await connection.open_pipe(command, timeout_s=self._settings.prepare_timeout_s)
        )


class SshSession:
    """The pipe to the agent, and the connection under it."""

    def __init__(self, connection: SshConnection, pipe: SshPipe) -> None:
        self.peer_address = connection.peer_address
        self._pipe = pipe
        self._heard = b""
        """What was read to hear the greeting, for the one who reads next."""

    async def hear_greeting(self, digest: str, *, timeout_s: float) -> None:
        """Wait for this agent's first message, and leave it for `read`.

        Raises:
            LinkLost: the agent said nothing, or something else.
        """
        decoder = wire.Decoder()
        frames: list[wire.Frame] = []
        try:
            async with asyncio.timeout(timeout_s):
                while not frames:
                    chunk = await self._pipe.read()
                    if not chunk:
                        raise LinkLost(f"the new agent ended the link: {self.last_words()[-300:]}")
                    self._heard += chunk
                    frames = decoder.feed(chunk)
            greeting = json.loads(frames[0].payload)
            expected = {"type": "hello", "protocol": wire.PROTOCOL_VERSION, "agent": digest}
            if {key: greeting.get(key) for key in expected} != expected:
                raise LinkLost("what the new agent says first is not its greeting")
        except TimeoutError as error:
            raise LinkLost(f"the new agent said nothing in {timeout_s:.0f} s") from error
        except (wire.WireError, ValueError, AttributeError) as error:
            raise LinkLost(f"the new agent is not understood: {error}") from error

    async def read(self) -> bytes:
        if self._heard:
            heard, self._heard = self._heard, b""
            return heard
        return await self._pipe.read()

    async def write(self, data: bytes) -> None:
        await self._pipe.write(data)

    async def close(self) -> None:
        await self._pipe.close()

    def last_words(self) -> str:
        return self._pipe.last_words()
