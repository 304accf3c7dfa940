"""Runs on the host, as root, read from standard input: looks at the machine and makes it ready.

Never imported by the control side; `prepare` sends this text as it is, with the parameters beside it as JSON,
so nothing of an inventory or a manifest is ever part of a program. It answers in JSON lines: any number of
{"progress": sentence}, then one report. A second run on a ready host changes nothing and says so.

The host's Python may be as old as 3.6 when this starts (to be able to say that 3.9 is needed), and only the
standard library is there.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from typing import Any

ROOT = "/var/lib/gitkube"
BIN = ROOT + "/bin"
RUN = "/run/gitkube"
SOCKET = RUN + "/agent.sock"
FAILURE = RUN + "/agent.error"
UNIT = "/etc/systemd/system/gitkube-node.service"
CURRENT = BIN + "/gitkube-node"
START = BIN + "/start"
APT_TIMEOUT_S = 800
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
MAX_AGENT_BYTES = 8 * 1024 * 1024
KEPT_AGENTS = 2
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}

START_TEXT = """\
#!/bin/sh
# Keeps gitkube's agent running on a machine without systemd. Started at boot, and by the control side.
# The containers do not depend on the agent: it may end and come back at any time.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
mkdir -p /run/gitkube /var/log
log=/var/log/gitkube-node.log
if [ "$1" != supervise ]; then
    setsid "$0" supervise </dev/null >>"$log" 2>&1 &
    exit 0
fi
exec 9>/run/gitkube/start.lock
flock -n 9 || exit 0
while :; do
    if [ -n "$(find "$log" -size +20M 2>/dev/null)" ]; then
        mv "$log" "$log.1"
    fi
    "$(readlink -f /var/lib/gitkube/bin/gitkube-node)" agent </dev/null >>"$log" 2>&1 9>&-
    sleep 1
done
"""

# KillMode=process: the containers' monitors live in this unit's group and outlive the agent.
UNIT_TEXT = """\
[Unit]
Description=gitkube's agent
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={agent} agent
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


class Refusal(Exception):
    """A sentence for the person who has to act."""


def main(parameters: "dict[str, Any]") -> None:
    """Make ready, and print the report."""
    started = time.monotonic()
    report: dict[str, Any] = {"ready": False, "needsAgent": False, "error": "", "did": []}
    try:
        report["facts"] = facts = look()
        require(facts)
        make_ready(parameters, facts, report)
    except Refusal as refusal:
        report["error"] = str(refusal)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        report["error"] = f"{type(error).__name__}: {error}"
    report["seconds"] = round(time.monotonic() - started, 3)
    say(report)


def make_ready(parameters: "dict[str, Any]", facts: "dict[str, Any]", report: "dict[str, Any]") -> None:
    """Packages, directories, agent, service: each only when it is missing."""
    missing = missing_packages(parameters["packages"], facts)
    if missing:
        install(missing, facts)
        report["did"].append("installed " + " ".join(missing))
    for path, mode in ((ROOT, 0o700), (BIN, 0o755), (RUN, 0o755), (ROOT + "/desired", 0o700)):
        make_directory(path, mode)
    agent = os.path.join(BIN, parameters["agentName"])
    if not is_agent(agent, parameters["agentDigest"]):
        uploaded = parameters.get("uploaded")
        if not uploaded:
            report["needsAgent"] = True
            return
        put_agent(uploaded, agent, parameters["agentDigest"])
        report["did"].append("put " + parameters["agentName"])
    unpack(agent)
    if switch(agent):
        report["did"].append("switched to " + parameters["agentName"])
    service_changed = put_service(agent, facts)
    if service_changed:
        report["did"].append("wrote " + service_changed)
    pid = agent_pid()
    runs_this = pid is not None and runs(pid, agent)
    if not runs_this or parameters.get("restart"):
        start(pid, facts)
        report["did"].append("restarted the agent" if pid else "started the agent")
        forget_old_agents(agent)
    report["ready"] = True


# ---------------------------------------------------------------- looking


def look() -> "dict[str, Any]":
    release: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in read_lines("/etc/os-release"):
            key, _, value = line.strip().partition("=")
            release[key] = value.strip("\"'")
    return {
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "os": release.get("PRETTY_NAME", platform.system()),
        "osId": release.get("ID", ""),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "hostname": socket.gethostname(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "apt": shutil.which("apt-get", path=ENVIRONMENT["PATH"]) is not None,
        "kernelWireguard": has_kernel_wireguard(),
    }


def read_lines(path: str) -> "list[str]":
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readlines()


def has_kernel_wireguard() -> bool:
    if os.path.isdir("/sys/module/wireguard"):
        return True
    base = os.path.join("/lib/modules", platform.release())
    for name in ("modules.builtin", "modules.dep"):
        with contextlib.suppress(OSError):
            for line in read_lines(os.path.join(base, name)):
                if "/wireguard.ko" in line.split(":")[0]:
                    return True
    return False


def require(facts: "dict[str, Any]") -> None:
    if os.geteuid() != 0:
        raise Refusal("this is not root; give the user passwordless sudo, or log in as root")
    if sys.version_info < (3, 9):  # noqa: UP036 - it is the host's Python that is asked
        raise Refusal(
            f"Python is {facts['python']}, and the agent needs 3.9; install a newer /usr/bin/python3"
        )
    if not sys.platform.startswith("linux"):
        raise Refusal(f"the machine runs {sys.platform}; gitkube runs containers on Linux only")


def missing_packages(packages: "list[dict[str, Any]]", facts: "dict[str, Any]") -> "list[str]":
    missing = []
    for package in packages:
        if package.get("withoutKernelWireguard") and facts["kernelWireguard"]:
            continue
        found = (shutil.which(name, path=ENVIRONMENT["PATH"]) for name in package["programs"])
        if not any(found):
            missing.append(str(package["name"]))
    return missing


# ---------------------------------------------------------------- packages and directories


def install(missing: "list[str]", facts: "dict[str, Any]") -> None:
    if not facts["apt"]:
        raise Refusal(
            f"{facts['os']} has no apt, which is the package manager that gitkube knows; install these"
            f" yourself, then it goes on: {' '.join(missing)}"
        )
    say({"progress": "installing " + " ".join(missing)})
    command = [
        "apt-get",
        "-y",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Options::=--force-confold",
    ]
    command += ["--no-install-recommends", "install", "--", *missing]
    done = call(command)
    if done.returncode != 0:
        # Usual on a fresh machine: the package lists are empty or old.
        say({"progress": "refreshing the package lists"})
        update = call(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"])
        done = call(command) if update.returncode == 0 else update
    if done.returncode != 0:
        lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("E:")] or lines
        raise Refusal(f"apt-get could not install {' '.join(missing)}: {' | '.join(told[-3:])[:600]}")


def call(command: "list[str]") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        timeout=APT_TIMEOUT_S,
        check=False,
    )


def make_directory(path: str, mode: int) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, mode)
        os.chmod(path, mode)


# ---------------------------------------------------------------- the agent's file


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


def switch(agent: str) -> bool:
    """Let the current name mean this agent. True when it meant another."""
    name = os.path.basename(agent)
    with contextlib.suppress(OSError):
        if os.readlink(CURRENT) == name:
            return False
    temporary = CURRENT + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(name, temporary)
    os.rename(temporary, CURRENT)
    sync_directory(BIN)
    return True


def forget_old_agents(agent: str) -> None:
    """Keep the newest few: an older one may be wanted back."""
    found = [os.path.join(BIN, name) for name in os.listdir(BIN) if name.startswith("gitkube-node-")]
    packages = sorted(
        (path for path in found if path.endswith(".pyz") and path != agent), key=os.path.getmtime
    )
    for path in packages[: -(KEPT_AGENTS - 1)]:
        os.unlink(path)
        shutil.rmtree(path[: -len(".pyz")] + ".d", ignore_errors=True)


def write_file(path: str, content: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- the service


def put_service(agent: str, facts: "dict[str, Any]") -> str:
    """What keeps the agent running. The name of what was written, or ""."""
    if facts["systemd"]:
        path, content, mode = UNIT, UNIT_TEXT.format(agent=agent), 0o644
    else:
        path, content, mode = START, START_TEXT, 0o755
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == content:
                return ""
    except OSError:
        pass
    write_file(path, content.encode(), mode)
    if facts["systemd"]:
        systemctl("daemon-reload")
        systemctl("enable", "gitkube-node.service")
    return path


def systemctl(*words: str) -> None:
    done = call(["systemctl", "--no-ask-password", *words])
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()
        raise Refusal(f"systemctl {' '.join(words)} failed: {said[-300:]}")


def agent_pid() -> "int | None":
    """Who listens on the agent's socket; None when nobody does."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(SOCKET)
        except OSError:
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    return int(pid) if pid > 0 else None


def runs(pid: int, agent: str) -> bool:
    """Whether the process is this agent and not an earlier one."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return agent.encode() in file.read().split(b"\0")
    except OSError:
        return False


def start(pid: "int | None", facts: "dict[str, Any]") -> None:
    say({"progress": "starting the agent"})
    if facts["systemd"]:
        systemctl("restart", "gitkube-node.service")
    else:
        if pid is not None:
            end(pid)
        subprocess.run([START], stdin=subprocess.DEVNULL, env=ENVIRONMENT, timeout=30, check=True)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        now = agent_pid()
        if now is not None and now != pid:
            return
        time.sleep(0.02)
    log = "journalctl -u gitkube-node" if facts["systemd"] else "/var/log/gitkube-node.log"
    why = ""
    with contextlib.suppress(OSError, IndexError):
        why = ": " + read_lines(FAILURE)[0].strip()[:300]
    raise Refusal(f"the agent does not listen {START_TIMEOUT_S:.0f} s after its start{why}; its log is {log}")


def end(pid: int) -> None:
    """Ask the agent to end, then insist. Containers are not its children and go on."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not os.path.exists(f"/proc/{pid}"):
                return
            time.sleep(0.02)


def say(message: "dict[str, Any]") -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(globals()["PARAMETERS"])
