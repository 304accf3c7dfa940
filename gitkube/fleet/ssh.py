"""SSH to one host, as async calls: connect with a pinned key, run a fixed command, put a file, keep a pipe.

paramiko is blocking and has threads of its own, so everything of it stays behind this file. Each connection
owns one small pool of threads named after its host; a host that hangs blocks only those. Cancelling any call
shuts the socket down, which wakes every thread of the connection at once.

What is never done: agent forwarding, reading ~/.ssh/config or ~/.ssh/known_hosts, passwords, and building a
command out of data. Invariant: nothing is sent to a host, not even the user's name, before its key is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import paramiko

from gitkube.fleet.errors import HostKeyChanged, HostStopped, HostUnreachable, LinkLost, LoginRefused
from gitkube.fleet.hosts import Host, HostKey
from gitkube.fleet.known_hosts import KnownHosts, Verdict, fingerprint, judge
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh_identities import identities, sentence_of

T = TypeVar("T")

_PARAMIKO_LOG = "gitkube.ssh"
# What goes wrong reaches us as an exception; paramiko's own log would tell it once more, with stack traces.
logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL)

MAX_OUTPUT_BYTES = 1024 * 1024
"""Of a command that is run to its end; a report is a few kilobytes."""
READ_BYTES = 256 * 1024
READS_AHEAD = 4
"""Chunks read and not yet taken; beyond them SSH's own window holds the host back."""
WRITE_BYTES = 32 * 1024
"""paramiko copies the rest of what it is given at each send, so it is given little."""
KEEPALIVE_S = 15
UNACKED_LIMIT_MS = 20_000
"""TCP gives up on a peer that has not acknowledged for so long."""
_THREADS = 3  # one reads the link, one writes it, one closes it
_WEAK = {
    "ciphers": ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    "macs": ("hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"),
    "keys": ("ssh-rsa", "ssh-dss"),
    "pubkeys": ("ssh-rsa", "ssh-dss"),
}
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class SshConnection:
    """One transport to one host. Made by `connect`; closed by `close`, whatever state it is in."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self.host = host
        self.peer_address: str = sock.getpeername()[0]
        """The IP address that the host's name meant."""
        self.first_contact: HostKey | None = None
        """The key that was pinned on this occasion."""
        self._socket = sock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"ssh-{host.name}")
        self._transport: paramiko.Transport | None = None

    # ------------------------------------------------------------ use

    async def run(
        self,
        command: str,
        stdin: bytes,
        *,
        timeout_s: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run a fixed command to its end. `on_line` is called with each line of stdout as it comes.

        Raises:
            HostUnreachable: the connection failed, or the time is over.
            LinkLost: the output was over its limit.
        """
        loop = asyncio.get_running_loop()

        def tell(line: bytes) -> None:
            if on_line is not None:
                loop.call_soon_threadsafe(on_line, line)

        return await self._in_thread(lambda: self._run(command, stdin, tell), timeout_s, "a command")

    async def upload(self, content: bytes, path: str, *, timeout_s: float) -> None:
        """Create a file that must not exist yet, over SFTP.

        Raises:
            HostUnreachable: the connection failed, or the host has no SFTP.
        """
        await self._in_thread(lambda: self._upload(content, path), timeout_s, "sending a file")

    async def open_pipe(self, command: str, *, timeout_s: float) -> SshPipe:
        """Start a fixed command and talk with its standard input and output."""

        def start() -> paramiko.Channel:
            channel = self._live_transport().open_session(timeout=timeout_s)
            channel.exec_command(command)
            return channel

        channel = await self._in_thread(start, timeout_s, "opening a channel")
        return SshPipe(self, channel, self._threads)

    async def close(self) -> None:
        """End everything; never raises, and is quick even when the host does not answer."""
        self._shut()
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(RuntimeError, OSError, paramiko.SSHException):
                await asyncio.get_running_loop().run_in_executor(self._threads, transport.close)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    # ------------------------------------------------------------ connect

    async def _log_in(self, known_hosts: KnownHosts, settings: FleetSettings) -> None:
        host = self.host
        try:
            pinned = host.host_keys or known_hosts.keys(host.address, host.port)
        except (OSError, ValueError) as error:
            raise HostStopped(f"its pinned key cannot be read, so nothing is trusted: {error}") from error
        shown = await self._in_thread(
            lambda: self._exchange_keys(pinned, settings.connect_timeout_s),
            settings.connect_timeout_s + 2,
            "the key exchange",
        )
        verdict = judge(pinned, shown)
        if verdict is Verdict.CHANGED:
            expected = ", ".join(f"{key.type} {fingerprint(key)}" for key in pinned)
            where = f"at {host.place}" if host.host_keys else f"in {known_hosts.path}"
            raise HostKeyChanged(
                f"the host key has changed: it shows {shown.type} {fingerprint(shown)}, pinned is {expected}"
                f" {where}. Either the machine was installed anew or somebody is in between."
                " If you know that it is right, replace the pinned key there; until then nothing is sent"
            )
        if verdict is Verdict.FIRST_CONTACT:
            try:
                known_hosts.remember(host.address, host.port, shown)
            except OSError as error:
                raise HostStopped(f"its key cannot be kept in {known_hosts.path}: {error}") from error
            self.first_contact = shown
        await self._in_thread(
            lambda: self._authenticate(settings.connect_timeout_s),
            settings.connect_timeout_s + 2,
            "the login",
        )

    def _exchange_keys(self, pinned: tuple[HostKey, ...], timeout_s: float) -> HostKey:
        transport = paramiko.Transport(
            self._socket, disabled_algorithms=_WEAK, default_window_size=4 * 1024 * 1024
        )
        self._transport = transport
        transport.name = f"ssh-{self.host.name}-transport"
        transport.banner_timeout = transport.auth_timeout = timeout_s
        transport.set_log_channel(_PARAMIKO_LOG)
        if pinned:
            options = transport.get_security_options()
            wanted = [name for key in pinned for name in _signatures(key.type) if name in options.key_types]
            rest = [name for name in options.key_types if name not in wanted]
            options.key_types = (*dict.fromkeys(wanted), *rest)
        transport.start_client(timeout=timeout_s)
        transport.set_keepalive(KEEPALIVE_S)
        key = transport.get_remote_server_key()
        return HostKey(key.get_name(), key.get_base64())

    def _authenticate(self, timeout_s: float) -> None:
        transport = self._live_transport()
        refused: list[str] = []
        for name, key in identities(self.host, refused):
            try:
                transport.auth_publickey(self.host.user, key)
                return
            except paramiko.AuthenticationException:
                refused.append(f"{name} was not accepted")
        why = "; ".join(refused) or "there is no key to log in with"
        raise LoginRefused(
            f"login as {self.host.user} was refused: {why}."
            f" Put a public key of yours into {self.host.user}'s ~/.ssh/authorized_keys on the host,"
            " or name another identity_file in the inventory"
        )

    # ------------------------------------------------------------ in threads

    def _run(self, command: str, stdin: bytes, tell: Callable[[bytes], None]) -> Completed:
        channel = self._live_transport().open_session()
        with contextlib.closing(channel):
            channel.exec_command(command)
            try:
                for start in range(0, len(stdin), WRITE_BYTES):
                    channel.sendall(stdin[start : start + WRITE_BYTES])
                channel.shutdown_write()
            except OSError:
                # A command that ends before it has read its input (sudo, refusing) has said why.
                if not self._live_transport().is_active():
                    raise
            stdout, told = bytearray(), 0
            while chunk := channel.recv(READ_BYTES):
                stdout += chunk
                if len(stdout) > MAX_OUTPUT_BYTES:
                    raise LinkLost(f"a command on the host said more than {MAX_OUTPUT_BYTES} bytes")
                while (end := stdout.find(b"\n", told)) >= 0:
                    tell(bytes(stdout[told:end]))
                    told = end + 1
            stderr = channel.recv_stderr(64 * 1024)
            return Completed(channel.recv_exit_status(), bytes(stdout), stderr)

    def _upload(self, content: bytes, path: str) -> None:
        client = paramiko.SFTPClient.from_transport(self._live_transport())
        if client is None:
            raise HostUnreachable("sshd on the host offers no SFTP; enable Subsystem sftp in its sshd_config")
        with client, client.open(path, "wx") as file:
            file.set_pipelined(True)
            file.write(content)

    def _live_transport(self) -> paramiko.Transport:
        if self._transport is None:
            raise LinkLost("the connection is closed")
        return self._transport

    async def _in_thread(self, work: Callable[[], T], timeout_s: float, what: str) -> T:
        """Run blocking work in this connection's threads; give up by closing the connection."""
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError as error:
            self._shut()
            raise HostUnreachable(f"ssh: {what} took longer than {timeout_s:.0f} s") from error
        except asyncio.CancelledError:
            self._shut()
            raise
        except (paramiko.SSHException, EOFError, OSError, RuntimeError) as error:
            self._shut()
            raise HostUnreachable(f"ssh: {what} failed: {sentence_of(error)}") from error

    def _shut(self) -> None:
        """Wake every thread that waits on the socket. Closing it is left to the thread that reads it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class SshPipe:
    """A `wire.ByteStream` over a channel: one thread reads ahead a little, one writes in order."""

    def __init__(
        self, connection: SshConnection, channel: paramiko.Channel, threads: ThreadPoolExecutor
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._room = threading.Semaphore(READS_AHEAD)
        self._closed = False
        self._reading = self._loop.run_in_executor(threads, self._read_ahead)

    async def read(self) -> bytes:
        while not self._chunks:
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        if chunk:
            self._room.release()
        else:
            self._chunks.append(chunk)  # the end stays the end
        return chunk

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise LinkLostOSError("the link to the host is closed")
        try:
            await self._loop.run_in_executor(self._threads, self._send, data)
        except (paramiko.SSHException, EOFError, RuntimeError) as error:
            raise LinkLostOSError(sentence_of(error)) from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._room.release()
            await self._connection.close()

    def last_words(self) -> str:
        """What the command said on its standard error, for people."""
        if not self._channel.recv_stderr_ready():
            return ""
        return self._channel.recv_stderr(4096).decode("utf-8", "replace").strip()

    def _read_ahead(self) -> None:
        while True:
            self._room.acquire()
            try:
                chunk = b"" if self._closed else self._channel.recv(READ_BYTES)
            except (OSError, EOFError, paramiko.SSHException):
                chunk = b""
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._take, chunk)
            if not chunk:
                return

    def _take(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._arrived.set()

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), WRITE_BYTES):
            self._channel.sendall(data[start : start + WRITE_BYTES])


class LinkLostOSError(OSError):
    """`wire.Connection` expects the pipe under it to fail with an OSError."""


async def connect(host: Host, known_hosts: KnownHosts, settings: FleetSettings) -> SshConnection:
    """Reach the host, judge its key, log in.

    Raises:
        HostUnreachable: network, sshd or login.
        HostStopped: its key changed, or its pinned key cannot be read or kept.
    """
    sock = await _open_socket(host, settings.connect_timeout_s)
    try:
        connection = SshConnection(host, sock)
    except OSError as error:  # a listener that is just ending accepts, and resets at once
        sock.close()
        text = f"ssh: {host.address}:{host.port}: connection refused, right after it was accepted"
        raise HostUnreachable(text) from error
    try:
        await connection._log_in(known_hosts, settings)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _open_socket(host: Host, timeout_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    try:
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)
            for family, kind, protocol, _, address in found:
                sock = socket.socket(family, kind, protocol)
                try:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, address)
                    sock.setblocking(True)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_LIMIT_MS)
                    return sock
                except OSError as error:
                    last = error
                    sock.close()
                except BaseException:
                    sock.close()
                    raise
    except TimeoutError as error:
        raise HostUnreachable(
            f"ssh: no answer from {host.address}:{host.port} in {timeout_s:.0f} s"
        ) from error
    except socket.gaierror as error:
        raise HostUnreachable(f"ssh: the name {host.address} is not known: {error.strerror}") from error
    # asyncio's own text ("Connect call failed") hides the reason that the number names.
    why = os.strerror(last.errno) if last and last.errno else str(last or "the name has no address")
    raise HostUnreachable(f"ssh: {host.address}:{host.port}: {why.lower()}") from last


def _signatures(key_type: str) -> tuple[str, ...]:
    return _RSA_SIGNATURES if key_type == "ssh-rsa" else (key_type,)
