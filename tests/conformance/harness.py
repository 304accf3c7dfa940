"""Which check answers for which of Kubernetes' conformance specs, and what a check is given.

A check is a coroutine that asks a live server for what its spec promises, and raises `CheckError` when it
is not kept. `@check("words")` names the one spec (of `specs-1.37.txt`) whose name ends with or contains the
words; several may stand above one function that does the same for all. A spec without a check has a reason
in `not_yet.py`. Invariant: every spec has exactly one of the two (`problems` says where not).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.conformance.api import Api, CheckError, Object, at

SPECS = tuple(Path(__file__).with_name("specs-1.37.txt").read_text().split("\n")[:-1])
UNTIL_S = 60
"""For what a controller does; a loaded machine is slow."""
HOSTS_S = 15
"""Until the hosts of a cluster that has just started are ready."""
T = TypeVar("T")
_numbers = itertools.count(1)


class NotReachableError(Exception):
    """The cluster lacks what the check needs; the text says what."""


@dataclass(slots=True)
class Trial:
    """What one check is given: the API, a namespace of its own, and the means to wait."""

    api: Api
    kubeconfig: Path
    kubectl_path: str
    patience_s: int = 10
    """How long to wait for what the server does only after minutes."""
    namespace: str = ""
    _namespaces: list[str] = field(default_factory=list)
    _leftovers: list[str] = field(default_factory=list)

    async def begin(self) -> None:
        self.namespace = await self.new_namespace()

    async def new_namespace(self, labels: dict[str, str] | None = None) -> str:
        """A namespace that is gone after the check, and the account that pods in it need."""
        name = self.unique("conformance")
        metadata: Object = {"name": name, "labels": labels or {}}
        await self.api.create(at("v1/namespaces"), {"metadata": metadata})
        self._namespaces.append(name)
        account = at("v1/serviceaccounts", name, "default")
        await self.until("the namespace has an account", lambda: self.exists(account))
        return name

    async def end(self) -> None:
        """Delete what the check left behind; what is gone already is as well."""
        for path in [*reversed(self._leftovers), *(at("v1/namespaces", "", n) for n in self._namespaces)]:
            await self.api.call("DELETE", path)

    def unique(self, prefix: str) -> str:
        return f"{prefix}-{os.getpid()}-{next(_numbers)}"

    def leaves(self, path: str) -> str:
        """Remember an object outside of namespaces, to be deleted afterwards."""
        self._leftovers.append(path)
        return path

    async def exists(self, path: str) -> bool:
        return not await self.api.is_gone(path)

    async def until(self, what: str, probe: Callable[[], Awaitable[T]], *, timeout_s: float = UNTIL_S) -> T:
        """Ask again and again until the answer is true, and give it."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.05
        while True:
            found = await probe()
            if found:
                return found
            if time.monotonic() > deadline:
                raise CheckError(f"after {timeout_s:.0f} s still not: {what}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 1.0)

    async def until_object(
        self, what: str, path: str, holds: Callable[[Object], Any], *, timeout_s: float = UNTIL_S
    ) -> Object:
        """Wait until an object is as it shall be, and give it."""

        async def probe() -> Object | None:
            answer = await self.api.call("GET", path)
            return answer.body if answer.code == 200 and holds(answer.body) else None

        found = await self.until(what, probe, timeout_s=timeout_s)
        assert found is not None
        return found

    async def until_gone(self, path: str, *, timeout_s: float = UNTIL_S) -> None:
        await self.until(f"{path} is gone", lambda: self.api.is_gone(path), timeout_s=timeout_s)

    async def hosts(self, at_least: int = 1) -> list[Object]:
        """Nodes that take pods; those of a cluster that has just started are waited for.

        Raises:
            NotReachableError: there are fewer.
        """
        deadline = time.monotonic() + HOSTS_S
        while True:
            nodes = await self.api.items(at("v1/nodes"))
            usable = [node for node in nodes if _is_usable(node)]
            if len(usable) >= at_least:
                return usable
            if time.monotonic() > deadline:
                raise NotReachableError(f"needs {at_least} ready hosts; the cluster has {len(usable)}")
            await asyncio.sleep(0.2)

    async def kubectl(self, *arguments: str, stdin: str = "", fails: bool = False) -> str:
        """Run the real kubectl in the check's namespace; what it printed."""
        process = await asyncio.create_subprocess_exec(
            self.kubectl_path,
            *("--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.kubeconfig.parent)},
        )
        try:
            async with asyncio.timeout(120):
                out, err = await process.communicate(stdin.encode())
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if bool(process.returncode) is not fails:
            raise CheckError(f"kubectl {' '.join(arguments)}: {process.returncode} {err.decode()[:400]}")
        return out.decode()


def _is_usable(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    taints = (node.get("spec") or {}).get("taints") or ()
    return is_ready and not any(one.get("effect") in ("NoSchedule", "NoExecute") for one in taints)


CheckFunction = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    spec: str
    function: CheckFunction
    arguments: dict[str, Any]
    part: str
    """What of the spec's idea it does not try; "" when it tries all of it."""
    is_serial: bool
    """It changes what other checks rely on, so it runs alone."""
    is_quick: bool

    async def run(self, trial: Trial) -> None:
        await self.function(trial, **self.arguments)


CHECKS: dict[str, Check] = {}


def check(
    words: str, *, part: str = "", serial: bool = False, quick: bool = False, **arguments: Any
) -> Callable[[CheckFunction], CheckFunction]:
    """Let a function answer for the spec with these words in its name.

    Args:
        part: what of the spec's idea it does not try.
        serial: it runs alone.
        quick: it takes moments and needs no hosts, so it is among the tests of every day.
        arguments: further ones of the function.
    """
    spec = spec_of(words)
    if spec in CHECKS:
        raise ValueError(f"two checks for {spec}")

    def register(function: CheckFunction) -> CheckFunction:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} is no coroutine")
        CHECKS[spec] = Check(spec, function, arguments, part, serial, quick)
        return function

    return register


def spec_of(words: str) -> str:
    """The one spec whose name contains the words, or else ends with them.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [spec for spec in SPECS if words in spec or words in plain(spec)]
    if len(found) > 1:
        found = [spec for spec in found if plain(spec).endswith(words)] or found
    if len(found) > 1:
        found = [spec for spec in found if plain(spec) == words] or found
    if len(found) != 1:
        raise ValueError(f"{words!r} names {len(found)} specs: {found[:3]}")
    return found[0]


def plain(spec: str) -> str:
    """A spec's name without what ginkgo and the suite put around it."""
    words = spec.split("] ", 1)[1]
    for tag in (
        "[Conformance]",
        "[NodeConformance]",
        "[Privileged:ClusterAdmin] ",
        "[LinuxOnly]",
        "[Serial]",
    ):
        words = words.replace(tag, "")
    return " ".join(words.split())


def sig_of(spec: str) -> str:
    return spec[1 : spec.index("]")]


def require(holds: Any, what: str) -> None:
    """Fail the check unless it holds."""
    if not holds:
        raise CheckError(what)
