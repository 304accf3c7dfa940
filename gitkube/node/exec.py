"""What people do inside running containers: exec, attach and port-forward, each over one wire stream.

Exec is `crun exec`; with a terminal, crun hands us the container's own terminal over a socket
(--console-socket), so there is one terminal and its size is set directly. Attach speaks conmon's packets.
Port-forward makes its connection in a thread that has entered the pod's network, and only there.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import os
import socket
import struct
import termios
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gitkube.node import mounts
from gitkube.node.probes import Answer
from gitkube.node.target import Target, check_command
from gitkube.wire import RESIZE, STDERR, STDIN, STDOUT, Stream, WireError

READ_BYTES = 64 * 1024
TERMINAL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0
MAX_HOOK_OUTPUT_BYTES = 10 * 1024

CONMON_STDOUT, CONMON_STDERR = 2, 3
"""The first byte of each packet on conmon's attach socket."""


async def run_exec(target: Target, command: Sequence[str], timeout_s: float) -> Answer:
    """Run a command for a probe or a hook; success is exit code 0, the message its output."""
    with target.arguments(command) as argv:
        return await _run_for_answer(argv, timeout_s)


async def _run_for_answer(argv: list[str], timeout_s: float) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    output = bytearray()

    async def collect(reader: asyncio.StreamReader) -> None:
        while True:
            chunk = await reader.read(READ_BYTES)
            if not chunk:
                return
            output.extend(chunk[: MAX_HOOK_OUTPUT_BYTES - len(output)])

    try:
        await asyncio.wait_for(asyncio.gather(collect(process.stdout), process.wait()), timeout_s)
    except asyncio.TimeoutError:
        return Answer(False, f"command timed out after {timeout_s:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace").strip()
    return Answer(process.returncode == 0, text or f"exit code {process.returncode}")


async def serve_exec(stream: Stream, target: Target) -> None:
    """Run the command of an exec request, and close the stream with its exit code."""
    request = stream.request
    command = check_command(request.get("command"))
    if request.get("tty"):
        code = await _exec_with_terminal(stream, target, command)
    else:
        with target.arguments(command) as argv:
            code = await _exec_with_pipes(stream, argv, with_stdin=bool(request.get("stdin")))
    await stream.close({"exitCode": code})


async def _exec_with_pipes(stream: Stream, argv: list[str], *, with_stdin: bool) -> int:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if with_stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    feeding = asyncio.ensure_future(_feed(stream, process.stdin))
    copying = asyncio.gather(_copy(process.stdout, stream, STDOUT), _copy(process.stderr, stream, STDERR))
    try:
        await _until_left(copying, feeding)
        return _shell_code(await process.wait())
    finally:
        await _end(feeding)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_left(copying: asyncio.Future[Any], feeding: asyncio.Future[Any]) -> None:
    """Wait until all output was copied.

    Raises:
        WireError: the client left before that; nobody waits for the program any more.
    """
    await asyncio.wait({copying, feeding}, return_when=asyncio.FIRST_COMPLETED)
    if not copying.done():
        await _end(copying)
        raise WireError("the client left")
    await copying


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


async def _copy(reader: asyncio.StreamReader, stream: Stream, channel: int) -> None:
    while True:
        data = await reader.read(READ_BYTES)
        if not data:
            return
        await stream.write(channel, data)


async def _feed(stream: Stream, sink: asyncio.StreamWriter | None) -> None:
    """Give standard input to the program until either side ends it; then only wait for the client's end."""
    while True:
        item = await stream.read()
        if item is None:
            return
        channel, data = item
        if channel != STDIN or sink is None or sink.is_closing():
            continue
        if not data:
            sink.close()
            continue
        try:
            sink.write(data)
            await sink.drain()
        except (BrokenPipeError, ConnectionResetError):
            sink.close()  # the program wants no more; what else comes is dropped


async def _end(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, WireError, OSError):
        await task


async def _exec_with_terminal(stream: Stream, target: Target, command: list[str]) -> int:
    place = target.run_dir / f"console-{uuid.uuid4().hex[:12]}"
    with target.arguments(command, "--tty", "--console-socket", str(place), tty=True) as argv:
        return await _exec_on_console(stream, argv, place)


async def _exec_on_console(stream: Stream, argv: list[str], place: Path) -> int:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(place))
        listener.listen(1)
        listener.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            terminal = await _receive_terminal(listener, process)
            if terminal < 0:
                assert process.stderr is not None
                await stream.write(STDOUT, await process.stderr.read(READ_BYTES))
                return _shell_code(await process.wait())
            return await _serve_terminal(stream, terminal, process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        listener.close()
        place.unlink(missing_ok=True)


async def _receive_terminal(listener: socket.socket, process: asyncio.subprocess.Process) -> int:
    """The terminal's descriptor, or -1 when crun ended without sending one."""
    loop = asyncio.get_running_loop()
    accepting = asyncio.ensure_future(loop.sock_accept(listener))
    ending = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait(
            {accepting, ending}, timeout=TERMINAL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not accepting.done():
            return -1
        connection = accepting.result()[0]
    finally:
        await _end(ending)
        if not accepting.done():
            await _end(accepting)
    with connection:
        connection.setblocking(True)
        connection.settimeout(TERMINAL_TIMEOUT_S)
        return await asyncio.to_thread(_receive_descriptor, connection)


def _receive_descriptor(connection: socket.socket) -> int:
    fds = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
    return fds[0] if fds else -1


async def _serve_terminal(stream: Stream, terminal: int, process: asyncio.subprocess.Process) -> int:
    os.set_inheritable(terminal, False)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    writing = os.dup(terminal)
    with os.fdopen(terminal, "rb", buffering=0) as output:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), output)
        typing = asyncio.ensure_future(_type(stream, writing))
        try:
            # EIO is how a terminal says that its last user has gone.
            with contextlib.suppress(OSError):
                await _until_left(asyncio.ensure_future(_copy(reader, stream, STDOUT)), typing)
            return _shell_code(await process.wait())
        finally:
            await _end(typing)
            os.close(writing)
            transport.close()


async def _type(stream: Stream, terminal: int) -> None:
    while True:
        item = await stream.read()
        if item is None:
            return
        channel, data = item
        if channel == RESIZE:
            resize(terminal, data)
        elif channel == STDIN:
            await asyncio.to_thread(_write_all, terminal, data or b"\x04")


def _write_all(fd: int, data: bytes) -> None:
    os.set_blocking(fd, True)
    while data:
        data = data[os.write(fd, data) :]


def parse_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of a RESIZE payload; (0, 0) when it is not one."""
    try:
        value = json.loads(data)
        return min(int(value["Height"]), 65535), min(int(value["Width"]), 65535)
    except (ValueError, KeyError, TypeError):
        return 0, 0


def resize(terminal: int, data: bytes) -> None:
    rows, columns = parse_size(data)
    if rows > 0 and columns > 0:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def serve_attach(stream: Stream, socket_path: Path, control: Path) -> None:
    """Join a container's own standard streams, until it ends or the client leaves."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, str(socket_path))
        feeding = asyncio.ensure_future(_feed_attached(stream, connection, control))
        reading = asyncio.ensure_future(_read_attached(stream, connection))
        try:
            await asyncio.wait({feeding, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(feeding)
            await _end(reading)
    await stream.close({"exitCode": 0})


async def _read_attached(stream: Stream, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        packet = await loop.sock_recv(connection, READ_BYTES)
        if not packet:
            return
        await stream.write(STDERR if packet[0] == CONMON_STDERR else STDOUT, packet[1:])


async def _feed_attached(stream: Stream, connection: socket.socket, control: Path) -> None:
    loop = asyncio.get_running_loop()
    wants_stdin = bool(stream.request.get("stdin"))
    while True:
        item = await stream.read()
        if item is None:
            return
        channel, data = item
        if channel == STDIN and wants_stdin:
            if data:
                for start in range(0, len(data), 8192):
                    await loop.sock_sendall(connection, data[start : start + 8192])
            else:
                connection.shutdown(socket.SHUT_WR)
        elif channel == RESIZE:
            rows, columns = parse_size(data)
            if rows and columns:
                _write_control(control, f"1 {rows} {columns}\n".encode())


def _write_control(control: Path, line: bytes) -> None:
    fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def connect_inside(netns: str, port: int) -> socket.socket:
    """A connection to a port on the loopback of a network namespace. Blocks.

    Raises:
        OSError: nothing listens there.
    """

    def body() -> socket.socket:
        if netns:
            mounts.enter(netns, mounts.CLONE_NEWNET)
        return socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT_S)

    return mounts.in_thread(body)


async def serve_port_forward(stream: Stream, netns: str) -> None:
    """Carry bytes between the stream and a port of the pod."""
    port = int(stream.request.get("port") or 0)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    try:
        connection = await asyncio.to_thread(connect_inside, netns, port)
    except OSError as error:
        await stream.close(
            {"error": f"port {port} of the pod: {error.strerror or error}", "reason": "ConnectError"}
        )
        return
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    feeding = asyncio.ensure_future(_feed_port(stream, writer))
    try:
        with contextlib.suppress(ConnectionError):
            await _until_left(asyncio.ensure_future(_copy(reader, stream, STDOUT)), feeding)
    finally:
        await _end(feeding)
        writer.close()
    await stream.close({"exitCode": 0})


async def _feed_port(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while True:
        item = await stream.read()
        if item is None:
            writer.close()
            return
        channel, data = item
        if channel != STDIN:
            continue
        if not data:
            if writer.can_write_eof():
                writer.write_eof()
            continue
        writer.write(data)
        await writer.drain()
