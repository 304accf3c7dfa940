"""CertificateSigningRequests: approved by whoever may, signed as asked, else refused with the reason."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gitkube.api.authorization import User
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.clock import rfc3339
from gitkube.control.certificate_signer import (
    CLIENT_SIGNER,
    NODE_SIGNER,
    CertificateSigner,
    is_to_sign,
    useful_until_s,
)
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings, SigningError
from gitkube.objects.kinds import CERTIFICATE_SIGNING_REQUEST, CLUSTER_ROLE, CLUSTER_ROLE_BINDING
from gitkube.objects.types import Object
from gitkube.server.pki import Pki
from tests.support.fake_client import FakeClient
from tests.support.fake_clock import FakeClock
from tests.support.real_api import ADMIN, real_api

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(names: dict[x509.ObjectIdentifier, str], key: Key | None = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names.items()])
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


JANE = {NameOID.COMMON_NAME: "jane", NameOID.ORGANIZATION_NAME: "dev"}


def request(name: str = "jane", data: bytes | None = None, **spec: Any) -> Object:
    text = base64.b64encode(pem(JANE) if data is None else data).decode()
    whole = {"request": text, "signerName": CLIENT_SIGNER, "usages": ["client auth"], **spec}
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": whole,
    }


def condition(type: str, at: float = 0.0) -> dict[str, str]:
    return {
        "type": type, "status": "True", "reason": "Test", "message": "", "lastUpdateTime": rfc3339(at),
    }  # fmt: skip


class World:
    """The signer over an API in memory, on a clock of the test."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(self.clock)
        self.pki = Pki.open(directory, clock=self.clock)
        settings = ControlSettings(sign=self.pki.sign)
        manager = Manager(
            self.client, clock=self.clock, rng=random.Random(1), settings=settings,
            controllers=[CertificateSigner],
        )  # fmt: skip
        self.task = asyncio.create_task(manager.run())

    async def made(self, obj: Object, *types: str) -> Object:
        """What became of a request with these conditions."""
        name = obj["metadata"]["name"]
        created = await self.client.create(CERTIFICATE_SIGNING_REQUEST, obj)
        changed = {**created, "status": {"conditions": [condition(one, self.clock.now()) for one in types]}}
        await self.client.update(CERTIFICATE_SIGNING_REQUEST, changed, subresource="status")
        async with asyncio.timeout(20):
            while True:
                await self.clock.advance(0.2)
                await asyncio.sleep(0.01)  # signing is done in a thread
                found = await self.client.get(CERTIFICATE_SIGNING_REQUEST, name)
                status = found["status"]
                failed = any(one["type"] == "Failed" for one in status.get("conditions") or ())
                if status.get("certificate") or failed or "Approved" not in types or "Denied" in types:
                    return found


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


def certificate_of(found: Object) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"]))


async def test_an_approved_request_becomes_a_certificate_of_its_subject_for_as_long_as_it_asks(
    world: World,
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    found = await world.made(request(data=pem(JANE, key), expirationSeconds=3600), "Approved")
    certificate = certificate_of(found)
    assert certificate.subject.rfc4514_string() == "O=dev,CN=jane"
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(world.pki.ca_pem))
    assert certificate.not_valid_after_utc.timestamp() - world.clock.now() == pytest.approx(3600, abs=5)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in usages] == ["1.3.6.1.5.5.7.3.2"]


async def test_without_an_approval_or_against_a_denial_nothing_is_signed(world: World) -> None:
    for types in ((), ("Denied",), ("Approved", "Denied")):
        found = await world.made(request("-".join(["r", *types]).lower()), *types)
        assert "certificate" not in found["status"]
    others = {**request("other"), "spec": {**request()["spec"], "signerName": "example.com/mine"}}
    assert not is_to_sign({**others, "status": {"conditions": [condition("Approved")]}})


NODE = {NameOID.COMMON_NAME: "system:node:ant", NameOID.ORGANIZATION_NAME: "system:nodes"}
EMPTY = b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
REFUSED = [
    (request(usages=["server auth"]), "usages must have client auth"),
    (request(usages=["client auth", "server auth"]), "nothing but"),
    (request(data=EMPTY), "no certificate request"),
    (request(data=pem({NameOID.ORGANIZATION_NAME: "dev"})), "no common name"),
    (request(data=pem({**JANE, NameOID.ORGANIZATION_NAME: "system:masters"})), "system:masters"),
    (request(signerName=NODE_SIGNER), "system:node:NAME in system:nodes"),
    (request(data=pem(JANE, rsa.generate_private_key(65537, 1024))), "2048 bits"),
]


@pytest.mark.parametrize(("obj", "told"), REFUSED, ids=[told for _, told in REFUSED])
async def test_what_cannot_be_signed_is_failed_with_the_reason(world: World, obj: Object, told: str) -> None:
    found = await world.made(obj, "Approved")
    [failed] = [one for one in found["status"]["conditions"] if one["type"] == "Failed"]
    assert told in failed["message"] and failed["reason"] == "SignerValidationFailure"
    assert "certificate" not in found["status"]


async def test_a_node_gets_a_certificate_of_its_own_signer(world: World) -> None:
    found = await world.made(request(data=pem(NODE), signerName=NODE_SIGNER), "Approved")
    assert certificate_of(found).subject.rfc4514_string() == "O=system:nodes,CN=system:node:ant"


async def test_a_request_signed_by_another_key_is_refused(world: World) -> None:
    """Whoever sees a request could else ask for a certificate of its key."""
    good = x509.load_pem_x509_csr(pem(JANE)).public_bytes(serialization.Encoding.DER)
    spoiled = good[:-4] + bytes([good[-4] ^ 1]) + good[-3:]
    text = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(spoiled)
    with pytest.raises(SigningError, match=r"not signed with the key|no certificate request"):
        await world.pki.sign(text + b"-----END CERTIFICATE REQUEST-----\n", False, 600)


def test_requests_go_an_hour_after_their_end_and_a_day_after_nobody_cared() -> None:
    def until(status: dict[str, Any]) -> float:
        return useful_until_s({"metadata": {"creationTimestamp": rfc3339(1000)}, "status": status})

    assert until({}) == until({"conditions": [condition("Approved", 2000)]}) == 1000 + 24 * 3600
    assert until({"conditions": [condition("Denied", 2000)]}) == 2000 + 3600
    assert until({"conditions": [condition("Failed", 2000)]}) == 2000 + 3600
    assert until({"conditions": [condition("Approved", 2000)], "certificate": "x"}) == 2000 + 3600


async def test_an_old_request_is_deleted(world: World) -> None:
    await world.made(request(), "Denied")
    await world.clock.advance(2 * 3600)
    with pytest.raises(StatusError, match="not found"):
        await world.client.get(CERTIFICATE_SIGNING_REQUEST, "jane")


# ---------------------------------------------------------------------- who may approve


async def allow(api: Api, name: str, *rules: dict[str, list[str]]) -> User:
    client = api.client(ADMIN)
    role: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": list(rules),
    }
    await client.create(CLUSTER_ROLE, role)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await client.create(CLUSTER_ROLE_BINDING, binding)
    return User(name, ("system:authenticated",))


async def test_approving_and_signing_are_rights_of_their_own_for_each_signer(tmp_path: Path) -> None:
    group = ["certificates.k8s.io"]
    parts = [f"certificatesigningrequests{part}" for part in ("", "/approval", "/status")]
    writes = {"apiGroups": group, "resources": parts, "verbs": ["get", "update"]}

    def signer(verb: str, name: str) -> dict[str, list[str]]:
        return {"apiGroups": group, "resources": ["signers"], "resourceNames": [name], "verbs": [verb]}

    async with real_api(tmp_path) as api:
        writer = await allow(api, "writer", writes, signer("approve", "example.com/*"))
        approver = await allow(api, "approver", writes, signer("approve", CLIENT_SIGNER))
        signing = await allow(api, "signing", writes, signer("sign", "kubernetes.io/*"))
        created = await api.client(ADMIN).create(CERTIFICATE_SIGNING_REQUEST, request())

        def approved() -> Object:
            return {**created, "status": {"conditions": [condition("Approved")]}}

        for user in (writer, signing):
            with pytest.raises(StatusError) as refused:
                await api.client(user).update(CERTIFICATE_SIGNING_REQUEST, approved(), subresource="approval")
            assert refused.value.code == 403
            assert f'not permitted to approve requests with signerName "{CLIENT_SIGNER}"' in str(
                refused.value
            )
        changed = await api.client(approver).update(
            CERTIFICATE_SIGNING_REQUEST, approved(), subresource="approval"
        )
        assert changed["status"]["conditions"][0]["type"] == "Approved"
        certificate = base64.b64encode(Pki.open(tmp_path / "pki", clock=FakeClock()).ca_pem).decode()
        signed = {**changed, "status": {**changed["status"], "certificate": certificate}}
        with pytest.raises(StatusError, match="not permitted to sign"):
            await api.client(approver).update(CERTIFICATE_SIGNING_REQUEST, signed, subresource="status")
        done = await api.client(signing).update(CERTIFICATE_SIGNING_REQUEST, signed, subresource="status")
        assert done["status"]["certificate"] == certificate
