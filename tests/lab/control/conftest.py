"""Three controllers and three hosts, made once: each test leaves all of them running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.demo_cluster import TIMEOUT_S, DemoCluster, until


class ThreeControllers(DemoCluster):
    """The demo with three controllers, driven as a person drives it."""

    @property
    def names(self) -> list[str]:
        return [one.layout.name for one in self.lab.controllers()]

    def leader(self) -> str:
        """Who leads, as soon as somebody does."""
        return until(self._leader, what="somebody leads")

    def _leader(self) -> str:
        name = self.demo.leader()
        runs = {one.layout.name for one in self.lab.controllers() if one.pid is not None}
        return name if name in runs and self.leads(name) else ""

    def leads(self, name: str) -> bool:
        """Whether the store says that it leads."""
        data_dir = self.controller(name).data_dir
        done = self.store("status", "--output", "json", data_dir=str(data_dir))
        return '"isLeader": true' in done

    def controller(self, name: str):  # type: ignore[no-untyped-def]
        return next(one for one in self.lab.controllers() if one.layout.name == name)

    def others(self, name: str) -> list[str]:
        return [one for one in self.names if one != name]

    def store(self, *arguments: str, data_dir: str = "") -> str:
        """What `gitkube store …` says."""
        import subprocess
        import sys

        chosen = data_dir or str(self.controller(self.names[0]).data_dir)
        command = [sys.executable, "-m", "gitkube.cli.main", "store", *arguments, "--data-dir", chosen]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    def log(self, name: str) -> str:
        return str(self.controller(name).log.read_text(errors="replace"))

    def heal(self) -> None:
        """Whatever a test has done: all run again, and somebody leads."""
        for name in self.names:
            self.lab.start(name)
        for one in self.lab.controllers():
            one.wait_ready(TIMEOUT_S)
        self.leader()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeControllers]:
    it = ThreeControllers(tmp_path_factory.mktemp("ctl") / "lab", controllers=3)
    try:
        it.up()
        yield it
    finally:
        it.demo.remove()


@pytest.fixture(autouse=True)
def _healed(site: ThreeControllers) -> Iterator[None]:
    yield
    site.heal()
