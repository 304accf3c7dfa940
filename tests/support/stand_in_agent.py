"""A small agent with the real wire, packed as the real one is, for tests of how agents reach a host.

Each has a version, so that two differ; one can be made to fail: "mute" says nothing, "crash" ends at once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gitkube import wire
from gitkube.fleet import agent_package
from gitkube.fleet.agent_package import AgentPackage

STAND_IN = """
import asyncio, hashlib, os, socket, sys, threading
from gitkube import wire

RUN = "/run/gitkube/agent.sock"
VERSION, FAULT = "{version}", "{fault}"


async def serve(reader, writer):
    if FAULT == "mute":
        await reader.read()
        return

    async def on_message(message):
        if message["type"] == "desired":
            await connection.send({{"type": "applied", "section": message["section"],
                                    "digest": message["digest"], "error": ""}})

    async def on_open(stream):
        while (item := await stream.read()) is not None:
            if not item[1]:
                await stream.close({{"exitCode": 0}})
                return
            await stream.write(wire.STDOUT, item[1])

    connection = wire.Connection(
        wire.SocketStream(reader, writer), is_opener=False, on_message=on_message, on_open=on_open
    )
    digest = hashlib.sha256(open(sys.argv[0], "rb").read()).hexdigest()
    await connection.send({{"type": "hello", "protocol": 1, "agent": digest, "node": "", "term": 0,
        "digests": {{}}, "nodeInfo": {{"pid": str(os.getpid())}}, "capacity": {{}},
        "publicKey": "A" * 43 + "="}})
    await connection.run()


async def agent():
    if os.path.exists(RUN):
        os.unlink(RUN)
    server = await asyncio.start_unix_server(serve, RUN)
    async with server:
        await server.serve_forever()


def link():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(RUN)

    def down():
        while data := os.read(0, 65536):
            connection.sendall(data)
        os._exit(0)

    threading.Thread(target=down, daemon=True).start()
    while data := connection.recv(65536):
        os.write(1, data)


def main():
    if FAULT == "crash":
        sys.exit(1)
    return asyncio.run(agent()) if sys.argv[1] == "agent" else link()
"""


def stand_in(version: str, fault: str = "") -> AgentPackage:
    """A package as the real one is built, with another program inside."""
    files = {
        "__main__.py": agent_package.MAIN.encode(),
        "gitkube/__init__.py": b"",
        **{
            f"gitkube/wire/{path.name}": path.read_bytes() for path in Path(wire.__file__).parent.glob("*.py")
        },
        "gitkube/node/__init__.py": b"",
        "gitkube/node/__main__.py": STAND_IN.format(version=version, fault=fault).encode(),
    }
    content = agent_package._zip(files)
    return AgentPackage(hashlib.sha256(content).hexdigest(), content)
