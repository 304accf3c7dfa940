"""What becomes of a pretended pod: read from its settings, its annotations and its command. Pure functions.

Annotations are for tests that need a certain end; the key's prefix is `hollow.gitkube.dev/`. Without them a
container of a pod that is meant to end understands `sleep N`, `exit N` and `false` in its command, because
that is what people write in a Job to try one; any other command runs for the time of the settings.
A value that cannot be read counts as not given: a wrong annotation must not take a host down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitkube.sim.hollow.settings import HollowSettings

PREFIX = "hollow.gitkube.dev/"
START_MS, STOP_MS, RUN_MS = PREFIX + "start-ms", PREFIX + "stop-ms", PREFIX + "run-ms"
EXIT_CODE = PREFIX + "exit-code"
READY = PREFIX + "ready"
""""false": the pod runs and never becomes ready."""
PULL = PREFIX + "pull"
""""fail": the image cannot be pulled."""

_SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)([smhd]?)(?![\w.])")
_SLEEP_FOR_EVER = re.compile(r"\bsleep\s+inf")
_EXIT = re.compile(r"\bexit\s+(\d{1,3})\b")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_MS = 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class PodFate:
    start_s: float
    stop_s: float
    becomes_ready: bool
    can_pull: bool
    deadline_s: float | None
    """After its start a pod with activeDeadlineSeconds has failed."""


@dataclass(frozen=True, slots=True)
class ContainerFate:
    run_s: float | None
    """From start to end; None runs until the pod is deleted."""
    exit_code: int


def pod_fate(pod: Mapping[str, Any], settings: HollowSettings) -> PodFate:
    """Of the pod as a whole."""
    notes = _annotations(pod)
    spec = pod["spec"]
    stop_s = _seconds(notes, STOP_MS, settings.stop_s)
    grace_s = pod["metadata"].get("deletionGracePeriodSeconds")
    return PodFate(
        start_s=_seconds(notes, START_MS, settings.start_s),
        stop_s=stop_s if grace_s is None else min(stop_s, float(grace_s)),
        becomes_ready=notes.get(READY) != "false",
        can_pull=notes.get(PULL) != "fail",
        deadline_s=spec.get("activeDeadlineSeconds"),
    )


def container_fate(
    pod: Mapping[str, Any], container: Mapping[str, Any], settings: HollowSettings
) -> ContainerFate:
    """Of one container of the pod."""
    notes = _annotations(pod)
    is_to_end = pod["spec"].get("restartPolicy", "Always") != "Always"
    command = " ".join(str(word) for word in [*container.get("command", ()), *container.get("args", ())])
    told_run_s = _seconds(notes, RUN_MS, -1.0)
    told_code = _number(notes.get(EXIT_CODE), 255)
    if told_run_s >= 0:
        run_s: float | None = told_run_s
    elif is_to_end:
        run_s = _sleep_s(command, settings.run_s)
    else:
        run_s = settings.run_s if told_code is not None else None
    return ContainerFate(run_s, _code(command) if told_code is None else told_code)


def _sleep_s(command: str, otherwise_s: float) -> float | None:
    if _SLEEP_FOR_EVER.search(command):
        return None
    sleeps = [float(number) * _UNITS_S[unit] for number, unit in _SLEEP.findall(command)]
    return sum(sleeps) if sleeps else otherwise_s


def _code(command: str) -> int:
    exits = _EXIT.findall(command)
    if exits:
        return int(exits[-1]) % 256
    return 1 if command.split(" ")[-1] == "false" else 0


def _annotations(pod: Mapping[str, Any]) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}


def _seconds(notes: Mapping[str, str], key: str, otherwise_s: float) -> float:
    told_ms = _number(notes.get(key), MAX_MS)
    return otherwise_s if told_ms is None else told_ms / 1000


def _number(text: str | None, maximum: int) -> int | None:
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
    return min(int(text), maximum) if is_number and text is not None else None
