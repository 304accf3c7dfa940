"""The agent's file: taken only whole, unpacked for a quick start, named, old ones forgotten."""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile

from gitkube.fleet.on_host.base import BIN, Refusal, sync_directory, write_file

CURRENT = BIN + "/gitkube-node"
MAX_AGENT_BYTES = 8 * 1024 * 1024
KEPT_AGENTS = 2


def is_agent(path: str, digest: str) -> bool:
    """Whether the whole file is there: a name alone may be what a power cut left."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(MAX_AGENT_BYTES + 1)).hexdigest() == digest
    except OSError:
        return False


def put_agent(uploaded: str, target: str, digest: str) -> None:
    """Take the uploaded file, if it is what was promised: others may write where it was put."""
    descriptor = os.open(uploaded, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refusal("the uploaded agent is not a file; somebody changed it under way")
        content = file.read(MAX_AGENT_BYTES + 1)
    with contextlib.suppress(OSError):
        os.unlink(uploaded)
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refusal("the uploaded agent is not the one that was sent; somebody changed it under way")
    write_file(target, content, 0o755)


def unpack(agent: str) -> None:
    """The same files beside it, where Python can keep its byte code (a start takes half the time)."""
    directory = agent[: -len(".pyz")] + ".d"
    if os.path.exists(os.path.join(directory, ".complete")):
        return
    shutil.rmtree(directory, ignore_errors=True)
    temporary = tempfile.mkdtemp(prefix=".unpack-", dir=BIN)
    os.chmod(temporary, 0o755)
    with zipfile.ZipFile(agent) as archive:
        archive.extractall(temporary)
    os.unlink(os.path.join(temporary, "__main__.py"))
    with open(os.path.join(temporary, ".complete"), "w") as file:
        file.write("")
    subprocess.run(
        [sys.executable, "-I", "-m", "compileall", "-q", os.path.join(temporary, "gitkube")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    os.sync()
    os.rename(temporary, directory)


def current_agent() -> str:
    """The file that the current name means; "" when there is none."""
    with contextlib.suppress(OSError):
        name = os.readlink(CURRENT)
        if os.path.exists(os.path.join(BIN, name)):
            return name
    return ""


def switch(agent: str) -> None:
    """Let the current name mean this agent."""
    temporary = CURRENT + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(os.path.basename(agent), temporary)
    os.rename(temporary, CURRENT)
    sync_directory(BIN)


def forget_old_agents(agent: str) -> None:
    """Keep the newest few: an older one may be wanted back."""
    found = [os.path.join(BIN, name) for name in os.listdir(BIN) if name.startswith("gitkube-node-")]
    packages = sorted(
        (path for path in found if path.endswith(".pyz") and path != agent), key=os.path.getmtime
    )
    for path in packages[: -(KEPT_AGENTS - 1)]:
        os.unlink(path)
        shutil.rmtree(path[: -len(".pyz")] + ".d", ignore_errors=True)
