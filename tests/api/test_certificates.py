"""A certificate for somebody, the way that people know: a request, the real kubectl approves, a login."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gitkube.clock import SystemClock
from gitkube.control.certificate_signer import CertificateSigner
from gitkube.control.manager import Manager
from gitkube.control.settings import ControlSettings
from tests.support.live_cluster import LiveCluster

REQUEST = """\
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec:
  request: {request}
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: 86400
  usages: [client auth]
"""


@pytest.fixture(scope="module")
def signing(cluster: LiveCluster) -> Iterator[LiveCluster]:
    """The cluster, with the controller that signs."""
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        manager = Manager(
            cluster.client, clock=SystemClock(), rng=random.Random(1),
            settings=ControlSettings(sign=cluster.pki.sign), controllers=[CertificateSigner],
        )  # fmt: skip
        tasks.append(asyncio.create_task(manager.run()))

    async def stop() -> None:
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    cluster.run(start())
    yield cluster
    cluster.run(stop())


def new_request(key: rsa.RSAPrivateKey, name: str, group: str) -> str:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def test_an_approved_request_becomes_a_kubeconfig_that_logs_in(signing: LiveCluster, tmp_path: Path) -> None:
    kubectl = signing.kubectl
    key = rsa.generate_private_key(65537, 2048)
    kubectl("apply", "-f", "-", input=REQUEST.format(name="jane", request=new_request(key, "jane", "dev")))
    assert "Pending" in kubectl("get", "csr", "jane").stdout
    kubectl("certificate", "approve", "jane")
    kubectl("wait", "csr/jane", "--for=jsonpath={.status.certificate}", "--timeout=30s")
    assert "Approved,Issued" in kubectl("get", "csr", "jane").stdout
    text = kubectl("get", "csr", "jane", "-o", "jsonpath={.status.certificate}").stdout
    (tmp_path / "jane.crt").write_bytes(base64.b64decode(text))
    (tmp_path / "jane.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (tmp_path / "ca.crt").write_bytes(signing.pki.ca_pem)
    own = f"--kubeconfig={tmp_path / 'config'}"
    authority = f"--certificate-authority={tmp_path / 'ca.crt'}"
    kubectl("config", own, "set-cluster", "c", f"--server={signing.url}", authority)
    kubectl(
        "config", own, "set-credentials", "jane",
        f"--client-certificate={tmp_path / 'jane.crt'}", f"--client-key={tmp_path / 'jane.key'}",
    )  # fmt: skip
    kubectl("config", own, "set-context", "c", "--cluster=c", "--user=jane")
    who = kubectl(own, "--context=c", "auth", "whoami", "-o", "yaml").stdout
    assert "username: jane" in who and "- dev" in who


def test_a_denied_request_is_never_signed(signing: LiveCluster) -> None:
    kubectl = signing.kubectl
    request = new_request(rsa.generate_private_key(65537, 2048), "eve", "dev")
    kubectl("apply", "-f", "-", input=REQUEST.format(name="eve", request=request))
    kubectl("certificate", "deny", "eve")
    assert "Denied" in kubectl("get", "csr", "eve").stdout
    assert kubectl("get", "csr", "eve", "-o", "jsonpath={.status.certificate}").stdout == ""


def test_nobody_can_even_ask_to_be_a_master(signing: LiveCluster) -> None:
    request = new_request(rsa.generate_private_key(65537, 2048), "eve", "system:masters")
    refused = signing.kubectl(
        "apply", "-f", "-", input=REQUEST.format(name="root", request=request), check=False
    )
    assert refused.returncode and "system:masters group is not allowed" in refused.stderr
