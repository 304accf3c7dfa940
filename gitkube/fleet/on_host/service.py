"""What keeps the agent running: a start script, and a systemd unit that uses it where systemd is.

The script is all there is of gitkube that works without an agent that works, so it is what ends a trial (see
`trial`): whenever it starts an agent on trial it leaves a guard behind, which outlives both.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
from typing import Any

from gitkube.fleet.on_host.base import (
    BIN,
    ENVIRONMENT,
    RUN,
    Refusal,
    call,
    read_lines,
    said_by,
    say,
    write_file,
)

SOCKET = RUN + "/agent.sock"
FAILURE = RUN + "/agent.error"
START = BIN + "/start"
UNIT = "/etc/systemd/system/gitkube-node.service"
ENABLED = "/etc/systemd/system/multi-user.target.wants/gitkube-node.service"
SYSTEMCTL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0

START_TEXT = """\
#!/bin/sh
# Runs gitkube's agent. The containers do not depend on it: it may end and come back at any time.
#   start         at boot without systemd, and by the control side: keeps it running, in the background
#   start once    by systemd's unit: becomes the agent
#   start revert  puts the agent before this one back, if this one is on trial
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
bin=/var/lib/gitkube/bin
run=/run/gitkube
log=/var/log/gitkube-node.log
mkdir -p $run /var/log

# An agent is on trial while the file `trial` says "NEW PREVIOUS SECONDS". Who sent it confirms it by coming
# back over a new connection; without that the one before it is put back.
revert() {
    read -r new previous seconds <$bin/trial || return 0
    if [ ! -x "$bin/$previous" ]; then
        rm -f $bin/trial # nothing to go back to: better an agent that is not understood than none
        return 0
    fi
    echo "gitkube: agent $new was not reached over a new connection; $previous is put back"
    ln -sfn "$previous" $bin/gitkube-node.back
    mv -fT $bin/gitkube-node.back $bin/gitkube-node
    touch $bin/trial
    mv -f $bin/trial $bin/refused
    sync $bin
    for signal in TERM KILL; do
        pid=$(cat $run/agent.pid)
        count=0
        while grep -qs "$new" "/proc/$pid/cmdline" && [ $count -lt 50 ]; do
            [ $count != 0 ] || kill -s $signal "$pid"
            count=$((count + 1))
            sleep 0.1
        done
    done
}

guard() {
    exec 8>$run/trial.lock
    flock -n 8 || exit 0
    while [ -e $bin/trial ]; do
        before=$(cat $bin/trial)
        sleep "${before##* }" 8>&-
        if [ "$before" = "$(cat $bin/trial 2>/dev/null)" ]; then
            revert
        fi
    done
}

case "$1" in
    once)
        if [ -e $bin/trial ]; then
            (setsid "$0" guard </dev/null &)
        fi
        echo $$ >$run/agent.pid
        exec "$(readlink -f $bin/gitkube-node)" agent
        ;;
    guard) guard ;;
    revert) revert ;;
    supervise)
        exec 9>$run/start.lock
        flock -n 9 || exit 0
        while :; do
            if [ -n "$(find $log -size +20M 2>/dev/null)" ]; then
                mv $log $log.1
            fi
            "$0" once </dev/null >>$log 2>&1 9>&-
            sleep 1
        done
        ;;
    *)
        setsid "$0" supervise </dev/null >>$log 2>&1 &
        ;;
esac
"""

# KillMode=process: the containers' monitors live in this unit's group and outlive the agent.
UNIT_TEXT = """\
[Unit]
Description=gitkube's agent
After=network-online.target
Wants=network-online.target
RequiresMountsFor=/var/lib/gitkube
StartLimitIntervalSec=0

[Service]
ExecStart=/var/lib/gitkube/bin/start once
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def put_service(facts: "dict[str, Any]") -> "list[str]":
    """Write what is not there as it should be. The names of what was written."""
    wrote = [START] if put_text(START, START_TEXT, 0o755) else []
    if facts["systemd"]:
        if put_text(UNIT, UNIT_TEXT, 0o644):
            wrote.append(UNIT)
        if wrote[-1:] == [UNIT] or not os.path.islink(ENABLED):
            systemctl("daemon-reload")
            systemctl("enable", "gitkube-node.service")
    return wrote


def put_text(path: str, text: str, mode: int) -> bool:
    """Make a file say this. True when it said something else."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except (OSError, ValueError):
        pass
    write_file(path, text.encode(), mode)
    return True


def systemctl(*words: str) -> None:
    done = call(["systemctl", "--no-ask-password", *words], SYSTEMCTL_TIMEOUT_S)
    if done.returncode != 0:
        said = " | ".join(said_by(done))
        raise Refusal(f"systemctl {' '.join(words)} failed on the host: {said[-300:] or 'it said nothing'}")


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
    """Start the agent, in place of the one that runs.

    Raises:
        Refusal: it does not listen within its time.
    """
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


def revert() -> None:
    """Put the agent before this one back, if this one is on trial."""
    call([START, "revert"], 30.0)


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
