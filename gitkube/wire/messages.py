"""The messages: what each side tells the other, whole each time, and the names both give to things."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict

PROTOCOL_VERSION = 1
PING_INTERVAL_S = 2.0
DEFAULT_TOKEN_LIFETIME_S = 3600

# ---------------------------------------------------------------- messages: control -> node


class Peer(TypedDict):
    """Another host of the mesh."""

    name: str
    publicKey: str
    endpoint: str  # "address:port", IPv6 addresses in brackets
    podCIDR: str


class NetworkDesired(TypedDict):
    node: str
    podCIDR: str  # this host's share, such as 10.42.3.0/24; its first address is the pods' gateway and DNS
    clusterCIDR: str
    serviceCIDR: str
    clusterDomain: str
    listenPort: int
    peers: list[Peer]


class PodsDesired(TypedDict):
    """The pods bound to this host, as the API has them, with what they refer to and nothing else.

    Of a pod's status it has only `conditions` (type and status) of the pod's readiness gates, once others
    wrote these, and `phase` once that is Succeeded or Failed: such a pod is never run (again).
    """

    pods: list[dict[str, Any]]
    configMaps: dict[str, dict[str, Any]]  # "namespace/name" -> ConfigMap
    secrets: dict[str, dict[str, Any]]  # "namespace/name" -> Secret
    node: dict[str, Any]  # this host's Node object


class ServicesDesired(TypedDict):
    services: list[dict[str, Any]]
    endpointSlices: list[dict[str, Any]]


class TokensDesired(TypedDict):
    """Tokens for the pods bound to this host. Kept in memory only; a host that starts gets them again."""

    tokens: dict[str, dict[str, str]]  # uid of the pod -> token_key of what it projects -> token


class Desired(TypedDict):
    """One section of what the host should be, whole. `digest` is `digest_of(data)`."""

    type: str  # "desired"
    section: str  # "network", "pods", "services" or "tokens"
    term: int  # of the leader that sends it; a host refuses one older than it has seen
    revision: int  # of the store, for people who read logs
    digest: str
    data: dict[str, Any]


# ---------------------------------------------------------------- messages: node -> control


class Hello(TypedDict):
    """The agent's first message on every connection. The control side answers with `Welcome`."""

    type: str  # "hello"
    protocol: int
    agent: str  # digest of the zipapp
    node: str  # as last told, or ""
    term: int  # the highest seen
    digests: dict[str, str]  # section -> digest of what is persisted, so that it is not sent again
    nodeInfo: dict[str, str]  # as in NodeStatus.nodeInfo
    capacity: dict[str, str]  # as in NodeStatus.capacity
    publicKey: str  # WireGuard's, base64


class Welcome(TypedDict):
    type: str  # "welcome"
    node: str
    term: int


class Applied(TypedDict):
    """A section was persisted and acted on, or refused."""

    type: str  # "applied"
    section: str
    digest: str
    error: str  # "" when it is in force


class PodReport(TypedDict, total=False):
    uid: str
    namespace: str
    name: str
    status: dict[str, Any]  # PodStatus as observed
    gone: bool  # True: it was being deleted, and nothing of it is left on this host


class PodReports(TypedDict):
    """What the host sees of its pods. `full` says that a pod not named here is not on the host."""

    type: str  # "pods"
    full: bool
    pods: list[PodReport]


class NodeReport(TypedDict):
    """Sent at the start and when something changes."""

    type: str  # "node"
    conditions: list[dict[str, Any]]
    images: list[dict[str, Any]]  # as in NodeStatus.images


class EventReport(TypedDict):
    """Becomes an Event about a pod (or about the node, when `uid` is "")."""

    type: str  # "event"
    uid: str
    namespace: str
    name: str
    eventType: str  # "Normal" or "Warning"
    reason: str
    message: str
    fieldPath: str  # such as spec.containers{web}, or ""
    time: float  # seconds since the epoch, by the host's clock


class Ping(TypedDict):
    """Said by a side that was silent for PING_INTERVAL_S. Three silent intervals are a dead link."""

    type: str  # "ping"


def token_lifetime_s(source: Mapping[str, Any]) -> int:
    """How long the token of a `serviceAccountToken` source is to hold."""
    return int(source.get("expirationSeconds") or DEFAULT_TOKEN_LIFETIME_S)


def token_key(source: Mapping[str, Any]) -> str:
    """By which both sides name what a `serviceAccountToken` source asks for."""
    return f"{token_lifetime_s(source)}:{source.get('audience') or ''}"


def digest_of(data: Any) -> str:
    """The name of a section's content: SHA-256 over its canonical JSON, in hex."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
