"""The member as a process of its own: `python -m gitkube.store.process --config FILE`.

The API's work and the disk's never wait for each other then, heartbeats wait for neither, and a second core
is used. The child lives as long as its parent holds the other end of its standard input. It ends with
EXIT_REFUSED when starting it again would not help (damaged data, another cluster's directory, an address that
is taken), so that the parent does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from gitkube.clock import SystemClock
from gitkube.collector import keep_collections_short, no_collections
from gitkube.logs import structlog
from gitkube.store.config import EXIT_FAILED, EXIT_REFUSED, ConfigError, MemberConfig
from gitkube.store.listening import PeerListenError
from gitkube.store.member import Member
from gitkube.store.peer_tls import PeerTls
from gitkube.store.protocol import CorruptError, IdentityError, StoreError, UnavailableError
from gitkube.store.served import StoreServer
from gitkube.store.settings import MemberSettings, PeerSettings

MAX_FILES = 65_536
FREEZE_EVERY_S = 1.0
"""Longer, and the collector walks again and again over what the writes meanwhile have left: with 20,000 of
them a pause of 60 ms. There is never a full collection, whose pause could cost the leadership; so what comes
and goes while a member runs must not be a cycle.
"""


@asynccontextmanager
async def member_of(config: MemberConfig) -> AsyncIterator[Member]:
    """The member that a configuration describes, as long as the block.

    Raises:
        StoreError: it cannot be opened; see `Member.open`.
    """
    peers = None
    if config.peer_listen:
        assert config.peer_ca and config.peer_certificate and config.peer_key, "checked when it was read"
        peers = PeerSettings(
            config.peer_listen,
            PeerTls(config.peer_ca, config.peer_certificate, config.peer_key),
            config.advertised,
            config.client_urls,
            {int(member): address for member, address in config.join.peers.items()} if config.join else {},
        )
    with no_collections():
        member = await Member.open(
            config.data_dir,
            name=config.name,
            clock=SystemClock(),
            rng=random.SystemRandom(),
            settings=MemberSettings(
                quota_bytes=config.quota_bytes,
                keep_revisions=config.keep_revisions,
                keep_history_s=config.keep_history_s,
                snapshot_entries=config.snapshot_entries,
                keep_entries=config.keep_entries,
                tick_s=config.tick_s,
                election_ticks=config.election_ticks,
            ),
            peers=peers,
            join=config.join,
        )
    try:
        yield member
    finally:
        await member.close()


async def serve(config: MemberConfig) -> None:
    """Open the member and serve it until standard input ends, or SIGTERM comes: systemd stops all processes
    of a unit at once, and leadership is to be handed over then, too.

    Raises:
        StoreError: it cannot be opened, or failed while running.
    """
    async with member_of(config) as member:
        server = StoreServer(member, config.socket)
        door = asyncio.create_task(_keep_door(config, member)) if config.door_listen else None
        try:
            await server.start()
            parent = asyncio.create_task(_standard_input_ended())
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            told = asyncio.create_task(stopped.wait())
            failed = asyncio.create_task(member.wait_failed())
            collector = keep_collections_short(SystemClock(), freeze_every_s=FREEZE_EVERY_S)
            collecting = asyncio.create_task(collector)
            announced = asyncio.create_task(member.administration.announce_address())
            await asyncio.wait({parent, told, failed}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            announced.cancel()
            collecting.cancel()
            if failed.done():
                raise _as_store_error(failed.result(), config.data_dir)
            failed.cancel()
        finally:
            if door is not None:
                door.cancel()
                await asyncio.gather(door, return_exceptions=True)
            await server.close()


async def _keep_door(config: MemberConfig, member: Member) -> None:
    # Imported here, so that only a member that has this door pays for gRPC (20 MB).
    from gitkube.store.door import Door, DoorTls, keep_door, serve_door

    assert config.door_certificate and config.door_key and config.door_ca, "checked when it was read"
    tls = DoorTls(config.door_certificate, config.door_key, config.door_ca)
    clock = SystemClock()

    def open_door() -> Awaitable[Door]:
        return serve_door(member, member.administration, config.door_listen, clock=clock, tls=tls)

    await keep_door(open_door, clock)


def _as_store_error(error: BaseException, data_dir: Path) -> StoreError:
    if isinstance(error, StoreError):
        return error
    what = _of_the_disk(error) if isinstance(error, OSError) else str(error)
    return UnavailableError(f"the store in {data_dir} has stopped: {what}")


async def _standard_input_ended() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


def allow_files(wanted: int = MAX_FILES) -> None:
    """Raise how many files this process may open, as far as it may do that itself.

    Whoever reaches a port uses up one for each connection until its handshake has failed; a log that cannot
    be given its next segment for that would stop the member. 1024 is what most systems begin with.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description="A store member; started by gitkube serve.")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Ctrl-C in a terminal reaches the whole group; the parent decides when the member ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    allow_files()
    # gRPC's core would write lines of its own between ours, one for each connection that fails.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A snapshot is encoded in a thread; writes shall not wait 5 ms for each of its turns.
    sys.setswitchinterval(0.0005)
    try:
        config = MemberConfig.read(options.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except (CorruptError, IdentityError, ConfigError, PeerListenError) as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED
    except StoreError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        return _cannot_open(config.data_dir, error)
    return 0


def _cannot_open(data_dir: Path, error: OSError) -> int:
    """Says what the disk, or whoever set it up, does not allow. A full disk may have room again; a file of
    somebody else's does not become ours.
    """
    if isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError | FileExistsError):
        print(
            f"{error.filename or data_dir} cannot be opened: {error.strerror}; all of {data_dir} must belong "
            "to the user that runs gitkube serve",
            file=sys.stderr,
        )
        return EXIT_REFUSED
    print(f"the store in {data_dir} cannot be opened: {_of_the_disk(error)}", file=sys.stderr)
    return EXIT_FAILED


def _of_the_disk(error: OSError) -> str:
    remedy = "; it is tried again: make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}{remedy}"


if __name__ == "__main__":
    sys.exit(main())
