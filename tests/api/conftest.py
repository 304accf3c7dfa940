"""`cluster`: a live API server for a file of tests. `namespace`: a fresh namespace in it for each test.

`working`: one with controllers, scheduler and two hosts, for all files that ask; `shop`: a namespace in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitkube.objects.kinds import NAMESPACE
from tests.support.live_cluster import LiveCluster, kubectl_path
from tests.support.tools import needed

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    needed(kubectl_path(), "kubectl")
    directory: Path = tmp_path_factory.mktemp("cluster")
    with LiveCluster(directory) as live:
        yield live


@pytest.fixture
def namespace(cluster: LiveCluster) -> str:
    name = f"test-{next(_numbers)}"
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.run(cluster.client.create(NAMESPACE, obj))
    return name


@pytest.fixture(scope="session")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    needed(kubectl_path(), "kubectl")
    with LiveCluster(tmp_path_factory.mktemp("working"), hosts=("ant", "bee")) as live:
        live.kubelet.ending |= {"ends:1": "Succeeded", "fails:1": "Failed", "typed:1": "Succeeded"}
        live.kubelet.ending_s |= {"ends:1": 0.2, "fails:1": 0.2}
        live.kubelet.broken.add("broken:1")
        yield live


@pytest.fixture
def shop(working: LiveCluster) -> str:
    name = f"shop-{next(_numbers)}"
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    working.run(working.client.create(NAMESPACE, obj))
    return name
