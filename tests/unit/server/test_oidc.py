"""Logins by an identity provider: a real one on loopback, its keys, and every token that must not log in."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gitkube.api.authorization import User
from gitkube.api.jwt import encode_part
from gitkube.api.tokens import TokenError
from gitkube.clock import SystemClock
from gitkube.server.oidc.provider import RETRY_S, OidcError, Provider
from gitkube.server.oidc.tokens import OidcSettings, keys_of, user_of, verified
from gitkube.server.pki import Pki
from tests.support.fake_clock import FakeClock
from tests.support.real_api import real_api

NOW_S = 1_700_000_000
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://login.example.com/realm"
SETTINGS = OidcSettings(ISSUER, "gitkube", groups_claim="groups")


def number(value: int) -> str:
    return encode_part(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, id: str) -> dict[str, str]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "kid": id,
            "use": "sig",
            "alg": "RS256",
            "n": number(public.n),
            "e": number(public.e),
        }
    point = key.public_key().public_numbers()
    x, y = (encode_part(each.to_bytes(32, "big")) for each in (point.x, point.y))
    return {"kty": "EC", "kid": id, "use": "sig", "alg": "ES256", "crv": "P-256", "x": x, "y": y}


def token(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = RSA,
    id: str = "one",
    header: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    head = {"alg": algorithm, "kid": id, **(header or {})}
    body = {"iss": ISSUER, "aud": "gitkube", "sub": "ada", "exp": NOW_S + 600, **claims}
    signed = f"{encode_part(orjson.dumps(head))}.{encode_part(orjson.dumps(body))}"
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{signed}.{encode_part(signature)}"


KEYS = keys_of({"keys": [jwk(RSA, "one"), jwk(CURVE, "two")]})


@pytest.mark.parametrize(("key", "id"), [(RSA, "one"), (CURVE, "two"), (RSA, "")])
def test_what_a_published_key_has_signed_is_known(key: Any, id: str) -> None:
    claims = verified(token(key, id), KEYS)
    assert claims is not None and claims["sub"] == "ada"


def spoiled(text: str, part: int) -> str:
    parts = text.split(".")
    parts[part] = ("A" if parts[part][0] != "A" else "B") + parts[part][1:]
    return ".".join(parts)


GOOD = token()
FORGED = [
    spoiled(GOOD, 0), spoiled(GOOD, 1), spoiled(GOOD, 2), GOOD + ".x", "", "a.b.c",
    GOOD.rpartition(".")[0] + ".",
    token(rsa.generate_private_key(65537, 2048)), token(RSA, "two"), token(RSA, "three"),
    token(header={"alg": "none"}), token(header={"alg": "HS256"}), token(header={"alg": "ES256"}),
    token(header={"crit": ["b64"]}), token(CURVE, "one"), "é" + GOOD, GOOD + "x" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("text", FORGED)
def test_what_they_have_not_signed_so_is_nobodys(text: str) -> None:
    assert verified(text, KEYS) is None


def test_keys_of_no_use_are_left_out_and_a_set_that_is_none_is_said() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    useless = [
        jwk(weak, "w"),
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA"},
        {**jwk(RSA, "e"), "use": "enc"},
        "x",
    ]
    assert [key.id for key in keys_of({"keys": [*useless, jwk(CURVE, "two")]})] == ["two"]
    for wrong in ([], {}, {"keys": {}}):
        with pytest.raises(ValueError, match="no JSON Web Key Set"):
            keys_of(wrong)


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": "gitkube", "sub": "ada", "exp": NOW_S + 600, **more}


def settings(**more: str) -> OidcSettings:
    return OidcSettings(ISSUER, "gitkube", **more)


AS = [
    (settings(), {}, f"{ISSUER}#ada", ()),
    (settings(username_prefix="-"), {}, "ada", ()),
    (settings(username_prefix="corp:"), {}, "corp:ada", ()),
    (settings(username_claim="email"), {"email": "a@b.c"}, "a@b.c", ()),
    (settings(username_claim="email"), {"email": "a@b.c", "email_verified": True}, "a@b.c", ()),
    (settings(username_prefix="-"), {"groups": ["dev"]}, "ada", ()),
    (settings(username_prefix="-", groups_claim="groups"), {"groups": ["dev", "dev", 7]}, "ada", ("dev",)),
    (settings(username_prefix="-", groups_claim="groups"), {"groups": "dev"}, "ada", ("dev",)),
    (settings(username_prefix="-", groups_claim="g", groups_prefix="p:"), {"g": ["x"]}, "ada", ("p:x",)),
    (settings(username_prefix="-", groups_claim="groups"), {"groups": ["system:masters"]}, "ada", ()),
    (settings(username_prefix="-"), {"aud": ["other", "gitkube"]}, "ada", ()),
]


@pytest.mark.parametrize(("how", "more", "name", "groups"), AS)
def test_claims_become_a_user_as_the_settings_say(
    how: OidcSettings, more: dict[str, Any], name: str, groups: tuple[str, ...]
) -> None:
    assert user_of(claims(**more), how, NOW_S) == User(name, (*groups, "system:authenticated"))


NOBODY: list[tuple[OidcSettings, dict[str, Any]]] = [
    (settings(), {"iss": ISSUER + "/"}), (settings(), {"aud": "other"}), (settings(), {"aud": None}),
    (settings(), {"exp": NOW_S}), (settings(), {"exp": None}), (settings(), {"exp": True}),
    (settings(), {"exp": "soon"}), (settings(), {"nbf": NOW_S + 3600}), (settings(), {"sub": ""}),
    (settings(), {"sub": None}), (settings(), {"sub": ["ada"]}), (settings(username_claim="name"), {}),
    (settings(username_claim="email"), {"email": "a@b.c", "email_verified": False}),
    (settings(username_claim="email"), {"email": "a@b.c", "email_verified": "true"}),
    (settings(username_prefix="-"), {"sub": "system:admin"}),
    (settings(username_prefix="system:"), {"sub": "node:ant"}),
]  # fmt: skip


@pytest.mark.parametrize(("how", "more"), NOBODY)
def test_and_everything_else_is_nobody(how: OidcSettings, more: dict[str, Any]) -> None:
    assert user_of(claims(**more), how, NOW_S) is None


# ---------------------------------------------------------------------- a provider


class Issuer:
    """A provider over TLS, with an authority of its own."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki.open(directory / "issuer", clock=SystemClock())
        self.ca_file = directory / "issuer" / "ca.crt"
        self.url = ""
        self.says = ""
        """What it calls itself, when that is not its URL."""
        self.keys: list[dict[str, str]] = [jwk(RSA, "one")]
        self.asked = 0

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Issuer]:
        app = web.Application()
        app.router.add_get("/realm/.well-known/openid-configuration", self._configuration)
        app.router.add_get("/keys", self._keys)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.pki.server_context())
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}/realm"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _configuration(self, request: web.Request) -> web.Response:
        self.asked += 1
        where = f"{self.url.removesuffix('/realm')}/keys"
        return web.json_response({"issuer": self.says or self.url, "jwks_uri": where})

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": self.keys})

    def token(self, id: str = "one", key: Any = RSA, **more: Any) -> str:
        return token(key, id, iss=self.url, exp=NOW_S + 86400, **more)


@contextlib.asynccontextmanager
async def running(issuer: Issuer, clock: FakeClock, ca_file: Path | None = None) -> AsyncIterator[Provider]:
    how = OidcSettings(issuer.url, "gitkube", username_prefix="-")
    provider = Provider(how, clock=clock, ca_file=ca_file or issuer.ca_file)
    task = asyncio.create_task(provider.run())
    try:
        yield provider
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_true: Callable[[], Any], clock: FakeClock | None = None) -> None:
    async with asyncio.timeout(30):
        while not is_true():
            if clock is not None:
                await clock.advance(1.0)
            await asyncio.sleep(0.01)


async def test_a_person_logs_in_and_goes_on_when_the_provider_changes_keys_or_is_away(tmp_path: Path) -> None:
    issuer, clock = Issuer(tmp_path), FakeClock(NOW_S)
    async with issuer.served(), running(issuer, clock) as provider:
        await until(lambda: provider.user(issuer.token()) is not None)
        assert provider.user(issuer.token()) == User("ada", ("system:authenticated",))
        issuer.keys = [jwk(CURVE, "two")]
        new = issuer.token("two", CURVE)
        assert provider.user(new) is None  # its key is not known yet, and is fetched because of this
        await until(lambda: provider.user(new) is not None, clock)
        assert provider.user(issuer.token()) is None
        asked = issuer.asked
        for _ in range(5):
            provider.user(issuer.token("unknown"))
        await clock.advance(RETRY_S / 2)
        assert issuer.asked <= asked + 1  # a flood of unknown keys is no flood of questions
    await clock.advance(3600)
    assert provider.user(new) is not None  # the provider is away


@pytest.mark.parametrize("wrong", ["another name", "another authority"])
async def test_a_provider_that_is_not_itself_is_not_believed(
    tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer, clock = Issuer(tmp_path), FakeClock(NOW_S)
    other = Pki.open(tmp_path / "other", clock=SystemClock())
    assert other.ca_pem
    async with issuer.served():
        if wrong == "another name":
            issuer.says = issuer.url + "/"
        ca_file = tmp_path / "other" / "ca.crt" if wrong == "another authority" else None
        async with running(issuer, clock, ca_file) as provider:
            said = ""

            def is_said() -> bool:
                nonlocal said
                said += capsys.readouterr().out
                return "oidc_keys_not_fetched" in said

            await until(is_said)
            assert provider.user(issuer.token()) is None


async def test_an_api_knows_the_bearer_and_a_review_of_the_token_too(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        api.tokens.foreign.append(lambda text: User("ada", ("dev",)) if text == "of the provider" else None)
        assert api.tokens.user("of the provider") == User("ada", ("dev",))
        assert (
            api.tokens.authenticate("of the provider", ["https://kubernetes.default.svc"]).user.name == "ada"
        )
        with pytest.raises(TokenError):
            api.tokens.authenticate("of the provider", ["vault"])
        assert api.tokens.user("of nobody") is None


@pytest.mark.parametrize(
    "url", ["http://a.b", "a.b", "https://", "https://a.b?x=1", "https://u@a.b", "https://a.b#c"]
)
def test_an_issuer_is_named_by_an_https_url(url: str) -> None:
    with pytest.raises(OidcError, match="--oidc-issuer-url"):
        Provider(OidcSettings(url, "gitkube"), clock=FakeClock())


def test_a_file_that_holds_no_authority_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(str(random.Random(1).random()))
    with pytest.raises(OidcError, match="--oidc-ca-file"):
        Provider(OidcSettings(ISSUER, "gitkube"), clock=FakeClock(), ca_file=tmp_path / "ca")
