"""Of several controllers in one kubeconfig, whichever answers is asked; other clusters never are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gitkube.api.kubeconfig import contexts_of
from gitkube.cli.shared import open_client
from gitkube.clock import SystemClock
from gitkube.server.app import HttpServer
from gitkube.server.kubeconfig import Context
from gitkube.server.pki import Pki

DEAD = Context("ctl-1", "https://127.0.0.1:1")


def written(directory: Path, *contexts: Context) -> Path:
    path = directory / "kubeconfig"
    pki = Pki.open(directory / "pki", clock=SystemClock())
    pki.write_kubeconfig(path, contexts[0].server, others=contexts, context=contexts[0].name)
    return path


@asynccontextmanager
async def answering(tmp_path: Path, status: int, text: str) -> AsyncIterator[str]:
    """The URL of a controller that says this of itself."""

    async def readyz(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    pki = Pki.open(tmp_path / "pki", clock=SystemClock())
    server = HttpServer(app, host="127.0.0.1", port=0, pki=pki, clock=SystemClock())
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


async def test_the_next_controller_is_asked_when_the_current_one_is_dead(tmp_path: Path) -> None:
    async with answering(tmp_path, 200, "ok") as url:
        path = written(tmp_path, DEAD, Context("ctl-2", "https://127.0.0.1:2"), Context("ctl-3", url))
        async with open_client(path) as client:
            assert client.server == url


async def test_when_nobody_is_ready_the_one_that_can_say_why_is_asked(tmp_path: Path) -> None:
    async with answering(tmp_path, 500, "[-]etcd failed: reason withheld") as url:
        path = written(tmp_path, DEAD, Context("ctl-2", "https://127.0.0.1:2"), Context("ctl-3", url))
        async with open_client(path) as client:
            assert client.server == url


@pytest.mark.parametrize("names", [["ctl-1"], ["ctl-1", "ctl-2"]])
async def test_when_nobody_answers_the_current_one_is_told_of(tmp_path: Path, names: list[str]) -> None:
    path = written(tmp_path, *(Context(name, f"https://127.0.0.1:{at}") for at, name in enumerate(names, 1)))
    async with open_client(path) as client:
        assert client.server == DEAD.server


def test_contexts_of_other_clusters_and_users_are_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, DEAD, Context("ctl-2", "https://127.0.0.1:2"))
    config = json.loads(path.read_bytes())
    config["clusters"].append(
        {"name": "prod", "cluster": {"server": "https://p", "certificate-authority-data": "eA=="}}
    )
    config["clusters"].append({"name": "plain", "cluster": {"server": "http://p"}})
    user = config["contexts"][0]["context"]["user"]
    config["contexts"] += [
        {"name": "prod", "context": {"cluster": "prod", "user": user}},
        {"name": "plain", "context": {"cluster": "plain", "user": user}},
        {"name": "as ada", "context": {"cluster": "ctl-2", "user": "ada"}},
    ]
    path.write_text(json.dumps(config))
    assert contexts_of(path) == ["ctl-1", "ctl-2"]
    config["current-context"] = "plain"
    path.write_text(json.dumps(config))
    assert contexts_of(path) == ["plain"]
