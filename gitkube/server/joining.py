"""How a controller joins: one file, made where the cluster runs, carried by its owner to the new machine.

`gitkube store add` records the new member as a learner and writes the file; `gitkube serve --join` starts
from it. The file holds what all controllers share (the authorities with their keys and the keys of sealed
Secrets, so it is as secret as they are), whom to ask, and a token. Before anything is started the new
controller redeems the token at the API of one that runs: a member's id must never be lived by two
directories, since a second one with an empty log could vote anew in a term in which the first has voted.

Flow of `prepare`: read and judge the file, note in the data directory that this one is ours (`joining.json`),
lay down the authorities, redeem. Each step may be the last before a `kill -9`: the note names the directory,
and whoever redeemed may redeem again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from gitkube.api.keys import JOINING_PREFIX
from gitkube.clock import Clock
from gitkube.files import replace_durably
from gitkube.server.key_file import FILE_NAME as SEALING_KEYS
from gitkube.server.pki import API, DOOR, STORE
from gitkube.store.config import JoinInfo
from gitkube.store.protocol import Compare, MemberInfo, Op, Put, Store, Target

log = structlog.get_logger()

FORMAT = "gitkube-join-1"
VALID_S = 3600
TOKEN_PREFIX = JOINING_PREFIX
NOTE = "joining.json"
MAX_FILE_BYTES = 256 * 1024
TOKEN_BYTES = 32
_SHARED = (*(f"{stem}.{end}" for stem in (API, STORE, DOOR) for end in ("crt", "key")), SEALING_KEYS)
_OPTIONAL = (*(f"{DOOR}.{end}" for end in ("crt", "key")), SEALING_KEYS)
"""Made when somebody opens that door, or by the first start of a version that seals."""


class JoinError(Exception):
    """A controller cannot join like this; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class JoinFile:
    """What a new controller is given."""

    cluster_id: int
    member_id: int
    name: str
    peer: str
    """HOST:PORT that the others will dial; recorded in the cluster."""
    peers: Mapping[str, str]
    """Member id (decimal) → HOST:PORT of those who were there."""
    apis: Sequence[str]
    """URLs of controllers that run."""
    expires_s: float
    """Seconds since 1970."""
    token: str
    files: Mapping[str, str]
    """Name in `pki/` → its text."""

    def write(self, path: Path) -> None:
        """Write it, readable by its owner only."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        replace_durably(path, f"{text}\n".encode())

    @classmethod
    def read(cls, path: Path) -> JoinFile:
        """Raises:
        JoinError: it cannot be read, others can read it, or it is no join file.
        """
        try:
            mode = path.stat().st_mode & 0o777
            data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
        except OSError as error:
            raise JoinError(f"the join file {path} cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise JoinError(
                f"{path} can be read by others (mode {mode:o}) and holds the cluster's keys; "
                f"run: chmod 600 {path}"
            )
        try:
            found = json.loads(data)
            is_ours = found.pop("format") == FORMAT
            join = cls(**found)
            is_complete = join._is_of_its_types and (
                {f"{API}.key", f"{STORE}.key"} <= set(join.files) <= set(_SHARED)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JoinError(f"{path} {_NO_FILE}") from error
        if not is_ours or not is_complete:
            raise JoinError(f"{path} {_NO_FILE}")
        return join

    @property
    def _is_of_its_types(self) -> bool:
        """A file that somebody has edited is refused before anything is made of it."""
        texts = (self.name, self.peer, self.token)
        return (
            isinstance(self.cluster_id, int)
            and isinstance(self.member_id, int)
            and isinstance(self.expires_s, int | float)
            and isinstance(self.apis, list)
            and all(isinstance(each, str) and each for each in (*texts, *self.apis))
            and _are_texts(self.peers)
            and _are_texts(self.files)
            and all(each.isdecimal() for each in self.peers)
        )

    @property
    def info(self) -> JoinInfo:
        """What the member's process is told."""
        return JoinInfo(self.cluster_id, self.member_id, dict(self.peers))


def _are_texts(table: Any) -> bool:
    return isinstance(table, dict) and all(isinstance(each, str) and each for each in table.values())


_NO_FILE = (
    "is no join file of this version; make one on a controller that runs: "
    "gitkube store add NAME --peer HOST:PORT --out NAME.join"
)


# ---------------------------------------------------------------------- where the cluster runs


async def invite(
    store: Store,
    added: MemberInfo,
    members: Sequence[MemberInfo],
    *,
    cluster_id: int,
    pki: Path,
    clock: Clock,
    valid_s: int = VALID_S,
) -> JoinFile:
    """Make the join file of a member that was just recorded, and note its token in the store.

    Args:
        members: those who were there before.
        pki: the directory of the authorities.

    Raises:
        JoinError: no member that runs has an address that the new one could dial, or a key is missing.
    """
    peers = {str(one.id): one.peer_address for one in members if one.peer_address and one.id != added.id}
    if not peers:
        raise JoinError("this controller listens for no others; start it with --peer-listen HOST:PORT first")
    files = {}
    for name in _SHARED:
        try:
            files[name] = (pki / name).read_text()
        except FileNotFoundError as error:
            if name in _OPTIONAL:
                continue
            raise JoinError(f"{pki / name} is missing: run this on a controller, as its user") from error
        except OSError as error:
            raise JoinError(f"{pki / name} cannot be read: {error.strerror}") from error
    token = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode().rstrip("=")
    expires_s = clock.now() + valid_s
    record = {"token": _digest(token), "expires": expires_s, "by": ""}
    await store.txn([], [Put(_token_key(added.id), json.dumps(record).encode())])
    apis = [url for one in members if one.id != added.id for url in one.client_urls]
    return JoinFile(
        cluster_id, added.id, added.name, added.peer_address, peers, apis, expires_s, token, files
    )


async def redeem(store: Store, member_id: int, token: str, by: str, *, clock: Clock) -> None:
    """Note that the directory `by` lives as this member from now on. Again and again is once.

    Raises:
        JoinError: the token is not of this member, has expired, or another directory has used it.
    """
    key = _token_key(member_id)
    while True:
        found = await store.range(key)
        if not found.kvs:
            raise JoinError(
                "this cluster did not make the join file, or the member was removed since; make a new one: "
                "gitkube store add"
            )
        kv = found.kvs[0]
        record = json.loads(kv.value)
        if not secrets.compare_digest(str(record["token"]), _digest(token)):
            raise JoinError(
                "the join file is not the newest that was made for this member; use that, or make a new one"
            )
        if record["by"] == by:
            return
        if record["by"]:
            raise JoinError(
                "the join file was used already, by another data directory. A member that lost its disk "
                "joins as a new one: gitkube store remove NAME, then gitkube store add NAME"
            )
        if record["expires"] <= clock.now():
            raise JoinError(_EXPIRED)
        unchanged = Compare(key, Target.MOD, Op.EQUAL, kv.mod_revision)
        value = json.dumps({**record, "by": by}).encode()
        if (await store.txn([unchanged], [Put(key, value)])).succeeded:
            return


_EXPIRED = (
    "the join file has expired (they hold for an hour). Make a new one where the cluster runs: "
    "gitkube store remove NAME, then gitkube store add NAME"
)


def _token_key(member_id: int) -> bytes:
    return TOKEN_PREFIX + f"{member_id:016x}".encode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# ---------------------------------------------------------------------- on the new machine

Redeem = Callable[[JoinFile, str], Awaitable[None]]


async def prepare(path: Path, data_dir: Path, *, clock: Clock, redeem: Redeem) -> JoinFile:
    """Make a data directory ready to start as the member that a join file describes.

    Args:
        redeem: ask a controller that runs; given the file and the name of this directory.

    Raises:
        JoinError: the file or the directory is not fit for it.
    """
    join = JoinFile.read(path)
    note_path = data_dir / NOTE
    note = _read_note(note_path)
    if note is not None and (note["cluster"], note["member"]) != (join.cluster_id, join.member_id):
        raise JoinError(
            f"{data_dir} is member {note['member']:016x} of cluster {note['cluster']:016x}; {path} is for "
            f"member {join.member_id:016x} of cluster {join.cluster_id:016x}. Name an empty --data-dir, or "
            "start without --join"
        )
    if note is None:
        if (data_dir / "store").exists():
            raise JoinError(
                f"{data_dir} holds a store already. Name an empty --data-dir, or start without --join"
            )
        if join.expires_s <= clock.now():
            raise JoinError(_EXPIRED)
        note = {
            "cluster": join.cluster_id,
            "member": join.member_id,
            "by": secrets.token_hex(16),
            "stage": _NOTED,
        }
        replace_durably(note_path, json.dumps(note).encode())
    _lay_down(join, data_dir / "pki")
    if note["stage"] == _NOTED:
        await redeem(join, str(note["by"]))
        replace_durably(note_path, json.dumps({**note, "stage": _REDEEMED}).encode())
    return join


def note_joined(data_dir: Path) -> None:
    """The member has the cluster's state now: from here on its directory must never begin anew."""
    note = _read_note(data_dir / NOTE)
    if note is not None and note["stage"] != _JOINED:
        replace_durably(data_dir / NOTE, json.dumps({**note, "stage": _JOINED}).encode())


def has_joined(data_dir: Path) -> bool:
    """Whether this directory is a member since an earlier start: its join file is needed no more."""
    note = _read_note(data_dir / NOTE)
    return note is not None and note["stage"] == _JOINED


def forget_joining(data_dir: Path) -> None:
    """This directory is the first member of a cluster of its own from now on."""
    (data_dir / NOTE).unlink(missing_ok=True)


def check_directory(data_dir: Path) -> None:
    """Refuse a directory that was a cluster's member and has lost its store.

    Raises:
        JoinError: started like this it would be another cluster, or vote twice in this one.
    """
    note = _read_note(data_dir / NOTE)
    if note is None or (data_dir / "store").exists():
        return
    member = f"{note['member']:016x}"
    if note["stage"] == _JOINED:
        raise JoinError(
            f"{data_dir} was member {member} and has lost its store. Where the cluster runs: gitkube store "
            f"remove {member}, then gitkube store add NAME; here: serve --join with an empty --data-dir"
        )


_NOTED, _REDEEMED, _JOINED = "noted", "redeemed", "joined"


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return {name: found[name] for name in ("cluster", "member", "by", "stage")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise JoinError(f"{path} cannot be understood ({error}); name an empty --data-dir") from error


def _lay_down(join: JoinFile, pki: Path) -> None:
    """The authorities that all controllers share; never over others. Of sealing keys, which change, the store
    says which are in force, whatever this file says.

    Raises:
        JoinError: those of another cluster lie there.
    """
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in join.files.items():
        target = pki / name
        if not target.exists():
            replace_durably(target, text.encode())
        elif name != SEALING_KEYS and target.read_text() != text:
            raise JoinError(f"{target} is of another cluster; name an empty --data-dir")
