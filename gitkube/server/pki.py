"""Who is who over TLS: the authorities of one data directory, and the certificates that they sign.

Three doors, three authorities. The API's is the cluster's: a client *is* the common name of its certificate,
in the groups that its organizations name (Kubernetes' convention for X.509), and whoever holds `ca.key` is
the cluster's owner. The members of the store know one another by an authority of their own, and so does the
door that speaks etcd's protocol: who may use the API, even all of it, does not so reach the store beneath.

Invariant: all certificates but the authorities' are derived; `renew` makes them anew before they end, and
whoever serves with them reads them again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gitkube.clock import Clock
from gitkube.control.settings import SigningError
from gitkube.server.authority import (
    MAX_COMMON_NAME,
    RENEW_BEFORE_DAYS,
    VALID_DAYS,
    Authority,
    PkiError,
    pem_of,
    public_bytes,
    subject_of,
)
from gitkube.server.kubeconfig import (
    CLUSTER_NAME,
    Context,
    Credentials,
    kubeconfig,
    read_kubeconfig,
    write_kubeconfig,
)

__all__ = ["MAX_COMMON_NAME", "RENEW_BEFORE_DAYS", "MemberFiles", "Pki", "PkiError"]

SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVER_ADDRESSES = ("127.0.0.1", "::1")
ADMIN_USER, ADMIN_GROUP = "kubernetes-admin", "system:masters"
NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"
CONTROLLER_USER = "system:gitkube:controller"
"""Who one controller is at another's API."""
STORE_GROUP = "gitkube:store"
"""The organization in the certificate of every member of the store."""
DOOR_CLIENT = "etcd-client"
RENEWAL_CHECK_S = 12 * 3600.0
"""How often it is looked whether a certificate must be made anew."""
API, STORE, DOOR = "ca", "store-ca", "door-ca"
"""The files of the three authorities."""


@dataclass(frozen=True, slots=True)
class MemberFiles:
    """PEM files for one door of a member: whom to trust, and who one is."""

    authority: Path
    certificate: Path
    key: Path


class Pki:
    """The authorities of one data directory. Make one with `Pki.open`."""

    def __init__(self, directory: Path, authority: Authority, clock: Clock) -> None:
        self._directory = directory
        self._authority = authority
        self._clock = clock
        self.ca_pem: bytes = authority.pem

    @classmethod
    def open(cls, directory: Path, *, clock: Clock) -> Pki:
        """The API's authority that lives in `directory` (such as `<data>/pki`); made when there is none. The
        other two are made when they are first used.

        Raises:
            PkiError: what is there does not fit together or cannot be read.
        """
        return cls(directory, Authority.open(directory, API, name="gitkube-ca", clock=clock), clock)

    def shared_secret(self) -> bytes:
        """What all controllers have, who share the authority, and nobody else: to derive keys from."""
        return self._authority.secret()

    # ------------------------------------------------------------------ server

    def server_certificate(self, names: Iterable[str] = ()) -> tuple[Path, Path]:
        """Paths of the server's certificate (with the CA behind it) and key.

        It is made anew when it nears its end, is of another authority, or lacks one of the names.

        Args:
            names: host names and addresses by which clients call this server, beside the usual ones.

        Raises:
            PkiError: a name cannot be in a certificate.
        """
        wanted = [*SERVER_NAMES, *SERVER_ADDRESSES, *names]
        return self._authority.keep("server", "gitkube", server=True, names=wanted)

    def server_context(self, names: Iterable[str] = ()) -> ssl.SSLContext:
        """TLS 1.2 or newer; client certificates are asked for, and trusted only from our authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca_pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self.server_certificate(names)
        context.load_cert_chain(certificate, key)
        return context

    # ------------------------------------------------------------------ the store's members

    def member_files(self, name: str, hosts: Iterable[str] = ()) -> MemberFiles:
        """What a member needs to speak with the others; made or renewed when needed.

        Args:
            name: of the member.
            hosts: host names and addresses by which the others call it.

        Raises:
            PkiError: the authority cannot be used, or a name cannot be in a certificate.
        """
        authority = Authority.open(self._directory, STORE, name="gitkube-store-ca", clock=self._clock)
        certificate, key = authority.keep(
            "peer", f"gitkube-member:{name}"[:MAX_COMMON_NAME], [STORE_GROUP],
            server=True, client=True, names=hosts,
        )  # fmt: skip
        return MemberFiles(authority.certificate_path, certificate, key)

    def door_files(self, hosts: Iterable[str] = ()) -> MemberFiles:
        """What the door needs that speaks etcd's protocol. Beside it lie `door-client.crt` and `.key`, for
        whoever may come in.

        Raises:
            PkiError: as `member_files`.
        """
        authority = Authority.open(self._directory, DOOR, name="gitkube-door-ca", clock=self._clock)
        wanted = ["localhost", "127.0.0.1", "::1", *hosts]
        certificate, key = authority.keep("door", "gitkube-door", server=True, names=wanted)
        authority.keep("door-client", DOOR_CLIENT, client=True)
        return MemberFiles(authority.certificate_path, certificate, key)

    def controller_context(self) -> ssl.SSLContext:
        """For calling another controller's API as a controller.

        Raises:
            PkiError: the authority cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca_pem.decode())
        certificate, key = self._authority.keep("controller", CONTROLLER_USER, [ADMIN_GROUP], client=True)
        context.load_cert_chain(certificate, key)
        return context

    # ------------------------------------------------------------------ clients

    def client_certificate(
        self, user: str, groups: Sequence[str] = (), *, valid_days: int = VALID_DAYS
    ) -> Credentials:
        """A new certificate that makes its holder `user`, in `groups`.

        Raises:
            PkiError: the name is empty or too long for a certificate.
        """
        return self._authority.credentials(user, groups, valid_days=valid_days)

    async def sign(self, pem: bytes, is_node: bool, valid_s: int) -> bytes:
        """The certificate that a CertificateSigningRequest asks for (`ControlSettings.sign`).

        Raises:
            SigningError: it cannot be; the text says why.
        """
        try:
            certificate = await asyncio.to_thread(self._authority.sign_request, pem, valid_s)
        except PkiError as error:
            raise SigningError(str(error)) from error
        name, groups = subject_of(certificate)
        if ADMIN_GROUP in groups:
            raise SigningError(f"a certificate of {ADMIN_GROUP} could not be taken back")
        if is_node and (not name.startswith(NODE_PREFIX) or groups != {NODES_GROUP}):
            raise SigningError(f"a node is {NODE_PREFIX}NAME in {NODES_GROUP}, and in no other group")
        return pem_of(certificate)

    def write_kubeconfig(
        self,
        path: Path,
        server: str,
        *,
        others: Sequence[Context] = (),
        user: str = ADMIN_USER,
        groups: Sequence[str] = (ADMIN_GROUP,),
        context: str = CLUSTER_NAME,
    ) -> None:
        """Write a kubeconfig of `user`, unless the one that is there still holds.

        It holds if it is of our making: for these servers, our authority, that user, not near its end.

        Args:
            server: URL such as `https://127.0.0.1:6443`, of the current context.
            others: further controllers, each a context that can be chosen.
            context: name of the current one.
        """
        contexts = [Context(context, server), *(one for one in others if one.name != context)]
        kept = read_kubeconfig(path)
        if kept is not None:
            is_ours = (list(kept.contexts), kept.ca_pem) == (contexts, self.ca_pem)
            if is_ours and self.is_current(kept.credentials, user, groups):
                path.chmod(0o600)
                return
            if self.is_current(kept.credentials, user, groups):
                write_kubeconfig(path, kubeconfig(contexts, self.ca_pem, user, kept.credentials))
                return
        credentials = self.client_certificate(user, groups)
        write_kubeconfig(path, kubeconfig(contexts, self.ca_pem, user, credentials))

    def is_current(self, credentials: Credentials, user: str, groups: Sequence[str]) -> bool:
        """Whether these credentials are of our authority, of that user, and not near their end."""
        try:
            certificate = x509.load_pem_x509_certificate(credentials.certificate)
            key = serialization.load_pem_private_key(credentials.key, None)
        except (ValueError, TypeError):
            return False
        return (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and public_bytes(certificate) == public_bytes(key)
            and subject_of(certificate) == (user, set(groups))
            and self._authority.is_fresh(certificate)
        )
