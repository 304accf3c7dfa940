"""Tokens of ServiceAccounts: who they make of their bearer, and all the ways in which they cease to hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.api.jwt import SigningKey, decode_part, encode_part
from gitkube.api.machinery import Api
from gitkube.api.tokens import API_AUDIENCES, BOUND_GRACE_S, CLOCK_SKEW_S, TokenError
from gitkube.clock import SystemClock
from gitkube.objects.kinds import POD, SECRET, SERVICE_ACCOUNT, Kind
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

KEY = SigningKey.derived_from(b"a secret of all controllers")


class ShiftedClock(SystemClock):
    """The machine's, with a wall clock that a test can move."""

    shift_s = 0.0

    def now(self) -> float:
        return super().now() + self.shift_s


@pytest.fixture
def shifted() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def api(tmp_path: Path, shifted: ShiftedClock) -> AsyncIterator[Api]:
    fixed = {"fixed-token": User("fred", ("team",))}
    async with real_api(tmp_path, clock=shifted, fixed_tokens=fixed) as api:
        await create(api, SERVICE_ACCOUNT, "bot")
        yield api


async def create(api: Api, kind: Kind, name: str, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "default"}
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **more}
    return await api.client(ADMIN).create(kind, obj)


async def token(api: Api, **spec: Any) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await api.client(ADMIN).create_subresource(SERVICE_ACCOUNT, "bot", "default", "token", body)
    return str(answer["status"]["token"])


def why_not(api: Api, text: str, *audiences: str) -> str:
    with pytest.raises(TokenError) as refused:
        api.tokens.authenticate(text, audiences)
    return str(refused.value)


# ------------------------------------------------------------------ what a token is


async def test_a_token_makes_its_bearer_the_account_in_its_groups(api: Api) -> None:
    user = api.tokens.user(await token(api))
    assert user is not None and user.name == "system:serviceaccount:default:bot"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")
    account = await api.client(ADMIN).get(SERVICE_ACCOUNT, "bot", "default")
    assert user.uid == account["metadata"]["uid"]


async def test_a_token_holds_for_its_audiences_only(api: Api) -> None:
    for_vault = await token(api, audiences=["vault", "other"])
    assert api.tokens.user(for_vault) is None
    assert api.tokens.authenticate(for_vault, ["vault", "x"]).audiences == ("vault",)
    for wrong in ("vaul", "vault2", "", "*"):
        assert "is invalid for the target audiences" in why_not(api, for_vault, wrong)
    assert api.tokens.authenticate(await token(api)).audiences == API_AUDIENCES


async def test_a_token_ends_and_does_not_begin_much_too_early(api: Api, shifted: ShiftedClock) -> None:
    text = await token(api, expirationSeconds=600)
    for shift_s, holds in (
        (590, True),
        (601, False),
        (-CLOCK_SKEW_S + 10, True),
        (-CLOCK_SKEW_S - 10, False),
    ):
        shifted.shift_s = shift_s
        assert (api.tokens.user(text) is not None) is holds, shift_s


async def test_a_token_ends_with_its_account_and_one_of_the_same_name_is_another(api: Api) -> None:
    text = await token(api)
    await api.client(ADMIN).delete(SERVICE_ACCOUNT, "bot", "default")
    assert 'serviceaccounts "bot" not found' in why_not(api, text)
    await create(api, SERVICE_ACCOUNT, "bot")
    assert "does not match claim" in why_not(api, text)


@pytest.mark.parametrize("kind", [POD, SECRET], ids=str)
async def test_a_bound_token_ends_with_what_it_is_bound_to(api: Api, kind: Kind) -> None:
    spec = {"spec": {"serviceAccountName": "bot", "containers": [{"name": "c", "image": "i"}]}}
    more = spec if kind is POD else {}
    obj = await create(api, kind, "x", **more)
    bound = await token(api, boundObjectRef={"kind": kind.kind, "apiVersion": "v1", "name": "x"})
    user = api.tokens.user(bound)
    assert user is not None
    names = dict(user.extra).get("authentication.kubernetes.io/pod-name")
    assert names == (("x",) if kind is POD else None)
    await api.client(ADMIN).delete(kind, "x", "default", grace_period_s=0)
    assert "Token has been invalidated" in why_not(api, bound)
    again = await create(api, kind, "x", **more)
    assert again["metadata"]["uid"] != obj["metadata"]["uid"]
    assert api.tokens.user(bound) is None


async def test_a_pod_that_is_ending_may_still_say_so(api: Api, shifted: ShiftedClock) -> None:
    spec = {"serviceAccountName": "bot", "nodeName": "ant", "containers": [{"name": "c", "image": "i"}]}
    await create(api, POD, "x", spec=spec)
    bound = await token(api, boundObjectRef={"kind": "Pod", "name": "x"})
    await api.client(ADMIN).delete(POD, "x", "default", grace_period_s=30)
    assert api.tokens.user(bound) is not None
    shifted.shift_s = 30 + BOUND_GRACE_S + 5
    assert api.tokens.user(bound) is None


WRONG_REQUESTS: list[tuple[dict[str, Any], int]] = [
    ({"expirationSeconds": 599}, 422), ({"expirationSeconds": -1}, 422),
    ({"expirationSeconds": 2**32 + 1}, 422), ({"boundObjectRef": {"kind": "Pod"}}, 400),
    ({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}}, 400),
    ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}, 404),
    ({"boundObjectRef": {"kind": "Pod", "apiVersion": "apps/v1", "name": "p"}}, 400),
    ({"boundObjectRef": {"kind": "Pod", "name": "p"}}, 400),
    ({"boundObjectRef": {"kind": "Secret", "name": "s", "uid": "another"}}, 409),
    ({"expirationSeconds": "long"}, 400), ({"audiences": "x"}, 400),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code"), WRONG_REQUESTS, ids=str)
async def test_a_wrong_request_gets_no_token(api: Api, spec: dict[str, Any], code: int) -> None:
    await create(api, POD, "p", spec={"containers": [{"name": "c", "image": "i"}]})  # of another account
    await create(api, SECRET, "s")
    with pytest.raises(StatusError) as refused:
        await token(api, **spec)
    assert refused.value.code == code


async def test_only_who_may_create_tokens_gets_one(api: Api) -> None:
    eve = api.client(User("eve", ("system:authenticated",)))
    with pytest.raises(StatusError) as refused:
        await eve.create_subresource(SERVICE_ACCOUNT, "bot", "default", "token", {})
    assert refused.value.code == 403
    with pytest.raises(StatusError) as refused:
        await api.client(ADMIN).create_subresource(SERVICE_ACCOUNT, "none", "default", "token", {})
    assert refused.value.code == 404


async def test_a_fixed_token_is_known_whole_and_for_the_api_only(api: Api) -> None:
    assert api.tokens.user("fixed-token") == User("fred", ("team",))
    for wrong in ("fixed-toke", "fixed-token ", "FIXED-TOKEN", "", "fixed-token\udcff"):
        assert api.tokens.user(wrong) is None
    assert why_not(api, "fixed-token", "vault") == "invalid bearer token"


# ------------------------------------------------------------------ forgery


def parts(text: str) -> list[Any]:
    return [json.loads(decode_part(part)) for part in text.split(".")[:2]]


def unsigned(header: Any, claims: Any, signature: str) -> str:
    return ".".join([*(encode_part(json.dumps(part).encode()) for part in (header, claims)), signature])


async def test_no_token_that_was_changed_or_signed_by_another_holds(api: Api) -> None:
    text = await token(api)
    header, claims = parts(text)
    signature = text.rpartition(".")[2]
    for algorithm in ("none", "None", "HS256", "RS256", "ES384", ""):
        forged = {**header, "alg": algorithm}
        for end in (signature, "", encode_part(b"\0" * 64)):
            assert api.tokens.user(unsigned(forged, claims, end)) is None
    for change in (
        {"sub": "system:serviceaccount:kube-system:admin"}, {"exp": claims["exp"] + 1}, {"aud": ["x"]},
        {"kubernetes.io": {}}, {"iss": "https://evil"},
    ):  # fmt: skip
        assert api.tokens.user(unsigned(header, {**claims, **change}, signature)) is None
    assert api.tokens.user(SigningKey.derived_from(b"another secret").sign(claims)) is None
    assert api.tokens.user(text) is not None


async def test_what_we_sign_for_something_else_is_no_token_of_an_account(api: Api) -> None:
    _, claims = parts(await token(api))
    for change in (
        {"iss": "https://other"}, {"sub": "system:serviceaccount:default:other"}, {"sub": "admin"},
        {"kubernetes.io": None}, {"kubernetes.io": {"namespace": "default"}}, {"exp": "never"}, {"aud": "x"},
        {"nbf": None},
    ):  # fmt: skip
        assert api.tokens.user(api.tokens.key.sign({**claims, **change})) is None, change


SIGNED = KEY.sign({"sub": "x", "n": 1})


@given(st.integers(0, len(SIGNED) - 1), st.characters(min_codepoint=0, max_codepoint=255))
def test_one_changed_character_breaks_a_token(at: int, character: str) -> None:
    changed = SIGNED[:at] + character + SIGNED[at + 1 :]
    assert changed == SIGNED or KEY.verified(changed) is None


@given(st.text(max_size=200))
def test_any_text_is_no_token(text: str) -> None:
    for candidate in (text, f"{text}.{text}.{text}", SIGNED + text if text else "", f"{SIGNED}.{text}"):
        assert KEY.verified(candidate) is None


def test_the_same_secret_gives_the_same_key_and_others_another() -> None:
    assert KEY.verified(SIGNED) == {"sub": "x", "n": 1}
    assert SigningKey.derived_from(b"a secret of all controllers").verified(SIGNED) == {"sub": "x", "n": 1}
    assert SigningKey.derived_from(b"a secret of all controller").verified(SIGNED) is None
    assert KEY.to_jwk()["kid"] == parts(SIGNED)[0]["kid"] and "d" not in KEY.to_jwk()
