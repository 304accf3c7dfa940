"""A lab of hollow hosts: one `gitkube serve --hollow N` in the background, and the same commands as of a lab.

It needs no root, no namespaces and no registry, because nothing runs in it: the hosts live in the control
side's own process and speak the agent's protocol (`gitkube.sim.hollow`). Everything is found again from the
directory: `hollow-lab.json` says how many hosts there are and how they are started, `serve.pid` which process
is theirs. Faults are asked for by a file that the process follows.

The file of faults is written here and read there; neither imports the other, so its form is the contract:
a JSON object from a host's name to "off" or "cut".
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from gitkube.files import replace_durably
from gitkube.lab import processes
from gitkube.lab.controllers import READY_TIMEOUT_S, answers, gitkube, tail
from gitkube.lab.errors import LabError
from gitkube.lab.status import ControllerStatus, HostStatus, LabStatus

STATE = "hollow-lab.json"
_POLL_S = 0.1
_PORTS = (20_000, 30_000)
_SERVE = "control"
"""What the one controller is called."""


@dataclass(frozen=True, slots=True)
class _Record:
    hosts: int
    port: int
    arguments: list[str]
    """Further ones of `gitkube serve`."""


class HollowLab:
    """One hollow lab; `directory` holds everything that belongs to it.

    Args:
        directory: made by `up`, for instance `.lab`.
        progress: told what is being done, one short sentence at a time.
    """

    def __init__(self, directory: Path, *, progress: Callable[[str], None] | None = None) -> None:
        self.directory = directory.resolve()
        self._tell = progress or (lambda sentence: None)

    @staticmethod
    def is_in(directory: Path) -> bool:
        """Whether the lab of this directory is a hollow one."""
        return (directory / STATE).exists()

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def repository(self) -> Path:
        return self.directory / "repo.git"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    @property
    def pid(self) -> int | None:
        """Of its `gitkube serve`."""
        return processes.running_pid(self._pid_file)

    # ------------------------------------------------------------ the whole

    def up(self, hosts: int | None = None, arguments: Sequence[str] = ()) -> LabStatus:
        """Make it, or start it again, with all hosts on.

        Args:
            hosts: how many; None keeps the number. Another number than before starts it anew, on its data.
            arguments: further ones of `gitkube serve`, such as delays; () keeps those that it had.

        Raises:
            LabError: it does not come up, or the directory holds a lab of another kind.
        """
        with self._locked(create=True):
            if (self.directory / "lab.json").exists():
                raise LabError(
                    f"{self.directory} holds a lab with real hosts; take another --dir, or end that one first"
                )
            before = self._record()
            if before is None and hosts is None:
                raise LabError("how many hollow hosts? gitkube lab up --hollow 3")
            record = _Record(
                hosts or (before.hosts if before else 0),
                before.port if before else _free_port(),
                list(arguments) or (before.arguments if before else []),
            )
            if self.pid is not None and record != before:
                self._say("other hosts are asked for: starting anew")
                processes.stop_session(self._pid_file)
            replace_durably(self.directory / STATE, json.dumps(asdict(record)).encode(), 0o644)
            self._set_faults({})
            if self.pid is None:
                self._start(record)
            return self.status()

    def down(self) -> bool:
        """End it and remove its files.

        Returns:
            Whether there was one.
        """
        if not self.is_in(self.directory):
            return False
        with self._locked(create=False):
            processes.stop_session(self._pid_file)
            self._say("control side stopped")
            for name in ("data", "repo.git"):
                shutil.rmtree(self.directory / name, ignore_errors=True)
            for path in (self.kubeconfig, self.log, self._pid_file, self.directory / STATE, self._lock_file):
                path.unlink(missing_ok=True)
            self._say("files removed")
        if not any(self.directory.iterdir()):
            self.directory.rmdir()
        return True

    def status(self) -> LabStatus:
        """What is there, as asked for: a hollow host is as its file of faults says while the process runs."""
        record = self._record()
        if record is None:
            return LabStatus(self.directory, False, "", "", ())
        pid, faults = self.pid, self._faults()
        url = f"https://127.0.0.1:{record.port}"

        def state(name: str) -> str:
            return "off" if pid is None else faults.get(name, "on")

        hosts = tuple(HostStatus(name, "hollow", "-", state(name), pid) for name in _names(record.hosts))
        control = ControllerStatus(_SERVE, "127.0.0.1", url, "off" if pid is None else "on", pid)
        return LabStatus(self.directory, True, "127.0.0.1", "", hosts, (control,))

    # ------------------------------------------------------------ one host

    def kill(self, host: str) -> None:
        """Power cut: its containers end; what had ended before stays so. `control` is the control side."""
        if host == _SERVE:
            processes.kill_session(self._pid_file)
        else:
            self._set_fault(host, "off")

    def start(self, host: str) -> None:
        """Boot it again."""
        record = self._record()
        if host == _SERVE and record is not None:
            with self._locked(create=False):
                if self.pid is None:
                    self._start(record)
        else:
            self._set_fault(host, "on")

    def cut(self, host: str) -> None:
        """Pull out its cable; its containers go on."""
        self._set_fault(host, "cut")

    def join(self, host: str) -> None:
        """Put the cable back."""
        self._set_fault(host, "on")

    def exec_argv(self, host: str, argv: Sequence[str]) -> list[str]:
        """Raises:
        LabError: always; there is no machine to run anything on.
        """
        raise LabError(f"{host} is a hollow host: it runs nothing, so there is nothing to enter")

    def _set_fault(self, host: str, state: str) -> None:
        record = self._record()
        if record is None:
            raise LabError(f"there is no lab in {self.directory}")
        if host not in _names(record.hosts):
            raise LabError(f"the lab has no host {host!r}; it has hollow-1 to hollow-{record.hosts}")
        with self._locked(create=False):
            faults = {**self._faults(), host: state}
            self._set_faults({name: one for name, one in faults.items() if one != "on"})

    # ------------------------------------------------------------ the process

    def _start(self, record: _Record) -> None:
        command = [
            *gitkube("serve"),
            "--hollow", str(record.hosts), "--listen", f"127.0.0.1:{record.port}",
            "--data-dir", str(self.directory / "data"), "--repo", str(self.repository), "--branch", "main",
            "--kubeconfig", str(self.kubeconfig), *record.arguments,
        ]  # fmt: skip
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            processes.write_pid_file(self._pid_file, process.pid)
        except OSError as error:
            raise LabError(f"gitkube serve ended at once; its last words:\n{tail(self.log)}") from error
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not answers(f"https://127.0.0.1:{record.port}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(
                    f"the control side does not come up; its last words are in {self.log}:\n{tail(self.log)}"
                )
            time.sleep(_POLL_S)
        self._say(f"control side ready: https://127.0.0.1:{record.port}")

    # ------------------------------------------------------------ files

    @property
    def _pid_file(self) -> Path:
        return self.directory / "serve.pid"

    @property
    def _lock_file(self) -> Path:
        return self.directory / ".lock"

    @property
    def _faults_file(self) -> Path:
        return self.directory / "data" / "hollow.json"

    def _record(self) -> _Record | None:
        path = self.directory / STATE
        try:
            return _Record(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise LabError(f"{path} is damaged ({error}); remove it, and end {self._pid_file}") from error

    def _faults(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._faults_file.read_text()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise LabError(f"{self._faults_file} is damaged ({error}); remove it") from error

    def _set_faults(self, faults: dict[str, str]) -> None:
        if faults or self._faults_file.exists():
            self._faults_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_durably(self._faults_file, json.dumps(faults).encode(), 0o644)

    @contextmanager
    def _locked(self, *, create: bool) -> Iterator[None]:
        if create:
            self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("w") as lock:
            flock(lock, LOCK_EX)
            yield

    def _say(self, sentence: str) -> None:
        self._tell(sentence)


def _names(count: int) -> list[str]:
    return [f"hollow-{number}" for number in range(1, count + 1)]


def _free_port() -> int:
    """Kept for good: a kubeconfig that was given away shall go on to work after a restart.

    Out of the range that the kernel gives to clients, who might take it while nobody listens.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
