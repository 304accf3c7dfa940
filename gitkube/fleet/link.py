"""One host, one link: dial, say hello, keep the host's sections up to date, hear its reports, begin again.

A `HostLink` holds what the host should be (its newest sections, whole) and sends a section whenever the host
has another one than that; after a reconnect the host says what it has, and only the difference goes out. So
nothing is queued, and a lost message heals by itself.

When the link fails it is dialled again after a growing, jittered pause that is shown in `state`; a
`HostStopped` (a changed host key) is never tried again until `wake` is called, because a person has changed
something.
Links know nothing of each other: a dead host costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import structlog

from gitkube import wire
from gitkube.clock import Clock, set_within
from gitkube.fleet import said
from gitkube.fleet.errors import FleetError, HostStopped, LinkLost, OlderTerm, PrepareError
from gitkube.fleet.hosts import Host
from gitkube.fleet.settings import FleetSettings
from gitkube.tasks import together

SILENT_INTERVALS = 3
"""Of wire.PING_INTERVAL_S; then the link is dead."""
STEADY_S = 10.0
"""A link that lived so long was a good one: the next failure starts with a short pause again."""
RESEND_S = 5.0
"""How long after a host could not apply a section it gets it again."""

log = structlog.get_logger(__name__)


class Session(wire.ByteStream, Protocol):
    """A pipe to the agent of a host that is ready."""

    peer_address: str

    def last_words(self) -> str: ...


class Dialer(Protocol):
    """How a host is reached: SSH in earnest, memory in tests and simulations."""

    agent_digest: str

    async def dial(self, host: Host, *, restart: bool, on_progress: Callable[[str], None]) -> Session:
        """Reach the host and make it ready. Raises FleetError."""
        ...


@dataclass(frozen=True, slots=True)
class LinkState:
    """What a person is told of a link."""

    phase: str
    """"connecting", "up", "waiting" (until the next try) or "stopped" (until a person acts)."""
    reason: str
    sentence: str
    since_s: float
    """When this phase began, on the clock's wall."""
    next_try_s: float = 0.0
    """Wall-clock time of the next try, when waiting."""

    @property
    def is_up(self) -> bool:
        return self.phase == "up"


class LinkObserver(Protocol):
    """Who is told what the host says. Calls come one at a time for each host."""

    async def linked(self, link: HostLink, hello: wire.Hello) -> None: ...

    async def heard(self, link: HostLink, message: dict[str, Any]) -> None: ...

    def state_changed(self, link: HostLink) -> None: ...


class HostLink:
    """See the module's text. `run` must run in exactly one task."""

    def __init__(
        self,
        host: Host,
        *,
        dialer: Dialer,
        observer: LinkObserver,
        term: int,
        clock: Clock,
        rng: Random,
        settings: FleetSettings,
        serve: Callable[[wire.Stream], Awaitable[None]] | None = None,
    ) -> None:
        """
        Args:
            serve: gets each stream that the host opens; None lets it open none.
        """
        self.host = host
        self._serve_stream = serve
        self.peer_address = ""
        """The IP address at the other end, once it was reached."""
        self.state = LinkState("connecting", "Connecting", "not reached yet", clock.now())
        self.last_up_s: float | None = None
        """Monotonic time at which the link was last known to be up; None before the first time."""
        self._dialer, self._observer = dialer, observer
        self._term, self._clock, self._rng, self._settings = term, clock, rng, settings
        self._desired: dict[str, wire.Desired] = {}
        self._sent: dict[str, str] = {}
        """Section -> digest that the host has or is being sent on this connection."""
        self._has: dict[str, str] = {}
        """Section -> digest that the host has said to have."""
        self._failed: dict[str, str] = {}
        """Section -> why the host could not put the last one into force."""
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()
        self._connection: wire.Connection | None = None
        self._restarted_for = ""

    # ------------------------------------------------------------ use

    def set_desired(self, section: str, data: Any, digest: str, revision: int) -> None:
        """What a section of the host should be from now on."""
        before = self._desired.get(section)
        if before is None or before["digest"] != digest:
            self._desired[section] = wire.Desired(
                type="desired", section=section, term=self._term, revision=revision, digest=digest, data=data
            )
            self._changed.set()

    async def open(self, request: dict[str, Any]) -> wire.Stream:
        """Open a stream to the agent.

        Raises:
            LinkLost: the link is down.
        """
        if self._connection is None or not self.state.is_up:
            raise LinkLost(f"host {self.host.name} is not connected: {self.state.sentence}")
        try:
            return await self._connection.open(request)
        except (wire.WireError, OSError) as error:
            raise LinkLost(f"host {self.host.name}: {error}") from error

    def in_force(self, section: str) -> str | None:
        """ "" when the host is as this section says, a sentence when it could not, None when not known."""
        desired = self._desired.get(section)
        if desired is None or not self.state.is_up:
            return None
        if section in self._failed:
            return self._failed[section]
        return "" if self._has.get(section) == desired["digest"] else None

    def wake(self) -> None:
        """Try again now: the inventory or the known hosts have changed."""
        self._woken.set()

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Keep the link for ever."""
        failures = 0
        while True:
            started = self._clock.monotonic()
            try:
                await self._live_once()
            except HostStopped as error:
                self._tell("stopped", error.reason, str(error))
                log.error("host_stopped", host=self.host.name, reason=error.reason, error=str(error))
                self._woken.clear()
                await self._woken.wait()
                failures = 0
                continue
            except FleetError as error:
                reason, sentence = error.reason, str(error)
            except (wire.WireError, OSError) as error:
                reason, sentence = "LinkLost", f"the link ended: {error}"
            if self._clock.monotonic() - started >= STEADY_S and self.last_up_s is not None:
                failures = 0
            pause_s = backoff_s(failures, self._settings, self._rng)
            failures += 1
            self._tell("waiting", reason, sentence, next_try_s=self._clock.now() + pause_s)
            log.warning(
                "host_link_failed",
                host=self.host.name, reason=reason, error=sentence, next_try_in_s=round(pause_s, 2),
            )  # fmt: skip
            self._woken.clear()
            await set_within(self._clock, self._woken, pause_s)

    async def _live_once(self) -> None:
        """Dial and serve until it fails; always ends by an exception."""
        self._tell("connecting", "Connecting", self.state.sentence)
        restart = self._restarted_for == "wanted"
        session = await self._dialer.dial(
            self.host,
            restart=restart,
            on_progress=lambda sentence: self._tell("connecting", "Preparing", sentence),
        )
        self.peer_address = session.peer_address
        heard = _Heard(session)
        hello: asyncio.Future[wire.Hello] = asyncio.get_running_loop().create_future()

        async def on_message(message: dict[str, Any]) -> None:
            if hello.done():
                await self._take(message)
            else:
                await self._greet(connection, message, hello)

        connection = wire.Connection(
            heard, is_opener=True, on_message=on_message, on_open=self._opened if self._serve_stream else None
        )
        try:
            await together(
                (
                    self._serve(connection, session),
                    self._send_sections(connection, hello),
                    self._say_alive(connection, heard),
                    self._listen_for_silence(heard, hello),
                )
            )
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        finally:
            self._connection = None
            await session.close()

    async def _opened(self, stream: wire.Stream) -> None:
        if not self.state.is_up or self._serve_stream is None:
            raise wire.WireError("a stream came before the welcome")
        await self._serve_stream(stream)

    async def _serve(self, connection: wire.Connection, session: Session) -> None:
        await connection.run()
        words = session.last_words()
        raise LinkLost(f"the host ended the link{': ' + words[-300:] if words else ''}")

    async def _greet(
        self, connection: wire.Connection, message: dict[str, Any], hello: asyncio.Future[wire.Hello]
    ) -> None:
        if message.get("type") != "hello" or message.get("protocol") != wire.PROTOCOL_VERSION:
            raise PrepareError(
                f"the agent speaks protocol {message.get('protocol')!r}, this control side"
                f" {wire.PROTOCOL_VERSION}; it is replaced at the next try"
            )
        greeting = said.hello(message)
        self._check_agent(greeting["agent"])
        if greeting["term"] > self._term:
            raise OlderTerm(
                f"the host follows a leader of term {greeting['term']}, ours is {self._term}: another control"
                " plane has taken over, or this one's data was restored from before"
            )
        await connection.send(wire.Welcome(type="welcome", node=self.host.name, term=self._term))
        self._sent, self._has = dict(greeting["digests"]), dict(greeting["digests"])
        self._failed.clear()
        self._connection = connection
        self.last_up_s = self._clock.monotonic()
        await self._observer.linked(self, greeting)
        self._tell("up", "Connected", "connected")
        log.info("host_linked", host=self.host.name, address=self.peer_address, agent=greeting["agent"][:12])
        hello.set_result(greeting)

    def _check_agent(self, running: str) -> None:
        """An agent that is not the one on disk (a crash between the two) is restarted, once."""
        expected = self._dialer.agent_digest
        matches = not running or not expected or expected.startswith(running) or running.startswith(expected)
        if matches:
            self._restarted_for = ""
        elif self._restarted_for == "":
            self._restarted_for = "wanted"
            raise PrepareError(f"agent {running[:12]} runs instead of {expected[:12]}; restarting it")
        else:
            self._restarted_for = "done"
            log.warning(
                "host_runs_other_agent", host=self.host.name, agent=running[:12], wanted=expected[:12]
            )

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "ping":
            return
        if kind == "applied" and message.get("error"):
            section = str(message.get("section"))
            log.warning(
                "section_not_applied", host=self.host.name, section=section, error=str(message["error"])
            )
            self._failed[section] = str(message["error"])
            self._changed.set()
        elif kind == "applied":
            self._failed.pop(str(message.get("section")), None)
            self._has[str(message.get("section"))] = str(message.get("digest"))
        await self._observer.heard(self, message)

    async def _send_sections(self, connection: wire.Connection, hello: asyncio.Future[wire.Hello]) -> None:
        await hello
        while True:
            self._changed.clear()
            for section, desired in list(self._desired.items()):
                if self._sent.get(section) != desired["digest"]:
                    self._sent[section] = desired["digest"]
                    await connection.send(desired)
            if not self._failed:
                await self._changed.wait()
            elif not await set_within(self._clock, self._changed, RESEND_S):
                for section in self._failed:
                    self._sent.pop(section, None)

    async def _say_alive(self, connection: wire.Connection, heard: _Heard) -> None:
        while True:
            writes = heard.writes
            await self._clock.sleep(wire.PING_INTERVAL_S)
            if heard.writes == writes:
                await connection.send(wire.Ping(type="ping"))

    async def _listen_for_silence(self, heard: _Heard, hello: asyncio.Future[wire.Hello]) -> None:
        # Intervals are counted, not seconds: when this process itself was held up, the host is not to blame.
        waited_s = 0.0
        while not hello.done():
            await self._clock.sleep(0.25)
            waited_s += 0.25
            if waited_s >= self._settings.hello_timeout_s:
                raise LinkLost(
                    f"the agent said nothing in {waited_s:.0f} s; see /var/log/gitkube-node.log there"
                )
        silent = 0
        while silent < SILENT_INTERVALS:
            reads = heard.reads
            await self._clock.sleep(wire.PING_INTERVAL_S)
            silent = silent + 1 if heard.reads == reads else 0
            if silent == 0:
                self.last_up_s = self._clock.monotonic()
        raise LinkLost(f"nothing heard from the host for {SILENT_INTERVALS * wire.PING_INTERVAL_S:.0f} s")

    def _tell(self, phase: str, reason: str, sentence: str, *, next_try_s: float = 0.0) -> None:
        self.state = LinkState(phase, reason, sentence, self._clock.now(), next_try_s)
        self._observer.state_changed(self)


class _Heard:
    """The pipe, with counts of what went through it: any byte is a sign of life."""

    def __init__(self, inner: wire.ByteStream) -> None:
        self._inner = inner
        self.reads = 0
        self.writes = 0

    async def read(self) -> bytes:
        data = await self._inner.read()
        self.reads += 1
        return data

    async def write(self, data: bytes) -> None:
        self.writes += 1
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()


def backoff_s(failures: int, settings: FleetSettings, rng: Random) -> float:
    """The pause after so many failures in a row: doubling to the cap, between half and all of it."""
    whole_s: float = min(settings.backoff_cap_s, settings.backoff_first_s * 2 ** min(failures, 20))
    return whole_s * (0.5 + 0.5 * rng.random())


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one cause to tell: what we know a sentence for, before what only broke along with it."""
    flat: list[BaseException] = []
    todo: list[BaseException] = [failures]
    while todo:
        failure = todo.pop()
        if isinstance(failure, BaseExceptionGroup):
            todo += failure.exceptions
        else:
            flat.append(failure)
    unexpected = [one for one in flat if not isinstance(one, (FleetError, wire.WireError, OSError))]
    known = [one for one in flat if isinstance(one, FleetError)]
    return (unexpected or known or flat)[0]
