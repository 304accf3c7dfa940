"""The audit log: what a policy keeps, what an event says, and a file that is full, large or gone."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gitkube.api.authorization import MASTERS_GROUP, Attributes, User
from gitkube.api.machinery import Api
from gitkube.clock import SystemClock
from gitkube.server.app import create_app
from gitkube.server.audit import log as audit_log
from gitkube.server.audit.log import AuditLog, AuditLogError
from gitkube.server.audit.policy import (
    Level,
    Policy,
    PolicyError,
    Stage,
    default_policy,
    policy_of,
    read_policy,
)
from gitkube.server.audit.trail import Auditor
from tests.support.fake_clock import FakeClock
from tests.support.fake_streams import FakeStreams
from tests.support.memory_cluster import MemoryCluster

ADA = User("ada", ("dev", "system:authenticated"))
ADMIN = User("root", (MASTERS_GROUP, "system:authenticated"))


def policy(*rules: dict[str, Any], **more: Any) -> Policy:
    return policy_of({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})


def asked(path: str = "", *, user: User = ADA, verb: str = "get", name: str = "", **more: str) -> Attributes:
    return Attributes(user, verb, version="v1", name=name, path=path, **more)


PODS = {"resource": "pods", "namespace": "shop"}
RULES: list[tuple[dict[str, Any], Attributes, bool]] = [
    ({}, asked(**PODS), True),
    ({}, asked("/version"), True),
    ({"users": ["ada"]}, asked(**PODS), True),
    ({"users": ["bob"]}, asked(**PODS), False),
    ({"userGroups": ["dev"]}, asked(**PODS), True),
    ({"userGroups": ["ops"]}, asked(**PODS), False),
    ({"verbs": ["get", "list"]}, asked(**PODS), True),
    ({"verbs": ["delete"]}, asked(**PODS), False),
    ({"namespaces": ["shop"]}, asked(**PODS), True),
    ({"namespaces": ["bank"]}, asked(**PODS), False),
    ({"namespaces": [""]}, asked(resource="nodes"), True),
    ({"namespaces": ["shop"]}, asked("/version"), False),
    ({"nonResourceURLs": ["/version"]}, asked("/version"), True),
    ({"nonResourceURLs": ["/health*"]}, asked("/healthz/ping"), True),
    ({"nonResourceURLs": ["*"]}, asked("/metrics"), True),
    ({"nonResourceURLs": ["*"]}, asked(**PODS), False),
    ({"resources": [{"group": ""}]}, asked(**PODS), True),
    ({"resources": [{"group": "apps"}]}, asked(**PODS), False),
    ({"resources": [{"group": "", "resources": ["pods"]}]}, asked(**PODS), True),
    ({"resources": [{"group": "", "resources": ["pods"]}]}, asked(**PODS, subresource="log"), False),
    ({"resources": [{"group": "", "resources": ["pods/log"]}]}, asked(**PODS, subresource="log"), True),
    ({"resources": [{"group": "", "resources": ["pods/*"]}]}, asked(**PODS, subresource="log"), True),
    ({"resources": [{"group": "", "resources": ["*/log"]}]}, asked(**PODS, subresource="log"), True),
    ({"resources": [{"group": "", "resources": ["*"]}]}, asked(**PODS, subresource="log"), True),
    (
        {"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["a"]}]},
        asked(**PODS, name="a"),
        True,
    ),
    (
        {"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["a"]}]},
        asked(**PODS, name="b"),
        False,
    ),
]


@pytest.mark.parametrize(("rule", "question", "matches"), RULES)
def test_a_rule_matches_as_in_kubernetes(rule: dict[str, Any], question: Attributes, matches: bool) -> None:
    level = policy({"level": "Request", **rule}).verdict(question).level
    assert level is (Level.REQUEST if matches else Level.NONE)


def test_the_first_rule_that_matches_counts_and_stages_are_omitted_together() -> None:
    made = policy(
        {"level": "None", "users": ["bob"]},
        {"level": "Metadata", "omitStages": ["ResponseStarted"]},
        omitStages=["RequestReceived"],
    )
    assert made.verdict(asked(user=User("bob"), **PODS)).level is Level.NONE
    found = made.verdict(asked(**PODS))
    assert found.level is Level.METADATA
    assert found.omitted == {Stage.REQUEST_RECEIVED, Stage.RESPONSE_STARTED}


def test_bodies_of_secrets_are_kept_only_by_a_rule_that_names_them() -> None:
    secrets, token = asked(resource="secrets"), asked(resource="serviceaccounts", subresource="token")
    for rule in ({}, {"resources": [{"group": "", "resources": ["*"]}]}, {"resources": [{"group": ""}]}):
        made = policy({"level": "RequestResponse", **rule})
        assert {made.verdict(one).level for one in (secrets, token)} == {Level.METADATA}
        assert made.verdict(asked(resource="configmaps")).level is Level.REQUEST_RESPONSE
    named = policy({"level": "Request", "resources": [{"group": "", "resources": ["secrets"]}]})
    assert named.verdict(secrets).level is Level.REQUEST


WRONG = [
    ("[]", "must be a map"),
    ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]", "apiVersion: audit.k8s.io/v1"),
    ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "there must be one"),
    ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]", r"rules\[0\].level: 'All'"),
    ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, user: [a]}]", "unknown field 'user'"),
    (
        "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
        "rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]",
        "not for both",
    ),
    ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: [/a*b]}]", "may end"),
    ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, omitStages: [Now]}]", "'Now'"),
    ("a: [", ":1:|:2:"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_wrong_policy_says_where_and_what(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=told) as raised:
        read_policy(path)
    assert str(path) in str(raised.value)


# ---------------------------------------------------------------------- events


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.count: audit_log.Counts = lambda outcome, number: None

    def add(self, event: dict[str, object]) -> None:
        self.events.append(json.loads(json.dumps(event)))

    def of(self, stage: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["stage"] == stage]


class Served:
    """An API behind HTTP, whose users are named by a header."""

    def __init__(self, client: TestClient[web.Request, web.Application], kept: Kept) -> None:
        self.client = client
        self.kept = kept

    async def ask(self, method: str, path: str, user: str = "root", **options: Any) -> tuple[int, Any, str]:
        headers = {"X-Test-User": user, **options.pop("headers", {})}
        async with self.client.request(method, path, headers=headers, **options) as answer:
            return answer.status, await answer.text(), answer.headers["Audit-Id"]


USERS = {"root": ADMIN, "ada": ADA}
EVERYTHING = policy({"level": "RequestResponse"}, omitManagedFields=True)


@pytest.fixture(params=[EVERYTHING], ids=["everything"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    clock, kept = SystemClock(), Kept()
    api = Api(MemoryCluster("a").member("a"), clock=clock, rng=random.Random(1))
    running = asyncio.create_task(api.run())
    await asyncio.wait_for(api.wait_ready(), 30)
    app = create_app(
        api,
        FakeStreams(),
        clock=clock,
        authenticate=lambda one: USERS.get(one.headers.get("X-Test-User", "")),
        auditor=Auditor(request.param, kept, clock=clock),
    )
    async with TestClient(TestServer(app)) as client:
        yield Served(client, kept)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_event_says_who_did_what_as_whom_and_what_came_of_it(served: Served) -> None:
    config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {"a": "b"}}
    code, _, id = await served.ask(
        "POST",
        "/api/v1/namespaces/default/configmaps?fieldManager=me",
        json=config,
        headers={"Impersonate-User": "ada", "Impersonate-Group": MASTERS_GROUP, "User-Agent": "test/1"},
    )
    assert code == 201
    received, complete = served.kept.events
    assert [received["stage"], complete["stage"]] == ["RequestReceived", "ResponseComplete"]
    assert received["auditID"] == complete["auditID"] == id
    assert (complete["kind"], complete["apiVersion"], complete["level"]) == (
        "Event", "audit.k8s.io/v1", "RequestResponse",
    )  # fmt: skip
    assert complete["user"] == {"username": "root", "groups": [MASTERS_GROUP, "system:authenticated"]}
    assert complete["impersonatedUser"]["username"] == "ada"
    assert complete["verb"] == "create" and complete["userAgent"] == "test/1"
    assert complete["requestURI"] == "/api/v1/namespaces/default/configmaps?fieldManager=me"
    assert complete["sourceIPs"] == ["127.0.0.1"]
    assert complete["objectRef"] == {
        "resource": "configmaps", "namespace": "default", "apiVersion": "v1", "name": "c",
    }  # fmt: skip
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["requestObject"]["data"] == complete["responseObject"]["data"] == {"a": "b"}
    assert "managedFields" not in complete["responseObject"]["metadata"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert complete["requestReceivedTimestamp"] <= complete["stageTimestamp"]
    assert "annotations" not in received and "responseStatus" not in received


async def test_a_refusal_is_kept_with_its_reason_and_a_stranger_without_a_name(served: Served) -> None:
    code, _, _ = await served.ask("DELETE", "/api/v1/namespaces/default/pods/x", user="ada")
    assert code == 403
    event = served.kept.of("ResponseComplete")[-1]
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert event["responseStatus"]["reason"] == "Forbidden" and event["responseStatus"]["code"] == 403
    assert event["objectRef"]["name"] == "x" and event["verb"] == "delete"
    await served.ask("GET", "/api/v1/pods", user="nobody")
    assert served.kept.of("ResponseComplete")[-1]["user"]["username"] == "system:anonymous"


async def test_a_body_that_nobody_has_read_is_not_waited_for(served: Served) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"kind":'
        await asyncio.sleep(3600)

    asking = asyncio.create_task(served.ask("POST", "/api/v1/namespaces/default/pods", "ada", data=never()))
    await wait_until(lambda: served.kept.of("ResponseComplete"))
    [event] = served.kept.of("ResponseComplete")
    assert event["responseStatus"]["code"] == 403 and "requestObject" not in event
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_what_a_policy_notes_is_in_the_event(served: Served) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/"
    rules = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    spec = {
        "matchConstraints": {"resourceRules": [rules]},
        "validations": [{"expression": "object.data.size() > 1", "message": "too small"}],
        "auditAnnotations": [{"key": "size", "valueExpression": "string(object.data.size())"}],
    }
    policy = {"metadata": {"name": "p"}, "spec": spec}
    assert (await served.ask("POST", f"{path}validatingadmissionpolicies", json=policy))[0] == 201
    bound = {"policyName": "p", "validationActions": ["Audit"]}
    binding = {"metadata": {"name": "b"}, "spec": bound}
    assert (await served.ask("POST", f"{path}validatingadmissionpolicybindings", json=binding))[0] == 201
    thing = {"metadata": {"name": "noted"}, "data": {"a": "b"}}
    assert (await served.ask("POST", "/api/v1/namespaces/default/configmaps", json=thing))[0] == 201
    annotations = served.kept.of("ResponseComplete")[-1]["annotations"]
    assert annotations["p/size"] == "1"
    assert "too small" in annotations["validation.policy.admission.k8s.io/validation_failure"]


async def test_bodies_of_secrets_are_in_no_event_of_a_rule_for_everything(served: Served) -> None:
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "stringData": {"a": "canary7"}}
    assert (await served.ask("POST", "/api/v1/namespaces/default/secrets", json=secret))[0] == 201
    assert (await served.ask("GET", "/api/v1/secrets"))[0] == 200
    patch = {"stringData": {"a": "canary7"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    path = "/api/v1/namespaces/default/secrets/s"
    assert (await served.ask("PATCH", path, json=patch, headers=headers))[0] == 200
    text = json.dumps(served.kept.events)
    assert "canary7" not in text and "Y2FuYXJ5N" not in text and "secrets" in text


async def test_a_watch_has_a_beginning_and_an_end(served: Served) -> None:
    await served.ask("GET", "/api/v1/namespaces?watch=1&timeoutSeconds=1")
    stages = [one["stage"] for one in served.kept.events]
    assert stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert {one["verb"] for one in served.kept.events} == {"watch"}


async def test_a_client_may_name_its_request_and_nothing_else(served: Served) -> None:
    assert (await served.ask("GET", "/version", headers={"Audit-Id": "my-own.7"}))[2] == "my-own.7"
    assert (await served.ask("GET", "/version", headers={"Audit-Id": 'x" y'}))[2] != 'x" y'
    assert (await served.ask("GET", "/version", headers={"Audit-Id": "x" * 65}))[2] != "x" * 65


def test_without_a_policy_health_is_left_out_and_all_else_is_one_line() -> None:
    made = default_policy()
    assert made.verdict(asked("/healthz")).level is Level.NONE
    assert made.verdict(asked("/livez/ping")).level is Level.NONE
    found = made.verdict(asked(**PODS))
    assert found.level is Level.METADATA and Stage.REQUEST_RECEIVED in found.omitted


# ---------------------------------------------------------------------- the file


async def wait_until(is_true: Any, clock: FakeClock | None = None) -> None:
    async with asyncio.timeout(20):
        while not is_true():
            if clock is not None:
                await clock.advance(1.0)
            await asyncio.sleep(0.01)


def numbers(path: Path) -> list[int]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["n"] for line in lines if "n" in line]


async def test_lines_come_in_order_and_the_last_ones_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    written = AuditLog(path, clock=SystemClock())
    running = asyncio.create_task(written.run())
    for number in range(100):
        written.add({"n": number})
    await wait_until(lambda: len(numbers(path)) > 0)
    written.add({"n": 100})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert numbers(path) == list(range(101))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_large_file_is_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    clock = FakeClock()
    written = AuditLog(path, clock=clock, file_bytes=100, kept_files=2)
    running = asyncio.create_task(written.run())
    for number in range(30):
        written.add({"n": number, "text": "x" * 40})
        await wait_until(lambda number=number: number in numbers(path))
        await clock.advance(1.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    aside = sorted(tmp_path.glob("audit-*.log"))
    assert len(aside) == 2 and all(one.stat().st_size <= 100 for one in [*aside, path])
    kept = [number for one in [*aside, path] for number in numbers(one)]
    assert kept == list(range(kept[0], 30))


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    written = AuditLog(path, clock=SystemClock())
    running = asyncio.create_task(written.run())
    written.add({"n": 1})
    await wait_until(lambda: numbers(path) == [1])
    path.rename(tmp_path / "moved")
    written.add({"n": 2})
    await wait_until(lambda: numbers(path) == [2])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_full_disk_loses_nothing_that_fits_into_memory_and_says_what_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.log"
    clock = FakeClock()
    counted: dict[str, int] = {"written": 0, "dropped": 0}
    written = AuditLog(path, clock=clock)
    written.count = lambda outcome, number: counted.__setitem__(outcome, counted[outcome] + number)
    is_full = True
    real = audit_log.write_all

    def write(descriptor: int, data: bytes) -> None:
        if is_full:
            os.write(descriptor, data[:7])  # a part of a line, as a disk that becomes full takes it
            raise OSError(28, "No space left on device")
        real(descriptor, data)

    monkeypatch.setattr(audit_log, "write_all", write)
    monkeypatch.setattr(audit_log, "MAX_WAITING_BYTES", 1000)
    running = asyncio.create_task(written.run())
    for number in range(300):
        written.add({"n": number})  # returns at once, whatever the disk does
    await wait_until(lambda: "No space left" in capsys.readouterr().out)
    is_full = False
    await wait_until(lambda: numbers(path), clock)
    written.add({"n": 1000})
    await wait_until(lambda: 1000 in numbers(path), clock)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    kept = numbers(path)
    assert kept[:-1] == list(range(len(kept) - 1)) and len(kept) < 300
    gaps = [json.loads(line) for line in path.read_text().splitlines() if "lost-events" in line]
    assert [one["annotations"] for one in gaps] == [{"gitkube.dev/lost-events": str(counted["dropped"])}]
    assert counted["dropped"] == 301 - len(kept)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(AuditLogError, match="--audit-log"):
        AuditLog(tmp_path / "no" / "audit.log", clock=SystemClock()).open()
