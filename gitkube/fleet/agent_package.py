"""The agent as one file: a zipapp of `gitkube.node` and the wire, the same bytes on every build.

A host needs nothing but /usr/bin/python3, so the agent travels as a zip with a shebang. It is named by the
SHA-256 of its content: a host that has that name has that agent, and nothing is pushed twice. So the build
must be reproducible: names sorted, times fixed, no byte code, fixed compression.

Byte code cannot be cached inside a zip, so `prepare` unpacks the package beside it into a directory named by
the same digest, where the host's own Python caches it; the zip's `__main__` prefers that directory when it is
there. So it starts fast.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from gitkube.files import replace_durably

MAX_PACKAGE_BYTES = 4 * 1024 * 1024
SHEBANG = b"#!/usr/bin/python3 -I\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name."""

MAIN = '''\
"""Starts the agent from the unpacked copy beside this file when there is one, else from the zip."""
import os
import sys

_here = os.path.realpath(sys.argv[0])
_unpacked = os.path.join(os.path.dirname(_here), os.path.basename(_here).replace(".pyz", ".d"))
if _here.endswith(".pyz") and os.path.exists(os.path.join(_unpacked, ".complete")):
    sys.path.insert(0, _unpacked)

from gitkube.node.__main__ import main

sys.exit(main())
'''


@dataclass(frozen=True, slots=True)
class AgentPackage:
    """The agent to run on every host."""

    digest: str
    """SHA-256 of `content`, in hex."""
    content: bytes

    @property
    def name(self) -> str:
        """Of the file on a host."""
        return f"gitkube-node-{self.digest[:12]}.pyz"


class PackageError(Exception):
    """The agent cannot be built from what is installed here."""


def build_agent_package(cache_dir: Path | None = None) -> AgentPackage:
    """The zipapp, built from what is installed here; kept in `cache_dir` under its name for people to see.

    Raises:
        PackageError: a part is missing, or the result is over its limit.
    """
    files = _sources()
    content = _zip(files)
    if len(content) > MAX_PACKAGE_BYTES:
        raise PackageError(f"the agent has {len(content)} bytes; the limit is {MAX_PACKAGE_BYTES}")
    package = AgentPackage(hashlib.sha256(content).hexdigest(), content)
    if cache_dir is not None:
        _keep(package, cache_dir)
    return package


def _sources() -> dict[str, bytes]:
    """Path in the zip -> content."""
    house = Path(__file__).resolve().parent.parent
    files = {
        "__main__.py": MAIN.encode(),
        "gitkube/__init__.py": (house / "__init__.py").read_bytes(),
    }
    for part in ("node", "wire"):
        for path in (house / part).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                files["gitkube/" + path.relative_to(house).as_posix()] = path.read_bytes()
    if "gitkube/node/__main__.py" not in files:
        raise PackageError(
            f"{house / 'node' / '__main__.py'} is missing: this gitkube is not installed whole"
        )
    return files


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, files[name], compresslevel=9)
    return buffer.getvalue()


def _keep(package: AgentPackage, cache_dir: Path) -> None:
    target = cache_dir / package.name
    if target.exists() and target.stat().st_size == len(package.content):
        return
    cache_dir.mkdir(parents=True, exist_ok=True)
    replace_durably(target, package.content, 0o755)
    for old in sorted(cache_dir.glob("gitkube-node-*.pyz"), key=lambda path: path.stat().st_mtime)[:-3]:
        old.unlink(missing_ok=True)
