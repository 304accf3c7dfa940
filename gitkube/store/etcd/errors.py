"""etcd's errors and ours, both ways.

A client library of etcd knows an error by its gRPC status and its exact text, so the door must use etcd's
(api/v3rpc/rpctypes/error.go), and `EtcdStore` must read them. One table holds them; nothing else in this
program spells them.

Invariant: what is not in the table stays visible: an unknown status from etcd becomes `UnavailableError` with
its text, and an error of ours that etcd has no word for keeps our sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gitkube.store.etcd.wire import grpc
from gitkube.store.protocol import (
    CompactedError,
    CorruptError,
    DuplicateKeyError,
    FutureRevisionError,
    IdentityError,
    InvalidRequestError,
    KeyNotFoundError,
    LeaseExistsError,
    LeaseNotFoundError,
    MembershipError,
    NoSpaceError,
    Revision,
    StoreError,
    UnavailableError,
)


@dataclass(frozen=True, slots=True)
class EtcdStatus:
    """How an error travels: gRPC's status code and etcd's text."""

    code: Any
    text: str


class EtcdError(Exception):
    """Raised to answer a request with `status`."""

    def __init__(self, status: EtcdStatus) -> None:
        super().__init__(f"{status.code.name}: {status.text}")
        self.status = status


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
_OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

EMPTY_KEY = EtcdStatus(_INVALID, "etcdserver: key is not provided")
KEY_NOT_FOUND = EtcdStatus(_INVALID, "etcdserver: key not found")
VALUE_PROVIDED = EtcdStatus(_INVALID, "etcdserver: value is provided")
LEASE_PROVIDED = EtcdStatus(_INVALID, "etcdserver: lease is provided")
TOO_MANY_OPERATIONS = EtcdStatus(_INVALID, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = EtcdStatus(_INVALID, "etcdserver: duplicate key given in txn request")
REQUEST_TOO_LARGE = EtcdStatus(_INVALID, "etcdserver: request is too large")
INVALID_SORT = EtcdStatus(_INVALID, "etcdserver: invalid sort option")
UNKNOWN_COMPARISON = EtcdStatus(
    _INVALID, "etcdserver: a comparison has a target or a result that etcd's API does not know"
)
COMPACTED = EtcdStatus(_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = EtcdStatus(_OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = EtcdStatus(grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND = EtcdStatus(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = EtcdStatus(_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = EtcdStatus(_OUT_OF_RANGE, "etcdserver: too large lease TTL")
MEMBER_NOT_FOUND = EtcdStatus(grpc.StatusCode.NOT_FOUND, "etcdserver: member not found")
MEMBER_NOT_LEARNER = EtcdStatus(_PRECONDITION, "etcdserver: can only promote a learner member")
MEMBER_BAD_URLS = EtcdStatus(_INVALID, "etcdserver: given member URLs are invalid")
NOT_LEADER = EtcdStatus(_PRECONDITION, "etcdserver: not leader")
BAD_LEADER_TRANSFEREE = EtcdStatus(_PRECONDITION, "etcdserver: bad leader transferee")
NO_LEADER = EtcdStatus(_UNAVAILABLE, "etcdserver: no leader")
STOPPED = EtcdStatus(_UNAVAILABLE, "etcdserver: server stopped")
CORRUPT_CLUSTER = EtcdStatus(grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster")

_UNKNOWN = Revision(0)

EMPTY_WATCH_RANGE = "mvcc: watcher range is empty"
"""As the reason of a watch that was cancelled as soon as it was made."""
DUPLICATE_WATCH_ID = "mvcc: duplicate watch ID provided on the WatchStream"

_OURS: tuple[tuple[EtcdStatus, type[StoreError]], ...] = (
    (FUTURE_REVISION, FutureRevisionError),
    (LEASE_NOT_FOUND, LeaseNotFoundError),
    (LEASE_EXISTS, LeaseExistsError),
    (NO_SPACE, NoSpaceError),
    (CORRUPT_CLUSTER, CorruptError),
    (EMPTY_KEY, InvalidRequestError),
    (KEY_NOT_FOUND, KeyNotFoundError),
    (VALUE_PROVIDED, InvalidRequestError),
    (LEASE_PROVIDED, InvalidRequestError),
    (TOO_MANY_OPERATIONS, InvalidRequestError),
    (DUPLICATE_KEY, DuplicateKeyError),
    (REQUEST_TOO_LARGE, InvalidRequestError),
    (INVALID_SORT, InvalidRequestError),
    (LEASE_TTL_TOO_LARGE, InvalidRequestError),
)


def to_etcd(error: StoreError) -> EtcdStatus:
    """What a client of etcd is told instead of an error of ours.

    An `InvalidRequestError` keeps our sentence: etcd's words for a malformed request are the door's to say,
    before it asks the store.
    """
    match error:
        case CompactedError():
            return COMPACTED
        case FutureRevisionError():
            return FUTURE_REVISION
        case LeaseNotFoundError():
            return LEASE_NOT_FOUND
        case LeaseExistsError():
            return LEASE_EXISTS
        case NoSpaceError():
            return NO_SPACE
        case CorruptError():
            return EtcdStatus(CORRUPT_CLUSTER.code, f"{CORRUPT_CLUSTER.text}: {error}")
        case KeyNotFoundError():
            return KEY_NOT_FOUND
        case DuplicateKeyError():
            return DUPLICATE_KEY
        case InvalidRequestError():
            return EtcdStatus(_INVALID, f"etcdserver: {error}")
        case MembershipError() | IdentityError():
            return EtcdStatus(_PRECONDITION, f"etcdserver: {error}")
        case _:
            return EtcdStatus(_UNAVAILABLE, f"etcdserver: {error}")


def from_etcd(code: Any, text: str, *, place: str, compact_revision: Revision = _UNKNOWN) -> StoreError:
    """The error of ours that an answer of etcd's means.

    Args:
        code: of gRPC.
        text: of the status.
        place: the endpoint that answered, for the sentence.
        compact_revision: the oldest revision that can be read, where `text` says that one was compacted.
    """
    if text == COMPACTED.text:
        return CompactedError(compact_revision)
    for known, ours in _OURS:
        if text == known.text:
            return ours(f"{text} (etcd at {place})")
    if code is _INVALID:
        return InvalidRequestError(f"{text} (etcd at {place})")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return InvalidRequestError(f"the request is larger than etcd at {place} takes: {text}")
    if code is _UNAVAILABLE and not text.startswith("etcdserver: "):
        return UnavailableError(f"etcd at {place} cannot be reached: {reason_of(text)}")
    return UnavailableError(f"etcd at {place} answered {code.name}: {text}")


def reason_of(text: str) -> str:
    """What gRPC says of a connection that could not be made, for whoever must mend it."""
    for sign, meaning in _SIGNS:
        if sign in text:
            return f"{meaning} ({text.rpartition('last error: ')[2]})"
    return text.rpartition("last error: ")[2]


_SIGNS = (
    ("Stream removed", "the connection broke"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not good here: give the authority that signed it, and see whether it has expired "
        "or is for another name",
    ),
    (
        "TSI_DATA_CORRUPTED",  # what is left of the alert with which the other end refuses a certificate
        "it refuses our certificate: give one that its --trusted-ca-file has signed and that has not expired",
    ),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS: give no certificates, or let it listen with https"),
    (
        "Socket closed",
        "it hung up: it wants TLS, or a client certificate that it trusts and that has not expired",
    ),
)
