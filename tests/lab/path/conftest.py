"""One cluster for the tests of the whole path: making it is the dear part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.demo_cluster import DemoCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    it = DemoCluster(tmp_path_factory.mktemp("path") / "lab")
    try:
        it.up()
        yield it
    finally:
        it.demo.remove()
