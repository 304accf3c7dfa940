"""Runs on a lab host, with the network part of the agent alone: `run` is the daemon, the rest asks it once.

Desired state comes from /var/lib/gitkube/test/desired.json and is applied again whenever the file changes.
Pods named in it under "pods" are attached and serve "HOST/POD CLIENT" on TCP port 8080.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

BASE = Path("/var/lib/gitkube/test")
sys.path.insert(0, str(BASE / "code"))


def serve(pod: str) -> None:
    """A pod: answers each connection with who it is and whom it sees."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", 8080))
    listener.listen(64)
    while True:
        connection, client = listener.accept()
        connection.sendall(f"{socket.gethostname()}/{pod} {client[0]}".encode())
        connection.close()


def ask(address: str, port: int, times: int) -> None:
    """Prints, as JSON, what each of several connections heard."""
    heard = []
    for _ in range(times):
        try:
            with socket.create_connection((address, port), timeout=10) as connection:
                heard.append(connection.recv(200).decode())
        except OSError as error:
            heard.append(type(error).__name__)
    print(json.dumps(heard))


def start_pod(netns: str, pod: str) -> subprocess.Popen[bytes]:
    argv = ["nsenter", f"--net={netns}", sys.executable, __file__, "serve", pod]
    return subprocess.Popen(argv, start_new_session=True)


async def run() -> None:
    from gitkube.node.network import Network

    network = Network(BASE.parent, Path("/run/gitkube"))
    running = asyncio.ensure_future(network.run())
    servers: dict[str, subprocess.Popen[bytes]] = {}
    seen = ""
    while not running.done():
        text = (BASE / "desired.json").read_text()
        if text != seen:
            seen = text
            desired: dict[str, Any] = json.loads(text)
            await network.apply(desired["network"])
            await network.apply_services(desired["services"])
            addresses = {}
            for pod in desired["pods"]:
                attachment = await network.attach(pod)
                addresses[pod] = attachment.address
                if pod not in servers:
                    servers[pod] = start_pod(attachment.netns, pod)
            for pod in set(servers) - set(desired["pods"]):
                servers.pop(pod).kill()
                await network.detach(pod)
            mark = BASE / "applied.new"
            mark.write_text(json.dumps({"version": desired["version"], "addresses": addresses}))
            os.replace(mark, BASE / "applied.json")
        await asyncio.sleep(0.05)
    await running


def main() -> None:
    command = sys.argv[1]
    if command == "serve":
        serve(sys.argv[2])
    elif command == "ask":
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif command == "key":
        from gitkube.node.network import Network

        print(Network(BASE.parent, Path("/run/gitkube")).public_key())
    else:
        asyncio.run(run())


if __name__ == "__main__":
    main()
