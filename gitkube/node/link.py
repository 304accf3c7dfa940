"""`gitkube-node link`: the agent's socket on standard input and output, for the SSH channel to carry.

Nothing is understood here, only copied. An agent that is just starting is waited for; one that could not
start has left its reason, which goes to standard error, where the control side reads it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from gitkube.node.files import read_text
from gitkube.node.paths import Layout

WAIT_S = 10.0
RETRY_S = 0.05
COPY_BYTES = 256 * 1024
EXIT_NO_AGENT = 3


def link(layout: Layout, *, wait_s: float = WAIT_S) -> int:
    """Copy until either side ends. Returns the exit code."""
    connection = _connect(layout, wait_s)
    if connection is None:
        reason = read_text(layout.failure).strip() or f"nothing listens on {layout.socket} after {wait_s:g} s"
        sys.stderr.write(f"gitkube-node: the agent does not run: {reason}\n")
        return EXIT_NO_AGENT
    with connection:
        return _copy(connection)


def _connect(layout: Layout, wait_s: float) -> socket.socket | None:
    deadline = time.monotonic() + wait_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(layout.socket))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
        if time.monotonic() >= deadline or layout.failure.exists():
            return None
        time.sleep(RETRY_S)


def _copy(connection: socket.socket) -> int:
    """Both directions in one thread; a write that blocks holds back reading, which is flow control."""
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    poller = select.poll()
    poller.register(stdin, select.POLLIN)
    poller.register(connection, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            try:
                if fd == stdin:
                    data = os.read(stdin, COPY_BYTES)
                    if not data:
                        return 0
                    connection.sendall(data)
                else:
                    data = connection.recv(COPY_BYTES)
                    if not data:
                        return 0
                    while data:
                        data = data[os.write(stdout, data) :]
            except (BrokenPipeError, ConnectionResetError):
                return 0
