"""What Kubernetes did until 1.23 and its 1.20 suite waits for: a token's Secret for each ServiceAccount.

Kubernetes 1.24 ended that (LegacyServiceAccountTokenNoAutoGeneration), and gitkube is as 1.37. The suite
begins each spec by waiting until the namespace's ServiceAccount names such a Secret, so this loop, an
ordinary client of the API, makes them while the suite runs. Nothing else of the old behaviour is played.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

from gitkube.api.errors import StatusError
from gitkube.api.http import HttpClient
from gitkube.api.informer import Informer
from gitkube.clock import SystemClock
from gitkube.objects import meta
from gitkube.objects.kinds import SECRET, SERVICE_ACCOUNT
from gitkube.objects.types import Object

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def token_secrets(kubeconfig: Path) -> Iterator[None]:
    """Keep ServiceAccounts supplied while the block runs."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(_supply(kubeconfig))
    thread = threading.Thread(target=lambda: loop.run_until_complete(_until_cancelled(task)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


async def _until_cancelled(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _supply(kubeconfig: Path) -> None:
    clock = SystemClock()
    async with HttpClient.from_kubeconfig(kubeconfig, clock=clock) as client:
        accounts = Informer(client, SERVICE_ACCOUNT, clock=clock)
        waiting: asyncio.Queue[Object] = asyncio.Queue()

        def seen(before: Object | None, after: Object | None) -> None:
            if after is not None and not after.get("secrets"):
                waiting.put_nowait(after)

        accounts.add_handler(seen)
        async with asyncio.TaskGroup() as group:
            group.create_task(accounts.run())
            while True:
                await _give(client, await waiting.get())


async def _give(client: HttpClient, account: Object) -> None:
    name, namespace = f"{meta.name(account)}-token", meta.namespace(account)
    annotations = {"kubernetes.io/service-account.name": meta.name(account)}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "type": "kubernetes.io/service-account-token",
    }
    try:
        await client.create(SECRET, secret)
        await client.patch(SERVICE_ACCOUNT, meta.name(account), namespace, {"secrets": [{"name": name}]})
    except StatusError as error:  # the namespace is ending, or the account was changed and comes again
        log.info("no_token_secret", account=meta.name(account), namespace=namespace, error=str(error))
