"""The API over HTTPS: the application, and the server that puts it behind TLS.

Client certificates are asked for and not demanded: others show a token, and health can be asked by anybody.
The server's certificate renews itself while the server runs.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Sequence

import structlog
from aiohttp import web

from gitkube.api.machinery import Api
from gitkube.api.streams import PodStreams
from gitkube.clock import Clock, SystemClock
from gitkube.server.audit.trail import Auditor, show_id
from gitkube.server.bodies import MAX_BODY_BYTES
from gitkube.server.cluster import ClusterEndpoints
from gitkube.server.door import Door
from gitkube.server.identity import Authentication, Authenticator
from gitkube.server.lifetime import Lifetime
from gitkube.server.listener import Busy, ConnectionLimits, Listener
from gitkube.server.metrics import StoreMetrics
from gitkube.server.pki import RENEWAL_CHECK_S, Pki
from gitkube.server.relay import Relay

log = structlog.get_logger()

MAX_HEADER_BYTES = 64 * 1024
"""Selectors and exec commands travel in the URL."""
KEEP_ALIVE_S = 120.0
STOP_AFTER_S = 2.0
"""How long open requests get when the server stops; watches are ended at once."""


BUSY: web.AppKey[Busy] = web.AppKey("busy", Busy)
LIFETIME: web.AppKey[Lifetime] = web.AppKey("lifetime", Lifetime)


def create_app(
    api: Api,
    streams: PodStreams,
    *,
    clock: Clock,
    rng: random.Random | None = None,
    authenticate: Authenticator | None = None,
    relay: Relay | None = None,
    cluster: ClusterEndpoints | None = None,
    store_metrics: StoreMetrics | None = None,
    auditor: Auditor | None = None,
) -> web.Application:
    """The application; `api.run()` must be running for it to answer.

    Args:
        streams: reaches running pods for log, exec and port-forward.
        rng: for the length of watches and the ids of requests.
        authenticate: who sends a request; by default the subject of the client certificate, or the bearer of
            one of the API's tokens.
        relay: carries streams that another controller must serve; None where there is only one.
        cluster: what other controllers may ask, beside the API.
        store_metrics: shown behind the API's own.
        auditor: keeps what is asked and answered; None keeps nothing.
    """
    busy = Busy()
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[busy.middleware],
        # What goes through to a pod goes as it came; what is for us is unpacked by `bodies.py`.
        handler_args={"auto_decompress": False},
    )
    door = Door(
        api,
        streams,
        clock=clock,
        rng=rng or random.Random(),
        authenticate=authenticate or Authentication((api.tokens.user,)),
        relay=relay,
        store_metrics=store_metrics,
        auditor=auditor,
    )
    app.on_response_prepare.append(show_id)
    if auditor is not None:
        app.on_response_prepare.append(auditor.on_prepare)
    app[LIFETIME] = door.lifetime
    app[BUSY] = busy
    if cluster is not None:
        cluster.add_to(app)
    app.router.add_route("*", "/{path:.*}", door.handle)

    async def stop(_: web.Application) -> None:
        door.lifetime.stop()

    app.on_shutdown.append(stop)
    return app


class ListenError(Exception):
    """The address cannot be listened on; the text says why."""


class HttpServer:
    """Serves an application over HTTPS."""

    def __init__(
        self,
        app: web.Application,
        *,
        host: str,
        port: int,
        pki: Pki,
        names: Sequence[str] = (),
        clock: Clock | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """
        Args:
            host: address to listen on, such as `127.0.0.1` or `::`.
            port: 0 takes a free one.
            names: further host names and addresses by which clients call this server.
        """
        self._app = app
        self._host = host
        self._pki = pki
        self._names = list(dict.fromkeys([host, socket.gethostname(), *names]))
        self._clock = clock or SystemClock()
        self._limits = limits
        self._listener: Listener | None = None
        self._context: ssl.SSLContext | None = None
        self._runner: web.AppRunner | None = None
        self.port = port
        """Where it listens, once `start` has returned."""

    @property
    def url(self) -> str:
        """As clients on this machine write it, once `start` has returned."""
        host = self.local_host
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"

    @property
    def local_host(self) -> str:
        """By which processes on this machine reach it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)

    async def start(self) -> None:
        """Listen; requests are served from now on. `run` or `stop` must follow.

        Raises:
            ListenError: the address is taken or not ours.
            PkiError: there can be no certificate for the names.
        """
        context = self._pki.server_context(self._names)
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            shutdown_timeout=STOP_AFTER_S,
        )
        await runner.setup()
        assert runner.server is not None  # `setup` made it
        listener = Listener(runner.server, context, busy=self._app.get(BUSY) or Busy(), limits=self._limits)
        try:
            await listener.start(self._host, self.port)
        except OSError as error:
            await runner.cleanup()
            why = error.strerror or str(error)
            raise ListenError(
                f"cannot listen on {self._host}:{self.port}: {why}; choose another with --listen"
            ) from error
        self.port = listener.port
        self._listener = listener
        self._context, self._runner = context, runner
        log.info("api_listening", url=self.url)

    async def run(self) -> None:
        """Serve until cancelled, then stop.

        Raises:
            ListenError, PkiError: as `start`, which it calls when nobody has.
        """
        if self._runner is None:
            await self.start()
        try:
            await self._renew()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End open watches, let other requests finish for a moment, and listen no more."""
        runner, self._runner = self._runner, None
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
        if runner is not None:
            await runner.cleanup()

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(RENEWAL_CHECK_S)
            # New connections get the new certificate, old ones go on with theirs.
            certificate, key = self._pki.server_certificate(self._names)
            if self._context is not None:
                self._context.load_cert_chain(certificate, key)
