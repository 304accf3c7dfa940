"""A corpus of what people have in their repositories, through the real kubectl.

Each good document is taken with strict validation; applied again it changes nothing; `kubectl diff` after it
is empty, and what comes back can be given back, likewise without a change. Each bad one gets the message that
it names in its first line. One kubectl goes over all files at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.http import HttpClient
from gitkube.objects import kinds
from gitkube.objects.types import Object
from tests.support.live_cluster import LiveCluster, kubectl_path
from tests.support.tools import needed

ROOT = Path(__file__).parents[1] / "corpus"
GOOD = ROOT / "good"
BAD = sorted((ROOT / "bad").iterdir())
TIMEOUT_S = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LiveCluster]:
    """A server of its own for each test: the same objects are made in different ways."""
    needed(kubectl_path(), "kubectl")
    with LiveCluster(tmp_path) as live:
        yield live


def test_client_side_apply_takes_all_and_then_sees_no_difference(cluster: LiveCluster) -> None:
    first = cluster.kubectl("apply", "-R", "-f", str(GOOD), timeout_s=TIMEOUT_S)
    assert all(line.endswith(" created") for line in first.stdout.splitlines()), first.stdout
    before = stored(cluster)
    assert len(before) > 300
    custom = cluster.kubectl("apply", "-R", "-f", str(ROOT / "custom"), timeout_s=TIMEOUT_S)
    assert all(line.endswith(" created") for line in custom.stdout.splitlines()), custom.stdout
    assert diff_of(cluster, ROOT / "custom") == (0, "")
    assert diff_of(cluster, GOOD) == (0, "")
    cluster.kubectl("apply", "-R", "-f", str(GOOD), timeout_s=TIMEOUT_S)
    assert changed(before, stored(cluster)) == []
    # kubectl replace would write its own annotation, so what came back is given back by another client.
    asyncio.run(put_all(cluster, before))
    assert changed(before, stored(cluster)) == []


def test_server_side_apply_takes_all_and_then_sees_no_difference(cluster: LiveCluster) -> None:
    apply = ("apply", "--server-side", "-R", "-f", str(GOOD))
    cluster.kubectl(*apply, timeout_s=TIMEOUT_S)
    # An object of which nobody owns a field gets, as in Kubernetes, an owner for all of them the second time.
    cluster.kubectl(*apply, timeout_s=TIMEOUT_S)
    before = stored(cluster)
    assert diff_of(cluster, GOOD, "--server-side") == (0, "")
    cluster.kubectl("apply", "--server-side", "-R", "-f", str(ROOT / "custom"), timeout_s=TIMEOUT_S)
    assert diff_of(cluster, ROOT / "custom", "--server-side") == (0, "")
    cluster.kubectl(*apply, timeout_s=TIMEOUT_S)
    assert changed(before, stored(cluster)) == []


def test_each_bad_document_gets_its_message(cluster: LiveCluster) -> None:
    said = cluster.kubectl("apply", "-R", "-f", str(ROOT / "bad"), check=False, timeout_s=TIMEOUT_S)
    assert said.stdout == ""
    # Problems of reading come in one line with brackets, those of the server in a line each.
    text = re.sub(r", (?=(?:unable to|error (?:parsing|validating)|resource mapping) )", "\n", said.stderr)
    wrong = []
    for path in BAD:
        message = path.read_text().split("\n")[0].removeprefix("# refused: ")
        about = [line for line in text.split("\n") if path.name in line]
        if not any(message in line for line in about):
            wrong.append(f"{path.name}: {message}\n   said: {about}")
    assert not wrong, "\n".join(wrong) + "\n\n" + said.stderr


def diff_of(cluster: LiveCluster, path: Path, *options: str) -> tuple[int, str]:
    """The exit code of kubectl diff, and what it printed."""
    done = cluster.kubectl("diff", "-R", "-f", str(path), *options, check=False, timeout_s=TIMEOUT_S)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
    return done.returncode, "\n".join([done.stdout, *lines]).strip()


def stored(cluster: LiveCluster) -> list[Object]:
    """All objects of the good documents, as the server answers them."""
    got = cluster.kubectl("get", "-R", "-f", str(GOOD), "-o", "json", timeout_s=TIMEOUT_S)
    items: list[Object] = json.loads(got.stdout)["items"]
    return items


async def put_all(cluster: LiveCluster, objects: list[Object]) -> None:
    async with HttpClient.from_kubeconfig(cluster.kubeconfig) as client:
        for obj in objects:
            kind = kinds.by_gvk(obj["apiVersion"], obj["kind"])
            assert kind is not None
            await client.update(kind, obj)


def changed(before: list[Object], after: list[Object]) -> list[str]:
    def name(obj: dict[str, Any]) -> str:
        return f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"

    return [
        name(one)
        for one, two in zip(before, after, strict=True)
        if one["metadata"]["resourceVersion"] != two["metadata"]["resourceVersion"]
    ]
