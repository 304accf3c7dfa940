"""A lab host to be made ready, with pretend package and service managers where a test needs them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from gitkube.fleet.agent_package import AgentPackage
from gitkube.fleet.hosts import Host
from gitkube.fleet.inventory import load_inventory
from gitkube.fleet.known_hosts import KnownHosts
from gitkube.fleet.prepare import Prepared, prepare
from gitkube.fleet.settings import FleetSettings
from gitkube.fleet.ssh import connect
from gitkube.lab.lab import Lab

BIN = "/var/lib/gitkube/bin"
SETTINGS = FleetSettings(install_timeout_s=60, hello_timeout_s=3, trial_s=9)
"""Short waits for what does not come, and still long enough for what comes on a busy machine."""

# Answers with what is in /tmp/apt: `fail-NUMBER` is said by that call, which then fails; else programs come
# back from `kept`.
APT_GET = """\
#!/bin/sh
cd /tmp/apt
number=$(($(cat count 2>/dev/null || echo 0) + 1))
echo $number >count
echo "$*" >>calls
for said in fail-$number fail-always; do
    if [ -e $said ]; then
        cat $said
        case "$*" in *update) exit 0 ;; esac
        exit 100
    fi
done
case "$*" in *update) exit 0 ;; esac
cp kept/* /usr/bin/
"""

# Keeps one service running, as its unit says, and restarts what ends.
SYSTEMCTL = """\
#!/bin/sh
mkdir -p /tmp/systemd && cd /tmp/systemd
echo "$*" >>calls
unit=/etc/systemd/system/gitkube-node.service
wants=/etc/systemd/system/multi-user.target.wants
case "$*" in
    *refused*) echo "Failed to connect to bus"; exit 1 ;;
    *enable*) mkdir -p $wants; ln -sf $unit $wants/ ;;
    *restart*)
        if [ -e main ]; then
            kill "$(cat main)"
        else
            (setsid "$0" manage >>log 2>&1 </dev/null &)
        fi
        ;;
    manage)
        while :; do
            $(sed -n s/^ExecStart=//p $unit) &
            echo $! >main
            wait $!
            sleep 0.2
        done
        ;;
esac
"""


class PreparedHost:
    """The lab's host `ant`."""

    def __init__(self, lab: Lab, data_dir: Path) -> None:
        self.lab, self.data_dir = lab, data_dir
        self.host: Host = load_inventory(lab.inventory()).hosts["ant"]

    def on(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        done = self.lab.exec("ant", argv, stdin=stdin)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, path: str, text: str, mode: str = "644") -> None:
        self.on("tee", path, stdin=text)
        self.on("chmod", mode, path)

    def clean(self) -> None:
        """As if gitkube had never been here."""
        for pattern in ("bin/start", "systemctl manage", "gitkube-node"):
            self.on("pkill", "-9", "-f", pattern, check=False)
        self.on("sh", "-c", "rm -rf /var/lib/gitkube/* /run/gitkube /run/systemd /tmp/apt /tmp/systemd"
                " /usr/local/sbin/apt-get /usr/local/sbin/systemctl"
                " /etc/systemd/system/gitkube-node.service"
                " /etc/systemd/system/multi-user.target.wants/gitkube-node.service")  # fmt: skip

    def has_pretend_apt(self, missing: str) -> None:
        """From now on there is a pretend apt-get, and this program is missing."""
        self.on("mkdir", "-p", "/tmp/apt/kept")
        self.on("mv", f"/usr/bin/{missing}", "/tmp/apt/kept/")
        self.put("/usr/local/sbin/apt-get", APT_GET, "755")

    def apt_says(self, call: int | str, text: str) -> None:
        self.put(f"/tmp/apt/fail-{call}", text)

    def apt_calls(self) -> list[str]:
        return self.on("cat", "/tmp/apt/calls").splitlines()

    def has_pretend_systemd(self) -> None:
        self.on("mkdir", "-p", "/run/systemd/system")
        self.put("/usr/local/sbin/systemctl", SYSTEMCTL, "755")

    async def prepare(self, package: AgentPackage, **more: Any) -> Prepared:
        """One visit, over a connection of its own."""
        connection = await connect(self.host, KnownHosts(self.data_dir / "known_hosts"), SETTINGS)
        try:
            return await prepare(
                connection, self.host, package, settings=SETTINGS, rng=Random(1), **more
            )  # fmt: skip
        finally:
            await connection.close()

    def evidence(self) -> dict[str, str]:
        """What is to be read when a test fails."""
        script = f"ls -l {BIN}; ps -eo pid,etimes,args; tail -n 40 /var/log/gitkube-node.log /tmp/systemd/log"
        return {"the host": self.on("sh", "-c", script + " 2>&1", check=False)}

    def current(self) -> str:
        """The agent that would be started."""
        return self.on("readlink", f"{BIN}/gitkube-node").strip()

    def running(self) -> list[str]:
        """The agents that run, by the names of their files."""
        shown = self.on("ps", "-eo", "args")
        agents = [line.split() for line in shown.splitlines() if line.endswith(".pyz agent")]
        return [Path(words[-2]).name for words in agents]

    def files(self) -> set[str]:
        found = self.on("python3", "-c", f"import json,os; print(json.dumps(os.listdir({BIN!r})))")
        return set(json.loads(found))
