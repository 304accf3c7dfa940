"""Where the controllers' APIs are, as the endpoints of the Service `kubernetes`.

Kubernetes' API servers write themselves there, and some clients read it. Ours are written by the leader: the
addresses by which controllers call one another, as far as they are IPv4 addresses that mean the same
everywhere. A lone controller that listens on its loopback has none; then the Service's own address stands
there, at which every pod does reach the API: over its host's link, whatever stands here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import structlog

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.clock import Clock
from gitkube.objects.kinds import ENDPOINT_SLICE, ENDPOINTS
from gitkube.objects.types import Object

CHECK_S = 10.0
NAME, NAMESPACE = "kubernetes", "default"
SERVICE_PORT = 443
"""Of the Service, whatever the controllers listen on."""
MANAGER = "gitkube-apiserver"
MIRROR = "endpointslice.kubernetes.io/skip-mirror"

log = structlog.get_logger(__name__)

Place = tuple[str, int]


def places_of(urls: Iterable[str]) -> list[Place]:
    """Addresses and ports of APIs that others can use as they stand, sorted."""
    found = set[Place]()
    for url in urls:
        parts = urlsplit(url)
        try:
            address = ipaddress.IPv4Address(parts.hostname or "")
        except ValueError:
            continue  # a name; endpoints are addresses
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            found.add((str(address), parts.port or 443))
    return sorted(found)


def objects_of(places: Iterable[Place]) -> tuple[Object, Object]:
    """The EndpointSlice and the Endpoints; all on the port of the first."""
    chosen = list(places)
    port = chosen[0][1]
    addresses = [address for address, one in chosen if one == port]
    ports: list[dict[str, Any]] = [{"name": "https", "port": port, "protocol": "TCP"}]
    labels = {"kubernetes.io/service-name": NAME}
    piece: Object = {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": ports,
    }
    whole: Object = {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {MIRROR: "true"}},
        "subsets": [{"addresses": [{"ip": address} for address in addresses], "ports": ports}],
    }
    return piece, whole


class ApiEndpoints:
    """Writes them, while we lead."""

    def __init__(
        self, client: Client, urls: Callable[[], Iterable[str]], *, service_address: str, clock: Clock
    ) -> None:
        """
        Args:
            urls: of all controllers' APIs, as they are now.
            service_address: the ClusterIP of the Service `kubernetes`.
        """
        self._service: Place = (service_address, SERVICE_PORT)
        self._client = client
        self._urls = urls
        self._clock = clock

    async def run(self) -> None:
        """Write what changed, for ever."""
        written: list[Place] = []
        while True:
            places = places_of(self._urls()) or [self._service]
            if places != written:
                try:
                    piece, whole = objects_of(places)
                    await self._client.apply(ENDPOINT_SLICE, piece, field_manager=MANAGER, force=True)
                    await self._client.apply(ENDPOINTS, whole, field_manager=MANAGER, force=True)
                    written = places
                except StatusError as error:
                    log.warning("api_endpoints_not_written", error=str(error), retry_s=CHECK_S)
            await self._clock.sleep(CHECK_S)
