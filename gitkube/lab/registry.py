"""The lab's image registry: Debian's `docker-registry` on the machine's side of the cable.

Hosts know it as `registry.lab:5000`. It speaks plain HTTP, which is bearable because the only network that
reaches it is the lab's own.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from gitkube.lab import processes
from gitkube.lab.errors import LabError
from gitkube.lab.netns import run

START_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 5.0
COPY_TIMEOUT_S = 300.0
_MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


class Registry:
    """The registry of one lab. `directory` holds its data, configuration, log and pid file."""

    def __init__(self, directory: Path, address: str) -> None:
        self._directory = directory
        self._pid_file = directory / "registry.pid"
        self.address = address
        """"address:port" as the machine reaches it."""

    def is_running(self) -> bool:
        return processes.running_pid(self._pid_file) is not None

    def start(self) -> None:
        """Start it, unless it runs; return when it answers.

        Raises:
            LabError: it is not installed, or does not answer in time.
        """
        if self.is_running():
            return
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        configuration = self._directory / "config.yml"  # JSON is YAML
        configuration.write_text(json.dumps({
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }))  # fmt: skip
        log = self._directory / "registry.log"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    ["docker-registry", "serve", str(configuration)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                )
        except FileNotFoundError as error:
            raise LabError(
                "`docker-registry` is not installed; `apt-get install docker-registry` does it"
            ) from error
        processes.write_pid_file(self._pid_file, process.pid)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the registry does not answer on {self.address}; its last words are in {log}")
            time.sleep(0.02)

    def stop(self) -> None:
        processes.kill(self._pid_file)

    def push(self, layouts: Mapping[str, Path]) -> list[str]:
        """Copy images into the registry, those that it has not got in this very content.

        Args:
            layouts: "name:tag" -> directory of an OCI image layout that holds one image.

        Returns:
            The names that were copied.

        Raises:
            LabError: a layout is not one, or skopeo failed.
        """
        return [name for name, layout in layouts.items() if self._push(name, layout)]

    def _push(self, name: str, layout: Path) -> bool:
        repository, colon, tag = name.rpartition(":")
        if not colon or not repository or not tag:
            raise LabError(f"{name!r} is no image name with a tag; one looks like guestbook-web:1")
        try:
            digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise LabError(f"{layout} is no OCI image layout: {error}") from error
        if self._digest_of(repository, tag) == digest:
            return False
        run(
            [
                "skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
                f"oci:{layout}", f"docker://{self.address}/{repository}:{tag}",
            ],
            timeout_s=COPY_TIMEOUT_S,
        )  # fmt: skip
        return True

    def _digest_of(self, repository: str, tag: str) -> str | None:
        request = urllib.request.Request(
            f"http://{self.address}/v2/{repository}/manifests/{tag}",
            method="HEAD",
            headers={"Accept": _MANIFEST_TYPES},
        )
        try:
            with _direct.open(request, timeout=REQUEST_TIMEOUT_S) as answer:
                digest: str | None = answer.headers.get("Docker-Content-Digest")
                return digest
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise LabError(
                f"the registry on {self.address} answers {error.code} for {repository}:{tag}"
            ) from error
        except OSError as error:
            raise LabError(
                f"the registry on {self.address} does not answer: {error}; `gitkube lab up` starts it"
            ) from error

    def _answers(self) -> bool:
        try:
            _direct.open(f"http://{self.address}/v2/", timeout=REQUEST_TIMEOUT_S).close()
        except OSError:
            return False
        return True


# A proxy in the environment is for the world outside; the lab is not there.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
