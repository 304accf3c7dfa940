"""Everything of the control side in one process, joined here and nowhere else.

The store's member runs as a child process; the API reads it through one watch. Above the API stand two kinds
of parts: the HTTPS server, which every controller runs, and the loops that act (controllers, scheduler, fleet
links, git), which run on the leader only. All of them meet in the API's state; none knows another.

A part that fails ends the whole process with its reason: restarting from the disk is the one recovery path,
and it is the one that is tested most.
"""

from __future__ import annotations

import asyncio
import random
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from gitkube.api.authorization import system_user
from gitkube.api.client import Client
from gitkube.api.errors import unavailable
from gitkube.api.machinery import Api
from gitkube.api.settings import ApiSettings
from gitkube.api.streams import ExecOptions, LogOptions, StreamSession
from gitkube.clock import Clock, SystemClock
from gitkube.control.leader import LeaderElection
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.files import replace_durably
from gitkube.fleet.fleet import Fleet
from gitkube.fleet.settings import FleetSettings
from gitkube.gitops.source import HOOK_SOCKET, make_repository
from gitkube.gitops.sync import Sync
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from gitkube.server.app import HttpServer, create_app
from gitkube.server.pki import Pki
from gitkube.store.config import MemberConfig
from gitkube.store.remote import RemoteStore, StoreProcess

log = structlog.get_logger()

MAX_SOCKET_PATH_BYTES = 100
"""unix(7) allows 108 with the final zero."""


@dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    data_dir: Path
    inventory: Path
    repository: Path
    branch: str = "main"
    listen_host: str = "127.0.0.1"
    listen_port: int = 6443
    """0 takes a free one."""
    advertise: tuple[str, ...] = ()
    """Further host names and addresses by which clients call the API; the first goes into the kubeconfig."""
    kubeconfig: Path | None = None
    """Where the administrator's kubeconfig is written; None: `kubeconfig` in the data directory."""
    eviction_after_s: int = 300
    """Tolerations that pods get for hosts out of reach, when they don't name their own."""


class ControlPlane:
    """See the module's text."""

    def __init__(
        self, settings: ControlPlaneSettings, *, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        self._streams = _LeadersStreams()

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Run until cancelled.

        Args:
            on_ready: called with the API's URL once it answers.

        Raises:
            ExceptionGroup: a part has failed; each exception in it says what and why.
        """
        data_dir = self._settings.data_dir
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_repository(self._settings.repository, self._settings.branch)
        store_socket = _socket_path(data_dir, "store.sock")
        async with asyncio.TaskGroup() as parts:
            config = MemberConfig(data_dir / "store", store_socket)
            process = StoreProcess(config, clock=self._clock, rng=self._rng)
            parts.create_task(process.run(), name="store")
            store = RemoteStore(store_socket, clock=self._clock)
            try:
                api = Api(
                    store,
                    clock=self._clock,
                    rng=self._rng,
                    settings=ApiSettings(toleration_s=self._settings.eviction_after_s),
                )
                parts.create_task(api.run(), name="api")
                await api.wait_ready()
                pki = Pki.open(data_dir / "pki", clock=self._clock)
                on_ready(await self._serve(api, pki, parts))
                election = LeaderElection(
                    api.client(system_user("leader-election")),
                    _identity(data_dir),
                    clock=self._clock,
                    rng=self._rng,
                )
                await election.run(lambda term: self._lead(api, pki, term))
            finally:
                await store.close()

    async def _serve(self, api: Api, pki: Pki, parts: asyncio.TaskGroup) -> str:
        settings = self._settings
        app = create_app(api, self._streams, clock=self._clock)
        server = HttpServer(
            app,
            host=settings.listen_host,
            port=settings.listen_port,
            pki=pki,
            names=settings.advertise,
            clock=self._clock,
        )
        await server.start()
        parts.create_task(server.run(), name="https")
        kubeconfig = settings.kubeconfig or settings.data_dir / "kubeconfig"
        url = f"https://{settings.advertise[0]}:{server.port}" if settings.advertise else server.url
        pki.write_kubeconfig(kubeconfig, url)
        log.info("api_serving", url=server.url, kubeconfig=str(kubeconfig))
        return server.url

    async def _lead(self, api: Api, pki: Pki, term: int) -> None:
        """What only the leader does. Cancelled when it is the leader no more."""
        settings = self._settings

        def client(component: str) -> Client:
            return api.client(system_user(component))

        fleet = Fleet(
            client("fleet"),
            inventory=settings.inventory,
            data_dir=settings.data_dir / "fleet",
            term=term,
            clock=self._clock,
            rng=self._rng,
            settings=FleetSettings(),
        )
        manager = Manager(
            client("controller-manager"),
            clock=self._clock,
            rng=self._rng,
            settings=ControlSettings(root_ca=pki.ca_pem.decode()),
        )
        scheduler = Scheduler(client("scheduler"), clock=self._clock, rng=self._rng)
        sync = Sync(
            client("gitops"),
            repo=settings.repository,
            branch=settings.branch,
            socket=settings.repository / HOOK_SOCKET,
            clock=self._clock,
            rng=self._rng,
        )
        log.info("leading", term=term)
        self._streams.leader = fleet
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(manager.run(), name="controllers")
                loops.create_task(scheduler.run(), name="scheduler")
                loops.create_task(fleet.run(), name="fleet")
                loops.create_task(sync.run(), name="gitops")
        finally:
            self._streams.leader = None


class _LeadersStreams:
    """Logs and exec go over the links that the leader holds."""

    def __init__(self) -> None:
        self.leader: Fleet | None = None

    def _get(self) -> Fleet:
        if self.leader is None:
            raise unavailable("this controller is not the leader, so it holds no link to the hosts")
        return self.leader

    async def logs(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        async for chunk in self._get().logs(pod, options):
            yield chunk

    async def exec(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._get().exec(pod, options)

    async def attach(self, pod: Object, options: ExecOptions) -> StreamSession:
        return await self._get().attach(pod, options)

    async def port_forward(self, pod: Object, port: int) -> StreamSession:
        return await self._get().port_forward(pod, port)


def _identity(data_dir: Path) -> str:
    """This controller's name in elections; it stays over restarts, so a restart need not wait for itself."""
    path = data_dir / "identity"
    if not path.exists():
        replace_durably(path, f"{socket.gethostname()}_{uuid.uuid4()}".encode())
    return path.read_text().strip()


def _socket_path(data_dir: Path, name: str) -> Path:
    """Where a unix socket of this data directory is.

    Raises:
        ValueError: the directory's path is too long for one.
    """
    path = data_dir.resolve() / name
    if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
        return path
    raise ValueError(
        f"{path} is longer than a socket's path may be ({MAX_SOCKET_PATH_BYTES} bytes); "
        "choose a shorter --data-dir"
    )
