"""The daemon: joins the desired state, the pods, the network and whoever is connected.

At its start it needs nobody: the persisted sections are put in force, running containers adopted. A
connection on the socket brings newer sections and takes reports; there is one at a time, the newest with a
term that is not lower. When it ends, nothing on the host changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from gitkube.node import cgroups, hostinfo, logs
from gitkube.node.api_door import ApiDoor
from gitkube.node.containers import Runtime
from gitkube.node.context import Tools
from gitkube.node.exits import ExitWatch
from gitkube.node.images import ImageStore
from gitkube.node.kube import Object, name_of, namespace_of, uid_of
from gitkube.node.network.addresses import gateway_of
from gitkube.node.network.services import API_SERVICE_PORT, api_address
from gitkube.node.paths import Layout
from gitkube.node.pods import PodManager
from gitkube.node.records import RUNNING
from gitkube.node.sandbox import NetworkLike, Sandboxes
from gitkube.node.sections import SECTIONS, Sections, StaleTerm
from gitkube.node.session import Session
from gitkube.node.streams import StreamServer
from gitkube.node.volumes import Volumes
from gitkube.wire import PROTOCOL_VERSION, SocketStream, Stream, WireError

log = logging.getLogger(__name__)

GATHER_S = 0.02
"""How long changes are gathered before they are reported together."""
MAX_EVENTS = 1000
"""Kept while nobody is connected; the oldest go first."""
HOUSEKEEPING_INTERVAL_S = 10.0
TOKENS = "tokens"
"""The one section that is never on the disk."""


class Network(NetworkLike, Protocol):
    """What the agent asks of `gitkube.node.network.Network`."""

    def public_key(self) -> str: ...

    async def apply(self, desired: Any) -> None: ...

    async def apply_services(self, desired: Any) -> None: ...

    async def prune(self, keep: set[str]) -> None: ...

    async def run(self) -> None: ...


class Agent:
    """One host's agent."""

    def __init__(self, layout: Layout, network: Network, layout_of_cgroups: cgroups.Cgroups) -> None:
        self._layout = layout
        self._network = network
        self._sections = Sections(layout)
        self._images = ImageStore(layout.images, layout.run)
        runtime_host = hostinfo.runtime_host()
        self._runtime = Runtime(layout, self._images.layers_dir, layout_of_cgroups, runtime_host)
        self._sandboxes = Sandboxes(layout, network)
        tools = Tools(
            layout=layout,
            images=self._images,
            runtime=self._runtime,
            sandboxes=self._sandboxes,
            volumes=Volumes(layout),
            emit=self._emit,
            report=lambda uid: None,
        )
        self._manager = PodManager(tools, self._note_change)
        self._streams = StreamServer(layout, self._manager)
        self._exit_watch = ExitWatch(layout.exits, self._manager.container_exited)
        self._session: Session | None = None
        self._api_door = ApiDoor(lambda: self._session)
        self._changed = asyncio.Event()
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._apply_locks = {section: asyncio.Lock() for section in SECTIONS}
        self._errors: dict[str, str] = {}
        self._conditions: list[dict[str, Any]] = []
        self._digest = own_digest()

    # ------------------------------------------------------------ life

    def prepare(self) -> None:
        """Bring what lies on the disk in order, before anything runs. Raises what the disk raises."""
        self._images.prepare()

    async def run(self) -> None:
        """Work until cancelled. Containers go on without it.

        Raises:
            OSError: the socket or the directories cannot be made.
        """
        self._sections.load()
        self._exit_watch.start()
        if self._sections.data("network") is not None:
            await self._put_in_force("network")
        if self._sections.data("services") is not None:
            await self._put_in_force("services")
        self._manager.load()
        if self._sections.data("pods") is not None:
            await self._put_in_force("pods")
        await self._prune_network()
        self._layout.socket.unlink(missing_ok=True)
        server = await self._listen()
        self._layout.failure.unlink(missing_ok=True)
        log.info("agent ready: socket=%s", self._layout.socket)
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                self._network.run(),
                self._api_door.run(),
                self._report_forever(),
                self._keep_house(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._manager.stop()
            self._exit_watch.stop()

    async def _prune_network(self) -> None:
        """Give back the addresses and namespaces of pods of which nothing is left."""
        keep = {worker.record.uid for worker in self._manager.workers()}
        try:
            await self._network.prune(keep)
        except Exception:
            log.warning("network leftovers not removed", exc_info=True)

    async def _listen(self) -> asyncio.AbstractServer:
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._serve, str(self._layout.socket))
        finally:
            os.umask(before)

    # ------------------------------------------------------------ desired state

    async def take_desired(self, message: dict[str, Any]) -> str:
        """Persist a section and put it in force. Returns what went wrong, "" for nothing."""
        section = str(message.get("section"))
        if section == TOKENS:
            return await self._take_tokens(message)
        if section not in SECTIONS:
            return f"this host does not know a section {section!r}"
        async with self._apply_locks[section]:
            try:
                await asyncio.to_thread(self._sections.keep, message)
            except (StaleTerm, ValueError, OSError) as error:
                log.warning("section refused: section=%s error=%s", section, error)
                return str(error)
            return await self._put_in_force(section)

    async def _take_tokens(self, message: dict[str, Any]) -> str:
        """Tokens are never on the disk: they are in memory here, and in the pods' own tmpfs."""
        data = message.get("data")
        try:
            await asyncio.to_thread(self._sections.meet, int(message.get("term") or 0), self._sections.node)
        except (StaleTerm, OSError) as error:
            return str(error)
        if not isinstance(data, dict) or not isinstance(data.get("tokens"), dict):
            return "these are no tokens"
        self._manager.set_tokens(data["tokens"])
        return ""

    async def _put_in_force(self, section: str) -> str:
        data = self._sections.data(section)
        assert data is not None
        try:
            if section == "network":
                await self._network.apply(data)
                self._sandboxes.cluster_domain = str(data.get("clusterDomain") or "cluster.local")
                self._api_door.move(gateway_of(data["podCIDR"]), data["podCIDR"])
                self._manager.set_api((api_address(data["serviceCIDR"]), API_SERVICE_PORT))
                self._manager.poke_all()
            elif section == "services":
                await self._network.apply_services(data)
            else:
                self._manager.apply(data)
        except Exception as error:
            # The network's errors are its own classes. Whatever it was: say it, and stay alive.
            log.warning("section not in force: section=%s", section, exc_info=True)
            self._errors[section] = str(error) or type(error).__name__
            return self._errors[section]
        self._errors.pop(section, None)
        return ""

    # ------------------------------------------------------------ the connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, SocketStream(reader, writer))
        try:
            _check_peer(writer)
            await session.run()
        except (WireError, OSError) as error:
            log.info("connection ended: %s", error)
        finally:
            if self._session is session:
                self._session = None
                log.info("control side disconnected")

    def hello(self) -> dict[str, Any]:
        """The agent's first message."""
        return {
            "type": "hello",
            "protocol": PROTOCOL_VERSION,
            "agent": self._digest,
            "node": self._sections.node,
            "term": self._sections.term,
            "digests": {
                section: digest
                for section, digest in self._sections.digests().items()
                if section not in self._errors
            },
            "nodeInfo": hostinfo.node_info(),
            "capacity": hostinfo.capacity(self._layout.root),
            "publicKey": self._network.public_key(),
        }

    async def welcome(self, session: Session, message: dict[str, Any]) -> None:
        """Make a connection the one that counts.

        Raises:
            WireError: its leader has been deposed.
        """
        try:
            await asyncio.to_thread(
                self._sections.meet, int(message.get("term") or 0), str(message.get("node") or "")
            )
        except StaleTerm as error:
            raise WireError(str(error)) from error
        before, self._session = self._session, session
        if before is not None and before is not session:
            await before.close()
        log.info("control side connected: node=%s term=%s", self._sections.node, self._sections.term)
        await session.send(self._pods_report(full=True))
        await session.send(await self._node_report())
        self._changed.set()

    def _pods_report(self, *, full: bool) -> dict[str, Any]:
        reports = self._manager.full_report() if full else self._manager.take_changes()
        return {"type": "pods", "full": full, "pods": reports}

    async def _node_report(self) -> dict[str, Any]:
        self._conditions = await asyncio.to_thread(hostinfo.conditions, self._layout.root, time.time())
        images = await asyncio.to_thread(self._images.list)
        return {"type": "node", "conditions": self._conditions, "images": images}

    async def serve_stream(self, stream: Stream) -> None:
        await self._streams.serve(stream)

    # ------------------------------------------------------------ reports

    def _note_change(self) -> None:
        self._changed.set()

    def _emit(self, pod: Object, event_type: str, reason: str, message: str, field_path: str) -> None:
        self._events.append(
            {
                "type": "event",
                "uid": uid_of(pod),
                "namespace": namespace_of(pod),
                "name": name_of(pod),
                "eventType": event_type,
                "reason": reason,
                "message": message[:1024],
                "fieldPath": field_path,
                "time": time.time(),
            }
        )
        self._changed.set()

    async def _report_forever(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_S)
            self._changed.clear()
            session = self._session
            if session is None:
                continue
            changes = self._pods_report(full=False)
            try:
                if changes["pods"]:
                    await session.send(changes)
                while self._events:
                    event = self._events.popleft()
                    await session.send(event)
            except (WireError, OSError):
                # The next connection begins with a full report, so nothing of this is lost but an event.
                await session.close()

    async def _keep_house(self) -> None:
        """What is looked at from time to time: logs, disk, the node's conditions, sections that failed."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)
            try:
                await self._rotate_logs()
                await self._collect_images()
                await self._retry_sections()
                await self._report_node()
            except OSError as error:
                log.warning("housekeeping failed: %s", error)

    async def _rotate_logs(self) -> None:
        for worker in self._manager.workers():
            pod_layout = self._layout.pod(worker.record.uid)
            for entry in list(worker.record.containers.values()):
                if entry.phase == RUNNING:
                    bundle = pod_layout.bundle(entry.name, entry.attempt)
                    log_file = pod_layout.log(entry.name, entry.attempt)
                    await asyncio.to_thread(logs.rotate, log_file, bundle / "ctl")

    async def _collect_images(self) -> None:
        free = await asyncio.to_thread(hostinfo.free_disk_share, self._layout.root)
        if free >= hostinfo.DISK_CLEANUP_FREE_SHARE or self._images.is_pulling:
            return
        references, layers = set(), set()
        for worker in self._manager.workers():
            for container in [
                *(worker.pod["spec"].get("containers") or []),
                *(worker.pod["spec"].get("initContainers") or []),
            ]:
                references.add(str(container.get("image")))
            for entry in worker.record.containers.values():
                references.add(entry.image)
                layers.update(entry.layers)
        removed = await asyncio.to_thread(self._images.collect, references, layers)
        log.info("images removed for want of disk space: count=%d", removed)

    async def _retry_sections(self) -> None:
        for section in list(self._errors):
            if section != "pods":
                async with self._apply_locks[section]:
                    await self._put_in_force(section)

    async def _report_node(self) -> None:
        session, before = self._session, {entry["type"]: entry["status"] for entry in self._conditions}
        if session is None:
            return
        report = await self._node_report()
        if {entry["type"]: entry["status"] for entry in report["conditions"]} != before:
            with contextlib.suppress(WireError, OSError):
                await session.send(report)


def _check_peer(writer: asyncio.StreamWriter) -> None:
    """Whoever speaks here runs pods as root. The socket's mode says so too; a mode is easily lost.

    Raises:
        WireError: the process at the other end is neither root's nor ours (SO_PEERCRED, unix(7)).
    """
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (0, os.geteuid()):
        writer.close()
        raise WireError(f"user {uid} may not speak to the agent")


def own_digest() -> str:
    """SHA-256 of the zipapp we run from; "" when we run from a source tree."""
    path = Path(sys.argv[0])
    if path.suffix != ".pyz" and not (path.is_file() and path.resolve().suffix == ".pyz"):
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()
