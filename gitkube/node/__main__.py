"""The agent's command line: `gitkube-node agent | link | version`, and the two commands it runs for itself.

Each command imports only what it needs, since `link` and `unpack` start often and should start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gitkube import __version__

DEFAULT_ROOT = Path("/var/lib/gitkube")
DEFAULT_RUN = Path("/run/gitkube")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong use."""
    options = _parser().parse_args(argv)
    if options.command == "version":
        return _version()
    if options.command == "link":
        from gitkube.node.link import link
        from gitkube.node.paths import Layout

        return link(Layout(options.root, options.run))
    if options.command == "unpack":
        return _unpack(options.blob, options.digest, options.target)
    if options.command == "hold-pids":
        from gitkube.node.sandbox import hold_pids

        return hold_pids(options.file)
    return _agent(options.root, options.run, options.log_level)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gitkube-node", description="What runs on a host of gitkube.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    agent = commands.add_parser("agent", help="run the agent in the foreground")
    agent.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    link = commands.add_parser("link", help="join standard input and output to the agent's socket")
    for command in (agent, link):
        command.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="state that survives a reboot")
        command.add_argument("--run", type=Path, default=DEFAULT_RUN, help="sockets and namespaces")
    commands.add_parser("version", help="print the version and the digest of this file")
    unpack = commands.add_parser("unpack", help="unpack an image layer (for the agent's own use)")
    unpack.add_argument("blob", type=Path)
    unpack.add_argument("digest")
    unpack.add_argument("target", type=Path)
    hold = commands.add_parser("hold-pids", help="hold a process namespace (for the agent's own use)")
    hold.add_argument("file", type=Path)
    return parser


def _version() -> int:
    from gitkube.node.agent import own_digest

    print(f"gitkube-node {__version__} {own_digest()[:12]}".rstrip())
    return 0


def _unpack(blob: Path, digest: str, target: Path) -> int:
    import resource
    import tarfile

    from gitkube.node import layers

    resource.setrlimit(resource.RLIMIT_AS, (layers.MAX_MEMORY_BYTES, layers.MAX_MEMORY_BYTES))
    try:
        layers.unpack_blob(blob, digest, target)
    except (layers.LayerError, tarfile.TarError, OSError, MemoryError) as error:
        print(str(error) or "the layer needs more memory than it may have", file=sys.stderr)
        return 1
    return 0


def _agent(root: Path, run: Path, log_level: str) -> int:
    import asyncio
    import logging

    from gitkube.node.daemon import StartFailure, serve

    logging.basicConfig(
        level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        asyncio.run(serve(root, run))
    except StartFailure as error:
        print(f"gitkube-node: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
