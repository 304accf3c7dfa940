"""Runs checks side by side and says of each spec: passes, fails, not reachable, or not yet.

A failure is tried a second time, alone, before it counts: what a crowded machine broke is no finding. Both
tries are told. Checks that change what others rely on run one by one at the end.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gitkube.api.kubeconfig import read_connection
from tests.conformance.api import Api, CheckError
from tests.conformance.harness import CHECKS, SPECS, Check, NotReachableError, Trial
from tests.conformance.not_yet import reason

PASSES, IN_PART, FAILS = "passes", "passes in part", "fails"
NOT_REACHABLE, NOT_YET = "not reachable", "not yet"
CHECK_TIMEOUT_S = 600
PATIENCE_S = 420
"""A server may keep history for five minutes, and look once a minute whether it is older."""


@dataclass(frozen=True, slots=True)
class Outcome:
    spec: str
    result: str
    why: str = ""
    seconds: float = 0.0
    tries: int = 1


async def run(
    kubeconfig: Path,
    kubectl: str,
    specs: Sequence[str] = SPECS,
    *,
    at_once: int = 12,
    is_patient: bool = False,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcome of each spec, in their order."""
    connection = read_connection(kubeconfig)
    patience_s = PATIENCE_S if is_patient else 10
    outcomes: dict[str, Outcome] = {
        spec: Outcome(spec, NOT_YET, reason(spec)) for spec in specs if spec not in CHECKS
    }
    checks = [CHECKS[spec] for spec in specs if spec in CHECKS]
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        api = Api(connection, session)
        room = asyncio.Semaphore(at_once)

        async def one(check: Check, tries: int = 1) -> None:
            async with room:
                outcome = await _tried(check, Trial(api, kubeconfig, kubectl, patience_s), tries)
            tell(outcome)
            outcomes[check.spec] = outcome

        async with asyncio.TaskGroup() as group:
            for check in checks:
                if not check.is_serial:
                    group.create_task(one(check))
        again = [check for check in checks if check.is_serial or outcomes[check.spec].result == FAILS]
        for check in again:
            await one(check, 1 if check.is_serial else 2)
    return [outcomes[spec] for spec in specs]


async def _tried(check: Check, trial: Trial, tries: int) -> Outcome:
    began = time.monotonic()
    result, why = PASSES, ""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await trial.begin()
            await check.run(trial)
        if check.part:
            result, why = IN_PART, check.part
    except NotReachableError as missing:
        result, why = NOT_REACHABLE, str(missing)
    except TimeoutError:
        result, why = FAILS, f"not done after {CHECK_TIMEOUT_S} s"
    except (CheckError, aiohttp.ClientError) as error:
        result, why = FAILS, str(error)
    except Exception as error:
        # An answer in another form than the check reads is a finding as well; where it was read helps.
        place = traceback.extract_tb(error.__traceback__)[-1]
        result, why = FAILS, f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
    try:
        async with asyncio.timeout(60):
            await trial.end()
    except (TimeoutError, aiohttp.ClientError) as error:
        result, why = FAILS, why or f"it could not be cleared away: {error}"
    return Outcome(check.spec, result, " ".join(why.split())[:300], time.monotonic() - began, tries)
