"""A whole API server on loopback: store on disk, verbs, HTTPS; with the real kubectl beside it.

It runs in a thread with an event loop of its own, so that tests may block on kubectl. What a pod's streams
carry is `FakeStreams`. By itself it has no controllers, no scheduler and no hosts; given the names of hosts
it has all of them, the hosts played by `FakeKubelet`, so that a Deployment becomes pods that are Ready.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gitkube.api.authorization import User
from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_already_exists
from gitkube.api.machinery import Api
from gitkube.api.settings import ApiSettings
from gitkube.clock import SystemClock
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from gitkube.objects.kinds import LEASE, NODE, POD
from gitkube.objects.types import Object
from gitkube.scheduler.scheduler import Scheduler
from gitkube.server.app import HttpServer, create_app
from gitkube.server.pki import Pki
from gitkube.store.member import Member
from tests.support.cluster import node
from tests.support.fake_kubelet import FakeKubelet
from tests.support.fake_streams import FakeStreams
from tests.support.real_api import SMALL_STORE

T = TypeVar("T")
START_TIMEOUT_S = 120
ADMIN_TOKEN = "of-the-administrator"
ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
RING_EVENTS = 128
"""Small, so that a test can make the server forget."""


def kubectl_path() -> str | None:
    """The kubectl of the environment that runs the tests, or else of the machine."""
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


class LiveCluster:
    """`with LiveCluster(dir) as cluster: cluster.kubectl("get", "pods")`."""

    def __init__(self, directory: Path, *, hosts: Sequence[str] = ()) -> None:
        self.directory = directory
        self.hosts = hosts
        self.kubeconfig = directory / "kubeconfig"
        self.url = ""
        self.pki: Pki
        self.kubelet: FakeKubelet
        """Plays the hosts, if there are any."""
        self.streams: FakeStreams
        self.client: Client
        """As the administrator, in the server's loop: use with `run`."""
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="live-cluster")

    def __enter__(self) -> LiveCluster:
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise TimeoutError("the API server did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_TIMEOUT_S)

    def forget_leases(self, namespace: str) -> None:
        """Write so much that the server no longer knows what happened to Leases before."""

        async def write() -> None:
            metadata = {"name": "busy", "namespace": namespace}
            lease: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            await self.client.create(LEASE, lease)
            for number in range(RING_EVENTS + 1):
                change = {"spec": {"leaseTransitions": number}}
                await self.client.patch(LEASE, "busy", namespace, change)

        self.run(write())

    @staticmethod
    def bearer() -> dict[str, str]:
        """The administrator's header, for requests made by hand."""
        return {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    def environment(self) -> dict[str, str]:
        home = str(self.directory)
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": home,
            "KUBECACHEDIR": f"{home}/kube",
        }

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """A kubectl that goes on; the caller ends it."""
        return self.start(kubectl_path() or "kubectl", *args, **options)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Any client that goes on; it finds the cluster by KUBECONFIG. The caller ends it."""
        return subprocess.Popen(
            command,
            env=self.environment(),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def kubectl(
        self, *args: str, input: str | None = None, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl; with `check`, a failure shows what it said."""
        return self.call(kubectl_path() or "kubectl", *args, input=input, check=check, timeout_s=timeout_s)

    def call(
        self,
        *command: str,
        input: str | None = None,
        check: bool = True,
        timeout_s: float = 60,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run any client to its end; it finds the cluster by KUBECONFIG."""
        done = subprocess.run(
            command,
            env={**self.environment(), **(environment or {})},
            input=input,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = " ".join([Path(command[0]).name, *command[1:]])
            raise AssertionError(f"{said}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        clock, rng = SystemClock(), random.Random(1)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        store = await Member.open(self.directory / "store", clock=clock, rng=rng, settings=SMALL_STORE)
        settings = ApiSettings(watch_ring_events=RING_EVENTS, watch_ring_events_max=RING_EVENTS)
        api = Api(store, clock=clock, rng=rng, settings=settings, fixed_tokens={ADMIN_TOKEN: ADMIN})
        running = asyncio.ensure_future(api.run())
        await asyncio.wait(
            [running, asyncio.ensure_future(api.wait_ready())], return_when=asyncio.FIRST_COMPLETED
        )
        if running.done():
            running.result()
        self.streams = FakeStreams()
        self.client = api.client(ADMIN)
        self.pki = Pki.open(self.directory / "pki", clock=clock)
        app = create_app(api, self.streams, clock=clock, rng=rng)
        server = HttpServer(app, host="127.0.0.1", port=0, pki=self.pki, clock=clock)
        await server.start()
        self.url = server.url
        self.pki.write_kubeconfig(self.kubeconfig, server.url)
        working = await self._start_working(api, clock) if self.hosts else []
        self._started.set()
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([stopping, *working], return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            task.cancel()
        await server.stop()
        running.cancel()
        ended = await asyncio.gather(stopping, running, *working, return_exceptions=True)
        await store.close()
        for failure in ended:
            if isinstance(failure, Exception):
                raise failure

    async def _start_working(self, api: Api, clock: SystemClock) -> list[asyncio.Future[None]]:
        """What makes objects more than stored: controllers, scheduler and hosts."""
        for name in self.hosts:
            wanted = node(name, cpu="16", memory="64Gi")
            await self.client.create(NODE, wanted)
            await self.client.patch(NODE, name, "", {"status": wanted["status"]}, subresource="status")
        settings = ControlSettings(root_ca=self.pki.ca_pem.decode())
        self.kubelet = FakeKubelet(self.client, clock, start_s=0.05, stop_s=0.05)
        parts = (
            Manager(self.client, clock=clock, rng=random.Random(2), settings=settings, registry=api.registry),
            Scheduler(self.client, clock=clock, rng=random.Random(3)),
            self.kubelet,
        )
        return [asyncio.ensure_future(part.run()) for part in parts]


def pod(name: str, *containers: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": container, "image": "busybox"} for container in containers]},
    }


async def add_host(client: Client, name: str) -> None:
    """A Node, unless it is there already."""
    try:
        await client.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    except StatusError as error:
        if not is_already_exists(error):
            raise


def running_pod(cluster: LiveCluster, namespace: str, name: str, *containers: str) -> None:
    """A pod that a host has taken: bound, and Running."""
    obj = pod(name, *(containers or ("main",)))
    obj["metadata"]["namespace"] = namespace
    obj["spec"]["nodeName"] = "ant"
    cluster.run(add_host(cluster.client, "ant"))
    cluster.run(cluster.client.create(POD, obj))
    status = {"status": {"phase": "Running", "podIP": "10.42.0.7"}}
    cluster.run(cluster.client.patch(POD, name, namespace, status, subresource="status"))
