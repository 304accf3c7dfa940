"""Subresources of pods that are streams: log, exec, attach and port-forward.

The API knows the pod, `PodStreams` reaches the host that runs it; this file joins both with the client: plain
chunked text for logs; for the others WebSocket, or SPDY as older clients have it. All that can be refused is
refused before the answer begins, as a Status; afterwards the end of the stream carries the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from gitkube.api.errors import StatusError, bad_request
from gitkube.api.requests import Context
from gitkube.api.streams import ExecOptions, PodAttach, PodStreams, StreamSession
from gitkube.objects import meta, pods
from gitkube.objects.types import Object
from gitkube.server import channels, port_channels, queries
from gitkube.server.access import PodAccess
from gitkube.server.identity import asked_protocols
from gitkube.server.lifetime import Lifetime
from gitkube.server.log_options import log_options
from gitkube.server.paths import Target, method_not_allowed
from gitkube.server.pod_log import send_log
from gitkube.server.port_forward import PROTOCOL as PORT_FORWARD_PROTOCOL
from gitkube.server.port_forward import PortForward
from gitkube.server.relay import Relay
from gitkube.server.spdy import SpdyError
from gitkube.server.spdy_command import PROTOCOL as COMMAND_PROTOCOL
from gitkube.server.spdy_command import SpdyCommand, wanted_streams
from gitkube.server.upgrade import negotiated, switch_protocols, wants_spdy
from gitkube.wire import WireError

log = structlog.get_logger()

SPDY_PORT_FORWARD = "portforward.k8s.io"
MAX_COMMAND_WORDS = 4096


class PodEndpoints:
    subresources = frozenset({"log", "exec", "attach", "portforward"})

    def __init__(
        self, access: PodAccess, streams: PodStreams, lifetime: Lifetime, relay: Relay | None = None
    ) -> None:
        self._access = access
        self._streams = streams
        self._lifetime = lifetime
        self._relay = relay

    async def handle(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        """Serve one of `subresources`.

        Raises:
            StatusError: it is refused before the answer has begun.
        """
        if target.subresource == "log":
            if request.method != "GET":
                raise method_not_allowed()
            return await self._log(request, target, context)
        if request.method not in ("GET", "POST"):
            raise method_not_allowed()
        pod = await self._access.pod(context, "create", target.namespace, target.name, target.subresource)
        container = ""
        if target.subresource != "portforward":
            container = container_of(pod, request.query.get("container", ""))
        await self._access.check_host(context, pod)
        if self._relay is not None and self._relay.is_needed(request):
            with self._lifetime.long_request():
                return await self._relay.pass_on(request)
        await self._access.admit(
            context, pod, target.subresource, connect_options(request.query, target.subresource)
        )
        if target.subresource == "portforward":
            return await self._port_forward(request, pod)
        return await self._command(request, pod, container, target.subresource)

    # ------------------------------------------------------------------ log

    async def _log(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        pod = await self._access.pod(context, "get", target.namespace, target.name, "log")
        options = log_options(
            request.query, target.name, container_of(pod, request.query.get("container", ""))
        )
        if not pods.node_name(pod):
            return web.Response(status=204)  # nothing has been said yet: Kubernetes' answer, with no content
        await self._access.check_host(context, pod)
        if self._relay is not None and self._relay.is_needed(request):
            with self._lifetime.long_request():
                return await self._relay.pass_on(request)
        chunks = self._streams.logs(pod, options)
        with self._lifetime.long_request():
            return await send_log(request, chunks, follow=options.follow)

    # ------------------------------------------------------------------ exec, attach

    async def _command(
        self, request: web.Request, pod: Object, container: str, subresource: str
    ) -> web.StreamResponse:
        options = exec_options(request.query, container)
        if subresource == "exec" and not options.command:
            raise bad_request("you must specify at least 1 command for the container")
        if wants_spdy(request):
            return await self._spdy_command(request, pod, options, subresource)
        socket = web.WebSocketResponse(
            protocols=channels.PROTOCOLS, max_msg_size=channels.MAX_MESSAGE_BYTES, autoclose=True
        )
        if asked_protocols(request) or not socket.can_prepare(request).ok:
            _require_websocket(request, socket, channels.PROTOCOLS)
        with self._lifetime.long_request():
            session = await self._open(pod, options, subresource)
            try:
                await socket.prepare(request)
                protocol = socket.ws_protocol or channels.V1
                await _serve_channels(socket, session, options, protocol, _wanted_output(request.query))
            finally:
                # The client may be gone while the command still runs: then nobody wants its result.
                await session.close({"error": "the client went away", "reason": "ClientGone"})
        return socket

    async def _spdy_command(
        self, request: web.Request, pod: Object, options: ExecOptions, subresource: str
    ) -> web.StreamResponse:
        headers = negotiated(request, COMMAND_PROTOCOL)
        wanted = wanted_streams(
            stdin=options.stdin,
            stdout=queries.flag(request.query, "stdout"),
            stderr=queries.flag(request.query, "stderr"),
            tty=options.tty,
        )
        with self._lifetime.long_request():
            session = await self._open(pod, options, subresource)
            try:
                upgraded = switch_protocols(request, headers)
                command = SpdyCommand(upgraded.connection.read, upgraded.connection.write, wanted)
                await command.run(session)
                await upgraded.connection.wait_closed()
            except (ConnectionError, SpdyError) as error:
                log.info("command_ended", path=request.path, error=str(error))
            finally:
                await session.close({"error": "the client went away", "reason": "ClientGone"})
        return upgraded

    async def _open(self, pod: Object, options: ExecOptions, subresource: str) -> StreamSession:
        if subresource == "exec":
            return await self._streams.exec(pod, options)
        if not isinstance(self._streams, PodAttach):
            text = "attach is not served here; see the output with: kubectl logs -f"
            raise StatusError(501, "NotImplemented", text)
        return await self._streams.attach(pod, options)

    # ------------------------------------------------------------------ port-forward

    async def _port_forward(self, request: web.Request, pod: Object) -> web.StreamResponse:
        if (pod.get("status") or {}).get("phase") != "Running":
            phase = (pod.get("status") or {}).get("phase") or "Unknown"
            raise bad_request(f"unable to forward port because pod is not running. Current status={phase}")
        if wants_spdy(request):
            return await self._spdy_port_forward(request, pod)
        protocols = (PORT_FORWARD_PROTOCOL, port_channels.PROTOCOL)
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=channels.MAX_MESSAGE_BYTES)
        if _require_websocket(request, socket, protocols) == port_channels.PROTOCOL:
            return await self._forward_by_channels(request, socket, pod)
        with self._lifetime.long_request():
            await socket.prepare(request)
            forward = PortForward(socket.send_bytes, lambda port: self._streams.port_forward(pod, port))
            connections = asyncio.ensure_future(forward.run())
            try:
                async for message in socket:
                    if message.type is WSMsgType.BINARY:
                        await forward.feed(message.data)
                    if connections.done():
                        connections.result()
            except (ConnectionError, ExceptionGroup) as error:
                log.info("port_forward_ended", path=request.path, error=str(error))
            except SpdyError as error:
                await socket.close(code=WSCloseCode.PROTOCOL_ERROR, message=str(error).encode()[:120])
            finally:
                connections.cancel()
                await asyncio.wait([connections])
        return socket

    async def _forward_by_channels(
        self, request: web.Request, socket: web.WebSocketResponse, pod: Object
    ) -> web.StreamResponse:
        ports = port_channels.asked_ports(request.query)
        with self._lifetime.long_request():
            await socket.prepare(request)
            try:
                await port_channels.forward_ports(
                    socket, ports, lambda port: self._streams.port_forward(pod, port)
                )
            except (ConnectionError, ExceptionGroup) as error:
                log.info("port_forward_ended", path=request.path, error=str(error))
        return socket

    async def _spdy_port_forward(self, request: web.Request, pod: Object) -> web.StreamResponse:
        headers = negotiated(request, SPDY_PORT_FORWARD)
        with self._lifetime.long_request():
            upgraded = switch_protocols(request, headers)
            connection = upgraded.connection
            forward = PortForward(connection.write, lambda port: self._streams.port_forward(pod, port))
            connections = asyncio.ensure_future(forward.run())
            try:
                while (data := await connection.read()) and not connections.done():
                    await forward.feed(data)
            except (ConnectionError, SpdyError) as error:
                log.info("port_forward_ended", path=request.path, error=str(error))
            finally:
                connections.cancel()
                await asyncio.wait([connections])
        return upgraded


# ---------------------------------------------------------------------- what a request asks for


def container_of(pod: Object, wanted: str) -> str:
    """The container that is meant.

    Raises:
        StatusError: 400, the pod has none of that name, or several and none was named.
    """
    spec = pod.get("spec") or {}
    regular = [str(container["name"]) for container in spec.get("containers") or []]
    others = [
        str(container["name"])
        for field in ("initContainers", "ephemeralContainers")
        for container in spec.get(field) or []
    ]
    if not wanted:
        if len(regular) == 1:
            return regular[0]
        text = f"a container name must be specified for pod {meta.name(pod)}, "
        text += f"choose one of: [{' '.join(regular)}]"
        if others:
            text += f" or one of the init containers: [{' '.join(others)}]"
        raise bad_request(text)
    if wanted not in regular and wanted not in others:
        raise bad_request(f"container {wanted} is not valid for pod {meta.name(pod)}")
    return wanted


def exec_options(query: Mapping[str, str], container: str) -> ExecOptions:
    """PodExecOptions from the query.

    Raises:
        StatusError: 400.
    """
    command = _all(query, "command")
    if len(command) > MAX_COMMAND_WORDS:
        raise bad_request(f"a command has at most {MAX_COMMAND_WORDS} words")
    tty = queries.flag(query, "tty")
    wants_any = any(queries.flag(query, name) for name in ("stdin", "stdout", "stderr"))
    if not wants_any:
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    return ExecOptions(container, tuple(command), stdin=queries.flag(query, "stdin"), tty=tty)


def _wanted_output(query: queries.Query) -> frozenset[int]:
    """The channels that the client wants to hear; of the others, what the command says is dropped."""
    words = {"stdout": channels.STDOUT, "stderr": channels.STDERR}
    return frozenset(channel for word, channel in words.items() if queries.flag(query, word))


def _all(query: queries.Query, name: str) -> list[str]:
    """All values of a parameter that may be given several times."""
    get_all = getattr(query, "getall", None)
    return list(get_all(name, [])) if get_all else [query[name]] if name in query else []


def connect_options(query: queries.Query, subresource: str) -> Object:
    """The query as the document that webhooks and policies get to see."""
    word = {"exec": "PodExecOptions", "attach": "PodAttachOptions"}.get(subresource, "PodPortForwardOptions")
    options: Object = {"kind": word, "apiVersion": "v1"}
    if subresource == "portforward":
        ports = [int(port) for port in _all(query, "ports") if port.isdigit() and len(port) < 6]
        return {**options, "ports": ports} if ports else options
    for name in ("stdin", "stdout", "stderr", "tty"):
        if queries.flag(query, name):
            options[name] = True
    if query.get("container"):
        options["container"] = query["container"]
    if subresource == "exec":
        options["command"] = _all(query, "command")[:MAX_COMMAND_WORDS]
    return options


def _require_websocket(
    request: web.Request, socket: web.WebSocketResponse, protocols: tuple[str, ...]
) -> str:
    """The protocol that client and server will speak."""
    ready = socket.can_prepare(request)
    if not ready.ok:
        text = "this must be an upgrade to WebSocket or to SPDY/3.1"
        raise bad_request(f"unable to upgrade connection: {text}")
    if ready.protocol is None:
        text = f"no common subprotocol; served are: {', '.join(protocols)}"
        raise bad_request(f"unable to upgrade connection: {text}")
    return ready.protocol


# ---------------------------------------------------------------------- pumping


async def _serve_channels(
    socket: web.WebSocketResponse,
    session: StreamSession,
    options: ExecOptions,
    protocol: str,
    wanted: frozenset[int],
) -> None:
    """Carry both directions until the command ends or the client goes."""
    inbound = asyncio.ensure_future(_from_client(socket, session, options, protocol))
    outbound = asyncio.ensure_future(_to_client(socket, session, protocol, wanted))
    try:
        await asyncio.wait([inbound, outbound], return_when=asyncio.FIRST_COMPLETED)
        if inbound.done() and inbound.result():
            return
        await outbound
        if last := channels.last_word(session.result, protocol):
            await _send(socket, channels.ERROR, last, protocol)
        await socket.close()
    except ConnectionError:
        pass  # the client went away
    except channels.ChannelError as error:
        await socket.close(code=WSCloseCode.PROTOCOL_ERROR, message=str(error).encode()[:120])
    finally:
        inbound.cancel()
        outbound.cancel()
        await asyncio.wait([inbound, outbound])


async def _from_client(
    socket: web.WebSocketResponse, session: StreamSession, options: ExecOptions, protocol: str
) -> bool:
    """Whether the client has gone; else it is the command that takes no more input.

    Raises:
        ChannelError: the client broke the protocol.
    """
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return True
        inbound = channels.decode(channels.from_message(message.data, protocol), protocol)
        if inbound is None:
            continue
        is_wanted = options.stdin if inbound.channel == channels.STDIN else options.tty
        if not is_wanted:
            continue
        try:
            await session.write(inbound.channel, inbound.data)
        except WireError:
            return False
    return True


async def _to_client(
    socket: web.WebSocketResponse, session: StreamSession, protocol: str, wanted: frozenset[int]
) -> None:
    while (item := await session.read()) is not None:
        channel, data = item
        if channel in wanted and data:
            await _send(socket, channel, data, protocol)


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes, protocol: str) -> None:
    message = channels.to_message(channel, data, protocol)
    await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
