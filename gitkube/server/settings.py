"""What `gitkube serve` is told, and what follows from it: names, addresses, the member's configuration.

Decided here, so that `control_plane.py` only joins parts. Invariant: a data directory keeps the name that it
began with; the cluster knows it by that.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from gitkube.files import replace_durably
from gitkube.fleet.hosts import Inventory
from gitkube.server.audit.log import DEFAULT_FILE_BYTES, DEFAULT_KEPT_FILES
from gitkube.server.joining import JoinFile
from gitkube.server.key_file import sealed_kinds
from gitkube.server.networks import CLUSTER_CIDR, SERVICE_CIDR, check_networks
from gitkube.server.oidc.tokens import OidcSettings
from gitkube.server.pki import Pki
from gitkube.store import addresses
from gitkube.store.config import DEFAULT_QUOTA_BYTES, MemberConfig
from gitkube.store.directory import read_identity
from gitkube.store.disk import SystemDisk
from gitkube.store.protocol import IdentityError

MAX_SOCKET_PATH_BYTES = 100
"""unix(7) allows 108 with the final zero."""
STORE_SOCKET = "store.sock"
ETCD_MARK = "etcd.json"
"""In the data directory of a control plane that keeps everything in an external etcd."""
MAX_NAME_CHARS = 40
"""It stands in a certificate and in tables."""


class SettingsError(ValueError):
    """What was asked for cannot be; the text names the option."""


@dataclass(frozen=True, slots=True)
class EtcdServers:
    """An external etcd, by the client URLs of its members, all of one scheme."""

    urls: tuple[str, ...]
    ca_file: Path | None = None
    """Who signed the servers' certificates; needed for https."""
    certificate_file: Path | None = None
    """Ours, and its key, for servers that want one."""
    key_file: Path | None = None

    @property
    def text(self) -> str:
        return ",".join(self.urls)

    @property
    def addresses(self) -> list[str]:
        """HOST:PORT of each."""
        return [url.partition("://")[2].rstrip("/") for url in self.urls]


@dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    data_dir: Path
    inventory: Path | Inventory
    """A file, which is watched, or hosts that stay as they are."""
    repository: Path
    branch: str = "main"
    listen_host: str = "127.0.0.1"
    listen_port: int = 6443
    """0 takes a free one."""
    advertise: tuple[str, ...] = ()
    """Further host names and addresses by which clients call the API; the first goes into the kubeconfig."""
    kubeconfig: Path | None = None
    """Where the administrator's kubeconfig is written; None: `kubeconfig` in the data directory."""
    cluster_cidr: str = CLUSTER_CIDR
    """The pods' network; each host gets a /24 of it."""
    service_cidr: str = SERVICE_CIDR
    """From which Services get their addresses."""
    eviction_after_s: int = 300
    """Tolerations that pods get for hosts out of reach, when they don't name their own."""
    name: str = ""
    """Of this controller among others; "" is what a join file says, or else the machine's host name."""
    peer_listen: str = ""
    """HOST:PORT for the members of other controllers; "" is a controller that is alone."""
    peer_advertise: str = ""
    """What the others dial, when it is not `peer_listen`."""
    etcd: EtcdServers | None = None
    """Holds the store; None is the embedded one."""
    door_listen: str = ""
    """HOST:PORT of the door that speaks etcd's protocol; "" is none."""
    store_quota_bytes: int = DEFAULT_QUOTA_BYTES
    """What the store may hold before it refuses what would make it grow."""
    join: Path | None = None
    """A join file: this controller begins as a member of a cluster that runs."""
    token_file: Path | None = None
    """Fixed tokens (`token_file.py`); None is none."""
    encrypt: tuple[str, ...] = ()
    """Kinds that are sealed in the store beside Secrets (`key_file.py`); `none` alone seals nothing."""
    audit_log: Path | None = None
    """Where the audit log is written; None is none."""
    audit_policy: Path | None = None
    """What it keeps (`audit/policy.py`); None: metadata of everything but health."""
    audit_log_bytes: int = DEFAULT_FILE_BYTES
    audit_log_kept: int = DEFAULT_KEPT_FILES
    oidc: OidcSettings | None = None
    """The identity provider whose tokens log in; None is none."""
    oidc_ca_file: Path | None = None
    force_new_cluster: bool = False
    """Forget all other members, and go on alone with the data that are here."""

    @property
    def store_dir(self) -> Path:
        return self.data_dir / "store"

    @property
    def kubeconfig_path(self) -> Path:
        return self.kubeconfig or self.data_dir / "kubeconfig"

    @property
    def client_host(self) -> str:
        """By which others reach the API, as far as can be told from the options."""
        if self.advertise:
            return self.advertise[0]
        if not _is_everywhere(self.listen_host):
            return self.listen_host
        return split_address(self.peer_address)[0] if self.peer_address else "127.0.0.1"

    @property
    def peer_address(self) -> str:
        """HOST:PORT that other members dial; "" for a controller that is alone."""
        return self.peer_advertise or self.peer_listen

    def client_url(self, port: int) -> str:
        """Of the API, for others and for the kubeconfig.

        Args:
            port: where it really listens.
        """
        host = self.client_host
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def check_settings(settings: ControlPlaneSettings) -> None:
    """Raises:
    SettingsError: options contradict each other.
    """
    for option, address in (
        ("--peer-listen", settings.peer_listen),
        ("--peer-advertise", settings.peer_advertise),
        ("--etcd-listen", settings.door_listen),
    ):
        if address:
            split_address(address, option)
    if settings.peer_address and not can_be_dialled(settings.peer_address):
        raise SettingsError(
            "--peer-listen on all addresses names none that others could dial; add --peer-advertise HOST:PORT"
        )
    if settings.peer_advertise and not settings.peer_listen:
        raise SettingsError("--peer-advertise needs --peer-listen")
    if settings.join is not None and not settings.peer_listen:
        raise SettingsError("--join needs --peer-listen HOST:PORT, where the other members reach this one")
    if settings.audit_policy is not None and settings.audit_log is None:
        raise SettingsError("--audit-policy says what is written; add --audit-log FILE, where to")
    if settings.etcd is not None:
        _check_etcd(settings, settings.etcd)
    try:
        check_networks(settings.cluster_cidr, settings.service_cidr)
        sealed_kinds(settings.encrypt)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if settings.join is not None and settings.force_new_cluster:
        raise SettingsError("--join enters a cluster and --force-new-cluster leaves one; give one of them")


def _check_etcd(settings: ControlPlaneSettings, etcd: EtcdServers) -> None:
    for option, is_given in (
        ("--peer-listen", settings.peer_listen),
        ("--join", settings.join),
        ("--etcd-listen", settings.door_listen),
        ("--force-new-cluster", settings.force_new_cluster),
    ):
        if is_given:
            raise SettingsError(f"{option} is about the embedded store, and --etcd-servers replaces that")
    for url in etcd.urls:
        scheme, _, address = url.partition("://")
        if scheme not in ("http", "https"):
            raise SettingsError(f"--etcd-servers: {url!r} is not http://HOST:PORT or https://HOST:PORT")
        split_address(address.rstrip("/"), "--etcd-servers")
    schemes = {url.partition("://")[0] for url in etcd.urls}
    if len(schemes) > 1:
        raise SettingsError("--etcd-servers: all of http, or all of https")
    if bool(etcd.certificate_file) != bool(etcd.key_file):
        raise SettingsError("--etcd-certfile and --etcd-keyfile belong together")
    if schemes == {"https"} and etcd.ca_file is None:
        raise SettingsError("--etcd-servers with https needs --etcd-cafile, the authority that signed them")
    if schemes == {"http"} and (etcd.ca_file or etcd.certificate_file):
        raise SettingsError("--etcd-cafile and --etcd-certfile are for --etcd-servers with https")


def member_config(settings: ControlPlaneSettings, pki: Pki, name: str, join: JoinFile | None) -> MemberConfig:
    """What the member's process is told; its certificates are made or renewed when needed.

    Raises:
        PkiError, SettingsError: a certificate cannot be made, or the directory's path is too long.
    """
    peer = pki.member_files(name, peer_hosts(settings)) if settings.peer_listen else None
    door = pki.door_files(door_hosts(settings)) if settings.door_listen else None
    return MemberConfig(
        data_dir=settings.store_dir,
        socket=socket_path(settings.data_dir, STORE_SOCKET),
        name=name,
        peer_listen=settings.peer_listen,
        peer_advertise=settings.peer_advertise,
        client_urls=(settings.client_url(settings.listen_port),) if settings.listen_port else (),
        peer_ca=peer.authority if peer else None,
        peer_certificate=peer.certificate if peer else None,
        peer_key=peer.key if peer else None,
        door_listen=settings.door_listen,
        door_ca=door.authority if door else None,
        door_certificate=door.certificate if door else None,
        door_key=door.key if door else None,
        quota_bytes=settings.store_quota_bytes,
        join=join.info if join else None,
    )


def peer_hosts(settings: ControlPlaneSettings) -> list[str]:
    """For the certificate of the member."""
    return [split_address(one)[0] for one in (settings.peer_advertise, settings.peer_listen) if one]


def door_hosts(settings: ControlPlaneSettings) -> list[str]:
    """For the certificate of etcd's door: by whatever this machine is called, as it may listen everywhere."""
    named = [split_address(settings.door_listen)[0], settings.listen_host, *peer_hosts(settings)]
    return [*(each for each in named if not _is_everywhere(each)), socket.gethostname(), *settings.advertise]


def identity_of(data_dir: Path, wanted: str) -> tuple[str, str]:
    """This controller's name, and what stands for it in the Lease; both stay over restarts.

    Args:
        wanted: a name that was asked for; "" takes the one that it has, or the machine's.

    Raises:
        SettingsError: it has another name already, or this is none.
    """
    path = data_dir / "identity"
    if path.exists():
        identity = path.read_text().strip()
        name = identity.rpartition("_")[0]
        if wanted and wanted != name:
            raise SettingsError(f"{data_dir} is the controller {name}; it cannot become {wanted}")
        return name, identity
    name = wanted or socket.gethostname()[:MAX_NAME_CHARS]
    if len(name) > MAX_NAME_CHARS or not all(each.isalnum() or each in ".-" for each in name):
        raise SettingsError(
            f"{name!r} cannot be a controller's name: letters, digits, '.' and '-', at most {MAX_NAME_CHARS}"
        )
    identity = f"{name}_{uuid.uuid4()}"
    replace_durably(path, identity.encode())
    return name, identity


def check_store_owner(store_dir: Path, name: str) -> None:
    """Refuse another controller's store, as it is after a copy went to the wrong place: this controller would
    speak as that member, and its own would be missing.

    Raises:
        CorruptError: it cannot be told whose it is.
        IdentityError: it is another's.
    """
    try:
        found = read_identity(SystemDisk(), store_dir)
    except OSError:
        return  # the member's process says what is in the way
    if found is not None and found.name != name:
        raise IdentityError(
            f"{store_dir} has the data of controller {found.name} (member {found.member_id:x}), and this is "
            f"{name}. Nothing was changed. Put back the store of {name}; or, if that is lost, remove {name} "
            "where the cluster runs and let it join anew with an empty --data-dir."
        )


def etcd_of(data_dir: Path) -> tuple[str, str] | None:
    """The external etcd that a data directory belongs to: id of its cluster, and its servers."""
    try:
        mark = json.loads((data_dir / ETCD_MARK).read_bytes())
    except FileNotFoundError:
        return None
    return mark["cluster"], mark["servers"]


def check_kind_of_store(settings: ControlPlaneSettings) -> None:
    """Raises:
    SettingsError: the data directory has begun with the other kind of store.
    """
    known = etcd_of(settings.data_dir)
    if settings.etcd is None and known is not None:
        raise SettingsError(
            f"what {settings.data_dir} controls is in the etcd at {known[1]}: add --etcd-servers, or begin "
            "with another --data-dir"
        )
    if settings.etcd is not None and settings.store_dir.exists():
        raise SettingsError(
            f"{settings.data_dir} has a store of its own, which --etcd-servers would leave behind; begin "
            "with another --data-dir"
        )


def socket_path(data_dir: Path, name: str) -> Path:
    """Where a unix socket of this data directory is.

    Raises:
        SettingsError: the directory's path is too long for one.
    """
    path = data_dir.resolve() / name
    if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
        return path
    raise SettingsError(
        f"{path} is longer than a socket's path may be ({MAX_SOCKET_PATH_BYTES} bytes); "
        "choose a shorter --data-dir"
    )


def split_address(address: str, option: str = "address") -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        SettingsError: it is something else.
    """
    try:
        host, port = addresses.split_address(address)
    except addresses.AddressError as error:
        raise SettingsError(f"{option}: {error}, such as 192.0.2.1:2380") from error
    if not host or not port:
        raise SettingsError(f"{option}: {address!r} is not HOST:PORT, such as 192.0.2.1:2380")
    return host, port


def can_be_dialled(address: str) -> bool:
    """Whether HOST:PORT names one place, and not all addresses of a machine.

    Raises:
        SettingsError: it is no address.
    """
    return not _is_everywhere(split_address(address)[0])


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
