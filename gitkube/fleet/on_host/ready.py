"""The steps in order, each only when it is needed, and the report."""

import contextlib
import fcntl
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from typing import Any

from gitkube.fleet.on_host import agent_file, machine, packages, service, trial
from gitkube.fleet.on_host.base import BIN, ROOT, RUN, Refusal, make_directory, say

TURN_TIMEOUT_S = 20.0


def main(parameters: "dict[str, Any]") -> None:
    """Make ready (or confirm an agent), and print the report."""
    started = time.monotonic()
    report: dict[str, Any] = {"ready": False, "needsAgent": False, "onTrial": False, "error": "", "did": []}
    try:
        report["facts"] = facts = machine.look()
        machine.require(facts)
        with one_at_a_time():
            if parameters.get("confirm"):
                confirm(parameters["confirm"], report)
            else:
                make_ready(parameters, facts, report)
    except Refusal as refusal:
        report["error"] = str(refusal)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        report["error"] = f"{type(error).__name__}: {error}"
    report["seconds"] = round(time.monotonic() - started, 3)
    say(report)


@contextlib.contextmanager
def one_at_a_time() -> "Iterator[None]":
    """A control side that lost its link comes back while its first visit may still be installing."""
    make_directory(RUN, 0o755)
    descriptor = os.open(RUN + "/prepare.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + TURN_TIMEOUT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refusal(
                        "the host is still being prepared by an earlier visit; it goes on when that is done"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def make_ready(parameters: "dict[str, Any]", facts: "dict[str, Any]", report: "dict[str, Any]") -> None:
    """Packages, directories, agent, service: each only when it is missing."""
    did = report["did"]
    missing = packages.missing_packages(parameters["packages"], facts)
    if missing:
        packages.install(missing, facts)
        packages.require_programs(parameters["packages"], facts)
        did.append("installed " + " ".join(missing))
    for path, mode in ((ROOT, 0o700), (BIN, 0o755), (RUN, 0o755), (ROOT + "/desired", 0o700)):
        make_directory(path, mode)
    current, wanted = agent_file.current_agent(), parameters["agentName"]
    if current != wanted and current and trial.was_refused(wanted):
        did.append(f"kept {current}: {wanted} was not reached over a new connection and was put back")
        wanted = current
    elif not take_agent(parameters, report):
        report["needsAgent"] = True
        return
    agent = os.path.join(BIN, wanted)
    agent_file.unpack(agent)
    did += ["wrote " + path for path in service.put_service(facts)]
    if current != wanted:
        if current:
            trial.begin(wanted, current, parameters["trialSeconds"])
        agent_file.switch(agent)
        did.append("switched to " + wanted)
    run_agent(agent, facts, parameters, did)
    report["onTrial"] = trial.on_trial(wanted)
    if not report["onTrial"]:
        agent_file.forget_old_agents(agent)
    report["ready"] = True


def take_agent(parameters: "dict[str, Any]", report: "dict[str, Any]") -> bool:
    """Whether the agent's file is there, taken from where it was uploaded if need be."""
    agent = os.path.join(BIN, parameters["agentName"])
    if agent_file.is_agent(agent, parameters["agentDigest"]):
        return True
    if not parameters.get("uploaded"):
        return False
    agent_file.put_agent(parameters["uploaded"], agent, parameters["agentDigest"])
    report["did"].append("put " + parameters["agentName"])
    return True


def run_agent(agent: str, facts: "dict[str, Any]", parameters: "dict[str, Any]", did: "list[str]") -> None:
    pid = service.agent_pid()
    if pid is not None and service.runs(pid, agent) and not parameters.get("restart"):
        return
    try:
        service.start(pid, facts)
    except Refusal as refusal:
        if not trial.on_trial(os.path.basename(agent)):
            raise
        service.revert()
        raise Refusal(f"{refusal}. The agent before it is put back") from None
    did.append("restarted the agent" if pid else "started the agent")


def confirm(name: str, report: "dict[str, Any]") -> None:
    """Who asks has come over a new connection and has heard this agent."""
    if not trial.confirm(name):
        raise Refusal(f"agent {name} was put back before it was confirmed")
    agent_file.forget_old_agents(os.path.join(BIN, name))
    report["did"].append("confirmed " + name)
    report["ready"] = True
