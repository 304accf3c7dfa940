"""`/healthz`, `/livez` and `/readyz`: a line for each check, or one of them by its path.

Names and texts are Kubernetes', for load balancers and probes are written for them; `etcd` is our store.
Whoever is alive but has not read the store yet, or is stopping, is not ready. A check that is excluded in the
query is not made. Why a check failed is in the log and not in the answer, which anybody may read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web

from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.server.answers import text_answer
from gitkube.server.lifetime import Lifetime

log = structlog.get_logger()

STORE_TIMEOUT_S = 2.0
Check = Callable[[], Awaitable[str]]
"""Why it fails, or ""."""
ENDPOINTS = ("healthz", "livez", "readyz")


class Health:
    def __init__(self, api: Api, lifetime: Lifetime) -> None:
        async def passes() -> str:
            return ""

        async def store() -> str:
            try:
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    await api.cache.reach_current()
            except StatusError as error:
                return error.message
            except TimeoutError:
                return f"the store has not answered within {STORE_TIMEOUT_S:.0f} s"
            return ""

        async def cache() -> str:
            return "" if api.cache.has_synced else "the store has not been read yet"

        async def first_objects() -> str:
            return "" if api.is_ready else "the first objects are not made yet"

        async def stopping() -> str:
            return "the server is stopping" if lifetime.is_stopping else ""

        first = {"ping": passes, "log": passes, "etcd": store}
        last = {
            "poststarthook/rbac/bootstrap-roles": first_objects,
            "poststarthook/scheduling/bootstrap-system-priority-classes": first_objects,
        }
        ready = {**first, "informer-sync": cache, **last, "shutdown": stopping}
        self._checks: Mapping[str, Mapping[str, Check]] = {
            "healthz": {**first, **last},
            "livez": first,
            "readyz": ready,
        }

    def paths(self) -> list[str]:
        found = []
        for endpoint, checks in self._checks.items():
            found += [f"/{endpoint}", *(f"/{endpoint}/{name}" for name in checks)]
        return found

    async def answer(self, request: web.Request, path: str) -> web.Response | None:
        """The answer to a path, or None when there is no such check."""
        _, endpoint, *rest = path.split("/", 2)
        checks = self._checks.get(endpoint)
        if checks is None:
            return None
        if rest:
            check = checks.get(rest[0])
            return None if check is None else await self._all(endpoint, {rest[0]: check}, request, one=True)
        return await self._all(endpoint, checks, request, one=False)

    async def _all(
        self, endpoint: str, checks: Mapping[str, Check], request: web.Request, *, one: bool
    ) -> web.Response:
        excluded = set() if one else set(request.query.getall("exclude", ()))
        lines, has_failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif why := await check():
                has_failed = True
                lines.append(f"[-]{name} failed: reason withheld")
                log.warning("health_check_failed", endpoint=endpoint, check=name, why=why)
            else:
                lines.append(f"[+]{name} ok")
        if unknown := sorted(excluded - checks.keys()):
            names = ", ".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        if has_failed:
            lines.append(f"{endpoint} check failed")
            return text_answer("\n".join(lines) + "\n", status=500)
        if one or "verbose" not in request.query:
            return text_answer("ok")
        return text_answer("\n".join([*lines, f"{endpoint} check passed"]) + "\n")
