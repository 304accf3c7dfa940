"""A webhook server over HTTPS with an authority of its own: each path does what a test tells it to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


class WebhookServer:
    """`answers` says what a path does with the review it gets; other paths are not found."""

    def __init__(self, certificate: bytes) -> None:
        self.port = 0
        self.ca_bundle = base64.b64encode(certificate).decode()
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        """Path, query and document of each request."""
        self.connections: set[Any] = set()
        """Their peers' addresses."""

    def url(self, path: str = "/") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def client_config(self, path: str = "/") -> dict[str, Any]:
        return {"url": self.url(path), "caBundle": self.ca_bundle}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        review = json.loads(text)
        self.asked.append((request.path, request.query_string, review))
        self.connections.add(request.transport.get_extra_info("peername") if request.transport else None)
        answer = self.answers.get(request.path)
        if answer is None:
            return web.Response(status=404, text="nothing here")
        return await answer(review)


def responding(response: dict[str, Any], **more: Any) -> Answer:
    """Answer a review with this response; the uid is echoed unless it is given."""

    async def answer(review: dict[str, Any]) -> web.StreamResponse:
        filled = {"uid": review["request"]["uid"], **response}
        if isinstance(filled.get("patch"), list):
            filled["patch"] = base64.b64encode(json.dumps(filled["patch"]).encode()).decode()
            filled.setdefault("patchType", "JSONPatch")
        document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": filled}
        return web.json_response({**document, **more})

    return answer


def saying(text: str, status: int = 200, content_type: str = "application/json") -> Answer:
    async def answer(review: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type=content_type)

    return answer


def after(delay_s: float, answer: Answer) -> Answer:
    async def later(review: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return await answer(review)

    return later


@contextlib.asynccontextmanager
async def webhook_server(directory: Path, *names: str) -> AsyncIterator[WebhookServer]:
    """A server on loopback.

    Args:
        names: of the certificate, besides 127.0.0.1.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(key, names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    directory.mkdir(parents=True, exist_ok=True)
    pem = directory / "webhook.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate
    )
    context.load_cert_chain(pem)
    server = WebhookServer(certificate)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


def self_signed(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...] = ()) -> bytes:
    """The PEM of a certificate that is its own authority."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook of a test")])
    now = datetime.datetime.now(datetime.UTC)
    others = [x509.DNSName(each) for each in names]
    alternatives = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"), *others]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
