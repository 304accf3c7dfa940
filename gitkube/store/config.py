"""What a member's process is told: one JSON file that `gitkube serve` writes and the process reads.

The file is the whole interface between the two: who the member is, where its data are, which of its doors are
open and with which certificates. Certificates are named by path and not by content, so that `serve` may renew
them under a running member. Invariants: a configuration that was read is complete and has been checked; what
is written is for its owner's eyes only and is whole after a crash. What the process says back when it ends is
its exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gitkube.files import replace_durably

EXIT_REFUSED = 65
"""How the process ends when starting it again would not help."""
EXIT_FAILED = 70
DEFAULT_QUOTA_BYTES = 2 << 30
DEFAULT_KEEP_REVISIONS = 20_000
DEFAULT_KEEP_HISTORY_S = 300.0


class ConfigError(ValueError):
    """The configuration cannot be used; the text names the file or field and what to do."""


@dataclass(frozen=True, slots=True)
class JoinInfo:
    """How a member with an empty directory finds the cluster that has recorded it. Used only then."""

    cluster_id: int
    member_id: int
    peers: Mapping[str, str]
    """Member id (decimal) → HOST:PORT, of those who were members when it was recorded."""


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """See the module's text."""

    data_dir: Path
    socket: Path
    """The unix socket that `Store` and `StoreAdmin` are served on, for this user and root."""
    name: str = "0"
    peer_listen: str = ""
    """HOST:PORT for the other members; "" is a member that is alone and has no transport."""
    peer_advertise: str = ""
    """What the others dial; "" is `peer_listen`."""
    client_urls: tuple[str, ...] = ()
    """Where this controller's API is reached."""
    peer_ca: Path | None = None
    peer_certificate: Path | None = None
    peer_key: Path | None = None
    """PEM. Read again when they change on disk."""
    door_listen: str = ""
    """HOST:PORT of the door that speaks etcd's gRPC; "" is none."""
    door_ca: Path | None = None
    door_certificate: Path | None = None
    door_key: Path | None = None
    quota_bytes: int = DEFAULT_QUOTA_BYTES
    keep_revisions: int = DEFAULT_KEEP_REVISIONS
    """So many revisions survive the automatic compaction, and those of `keep_history_s`."""
    keep_history_s: float = DEFAULT_KEEP_HISTORY_S
    snapshot_entries: int = 20_000
    """A snapshot of the state is taken after so many entries of the log."""
    keep_entries: int = 5_000
    """So many entries before the snapshot stay in the log, for members that are only a little behind."""
    tick_s: float = 0.1
    election_ticks: int = 10
    join: JoinInfo | None = field(default=None)

    @property
    def advertised(self) -> str:
        """HOST:PORT that others dial; "" for a member that is alone."""
        return self.peer_advertise or self.peer_listen

    def to_json(self) -> bytes:
        """As `from_json` reads it."""
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        return json.dumps(plain, indent=2).encode() + b"\n"

    def write(self, path: Path) -> None:
        """Write it durably, readable by this user only."""
        replace_durably(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> MemberConfig:
        """What `write` has written.

        Raises:
            ConfigError: there is no such file, or it says something else.
        """
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"the member's configuration {path} cannot be read: {error.strerror}"
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, data: bytes) -> MemberConfig:
        """Raises:
        ConfigError: it is no configuration of a member.
        """
        try:
            found = json.loads(data)
        except ValueError as error:
            raise ConfigError(f"is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError("is no JSON object")
        unknown = sorted(set(found) - _FIELDS)
        if unknown:
            raise ConfigError(f"has fields that this version does not know: {', '.join(unknown)}")
        missing = sorted({"data_dir", "socket"} - set(found))
        if missing:
            raise ConfigError(f"lacks {', '.join(missing)}")
        try:
            return _checked(cls(**{key: _value(key, value) for key, value in found.items()}))
        except (TypeError, KeyError) as error:
            raise ConfigError(f"has a field of the wrong type: {error}") from error


_PATHS = frozenset(
    {
        "data_dir", "socket", "peer_ca", "peer_certificate", "peer_key",
        "door_ca", "door_certificate", "door_key",
    }
)  # fmt: skip
_FIELDS = frozenset(MemberConfig.__dataclass_fields__)


def _value(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in _PATHS:
        return Path(value)
    if key == "client_urls":
        return tuple(value)
    if key == "join":
        return JoinInfo(value["cluster_id"], value["member_id"], dict(value["peers"]))
    return value


def _checked(config: MemberConfig) -> MemberConfig:
    for door, files in (
        ("peer_listen", (config.peer_ca, config.peer_certificate, config.peer_key)),
        ("door_listen", (config.door_ca, config.door_certificate, config.door_key)),
    ):
        if getattr(config, door) and None in files:
            raise ConfigError(
                f"{door} is set, but not its CA, certificate and key: it speaks mutual TLS only"
            )
    if config.tick_s <= 0 or config.election_ticks < 2:
        raise ConfigError("tick_s must be more than 0, and election_ticks at least 2")
    return config
