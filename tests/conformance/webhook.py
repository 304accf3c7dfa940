"""A webhook of ours that the server calls: HTTPS on loopback, its own certificate, answers by function.

Kubernetes' suite runs its webhook in a pod; here it is in the process of the checks, so the API server must
be on the same machine. What a review is answered with is a plain function from the review's request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Reply = Callable[[dict[str, Any]], dict[str, Any]]
_HOST = "127.0.0.1"


class Webhook:
    """Where it is, for a `clientConfig`, and what it was asked."""

    def __init__(self, port: int, bundle: str) -> None:
        self.port = port
        self.bundle = bundle
        self.requests: list[dict[str, Any]] = []

    def client_config(self, path: str) -> dict[str, str]:
        return {"url": f"https://{_HOST}:{self.port}{path}", "caBundle": self.bundle}


def denies(message: str, holds: Callable[[dict[str, Any]], bool] = lambda request: True) -> Reply:
    """An answer that refuses what the function holds for."""

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        if not holds(request):
            return {"allowed": True}
        return {"allowed": False, "status": {"message": message}}

    return reply


def patches(
    operations: list[dict[str, Any]], holds: Callable[[dict[str, Any]], bool] = lambda request: True
) -> Reply:
    """An answer that changes what the function holds for, by JSON patch."""

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        if not holds(request):
            return {"allowed": True}
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": patch}

    return reply


@contextlib.asynccontextmanager
async def webhook(
    replies: dict[str, Reply], *, conversions: dict[str, Reply] | None = None, delay_s: float = 0
) -> AsyncIterator[Webhook]:
    """A webhook that answers on these paths.

    Args:
        replies: path to what an AdmissionReview's request is answered with.
        conversions: path to what a ConversionReview's request is answered with.
        delay_s: before each answer.
    """
    app = web.Application()
    for kind, functions in (("AdmissionReview", replies), ("ConversionReview", conversions or {})):
        for path, reply in functions.items():
            app.router.add_post(path, _handler(kind, reply, delay_s))
    with tempfile.TemporaryDirectory() as directory:
        bundle, context = _certificate(Path(directory))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, _HOST, 0, ssl_context=context, shutdown_timeout=1)
        await site.start()
        try:
            port = runner.addresses[0][1]
            hook = Webhook(port, bundle)
            app["hook"] = hook
            yield hook
        finally:
            await runner.cleanup()


def _handler(kind: str, reply: Reply, delay_s: float) -> Any:
    async def handle(request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        request.app["hook"].requests.append(asked)
        await asyncio.sleep(delay_s)
        answer = {"uid": asked["uid"], **reply(asked)}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": kind, "response": answer})

    return handle


def _certificate(directory: Path) -> tuple[str, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "conformance webhook")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "tls.pem").write_bytes(certificate + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.pem")
    return base64.b64encode(certificate).decode(), context
