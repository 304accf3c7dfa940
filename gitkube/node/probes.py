"""Probing containers: started, ready, alive.

What a row of results means is decided by `Tally` (pure); one asyncio task per probe asks and tells. HTTP and
TCP are asked from the host's network to the pod's address; exec runs in the container. Before a container
has answered for the first time, readiness and startup are also asked between the periods, at growing
distances: such an early look can only bring good news, its failures count nowhere. So a server that is up
after 200 ms is ready then, and not a period later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Callable

from gitkube.node.kube import Object

log = logging.getLogger(__name__)

LIVENESS, READINESS, STARTUP = "liveness", "readiness", "startup"
FIRST_EARLY_LOOK_S = 0.05
MAX_RESPONSE_BYTES = 10 * 1024
"""Of an HTTP answer; only its status decides."""


@dataclass(frozen=True)
class Settings:
    """A probe's numbers, with Kubernetes' defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Object) -> Settings:
        def number(key: str, default: int) -> int:
            value = probe.get(key)
            return default if value is None else int(value)

        return cls(
            initial_delay_s=max(0, number("initialDelaySeconds", 0)),
            period_s=max(1, number("periodSeconds", 10)),
            timeout_s=max(1, number("timeoutSeconds", 1)),
            success_threshold=max(1, number("successThreshold", 1)),
            failure_threshold=max(1, number("failureThreshold", 3)),
        )


class Tally:
    """How many successes or failures there were in a row, and what that makes of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._row = 0
        self._was_success: bool | None = None

    def add(self, is_success: bool) -> bool | None:
        """True: the threshold of successes is reached; False: that of failures; None: neither yet."""
        self._row = self._row + 1 if is_success is self._was_success else 1
        self._was_success = is_success
        wanted = self._settings.success_threshold if is_success else self._settings.failure_threshold
        return is_success if self._row >= wanted else None


@dataclass(frozen=True)
class Answer:
    """What one question brought."""

    is_success: bool
    message: str = ""


Ask = Callable[[Object, float], Awaitable[Answer]]
Tell = Callable[[str, bool, str], None]


async def run_probe(kind: str, probe: Object, ask: Ask, tell: Tell, *, started_ago_s: float = 0.0) -> None:
    """Ask for ever, and tell each time a threshold is reached; startup ends at the first one.

    Args:
        kind: LIVENESS, READINESS or STARTUP.
        probe: the probe of the container's spec.
        ask: puts the question once; never raises but when cancelled.
        tell: gets (kind, is_success, message).
        started_ago_s: how long the container has been running already.
    """
    settings = Settings.of(probe)
    tally = Tally(settings)
    await asyncio.sleep(max(0.0, settings.initial_delay_s - started_ago_s))
    may_look_early = kind in (READINESS, STARTUP) and settings.success_threshold == 1
    while True:
        answer = await ask(probe, settings.timeout_s)
        verdict = tally.add(answer.is_success)
        if verdict is not None:
            may_look_early = may_look_early and not verdict
            tell(kind, verdict, answer.message)
            if kind == STARTUP:
                return
        elif not answer.is_success:
            log.debug("%s probe failed: %s", kind, answer.message)
        if not may_look_early:
            await asyncio.sleep(settings.period_s)
        elif await _look_early(probe, settings, ask):
            may_look_early = False
            tally.add(True)
            tell(kind, True, "")
            if kind == STARTUP:
                return
            await asyncio.sleep(settings.period_s)


async def _look_early(probe: Object, settings: Settings, ask: Ask) -> bool:
    """Ask at growing distances within one period; True at the first success."""
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.period_s
    distance = FIRST_EARLY_LOOK_S
    while loop.time() + distance < end:
        await asyncio.sleep(distance)
        if (await ask(probe, min(settings.timeout_s, max(0.2, distance)))).is_success:
            return True
        distance *= 1.6
    await asyncio.sleep(max(0.0, end - loop.time()))
    return False


def port_number(port: object, container: Object) -> int:
    """A probe's port: a number, or the name of one of the container's ports.

    Raises:
        ValueError: no such port.
    """
    text = str(port)
    if text.isdigit():
        return int(text)
    for entry in container.get("ports") or []:
        if entry.get("name") == text:
            return int(entry["containerPort"])
    raise ValueError(f"the container has no port named {text!r}")


async def ask_tcp(host: str, port: int, timeout_s: float) -> Answer:
    """Whether something accepts connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout_s)
    except asyncio.TimeoutError:
        return Answer(False, f"dial tcp {host}:{port}: no answer within {timeout_s:g} s")
    except OSError as error:
        return Answer(False, f"dial tcp {host}:{port}: {error.strerror or error}")
    writer.close()
    return Answer(True)


async def ask_http(host: str, container: Object, action: Object, timeout_s: float) -> Answer:
    """An HTTP GET; any status from 200 to 399 is a success."""
    try:
        port = port_number(action.get("port"), container)
    except ValueError as error:
        return Answer(False, str(error))
    target = str(action.get("host") or host)
    url = f"{target}:{port}{action.get('path') or '/'}"
    try:
        status = await asyncio.wait_for(_get_status(target, port, action), timeout_s)
    except asyncio.TimeoutError:
        return Answer(False, f"Get {url}: no answer within {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return Answer(False, f"Get {url}: {getattr(error, 'strerror', None) or error}")
    if 200 <= status < 400:
        return Answer(True)
    return Answer(False, f"HTTP probe failed with statuscode: {status}")


def http_request(host: str, port: int, action: Object) -> bytes:
    """The bytes of the GET. Line breaks in what the manifest gave are refused, so it stays one request.

    Raises:
        ValueError: a header or the path has a line break.
    """
    path = str(action.get("path") or "/")
    headers = {
        "Host": f"{host}:{port}",
        "User-Agent": "kube-probe/1.37",
        "Accept": "*/*",
        "Connection": "close",
    }
    for header in action.get("httpHeaders") or []:
        name = str(header["name"])
        for known in list(headers):
            if known.lower() == name.lower():
                del headers[known]
        headers[name] = str(header.get("value") or "")
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("the probe's path or headers have a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _get_status(host: str, port: int, action: Object) -> int:
    context = None
    if str(action.get("scheme") or "HTTP").upper() == "HTTPS":
        import ssl  # three megabytes that most hosts never need

        context = ssl.create_default_context()
        context.check_hostname = False  # as kubelet does: the probe asks for life, not for identity
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=MAX_RESPONSE_BYTES)
    try:
        writer.write(http_request(host, port, action))
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    parts = line.split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        raise ValueError(f"not an HTTP answer: {line[:80]!r}")
    return int(parts[1])


def describe(probe: Object) -> str:
    """Which of the ways to ask a probe uses; "" for one that is not known."""
    for kind in ("exec", "httpGet", "tcpSocket"):
        if probe.get(kind) is not None:
            return kind
    return ""
